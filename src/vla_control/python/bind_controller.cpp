// SPDX-License-Identifier: Apache-2.0
#include "bindings.hpp"
#include "vla_control/controller.hpp"

namespace vla_control::python {
namespace {

/// What an activation was refused for, in words.
std::string refusal_of(const Controller& controller) {
  const std::string stays = "; the controller stays inactive";
  switch (controller.activation_refusal()) {
    case ActivationRefusal::kEffortMissing:
      return "EFFORT_MISSING: effort_state declares a measured torque, but the joint state has no "
             "finite one for every joint" +
             stays;
    case ActivationRefusal::kStaticResidual:
      return "STATIC_RESIDUAL: the measured torque differs from the model's by more than "
             "max_static_residual; effort_state or the payload is not what was declared" +
             stays;
    case ActivationRefusal::kOutsideLimits:
      return "OUTSIDE_LIMITS: a joint is beyond its position limits, within which every command "
             "stays; move it back by other means" +
             stays;
    case ActivationRefusal::kMoving:
      return "MOVING: the joints must stand still, position tracking begins at rest" + stays;
    case ActivationRefusal::kForceSensorMissing:
      return "FORCE_SENSOR_MISSING: admittance.sensor_frame claims a force sensor, but the joint "
             "state has no finite wrench" +
             stays;
    default:
      return "activate needs finite, plausible q and dq of " +
             std::to_string(controller.model().n()) + " values" + stays;
  }
}

Distances distances_of(std::int64_t time_ns, nb::handle q, nb::handle distances, nb::handle rows) {
  const Array values = as_array(distances);
  const Array matrix = as_array(rows);
  const std::size_t count = values.ndim() == 1 ? values.shape(0) : kMaxDistances + 1;
  if (count > kMaxDistances || matrix.ndim() != 2 || matrix.shape(0) != count ||
      matrix.shape(1) > static_cast<std::size_t>(kMaxJoints)) {
    throw std::invalid_argument(
        "distances must have the shape (count,) and rows (count, joints), "
        "with a count of at most " +
        std::to_string(kMaxDistances));
  }
  Distances out;
  out.time_ns = time_ns;
  out.q = as_joint_vector(q, "q");
  out.count = static_cast<int>(count);
  for (std::size_t i = 0; i < count; ++i) {
    out.nearest[i].distance = values.data()[i];
    out.nearest[i].row = JointVector::Map(matrix.data() + i * matrix.shape(1),
                                          static_cast<Eigen::Index>(matrix.shape(1)));
  }
  return out;
}

void bind_robot(nb::module_& m) {
  nb::class_<RobotDescription>(m, "RobotDescription",
                               "What the controller needs to know of an arm.")
      .def(
          "__init__",
          [](RobotDescription* self, const std::string& urdf_xml,
             const std::vector<std::string>& joint_names, const std::string& base_frame,
             const std::string& tool_frame, const std::map<std::string, double>& locked_joints) {
            new (self)
                RobotDescription{urdf_xml, joint_names, base_frame, tool_frame, locked_joints};
          },
          nb::arg("urdf_xml"), nb::arg("joint_names"), nb::arg("base_frame"), nb::arg("tool_frame"),
          nb::arg("locked_joints") = std::map<std::string, double>{})
      .def_rw("urdf_xml", &RobotDescription::urdf_xml)
      .def_rw("joint_names", &RobotDescription::joint_names)
      .def_rw("base_frame", &RobotDescription::base_frame)
      .def_rw("tool_frame", &RobotDescription::tool_frame)
      .def_rw("locked_joints", &RobotDescription::locked_joints);

  nb::class_<RobotModel>(m, "RobotModel", "Rigid-body model of one arm. One object, one thread.")
      .def(nb::init<const RobotDescription&>(), nb::arg("description"))
      .def_prop_ro("n", &RobotModel::n)
      .def_prop_ro("joint_names", [](const RobotModel& self) { return self.joint_names(); })
      .def_prop_ro("position_lower",
                   [](const RobotModel& self) { return to_vector(self.position_lower()); })
      .def_prop_ro("position_upper",
                   [](const RobotModel& self) { return to_vector(self.position_upper()); })
      .def_prop_ro("velocity_limit",
                   [](const RobotModel& self) { return to_vector(self.velocity_limit()); })
      .def_prop_ro("effort_limit",
                   [](const RobotModel& self) { return to_vector(self.effort_limit()); })
      .def(
          "forward_kinematics",
          [](const RobotModel& self, nb::object q) {
            return to_matrix(self.forward_kinematics(as_joint_vector(q, "q", self.n())));
          },
          nb::arg("q"), "4x4 pose of the tool in the base frame.")
      .def(
          "jacobian",
          [](const RobotModel& self, nb::object q) {
            return Eigen::MatrixXd(self.jacobian(as_joint_vector(q, "q", self.n())));
          },
          nb::arg("q"), "6 x n, linear then angular, base axes, at the tool point.")
      .def(
          "mass_matrix",
          [](const RobotModel& self, nb::object q) {
            return Eigen::MatrixXd(self.mass_matrix(as_joint_vector(q, "q", self.n())));
          },
          nb::arg("q"))
      .def(
          "gravity",
          [](const RobotModel& self, nb::object q) {
            return to_vector(self.gravity(as_joint_vector(q, "q", self.n())));
          },
          nb::arg("q"), "Torque that carries the arm's weight, Nm.")
      .def(
          "coriolis",
          [](const RobotModel& self, nb::object q, nb::object dq) {
            return to_vector(self.coriolis(as_joint_vector(q, "q", self.n()),
                                           as_joint_vector(dq, "dq", self.n())));
          },
          nb::arg("q"), nb::arg("dq"), "C(q, dq) dq, Nm.")
      .def(
          "acceleration_bias",
          [](const RobotModel& self, nb::object q, nb::object dq, bool include_gravity) {
            Dynamics dynamics;
            self.compute(as_joint_vector(q, "q", self.n()), as_joint_vector(dq, "dq", self.n()),
                         include_gravity, dynamics);
            return dynamics.acceleration_bias;
          },
          nb::arg("q"), nb::arg("dq"), nb::arg("include_gravity") = true,
          "dJ/dt dq in m/s^2 and rad/s^2, base axes; the same with and without gravity.")
      .def("set_payload", &RobotModel::set_payload, nb::arg("payload"),
           "The load becomes part of the last link.")
      .def(
          "inverse_kinematics",
          [](const RobotModel& self, nb::object pose, nb::object q_seed) {
            const auto result = self.inverse_kinematics(
                as_pose(pose, "pose"), as_joint_vector(q_seed, "q_seed", self.n()));
            return std::make_pair(to_vector(result.q), result.converged);
          },
          nb::arg("pose"), nb::arg("q_seed"),
          "(q, converged): damped least squares from q_seed, within the joint limits.");
}

void bind_state(nb::module_& m) {
  using State = ControllerState;
  nb::class_<State>(m, "ControllerState", "Snapshot; fields as vla_msgs/ControllerState.")
      .def_ro("time_ns", &State::time_ns)
      .def_ro("phase", &State::phase)
      .def_ro("fault", &State::fault)
      .def_ro("boot_id", &State::boot_id)
      .def_ro("grant", &State::grant)
      .def_ro("sequence", &State::sequence)
      .def_ro("chunk_age", &State::chunk_age)
      .def_ro("chunk_remaining", &State::chunk_remaining)
      .def_ro("chunk_slowdown", &State::chunk_slowdown)
      .def_prop_ro("q", [](const State& self) { return to_vector(self.q); })
      .def_prop_ro("dq", [](const State& self) { return to_vector(self.dq); })
      .def_prop_ro("tau_command", [](const State& self) { return to_vector(self.tau_command); })
      .def_prop_ro("tau_limit", [](const State& self) { return to_vector(self.tau_limit); })
      .def_prop_ro("q_command", [](const State& self) { return to_vector(self.q_command); })
      .def_prop_ro("dq_command", [](const State& self) { return to_vector(self.dq_command); })
      .def_ro("compliant", &State::compliant)
      .def_prop_ro("pose_tool_in_base",
                   [](const State& self) { return to_matrix(self.pose_tool_in_base); })
      .def_ro("twist_tool_in_base", &State::twist_tool_in_base, nb::rv_policy::copy)
      .def_prop_ro("reference_pose_tool_in_base",
                   [](const State& self) { return to_matrix(self.reference.pose); })
      .def_prop_ro("reference_twist_tool_in_base",
                   [](const State& self) {
                     Vector6 twist;
                     twist << self.reference.linear_velocity, self.reference.angular_velocity;
                     return twist;
                   })
      .def_prop_ro("reference_acceleration_tool_in_base",
                   [](const State& self) {
                     Vector6 acceleration;
                     acceleration << self.reference.linear_acceleration,
                         self.reference.angular_acceleration;
                     return acceleration;
                   })
      .def_prop_ro(
          "reference_q", [](const State& self) { return to_vector(self.joint_reference.q); },
          "Of the joint-impedance law, rad; else empty.")
      .def_prop_ro("reference_dq",
                   [](const State& self) { return to_vector(self.joint_reference.dq); })
      .def_prop_ro("reference_ddq",
                   [](const State& self) { return to_vector(self.joint_reference.ddq); })
      .def_ro("wrench_command", &State::wrench_command, nb::rv_policy::copy)
      .def_prop_ro("gripper_opening_command",
                   [](const State& self) { return self.gripper.opening; })
      .def_prop_ro("gripper_max_force", [](const State& self) { return self.gripper.max_force; })
      .def_prop_ro("gripper_commanded", [](const State& self) { return self.gripper.commanded; })
      .def_ro("torque_saturated", &State::torque_saturated)
      .def_ro("torque_rate_saturated", &State::torque_rate_saturated)
      .def_ro("wrench_saturated", &State::wrench_saturated)
      .def_ro("stiffness_limited", &State::stiffness_limited)
      .def_ro("heartbeat_lost", &State::heartbeat_lost)
      .def_ro("cycles", &State::cycles)
      .def_ro("chunks_accepted", &State::chunks_accepted)
      .def_ro("chunks_rejected", &State::chunks_rejected)
      .def_ro("last_reject_reason", &State::last_reject_reason)
      .def_prop_ro("external_torque",
                   [](const State& self) { return to_vector(self.external_torque); })
      .def_ro("external_wrench", &State::external_wrench, nb::rv_policy::copy)
      .def_ro("in_contact", &State::in_contact)
      .def_ro("object_lost", &State::object_lost)
      .def_ro("payload_mass", &State::payload_mass)
      .def_ro("load_wrench", &State::load_wrench, nb::rv_policy::copy)
      .def_ro("tares", &State::tares)
      .def_ro("barrier_active", &State::barrier_active)
      .def_ro("unmonitored", &State::unmonitored)
      .def_ro("smallest_distance", &State::smallest_distance)
      .def_ro("tank_energy", &State::tank_energy);
}

}  // namespace

void bind_controller(nb::module_& m) {
  bind_robot(m);
  bind_state(m);
  nb::enum_<Owner>(m, "Owner", nb::is_arithmetic(),
                   "Who has the arm; numbers as OWNER_* of ControlOwner.")
      .value("NONE", Owner::kNone)
      .value("POLICY", Owner::kPolicy)
      .value("RECOVERY", Owner::kRecovery)
      .value("OPERATOR", Owner::kOperator);
  // The GIL makes every Python caller one thread at a time, as the hand-overs ask for.
  nb::class_<Controller>(
      m, "Controller",
      "Follows chunks of tool poses with a compliant arm. Call update() from one "
      "thread; requests take effect in the next update().")
      .def(nb::init<const RobotDescription&, const ControllerConfig&>(), nb::arg("description"),
           nb::arg("config"))
      .def(
          "activate",
          [](Controller& self, nb::object q, nb::object dq, std::int64_t time_ns, nb::object effort,
             nb::object wrench) {
            JointState state{as_joint_vector(q, "q"), as_joint_vector(dq, "dq")};
            if (!effort.is_none()) state.effort = as_joint_vector(effort, "effort");
            if (!wrench.is_none()) state.wrench = as_wrench(wrench, "wrench");
            if (self.activate(state, time_ns)) return;
            throw std::invalid_argument(refusal_of(self));
          },
          nb::arg("q"), nb::arg("dq"), nb::arg("time_ns"), nb::arg("effort") = nb::none(),
          nb::arg("wrench") = nb::none(), "Resets everything and holds the arm where it is.")
      .def("deactivate", &Controller::deactivate)
      .def("push_chunk", &Controller::push_chunk, nb::arg("chunk"),
           "RejectReason.NONE if accepted. The chunk is taken up by the next update.")
      .def("heartbeat", &Controller::heartbeat, nb::arg("boot_id"), nb::arg("grant"),
           nb::arg("time_ns"), nb::arg("owner") = Owner::kNone,
           "To a policy or an operator what is under way is handed over gently.")
      .def("stop", &Controller::stop, "Brakes and goes to FAULT.")
      .def("reset", &Controller::reset, "Leaves FAULT to HOLDING, without a jump.")
      .def("revoke", &Controller::revoke, "Drops the chunk in force and brakes to a hold.")
      .def("tare", &Controller::tare, "Carries what the resting arm feels as payload and bias.")
      .def("set_payload", &Controller::set_payload, nb::arg("payload"),
           "False, changing nothing, if it is no rigid body. The change is ramped.")
      .def("set_gains", &Controller::set_gains, nb::arg("gains"),
           "False, changing nothing, if they are out of range. The change is ramped.")
      .def(
          "update",
          [](Controller& self, nb::object q, nb::object dq, std::int64_t time_ns, double period_s) {
            JointTorques out;
            self.update({as_joint_vector(q, "q"), as_joint_vector(dq, "dq")}, time_ns, period_s,
                        out);
            return to_vector(out.tau);
          },
          nb::arg("q"), nb::arg("dq"), nb::arg("time_ns"), nb::arg("period_s"),
          "Torques in Nm for one cycle.")
      .def(
          "update_motion",
          [](Controller& self, nb::object q, nb::object dq, std::int64_t time_ns, double period_s,
             nb::object wrench) {
            JointState state{as_joint_vector(q, "q"), as_joint_vector(dq, "dq")};
            if (!wrench.is_none()) state.wrench = as_wrench(wrench, "wrench");
            JointMotion out;
            self.update(state, time_ns, period_s, out);
            return std::make_pair(to_vector(out.q), to_vector(out.dq));
          },
          nb::arg("q"), nb::arg("dq"), nb::arg("time_ns"), nb::arg("period_s"),
          nb::arg("wrench") = nb::none(),
          "(q in rad, dq in rad/s) for one cycle, with motion output.")
      .def(
          "gripper_command",
          [](const Controller& self) -> std::optional<std::pair<double, double>> {
            const GripperCommand command = self.gripper_command();
            if (!command.commanded) return std::nullopt;
            return std::make_pair(command.opening, command.max_force);
          },
          "(opening in m, max_force in N), or None: leave the gripper as it is.")
      .def("state", &Controller::state)
      .def(
          "push_distances",
          [](Controller& self, std::int64_t time_ns, nb::object q, nb::object distances,
             nb::object rows) {
            return self.push_distances(distances_of(time_ns, q, distances, rows));
          },
          nb::arg("time_ns"), nb::arg("q"), nb::arg("distances"), nb::arg("rows"),
          "Distances (count,) in m at joints q, and their rows (count, joints) in m/rad; at most "
          "MAX_DISTANCES. False, changing nothing, if they are of the wrong size or not finite.")
      .def_prop_ro(
          "config", [](const Controller& self) { return self.config(); },
          "A copy, with all defaults filled in.")
      .def_prop_ro("description", [](const Controller& self) { return self.description(); });
}

}  // namespace vla_control::python
