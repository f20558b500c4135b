// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "bindings.hpp"
#include "vla_control/config.hpp"

namespace vla_control::python {
namespace {

/// Largest deviation of R^T R from the identity that is taken for rounding.
constexpr double kOrthonormal = 1e-2;

/// Waypoint of a homogeneous matrix. A matrix that is no rigid motion becomes a zero quaternion,
/// which push_chunk rejects: garbage must not be repaired on the way in.
Waypoint waypoint_of(const double* data) {
  using RowMajor4 = Eigen::Matrix<double, 4, 4, Eigen::RowMajor>;
  const RowMajor4 T = RowMajor4::Map(data);
  Waypoint out;
  out.position = T.topRightCorner<3, 1>();
  const Matrix3 R = T.topLeftCorner<3, 3>();
  if (!T.allFinite()) {
    out.quat_xyzw.setConstant(std::nan(""));
    return out;
  }
  const bool rigid =
      (R.transpose() * R - Matrix3::Identity()).cwiseAbs().maxCoeff() < kOrthonormal &&
      R.determinant() > 0.0 &&
      (T.row(3) - Eigen::RowVector4d(0, 0, 0, 1)).cwiseAbs().maxCoeff() < kOrthonormal;
  out.quat_xyzw.setZero();
  if (rigid) out.quat_xyzw = Eigen::Quaterniond(R).normalized().coeffs();
  return out;
}

std::vector<Waypoint> waypoints_of_matrices(nb::handle poses) {
  const Array array = as_array(poses);
  if (array.size() == 0) return {};
  if (array.ndim() != 3 || array.shape(1) != 4 || array.shape(2) != 4) {
    throw std::invalid_argument("poses must have the shape (steps, 4, 4)");
  }
  std::vector<Waypoint> out(array.shape(0));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = waypoint_of(array.data() + 16 * i);
  return out;
}

std::vector<Waypoint> waypoints_of_quaternions(nb::handle poses) {
  const Array array = as_array(poses);
  if (array.size() == 0) return {};
  if (array.ndim() != 2 || array.shape(1) != 7) {
    throw std::invalid_argument("poses_xyz_xyzw must have the shape (steps, 7)");
  }
  std::vector<Waypoint> out(array.shape(0));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double* row = array.data() + 7 * i;
    out[i].position = Vector3::Map(row);
    out[i].quat_xyzw = Eigen::Vector4d::Map(row + 3);
  }
  return out;
}

nb::object matrices_of(const std::vector<Waypoint>& waypoints) {
  nb::list rows;
  for (const Waypoint& waypoint : waypoints) {
    const Pose pose{waypoint.position, Eigen::Quaterniond(waypoint.quat_xyzw).toRotationMatrix()};
    rows.append(nb::cast(to_matrix(pose)));
  }
  const nb::module_ numpy = nb::module_::import_("numpy");
  return numpy.attr("array")(rows, nb::arg("dtype") = numpy.attr("float64"))
      .attr("reshape")(waypoints.size(), 4, 4);
}

std::vector<Vector6> twists_of(nb::handle values) {
  if (values.is_none()) return {};
  const Array array = as_array(values);
  if (array.size() == 0) return {};
  if (array.ndim() != 2 || array.shape(1) != 6) {
    throw std::invalid_argument("twists must have the shape (steps, 6)");
  }
  std::vector<Vector6> out(array.shape(0));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = Vector6::Map(array.data() + 6 * i);
  return out;
}

/// Row-major values of a (steps, joints) array.
std::vector<double> joint_values_of(nb::handle values) {
  if (values.is_none()) return {};
  const Array array = as_array(values);
  if (array.ndim() != 2) throw std::invalid_argument("joint_values must be (steps, joints)");
  return {array.data(), array.data() + array.size()};
}

std::vector<double> as_list(nb::handle values, const char* name) {
  if (values.is_none()) return {};
  const Array array = as_array(values);
  if (array.ndim() != 1) throw std::invalid_argument(std::string(name) + " must be a vector");
  return {array.data(), array.data() + array.shape(0)};
}

std::vector<Vector6> wrenches_of(nb::handle values) {
  const Array array = as_array(values);
  if (array.size() == 0) return {};
  if (array.ndim() != 2 || array.shape(1) != 6) {
    throw std::invalid_argument("wrenches must have the shape (steps, 6)");
  }
  std::vector<Vector6> out(array.shape(0));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = Vector6::Map(array.data() + 6 * i);
  return out;
}

/// Row-major values of a (steps, 6, 6) array.
std::vector<double> stiffness_of(nb::handle values) {
  if (values.is_none()) return {};
  const Array array = as_array(values);
  if (array.size() == 0) return {};
  if (array.ndim() != 3 || array.shape(1) != 6 || array.shape(2) != 6) {
    throw std::invalid_argument("stiffness must have the shape (steps, 6, 6)");
  }
  return {array.data(), array.data() + array.size()};
}

void bind_enums(nb::module_& m) {
  const auto add = [](auto binding, auto last) {
    using Enum = decltype(last);
    for (int i = 0; i <= static_cast<int>(last); ++i) {
      const auto value = static_cast<Enum>(i);
      binding.value(std::string(to_string(value)).c_str(), value);
    }
  };
  add(nb::enum_<RejectReason>(m, "RejectReason", nb::is_arithmetic(),
                              "Why a chunk was rejected; numbers as REJECT_* of ControllerState."),
      RejectReason::kBadStiffness);
  add(nb::enum_<Phase>(m, "Phase", nb::is_arithmetic(),
                       "What the controller does; numbers as PHASE_* of ControllerState."),
      Phase::kFault);
  add(nb::enum_<Fault>(m, "Fault", nb::is_arithmetic(),
                       "Why it is in FAULT; numbers as FAULT_* of ControllerState."),
      Fault::kContactForce);
  nb::enum_<ChunkMode>(m, "ChunkMode", nb::is_arithmetic(), "Numbers as MODE_* of ActionChunk.")
      .value("POSE", ChunkMode::kPose)
      .value("JOINT_POSITION", ChunkMode::kJointPosition)
      .value("TWIST", ChunkMode::kTwist);
}

void bind_chunk(nb::module_& m) {
  nb::class_<Chunk>(m, "Chunk",
                    "Future commanded tool poses; step i is meant for stamp_ns + i * "
                    "step_dt. Checked by Controller.push_chunk, not here.")
      .def(
          "__init__",
          [](Chunk* self, std::int64_t stamp_ns, double step_dt, const std::string& base_frame,
             const std::string& tool_frame, nb::object poses, nb::object gripper_opening,
             nb::object gripper_max_force, std::uint64_t boot_id, std::uint64_t grant,
             std::uint64_t sequence, ChunkMode mode, nb::object poses_xyz_xyzw,
             const std::vector<std::string>& joint_names, nb::object joint_values,
             nb::object twists, nb::object wrenches, nb::object stiffness) {
            Chunk chunk;
            chunk.stamp_ns = stamp_ns;
            chunk.step_dt = step_dt;
            chunk.base_frame = base_frame;
            chunk.tool_frame = tool_frame;
            chunk.mode = mode;
            if (!poses.is_none() && !poses_xyz_xyzw.is_none()) {
              throw std::invalid_argument("give either poses or poses_xyz_xyzw, not both");
            }
            if (!poses.is_none()) chunk.waypoints = waypoints_of_matrices(poses);
            if (!poses_xyz_xyzw.is_none()) {
              chunk.waypoints = waypoints_of_quaternions(poses_xyz_xyzw);
            }
            chunk.gripper_opening = as_list(gripper_opening, "gripper_opening");
            chunk.gripper_max_force = as_list(gripper_max_force, "gripper_max_force");
            if (!wrenches.is_none()) chunk.wrenches = wrenches_of(wrenches);
            chunk.stiffness = stiffness_of(stiffness);
            chunk.joint_names = joint_names;
            chunk.joint_values = joint_values_of(joint_values);
            chunk.twists = twists_of(twists);
            chunk.boot_id = boot_id;
            chunk.grant = grant;
            chunk.sequence = sequence;
            new (self) Chunk(std::move(chunk));
          },
          nb::arg("stamp_ns"), nb::arg("step_dt"), nb::arg("base_frame"), nb::arg("tool_frame"),
          nb::arg("poses") = nb::none(), nb::arg("gripper_opening") = nb::none(),
          nb::arg("gripper_max_force") = nb::none(), nb::arg("boot_id") = 0, nb::arg("grant") = 0,
          nb::arg("sequence") = 0, nb::arg("mode") = ChunkMode::kPose, nb::kw_only(),
          nb::arg("poses_xyz_xyzw") = nb::none(),
          nb::arg("joint_names") = std::vector<std::string>{}, nb::arg("joint_values") = nb::none(),
          nb::arg("twists") = nb::none(), nb::arg("wrenches") = nb::none(),
          nb::arg("stiffness") = nb::none(),
          "poses: (steps, 4, 4) homogeneous matrices, or poses_xyz_xyzw: (steps, 7) position in m "
          "and quaternion; joint_values: (steps, joints) in rad; twists: (steps, 6) in m/s and "
          "rad/s; gripper_opening in m and gripper_max_force in N: one per step or none; "
          "wrenches: (steps, 6) N and Nm the tool shall exert, base axes; stiffness: (steps, 6, 6) "
          "N/m, N and Nm/rad, base axes.")
      .def_rw("stamp_ns", &Chunk::stamp_ns)
      .def_rw("step_dt", &Chunk::step_dt)
      .def_rw("base_frame", &Chunk::base_frame)
      .def_rw("tool_frame", &Chunk::tool_frame)
      .def_rw("mode", &Chunk::mode)
      .def_rw("gripper_opening", &Chunk::gripper_opening)
      .def_rw("gripper_max_force", &Chunk::gripper_max_force)
      .def_prop_ro(
          "wrenches",
          [](const Chunk& self) {
            Eigen::Matrix<double, Eigen::Dynamic, 6, Eigen::RowMajor> out(
                static_cast<Eigen::Index>(self.wrenches.size()), 6);
            for (std::size_t i = 0; i < self.wrenches.size(); ++i) {
              out.row(static_cast<Eigen::Index>(i)) = self.wrenches[i].transpose();
            }
            return out;
          },
          "(steps, 6) N and Nm the tool shall exert, base axes; a copy.")
      .def_rw("stiffness", &Chunk::stiffness)
      .def_rw("boot_id", &Chunk::boot_id)
      .def_rw("grant", &Chunk::grant)
      .def_rw("sequence", &Chunk::sequence)
      .def_rw("joint_names", &Chunk::joint_names)
      .def_rw("joint_values", &Chunk::joint_values)
      .def("__len__", [](const Chunk& self) { return self.waypoints.size(); })
      .def_prop_rw(
          "poses", [](const Chunk& self) { return matrices_of(self.waypoints); },
          [](Chunk& self, nb::object poses) { self.waypoints = waypoints_of_matrices(poses); },
          nb::for_setter(nb::sig("def poses(self, value: object, /) -> None")),
          nb::for_getter(nb::sig("def poses(self) -> numpy.typing.NDArray[numpy.float64]")),
          "(steps, 4, 4) tool frame in the base frame. Getting it copies.");
}

void bind_config(nb::module_& m) {
  nb::class_<ChunkConfig>(m, "ChunkConfig")
      .def(nb::init<>())
      .def_rw("max_age_s", &ChunkConfig::max_age_s)
      .def_rw("max_future_s", &ChunkConfig::max_future_s)
      .def_rw("max_steps", &ChunkConfig::max_steps)
      .def_rw("min_step_dt", &ChunkConfig::min_step_dt)
      .def_rw("max_step_dt", &ChunkConfig::max_step_dt)
      .def_rw("blend_time", &ChunkConfig::blend_time)
      .def_rw("max_blend_time", &ChunkConfig::max_blend_time)
      .def_rw("velocity_factor", &ChunkConfig::velocity_factor)
      .def_rw("acceleration_factor", &ChunkConfig::acceleration_factor)
      .def_rw("accept_joint_positions", &ChunkConfig::accept_joint_positions)
      .def_rw("accept_twists", &ChunkConfig::accept_twists)
      .def_rw("accept_stiffness", &ChunkConfig::accept_stiffness)
      .def_rw("max_translational_stiffness", &ChunkConfig::max_translational_stiffness)
      .def_rw("max_rotational_stiffness", &ChunkConfig::max_rotational_stiffness)
      .def_rw("max_slowdown", &ChunkConfig::max_slowdown)
      .def_rw("joint_velocity_share", &ChunkConfig::joint_velocity_share)
      .def_rw("smoothing_deviation", &ChunkConfig::smoothing_deviation)
      .def_rw("smoothing_rotation_deviation", &ChunkConfig::smoothing_rotation_deviation)
      .def_rw("timeout_s", &ChunkConfig::timeout_s);
  nb::class_<GripperConfig>(m, "GripperConfig")
      .def(nb::init<>())
      .def_rw("max_opening", &GripperConfig::max_opening)
      .def_rw("default_force", &GripperConfig::default_force)
      .def_rw("max_force", &GripperConfig::max_force);
  nb::class_<ControllerConfig>(m, "ControllerConfig",
                               "Settings; checked by Controller, which names what is out of range.")
      .def(nb::init<>())
      .def("__copy__", [](const ControllerConfig& self) { return ControllerConfig(self); })
      .def(
          "__deepcopy__",
          [](const ControllerConfig& self, nb::handle) { return ControllerConfig(self); },
          nb::arg("memo"))
      .def_rw("rate", &ControllerConfig::rate)
      .def_rw("output", &ControllerConfig::output)
      .def_rw("tracking", &ControllerConfig::tracking)
      .def_rw("admittance", &ControllerConfig::admittance)
      .def_rw("translational_stiffness", &ControllerConfig::translational_stiffness)
      .def_rw("rotational_stiffness", &ControllerConfig::rotational_stiffness)
      .def_rw("stiffness_matrix", &ControllerConfig::stiffness_matrix)
      .def_rw("stiffness_frame", &ControllerConfig::stiffness_frame)
      .def_rw("gain_ramp_s", &ControllerConfig::gain_ramp_s)
      .def_rw("damping_ratio", &ControllerConfig::damping_ratio)
      .def_rw("task_law", &ControllerConfig::task_law)
      .def_rw("joint_stiffness", &ControllerConfig::joint_stiffness)
      .def_rw("max_joint_error", &ControllerConfig::max_joint_error)
      .def_rw("translational_frequency", &ControllerConfig::translational_frequency)
      .def_rw("rotational_frequency", &ControllerConfig::rotational_frequency)
      .def_rw("max_position_error", &ControllerConfig::max_position_error)
      .def_rw("max_rotation_error", &ControllerConfig::max_rotation_error)
      .def_rw("min_task_frequency", &ControllerConfig::min_task_frequency)
      .def_rw("nullspace_stiffness", &ControllerConfig::nullspace_stiffness)
      .def_rw("nullspace_damping_ratio", &ControllerConfig::nullspace_damping_ratio)
      .def_rw("nullspace_posture", &ControllerConfig::nullspace_posture)
      .def_rw("nullspace_speed", &ControllerConfig::nullspace_speed)
      .def_rw("torque_limit", &ControllerConfig::torque_limit)
      .def_rw("torque_rate_limit", &ControllerConfig::torque_rate_limit)
      .def_rw("braking_torque_rate_limit", &ControllerConfig::braking_torque_rate_limit)
      .def_rw("max_joint_velocity", &ControllerConfig::max_joint_velocity)
      .def_rw("joint_velocity_damping", &ControllerConfig::joint_velocity_damping)
      .def_rw("max_linear_velocity", &ControllerConfig::max_linear_velocity)
      .def_rw("max_linear_acceleration", &ControllerConfig::max_linear_acceleration)
      .def_rw("max_angular_velocity", &ControllerConfig::max_angular_velocity)
      .def_rw("max_angular_acceleration", &ControllerConfig::max_angular_acceleration)
      .def_rw("command_includes_gravity", &ControllerConfig::command_includes_gravity,
              nb::arg().none())
      .def_rw("effort_state", &ControllerConfig::effort_state, nb::arg().none())
      .def_rw("max_static_residual", &ControllerConfig::max_static_residual)
      .def_rw("friction", &ControllerConfig::friction)
      .def_rw("rotor_inertia", &ControllerConfig::rotor_inertia)
      .def_rw("jacobian_rate_feed_forward", &ControllerConfig::jacobian_rate_feed_forward)
      .def_rw("payload", &ControllerConfig::payload)
      .def_rw("payload_ramp_s", &ControllerConfig::payload_ramp_s)
      .def_rw("integral", &ControllerConfig::integral)
      .def_rw("sensing", &ControllerConfig::sensing)
      .def_rw("force", &ControllerConfig::force)
      .def_rw("wrench_limits", &ControllerConfig::wrench_limits)
      .def_rw("barrier", &ControllerConfig::barrier)
      .def_rw("energy_tank", &ControllerConfig::energy_tank)
      .def_rw("chunk", &ControllerConfig::chunk)
      .def_rw("gripper", &ControllerConfig::gripper)
      .def_rw("heartbeat_timeout_s", &ControllerConfig::heartbeat_timeout_s)
      .def_rw("heartbeat_fault_s", &ControllerConfig::heartbeat_fault_s)
      .def_rw("joint_state_timeout_s", &ControllerConfig::joint_state_timeout_s)
      .def_rw("clock_jump_periods", &ControllerConfig::clock_jump_periods)
      .def_rw("hold_stiffness", &ControllerConfig::hold_stiffness)
      .def_rw("hold_damping_ratio", &ControllerConfig::hold_damping_ratio)
      .def_rw("workspace_min", &ControllerConfig::workspace_min)
      .def_rw("workspace_max", &ControllerConfig::workspace_max);
}

}  // namespace

void bind_types(nb::module_& m) {
  bind_enums(m);
  bind_chunk(m);
  bind_config(m);
}

}  // namespace vla_control::python
