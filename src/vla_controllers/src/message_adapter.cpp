// SPDX-License-Identifier: Apache-2.0
#include "vla_controllers/message_adapter.hpp"

#include <Eigen/Geometry>

namespace vla_controllers {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

vla_control::Vector6 to_vector6(const geometry_msgs::msg::Vector3& head,
                                const geometry_msgs::msg::Vector3& tail) {
  vla_control::Vector6 out;
  out << head.x, head.y, head.z, tail.x, tail.y, tail.z;
  return out;
}

geometry_msgs::msg::Vector3 to_vector3(const vla_control::Vector3& v) {
  geometry_msgs::msg::Vector3 out;
  out.x = v.x();
  out.y = v.y();
  out.z = v.z();
  return out;
}

geometry_msgs::msg::Pose to_pose(const vla_control::Pose& pose) {
  const Eigen::Quaterniond quat(pose.rotation);
  geometry_msgs::msg::Pose out;
  out.position.x = pose.position.x();
  out.position.y = pose.position.y();
  out.position.z = pose.position.z();
  out.orientation.x = quat.x();
  out.orientation.y = quat.y();
  out.orientation.z = quat.z();
  out.orientation.w = quat.w();
  return out;
}

geometry_msgs::msg::Twist to_twist(const vla_control::Vector3& linear,
                                   const vla_control::Vector3& angular) {
  geometry_msgs::msg::Twist out;
  out.linear = to_vector3(linear);
  out.angular = to_vector3(angular);
  return out;
}

geometry_msgs::msg::Wrench to_wrench(const vla_control::Vector6& wrench) {
  geometry_msgs::msg::Wrench out;
  out.force = to_vector3(wrench.head<3>());
  out.torque = to_vector3(wrench.tail<3>());
  return out;
}

std::vector<double> to_list(const vla_control::JointVector& values) {
  return {values.data(), values.data() + values.size()};
}

}  // namespace

std::int64_t to_ns(const builtin_interfaces::msg::Time& time) noexcept {
  return static_cast<std::int64_t>(time.sec) * kSecond + static_cast<std::int64_t>(time.nanosec);
}

builtin_interfaces::msg::Time to_time(std::int64_t ns) noexcept {
  std::int64_t seconds = ns / kSecond;
  std::int64_t rest = ns % kSecond;
  if (rest < 0) {
    rest += kSecond;
    --seconds;
  }
  builtin_interfaces::msg::Time out;
  out.sec = static_cast<std::int32_t>(seconds);
  out.nanosec = static_cast<std::uint32_t>(rest);
  return out;
}

vla_control::Chunk to_chunk(const vla_msgs::msg::ActionChunk& message, std::int64_t stamp_ns) {
  vla_control::Chunk chunk;
  chunk.stamp_ns = stamp_ns;
  chunk.step_dt = message.step_dt;
  chunk.base_frame = message.header.frame_id;
  chunk.tool_frame = message.tool_frame;
  chunk.mode = static_cast<vla_control::ChunkMode>(message.mode);
  chunk.waypoints.reserve(message.poses.size());
  for (const auto& pose : message.poses) {
    vla_control::Waypoint waypoint;
    waypoint.position = {pose.position.x, pose.position.y, pose.position.z};
    waypoint.quat_xyzw = {pose.orientation.x, pose.orientation.y, pose.orientation.z,
                          pose.orientation.w};
    chunk.waypoints.push_back(waypoint);
  }
  chunk.joint_names = message.joint_names;
  chunk.joint_values = message.joint_values;
  chunk.twists.reserve(message.twists.size());
  for (const auto& twist : message.twists) {
    chunk.twists.push_back(to_vector6(twist.linear, twist.angular));
  }
  chunk.gripper_opening = message.gripper_opening;
  chunk.gripper_max_force = message.gripper_max_force;
  chunk.wrenches.reserve(message.wrenches.size());
  for (const auto& wrench : message.wrenches) {
    chunk.wrenches.push_back(to_vector6(wrench.force, wrench.torque));
  }
  chunk.stiffness = message.stiffness;
  chunk.boot_id = message.boot_id;
  chunk.grant = message.grant;
  chunk.sequence = message.sequence;
  return chunk;
}

vla_msgs::msg::ControllerState to_message(const vla_control::ControllerState& state,
                                          std::int64_t stamp_ns, const StateNames& names) {
  vla_msgs::msg::ControllerState out;
  out.header.stamp = to_time(stamp_ns);
  out.header.frame_id = names.base_frame;
  out.tool_frame = names.tool_frame;
  out.phase = static_cast<std::uint8_t>(state.phase);
  out.fault = static_cast<std::uint8_t>(state.fault);
  out.boot_id = state.boot_id;
  out.grant = state.grant;
  out.sequence = state.sequence;
  out.chunk_age = state.chunk_age;
  out.chunk_remaining = state.chunk_remaining;
  out.chunk_slowdown = state.chunk_slowdown;
  out.joint_names = names.joints;
  out.q = to_list(state.q);
  out.dq = to_list(state.dq);
  out.tau_command = to_list(state.tau_command);
  out.tau_limit = to_list(state.tau_limit);
  out.q_command = to_list(state.q_command);
  out.dq_command = to_list(state.dq_command);
  out.compliant = state.compliant;
  out.pose_tool_in_base = to_pose(state.pose_tool_in_base);
  out.twist_tool_in_base =
      to_twist(state.twist_tool_in_base.head<3>(), state.twist_tool_in_base.tail<3>());
  out.reference_pose_tool_in_base = to_pose(state.reference.pose);
  out.reference_twist_tool_in_base =
      to_twist(state.reference.linear_velocity, state.reference.angular_velocity);
  out.wrench_command = to_wrench(state.wrench_command);
  out.external_torque = to_list(state.external_torque);
  out.external_wrench = to_wrench(state.external_wrench);
  out.in_contact = state.in_contact;
  out.object_lost = state.object_lost;
  out.gripper_commanded = state.gripper.commanded;
  out.gripper_opening_command = state.gripper.opening;
  out.gripper_max_force = state.gripper.max_force;
  out.torque_saturated = state.torque_saturated;
  out.torque_rate_saturated = state.torque_rate_saturated;
  out.wrench_saturated = state.wrench_saturated;
  out.unmonitored = state.unmonitored;
  out.smallest_distance = state.smallest_distance;
  out.stiffness_limited = state.stiffness_limited;
  out.cycles = state.cycles;
  out.chunks_accepted = state.chunks_accepted;
  out.chunks_rejected = state.chunks_rejected;
  out.last_reject_reason = static_cast<std::uint8_t>(state.last_reject_reason);
  return out;
}

}  // namespace vla_controllers
