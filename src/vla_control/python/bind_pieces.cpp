// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "bindings.hpp"
#include "so3.hpp"
#include "vla_control/chunk_reference.hpp"
#include "vla_control/chunk_smoothing.hpp"
#include "vla_control/gripper_reference.hpp"
#include "vla_control/limits.hpp"
#include "vla_control/nullspace.hpp"
#include "vla_control/task_law.hpp"

namespace vla_control::python {
namespace {

/// (steps, 4, 4) poses that are known to be rigid.
std::vector<Pose> poses_of(nb::handle poses) {
  std::vector<Pose> list;
  for (nb::handle pose : poses) list.push_back(as_pose(pose, "poses"));
  if (list.empty() || list.size() > static_cast<std::size_t>(kMaxSteps)) {
    throw std::invalid_argument("poses must have 1 to " + std::to_string(kMaxSteps) + " steps");
  }
  return list;
}

ChunkSpline spline_of(nb::handle poses, std::int64_t start_ns, double step_dt,
                      const MotionLimits& limits) {
  const std::vector<Pose> list = poses_of(poses);
  ChunkSpline spline;
  spline.build(list, start_ns, step_dt, limits);
  return spline;
}

Dynamics dynamics_of(const Eigen::MatrixXd& jacobian, const Eigen::MatrixXd& mass_matrix) {
  if (jacobian.rows() != 6 || jacobian.cols() > kMaxJoints ||
      mass_matrix.rows() != jacobian.cols() || mass_matrix.cols() != jacobian.cols()) {
    throw std::invalid_argument("needs a 6 x n Jacobian and an n x n mass matrix");
  }
  Dynamics dynamics;
  dynamics.jacobian = jacobian;
  dynamics.mass_matrix = mass_matrix;
  dynamics.bias.setZero(jacobian.cols());
  return dynamics;
}

OperationalSpace space_of(const Dynamics& dynamics, const Matrix6& stiffness, double damping_ratio,
                          double min_frequency, double rate) {
  DampingDesign design;
  design.configure(stiffness, damping_ratio, min_frequency, rate);
  OperationalSpace space;
  design.compute(dynamics, space);
  if (!space.valid) throw std::invalid_argument("the mass matrix is not positive definite");
  return space;
}

/// A reference that plans its blends itself, as the intake does for the controller's.
struct PlannedReference : ChunkReference {
  ChunkBlend::Settings settings;
};

void bind_reference(nb::module_& m) {
  nb::class_<ReferenceSample>(m, "ReferenceSample", "A pose and its derivatives, base axes.")
      .def_prop_ro("pose", [](const ReferenceSample& self) { return to_matrix(self.pose); })
      .def_ro("linear_velocity", &ReferenceSample::linear_velocity, nb::rv_policy::copy)
      .def_ro("angular_velocity", &ReferenceSample::angular_velocity, nb::rv_policy::copy)
      .def_ro("linear_acceleration", &ReferenceSample::linear_acceleration, nb::rv_policy::copy)
      .def_ro("angular_acceleration", &ReferenceSample::angular_acceleration, nb::rv_policy::copy);
  nb::class_<MotionLimits>(m, "MotionLimits", "What brakes and cross-fades may use.")
      .def(nb::init<>())
      .def_rw("linear_velocity", &MotionLimits::linear_velocity)
      .def_rw("linear_acceleration", &MotionLimits::linear_acceleration)
      .def_rw("angular_velocity", &MotionLimits::angular_velocity)
      .def_rw("angular_acceleration", &MotionLimits::angular_acceleration);
  nb::class_<PlannedReference>(m, "ChunkReference", "The reference in force, on its own.")
      .def(
          "__init__",
          [](PlannedReference* self, nb::object pose, std::int64_t now_ns,
             const MotionLimits& limits, double blend_time, double max_blend_time) {
            new (self) PlannedReference{{}, {limits, blend_time, max_blend_time}};
            self->hold(as_pose(pose, "pose"), now_ns);
          },
          nb::arg("pose"), nb::arg("now_ns"), nb::arg("limits") = MotionLimits{},
          nb::arg("blend_time") = 0.15, nb::arg("max_blend_time") = 0.6)
      .def(
          "follow",
          [](PlannedReference& self, nb::object poses, std::int64_t start_ns, double step_dt,
             std::int64_t now_ns, const MotionLimits& limits) {
            const ChunkSpline spline = spline_of(poses, start_ns, step_dt, limits);
            const std::int64_t begin_ns = std::max(now_ns, start_ns);
            ChunkBlend::Times times;
            const bool within =
                ChunkBlend::plan(self.sample(begin_ns), spline, begin_ns, self.settings, times);
            self.follow(spline, now_ns, times);
            return within;
          },
          nb::arg("poses"), nb::arg("start_ns"), nb::arg("step_dt"), nb::arg("now_ns"),
          nb::arg("limits") = MotionLimits{}, "False if the blend cannot stay within the limits.")
      .def(
          "brake",
          [](PlannedReference& self, std::int64_t now_ns) {
            self.brake(now_ns, {braking_time(self.sample(now_ns), self.settings.limits)});
          },
          nb::arg("now_ns"))
      .def("sample", &PlannedReference::sample, nb::arg("now_ns"))
      .def("at_rest", &PlannedReference::at_rest, nb::arg("now_ns"));
  nb::class_<WaypointNoise>(m, "WaypointNoise",
                            "Variance per axis, m^2 and rad^2; negative = none was seen.")
      .def(nb::init<>())
      .def_ro("position", &WaypointNoise::position)
      .def_ro("rotation", &WaypointNoise::rotation);
  m.def(
      "smooth_waypoints",
      [](nb::object poses, double step_dt, double deviation, double rotation_deviation,
         WaypointNoise* noise) {
        std::vector<Pose> list = poses_of(poses);
        WaypointNoise none;
        smooth_waypoints(list, step_dt, {deviation, rotation_deviation},
                         noise != nullptr ? *noise : none);
        std::vector<Eigen::Matrix4d> out;
        for (const Pose& pose : list) out.push_back(to_matrix(pose));
        return out;
      },
      nb::arg("poses"), nb::arg("step_dt"), nb::arg("deviation"), nb::arg("rotation_deviation"),
      nb::arg("noise") = nb::none(),
      "List of 4x4 poses without noise, none farther than the deviations (m, rad) from its own.\n"
      "`noise` is what the chunks before had; this one is counted.");
}

}  // namespace

void bind_pieces(nb::module_& m) {
  bind_reference(m);
  m.def("so3_exp", &so3::exp, nb::arg("phi"), "Rotation matrix of a rotation vector.");
  m.def("so3_log", &so3::log, nb::arg("rotation"), "Rotation vector, of norm at most pi.");
  m.def(
      "operational_space",
      [](const Eigen::MatrixXd& jacobian, const Eigen::MatrixXd& mass_matrix,
         const Matrix6& stiffness, double damping_ratio, double min_frequency, double rate) {
        const OperationalSpace space = space_of(dynamics_of(jacobian, mass_matrix), stiffness,
                                                damping_ratio, min_frequency, rate);
        return std::make_tuple(space.inertia, space.damping, space.stiffness);
      },
      nb::arg("jacobian"), nb::arg("mass_matrix"), nb::arg("stiffness"),
      nb::arg("damping_ratio") = 1.0, nb::arg("min_frequency") = 3.0, nb::arg("rate") = 1e4,
      "(Lambda, D, K): inertia felt at the tool, the damping designed for a stiffness, and what "
      "the "
      "control rate (Hz) leaves of that.");
  m.def(
      "project_to_nullspace",
      [](nb::object tau, const Eigen::MatrixXd& jacobian, const Eigen::MatrixXd& mass_matrix) {
        const Dynamics dynamics = dynamics_of(jacobian, mass_matrix);
        const OperationalSpace space =
            space_of(dynamics, Matrix6::Identity() * 100.0, 1.0, 0.1, 1e4);
        return to_vector(project_to_nullspace(
            as_joint_vector(tau, "tau", static_cast<int>(jacobian.cols())), dynamics, space));
      },
      nb::arg("tau"), nb::arg("jacobian"), nb::arg("mass_matrix"),
      "The part of a joint torque that does not accelerate the tool.");
  nb::class_<TorqueLimiter>(m, "TorqueLimiter", "Velocity, torque and torque-rate limits.")
      .def(
          "__init__",
          [](TorqueLimiter* self, nb::object torque, nb::object rate, nb::object braking_rate,
             nb::object velocity, double velocity_damping) {
            new (self) TorqueLimiter();
            const JointVector limit = as_joint_vector(torque, "torque");
            const int n = static_cast<int>(limit.size());
            self->configure({limit, as_joint_vector(rate, "rate", n),
                             as_joint_vector(braking_rate, "braking_rate", n),
                             as_joint_vector(velocity, "velocity", n), velocity_damping});
            self->reset(JointVector::Zero(n));
          },
          nb::arg("torque"), nb::arg("rate"), nb::arg("braking_rate"), nb::arg("velocity"),
          nb::arg("velocity_damping") = 0.0)
      .def(
          "reset",
          [](TorqueLimiter& self, nb::object tau) {
            self.reset(as_joint_vector(tau, "tau", static_cast<int>(self.previous().size())));
          },
          nb::arg("tau"))
      .def(
          "apply",
          [](TorqueLimiter& self, nb::object tau, nb::object dq, const Eigen::MatrixXd& mass_matrix,
             double period) {
            const int n = static_cast<int>(self.previous().size());
            if (mass_matrix.rows() != n || mass_matrix.cols() != n) {
              throw std::invalid_argument("mass_matrix must be as large as the limits");
            }
            JointVector limited = as_joint_vector(tau, "tau", n);
            const auto activity =
                self.apply(as_joint_vector(dq, "dq", n), mass_matrix, period, limited);
            return std::make_tuple(to_vector(limited), activity.torque, activity.rate);
          },
          nb::arg("tau"), nb::arg("dq"), nb::arg("mass_matrix"), nb::arg("period"),
          "(torque, absolute limit was active, rate limit was active)");
}

}  // namespace vla_control::python
