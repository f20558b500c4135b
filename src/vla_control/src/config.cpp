// SPDX-License-Identifier: Apache-2.0
#include "vla_control/config.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>

#include "config_checks.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/task_law.hpp"

namespace vla_control {
namespace checks {

void require(const std::string& name, double value, double low, double high) {
  if (value >= low && value <= high) return;
  std::ostringstream text;
  text << name << " = " << value << " is outside [" << low << ", " << high << "]";
  throw std::invalid_argument(text.str());
}

std::string element(const std::string& name, std::size_t i) {
  std::string out = name;
  out.append(1, '[').append(std::to_string(i)).append(1, ']');
  return out;
}

void complete(const std::string& name, std::vector<double>& values, const JointVector& fallback,
              double low, double high) {
  if (values.empty()) values.assign(fallback.data(), fallback.data() + fallback.size());
  if (values.size() != static_cast<std::size_t>(fallback.size())) {
    throw std::invalid_argument(name + " has " + std::to_string(values.size()) + " values; needs " +
                                std::to_string(fallback.size()) + ", one per joint");
  }
  require_each(name, values, low, high);
}

}  // namespace checks

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

using checks::complete;
using checks::element;
using checks::require;
using checks::require_each;

void check_chunk(const ChunkConfig& chunk) {
  require("chunk.max_age_s", chunk.max_age_s, 0.01, 60.0);
  require("chunk.max_future_s", chunk.max_future_s, 0.0, 10.0);
  require("chunk.max_steps", chunk.max_steps, 1, kMaxSteps);
  require("chunk.min_step_dt", chunk.min_step_dt, 1e-4, 1.0);
  require("chunk.max_step_dt", chunk.max_step_dt, chunk.min_step_dt, 10.0);
  require("chunk.blend_time", chunk.blend_time, 0.01, 2.0);
  require("chunk.max_blend_time", chunk.max_blend_time, chunk.blend_time, 10.0);
  require("chunk.velocity_factor", chunk.velocity_factor, 1.0, 100.0);
  require("chunk.acceleration_factor", chunk.acceleration_factor, 1.0, 100.0);
  require("chunk.max_translational_stiffness", chunk.max_translational_stiffness, 1.0, 10000.0);
  require("chunk.max_rotational_stiffness", chunk.max_rotational_stiffness, 0.1, 1000.0);
  require("chunk.max_slowdown", chunk.max_slowdown, 1.0, 20.0);
  require("chunk.joint_velocity_share", chunk.joint_velocity_share, 0.0, 1.0);
  require("chunk.smoothing_deviation", chunk.smoothing_deviation, 0.0, 0.05);
  require("chunk.smoothing_rotation_deviation", chunk.smoothing_rotation_deviation, 0.0, 0.2);
  require("chunk.timeout_s", chunk.timeout_s, 0.0, 3600.0);
}

void check_gripper(const GripperConfig& gripper) {
  require("gripper.max_opening", gripper.max_opening, 0.0, 1.0);
  require("gripper.max_force", gripper.max_force, 0.0, 1000.0);
  require("gripper.default_force", gripper.default_force, 0.0, gripper.max_force);
}

void complete_joints(ControllerConfig& config, const RobotModel& model) {
  const JointVector thousand = JointVector::Constant(model.n(), 1000.0);
  const bool torques = config.output == OutputKind::kTorque;
  if (torques && config.torque_limit.empty() && !model.effort_limit().allFinite()) {
    throw std::invalid_argument(
        "torque_limit is empty and the URDF has no effort limit for every joint; give one value in "
        "[0.1, 1000] per joint");
  }
  const JointVector effort = torques ? model.effort_limit() : model.effort_limit().cwiseMin(1000.0);
  complete("torque_limit", config.torque_limit, effort, 0.1, 1000.0);
  complete("torque_rate_limit", config.torque_rate_limit, thousand, 1.0, 1e5);
  const Eigen::Map<const Eigen::VectorXd> rate(config.torque_rate_limit.data(), model.n());
  complete("braking_torque_rate_limit", config.braking_torque_rate_limit, 10.0 * rate, 1.0, 1e6);
  for (std::size_t i = 0; i < config.torque_rate_limit.size(); ++i) {
    require(element("braking_torque_rate_limit", i), config.braking_torque_rate_limit[i],
            config.torque_rate_limit[i], 1e6);
  }
  const Eigen::Map<const Eigen::VectorXd> limit(config.torque_limit.data(), model.n());
  complete("joint_stiffness", config.joint_stiffness, 4.0 * limit, kLeastJointStiffness,
           kMostJointStiffness);
  complete("max_joint_velocity", config.max_joint_velocity, model.velocity_limit(), 0.01,
           kInfinity);
  if (!config.nullspace_posture.empty()) {
    complete("nullspace_posture", config.nullspace_posture, model.position_lower(), -1e3, 1e3);
    for (int i = 0; i < model.n(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      require(element("nullspace_posture", at), config.nullspace_posture[at],
              model.position_lower()[i], model.position_upper()[i]);
    }
  }
}

}  // namespace

ControllerConfig validated(const ControllerConfig& config, const RobotModel& model) {
  ControllerConfig out = config;
  if (out.output == OutputKind::kTorque && !out.command_includes_gravity.has_value()) {
    throw std::invalid_argument(
        "command_includes_gravity is not set; choose True if the commanded torque must contain "
        "gravity (simulation), False if the robot adds it itself (Franka)");
  }
  require("rate", out.rate, 50.0, 10000.0);
  require_each("translational_stiffness", out.translational_stiffness, 1.0, 10000.0);
  require_each("rotational_stiffness", out.rotational_stiffness, 0.1, 1000.0);
  require("damping_ratio", out.damping_ratio, 0.1, 3.0);
  require("max_position_error", out.max_position_error, 0.001, 1.0);
  require("max_joint_error", out.max_joint_error, 0.001, 3.0);
  require("max_rotation_error", out.max_rotation_error, 0.01, 3.0);
  require("min_task_frequency", out.min_task_frequency, 0.1, 100.0);
  require("nullspace_stiffness", out.nullspace_stiffness, 0.0, 500.0);
  require("nullspace_damping_ratio", out.nullspace_damping_ratio, 0.1, 3.0);
  require("nullspace_speed", out.nullspace_speed, 0.0, 3.0);
  require("joint_velocity_damping", out.joint_velocity_damping, 0.0, 1000.0);
  require("max_linear_velocity", out.max_linear_velocity, 0.001, 10.0);
  require("max_linear_acceleration", out.max_linear_acceleration, 0.01, 100.0);
  require("max_angular_velocity", out.max_angular_velocity, 0.001, 30.0);
  require("max_angular_acceleration", out.max_angular_acceleration, 0.01, 500.0);
  require("heartbeat_timeout_s", out.heartbeat_timeout_s, 0.0, 60.0);
  require("heartbeat_fault_s", out.heartbeat_fault_s, 0.0, 3600.0);
  if (out.heartbeat_fault_s > 0.0) {
    require("heartbeat_fault_s", out.heartbeat_fault_s, out.heartbeat_timeout_s, 3600.0);
    require("heartbeat_timeout_s", out.heartbeat_timeout_s, 0.001, 60.0);
  }
  require("joint_state_timeout_s", out.joint_state_timeout_s, 0.0, 0.1);
  require("clock_jump_periods", out.clock_jump_periods, 2, 10000);
  require("hold_stiffness", out.hold_stiffness, 1.0, 2000.0);
  require("hold_damping_ratio", out.hold_damping_ratio, 0.1, 3.0);
  for (std::size_t i = 0; i < 3; ++i) {
    require(element("workspace_max", i), out.workspace_max[i], -100.0, 100.0);
    require(element("workspace_min", i), out.workspace_min[i], -100.0, out.workspace_max[i]);
  }
  check_chunk(out.chunk);
  check_gripper(out.gripper);
  complete_joints(out, model);
  checks::complete_law(out, model);
  checks::complete_motion(out, model);
  return out;
}

}  // namespace vla_control
