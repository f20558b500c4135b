// SPDX-License-Identifier: Apache-2.0
#include "vla_controllers/configuration.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <sstream>
#include <stdexcept>

#include "vla_controllers/command_output.hpp"

namespace vla_controllers {
namespace {

using cartesian_controller::Params;

std::array<double, 3> triple(const std::vector<double>& values) {
  return {values.at(0), values.at(1), values.at(2)};
}

vla_control::EffortState effort_state(const std::string& name) {
  if (name == "total") return vla_control::EffortState::kTotal;
  if (name == "gravity_free") return vla_control::EffortState::kGravityFree;
  if (name == "current") return vla_control::EffortState::kCurrent;
  return vla_control::EffortState::kNone;  // one_of in the parameters leaves no other
}

vla_control::TaskLawKind task_law(const std::string& name) {
  if (name == "operational_space") return vla_control::TaskLawKind::kOperationalSpace;
  if (name == "joint_impedance") return vla_control::TaskLawKind::kJointImpedance;
  return vla_control::TaskLawKind::kImpedance;  // one_of in the parameters leaves no other
}

void set_law(const Params& params, vla_control::ControllerConfig& config) {
  config.translational_stiffness = triple(params.translational_stiffness);
  config.rotational_stiffness = triple(params.rotational_stiffness);
  config.stiffness_frame = params.stiffness_frame == "tool" ? vla_control::StiffnessFrame::kTool
                                                            : vla_control::StiffnessFrame::kBase;
  config.gain_ramp_s = params.gain_ramp;
  config.damping_ratio = params.damping_ratio;
  config.task_law = task_law(params.task_law);
  config.joint_stiffness = params.joint_stiffness;
  config.max_joint_error = params.max_joint_error;
  config.translational_frequency = params.translational_frequency;
  config.rotational_frequency = params.rotational_frequency;
  config.max_position_error = params.max_position_error;
  config.max_rotation_error = params.max_rotation_error;
  config.min_task_frequency = params.min_task_frequency;
  config.nullspace_stiffness = params.nullspace_stiffness;
  config.nullspace_damping_ratio = params.nullspace_damping_ratio;
  config.nullspace_posture = params.nullspace_posture;
  config.nullspace_speed = params.nullspace_speed;
  config.hold_stiffness = params.hold_stiffness;
  config.hold_damping_ratio = params.hold_damping_ratio;
  config.integral.gain = params.integral.gain;
  config.integral.leak = params.integral.leak;
  config.integral.max_force = params.integral.max_force;
  config.integral.max_torque = params.integral.max_torque;
}

void set_hardware(const Params& params, vla_control::ControllerConfig& config) {
  config.rate = params.control_rate;
  config.command_includes_gravity = params.command_includes_gravity;
  config.effort_state = effort_state(params.effort_state);
  config.max_static_residual = params.max_static_residual;
  config.rotor_inertia = params.rotor_inertia;
  config.jacobian_rate_feed_forward = params.jacobian_rate_feed_forward;
  config.friction.coulomb = params.friction.coulomb;
  config.friction.viscous = params.friction.viscous;
  config.friction.smoothing_speed = params.friction.smoothing_speed;
  config.payload.mass = params.payload.mass;
  config.payload.center_of_mass =
      vla_control::Vector3::Map(triple(params.payload.center_of_mass).data());
  config.sensing.observer_bandwidth = params.sensing.observer_bandwidth;
  config.sensing.contact_force = params.sensing.contact_force;
  config.sensing.contact_torque = params.sensing.contact_torque;
  config.gripper.max_opening = params.gripper.max_opening;
  config.gripper.default_force = params.gripper.default_force;
  config.gripper.max_force = params.gripper.max_force;
}

void set_force(const Params& params, vla_control::ControllerConfig& config) {
  const std::array<const char*, 6> names{"x", "y", "z", "rx", "ry", "rz"};
  const std::vector<std::string>& axes = params.force.axes;
  for (std::size_t i = 0; i < names.size(); ++i) {
    config.force.axes[i] = std::find(axes.begin(), axes.end(), names[i]) != axes.end();
  }
  config.force.gain = params.force.gain;
  config.force.max_force = params.force.max_force;
  config.force.max_torque = params.force.max_torque;
}

void set_limits(const Params& params, vla_control::ControllerConfig& config) {
  config.torque_limit = params.torque_limit;
  config.torque_rate_limit = params.torque_rate_limit;
  config.braking_torque_rate_limit = params.braking_torque_rate_limit;
  config.max_joint_velocity = params.max_joint_velocity;
  config.joint_velocity_damping = params.joint_velocity_damping;
  config.max_linear_velocity = params.max_linear_velocity;
  config.max_linear_acceleration = params.max_linear_acceleration;
  config.max_angular_velocity = params.max_angular_velocity;
  config.max_angular_acceleration = params.max_angular_acceleration;
  config.workspace_min = triple(params.workspace_min);
  config.workspace_max = triple(params.workspace_max);
  config.wrench_limits.force = params.wrench_limits.force;
  config.wrench_limits.torque = params.wrench_limits.torque;
  config.barrier.joint_braking = params.barrier.joint_braking;
  config.barrier.joint_margin = params.barrier.joint_margin;
  config.barrier.workspace_braking = params.barrier.workspace_braking;
  config.barrier.distance_braking = params.barrier.distance_braking;
  config.barrier.distance_margin = params.barrier.distance_margin;
  config.barrier.distance_fade = params.barrier.distance_fade;
  config.barrier.distance_stale_s = params.barrier.distance_stale;
  config.energy_tank.capacity = params.energy_tank.capacity;
  config.energy_tank.refill_power = params.energy_tank.refill_power;
  config.heartbeat_timeout_s = params.heartbeat_timeout;
  config.heartbeat_fault_s = params.heartbeat_fault;
  config.joint_state_timeout_s = params.joint_state_timeout;
  config.clock_jump_periods = static_cast<int>(params.clock_jump_periods);
}

void set_chunk(const Params& params, vla_control::ControllerConfig& config) {
  config.chunk.max_age_s = params.chunk.max_age;
  config.chunk.max_future_s = params.chunk.max_future;
  config.chunk.blend_time = params.chunk.blend_time;
  config.chunk.max_blend_time = params.chunk.max_blend_time;
  config.chunk.velocity_factor = params.chunk.velocity_factor;
  config.chunk.acceleration_factor = params.chunk.acceleration_factor;
  config.chunk.accept_joint_positions = params.chunk.accept_joint_positions;
  config.chunk.accept_twists = params.chunk.accept_twists;
  config.chunk.accept_stiffness = params.chunk.accept_stiffness;
  config.chunk.max_translational_stiffness = params.chunk.max_translational_stiffness;
  config.chunk.max_rotational_stiffness = params.chunk.max_rotational_stiffness;
  config.chunk.max_slowdown = params.chunk.max_slowdown;
  config.chunk.joint_velocity_share = params.chunk.joint_velocity_share;
  config.chunk.smoothing_deviation = params.chunk.smoothing_deviation;
  config.chunk.smoothing_rotation_deviation = params.chunk.smoothing_rotation_deviation;
  config.chunk.timeout_s = params.chunk.timeout;
}

void set_motion(const Params& params, vla_control::ControllerConfig& config) {
  config.output = output_of(params.command_interfaces);
  vla_control::TrackingConfig& tracking = config.tracking;
  tracking.max_acceleration = params.tracking.max_acceleration;
  tracking.max_jerk = params.tracking.max_jerk;
  tracking.max_deviation = params.tracking.max_deviation;
  tracking.drive_lag_s = params.tracking.drive_lag;
  const bool velocities_alone =
      params.command_interfaces.size() == 1 && params.command_interfaces.front() == "velocity";
  tracking.velocity_feedback = velocities_alone ? params.tracking.velocity_feedback : 0.0;
  const auto& sensor = params.force_sensor;
  if (sensor.name.empty() != (sensor.frame.empty() || sensor.reports.empty())) {
    throw std::invalid_argument(
        "force_sensor.name, force_sensor.frame and force_sensor.reports (environment_on_tool or "
        "tool_on_environment) belong together; set all three, or none where there is no sensor");
  }
  vla_control::AdmittanceConfig& admittance = config.admittance;
  admittance.sensor_frame = sensor.frame;
  admittance.filter_s = sensor.filter;
  admittance.stale_s = sensor.stale;
  admittance.timeout_s = sensor.timeout;
  admittance.mass = params.admittance.mass;
  admittance.inertia = params.admittance.inertia;
  admittance.contact_stiffness = params.admittance.contact_stiffness;
  admittance.rotational_contact_stiffness = params.admittance.rotational_contact_stiffness;
  admittance.max_velocity = params.admittance.max_velocity;
  admittance.max_angular_velocity = params.admittance.max_angular_velocity;
  admittance.max_offset = params.admittance.max_offset;
  admittance.max_rotation_offset = params.admittance.max_rotation_offset;
  admittance.max_force = params.admittance.max_force;
  admittance.max_torque = params.admittance.max_torque;
}

}  // namespace

vla_control::RobotDescription robot_description(const Params& params, const std::string& urdf_xml) {
  if (urdf_xml.empty()) {
    throw std::invalid_argument(
        "robot_description is empty; the controller manager takes it from the topic "
        "robot_description, for instance of robot_state_publisher");
  }
  if (params.locked_joints.size() != params.locked_positions.size()) {
    std::ostringstream text;
    text << "locked_joints has " << params.locked_joints.size() << " names and locked_positions "
         << params.locked_positions.size() << " values; needs one value per name";
    throw std::invalid_argument(text.str());
  }
  vla_control::RobotDescription description;
  description.urdf_xml = urdf_xml;
  description.joint_names = params.joints;
  description.base_frame = params.base_frame;
  description.tool_frame = params.tool_frame;
  for (std::size_t i = 0; i < params.locked_joints.size(); ++i) {
    description.locked_joints[params.locked_joints[i]] = params.locked_positions[i];
  }
  return description;
}

vla_control::ControllerConfig controller_config(const Params& params) {
  vla_control::ControllerConfig config;
  set_law(params, config);
  set_hardware(params, config);
  set_force(params, config);
  set_limits(params, config);
  set_chunk(params, config);
  set_motion(params, config);
  return config;
}

vla_control::TaskGains gains(const Params& params) {
  return vla_control::task_gains(controller_config(params));
}

bool measures_torque(const Params& params) {
  return params.effort_state == "total" || params.effort_state == "gravity_free";
}

std::vector<std::string> force_sensor_interfaces(const Params& params) {
  std::vector<std::string> names;
  if (params.force_sensor.name.empty()) return names;
  for (const char* what : {"force", "torque"}) {
    for (const char* axis : {"x", "y", "z"}) {
      names.push_back(params.force_sensor.name + "/" + what + "." + axis);
    }
  }
  return names;
}

std::vector<std::string> notices(const Params& params) {
  Params defaults;
  std::vector<std::string> lines;
  const auto compare = [&lines](const char* name, double value, double usual) {
    if (value <= usual) return;
    std::ostringstream text;
    text << name << " is raised to " << value << " from " << usual;
    lines.push_back(text.str());
  };
  compare("max_linear_velocity", params.max_linear_velocity, defaults.max_linear_velocity);
  compare("max_angular_velocity", params.max_angular_velocity, defaults.max_angular_velocity);
  compare("wrench_limits.force", params.wrench_limits.force, defaults.wrench_limits.force);
  compare("wrench_limits.torque", params.wrench_limits.torque, defaults.wrench_limits.torque);
  const std::vector<double>& deviation = params.tracking.max_deviation;
  if (!deviation.empty()) {
    compare("tracking.max_deviation", *std::max_element(deviation.begin(), deviation.end()),
            vla_control::TrackingConfig::kDeviation);
  }
  if (params.barrier.distance_braking <= 0.0) {
    lines.emplace_back(
        "barrier.distance_braking is 0: nothing keeps the arm off itself and its surroundings");
  }
  if (output_of(params.command_interfaces) == vla_control::OutputKind::kMotion &&
      params.force_sensor.name.empty()) {
    lines.emplace_back(
        "position tracking, not compliant: contact is neither felt nor yielded to; the arm stops "
        "once a joint is off by tracking.max_deviation");
  }
  return lines;
}

}  // namespace vla_controllers
