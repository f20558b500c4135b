// SPDX-License-Identifier: Apache-2.0
#include "bindings.hpp"
#include "vla_control/config.hpp"
#include "vla_control/joint_motion_limiter.hpp"

namespace vla_control::python {

void bind_tracking(nb::module_& m) {
  nb::enum_<OutputKind>(m, "OutputKind", nb::is_arithmetic(), "What the controller commands.")
      .value("TORQUE", OutputKind::kTorque)
      .value("MOTION", OutputKind::kMotion);
  nb::class_<TrackingConfig>(m, "TrackingConfig")
      .def(nb::init<>())
      .def_rw("max_acceleration", &TrackingConfig::max_acceleration)
      .def_rw("max_jerk", &TrackingConfig::max_jerk)
      .def_rw("max_deviation", &TrackingConfig::max_deviation)
      .def_rw("drive_lag_s", &TrackingConfig::drive_lag_s)
      .def_rw("velocity_feedback", &TrackingConfig::velocity_feedback);
  nb::class_<AdmittanceConfig>(m, "AdmittanceConfig")
      .def(nb::init<>())
      .def_rw("sensor_frame", &AdmittanceConfig::sensor_frame)
      .def_rw("mass", &AdmittanceConfig::mass)
      .def_rw("inertia", &AdmittanceConfig::inertia)
      .def_rw("contact_stiffness", &AdmittanceConfig::contact_stiffness)
      .def_rw("rotational_contact_stiffness", &AdmittanceConfig::rotational_contact_stiffness)
      .def_rw("filter_s", &AdmittanceConfig::filter_s)
      .def_rw("stale_s", &AdmittanceConfig::stale_s)
      .def_rw("timeout_s", &AdmittanceConfig::timeout_s)
      .def_rw("max_velocity", &AdmittanceConfig::max_velocity)
      .def_rw("max_angular_velocity", &AdmittanceConfig::max_angular_velocity)
      .def_rw("max_offset", &AdmittanceConfig::max_offset)
      .def_rw("max_rotation_offset", &AdmittanceConfig::max_rotation_offset)
      .def_rw("max_force", &AdmittanceConfig::max_force)
      .def_rw("max_torque", &AdmittanceConfig::max_torque);
  nb::class_<JointMotionLimiter>(m, "JointMotionLimiter",
                                 "Position, velocity, acceleration and jerk of a joint motion.")
      .def(
          "__init__",
          [](JointMotionLimiter* self, nb::object lower, nb::object upper, nb::object velocity,
             nb::object acceleration, nb::object jerk, double period) {
            new (self) JointMotionLimiter();
            const JointVector bound = as_joint_vector(lower, "lower");
            const int n = static_cast<int>(bound.size());
            self->configure({bound, as_joint_vector(upper, "upper", n),
                             as_joint_vector(velocity, "velocity", n),
                             as_joint_vector(acceleration, "acceleration", n),
                             as_joint_vector(jerk, "jerk", n), period});
          },
          nb::arg("lower"), nb::arg("upper"), nb::arg("velocity"), nb::arg("acceleration"),
          nb::arg("jerk"), nb::arg("period"))
      .def(
          "reset",
          [](JointMotionLimiter& self, nb::object q) {
            self.reset(as_joint_vector(q, "q", static_cast<int>(self.settings().lower.size())));
          },
          nb::arg("q"))
      .def(
          "advance",
          [](JointMotionLimiter& self, nb::object dq) {
            (void)self.advance(
                as_joint_vector(dq, "dq", static_cast<int>(self.settings().lower.size())));
            return std::make_pair(to_vector(self.command_q()), to_vector(self.command_dq()));
          },
          nb::arg("dq"), "(q, dq) commanded, one cycle on towards the joint velocity dq.")
      .def_prop_ro("lead", &JointMotionLimiter::lead, "Time by which the command trails, s.");
}

}  // namespace vla_control::python
