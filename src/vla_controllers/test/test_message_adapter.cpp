// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>

#include "vla_controllers/message_adapter.hpp"

namespace {

using vla_msgs::msg::ActionChunk;

TEST(MessageAdapter, TimesGoForthAndBack) {
  for (const std::int64_t ns : {0LL, 1LL, 999'999'999LL, 1'700'000'000'123'456'789LL, -1LL}) {
    EXPECT_EQ(vla_controllers::to_ns(vla_controllers::to_time(ns)), ns);
  }
}

TEST(MessageAdapter, AChunkKeepsEveryField) {
  ActionChunk message;
  message.header.frame_id = "base";
  message.tool_frame = "tool";
  message.boot_id = 11;
  message.grant = 12;
  message.sequence = 13;
  message.mode = ActionChunk::MODE_POSE;
  message.step_dt = 0.05;
  message.poses.resize(2);
  message.poses[1].position.x = 1.0;
  message.poses[1].position.y = 2.0;
  message.poses[1].position.z = 3.0;
  message.poses[1].orientation.x = 0.1;
  message.poses[1].orientation.y = 0.2;
  message.poses[1].orientation.z = 0.3;
  message.poses[1].orientation.w = 0.9;
  message.joint_names = {"a", "b"};
  message.joint_values = {0.1, 0.2, 0.3, 0.4};
  message.twists.resize(2);
  message.twists[1].linear.y = 0.2;
  message.twists[1].angular.z = -0.3;
  message.gripper_opening = {0.01, 0.02};
  message.gripper_max_force = {5.0, 6.0};
  message.stiffness.assign(72, 3.0);
  message.wrenches.resize(2);
  message.wrenches[1].force.z = -10.0;
  message.wrenches[1].torque.x = 0.5;

  const vla_control::Chunk chunk = vla_controllers::to_chunk(message, 77);
  EXPECT_EQ(chunk.stamp_ns, 77);
  EXPECT_EQ(chunk.base_frame, "base");
  EXPECT_EQ(chunk.tool_frame, "tool");
  EXPECT_EQ(chunk.boot_id, 11U);
  EXPECT_EQ(chunk.grant, 12U);
  EXPECT_EQ(chunk.sequence, 13U);
  EXPECT_EQ(chunk.mode, vla_control::ChunkMode::kPose);
  EXPECT_EQ(chunk.step_dt, 0.05);
  ASSERT_EQ(chunk.waypoints.size(), 2U);
  EXPECT_EQ(chunk.waypoints[1].position, vla_control::Vector3(1.0, 2.0, 3.0));
  EXPECT_EQ(chunk.waypoints[1].quat_xyzw, Eigen::Vector4d(0.1, 0.2, 0.3, 0.9));
  EXPECT_EQ(chunk.joint_names, message.joint_names);
  EXPECT_EQ(chunk.joint_values, message.joint_values);
  ASSERT_EQ(chunk.twists.size(), 2U);
  EXPECT_EQ(chunk.twists[1], (vla_control::Vector6() << 0.0, 0.2, 0.0, 0.0, 0.0, -0.3).finished());
  EXPECT_EQ(chunk.gripper_opening, message.gripper_opening);
  EXPECT_EQ(chunk.gripper_max_force, message.gripper_max_force);
  EXPECT_EQ(chunk.stiffness, message.stiffness);
  ASSERT_EQ(chunk.wrenches.size(), 2U);
  EXPECT_EQ(chunk.wrenches[1],
            (vla_control::Vector6() << 0.0, 0.0, -10.0, 0.5, 0.0, 0.0).finished());
}

TEST(MessageAdapter, NothingIsRepaired) {
  ActionChunk message;
  message.mode = 99;
  message.step_dt = std::numeric_limits<double>::quiet_NaN();
  message.poses.resize(1);
  message.poses[0].orientation.w = 0.0;
  const vla_control::Chunk chunk = vla_controllers::to_chunk(message, 0);
  EXPECT_EQ(static_cast<int>(chunk.mode), 99);
  EXPECT_FALSE(chunk.step_dt == chunk.step_dt);
  EXPECT_EQ(chunk.waypoints[0].quat_xyzw, Eigen::Vector4d::Zero());
}

TEST(MessageAdapter, AStateKeepsEveryField) {
  vla_control::ControllerState state;
  state.phase = vla_control::Phase::kFault;
  state.fault = vla_control::Fault::kClockJump;
  state.boot_id = 1;
  state.grant = 2;
  state.sequence = 3;
  state.chunk_age = 0.4;
  state.chunk_remaining = 0.5;
  state.chunk_slowdown = 1.25;
  state.stiffness_limited = true;
  state.q = vla_control::JointVector::LinSpaced(6, 0.0, 1.0);
  state.dq = 2.0 * state.q;
  state.tau_command = 3.0 * state.q;
  state.tau_limit = 4.0 * state.q;
  state.external_torque = 5.0 * state.q;
  state.pose_tool_in_base.position = {1.0, 2.0, 3.0};
  state.pose_tool_in_base.rotation =
      Eigen::AngleAxisd(3.0, vla_control::Vector3::UnitX()).toRotationMatrix();
  state.twist_tool_in_base << 1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
  state.reference.linear_velocity = {7.0, 8.0, 9.0};
  state.wrench_command << 6.0, 5.0, 4.0, 3.0, 2.0, 1.0;
  state.external_wrench = -state.wrench_command;
  state.in_contact = true;
  state.gripper = {0.03, 20.0, true};
  state.torque_saturated = true;
  state.cycles = 8;
  state.chunks_accepted = 9;
  state.chunks_rejected = 10;
  state.last_reject_reason = vla_control::RejectReason::kOldGrant;

  const auto message = vla_controllers::to_message(state, 1'500'000'000, {"base", "tool", {"a"}});
  EXPECT_EQ(message.header.stamp.sec, 1);
  EXPECT_EQ(message.header.stamp.nanosec, 500'000'000U);
  EXPECT_EQ(message.header.frame_id, "base");
  EXPECT_EQ(message.tool_frame, "tool");
  EXPECT_EQ(message.joint_names, std::vector<std::string>{"a"});
  EXPECT_EQ(message.phase, vla_msgs::msg::ControllerState::PHASE_FAULT);
  EXPECT_EQ(message.fault, vla_msgs::msg::ControllerState::FAULT_CLOCK_JUMP);
  EXPECT_EQ(message.boot_id, 1U);
  EXPECT_EQ(message.grant, 2U);
  EXPECT_EQ(message.sequence, 3U);
  EXPECT_EQ(message.chunk_age, 0.4);
  EXPECT_EQ(message.chunk_remaining, 0.5);
  EXPECT_EQ(message.chunk_slowdown, 1.25);
  EXPECT_TRUE(message.stiffness_limited);
  EXPECT_EQ(message.q.back(), 1.0);
  EXPECT_EQ(message.dq.back(), 2.0);
  EXPECT_EQ(message.tau_command.back(), 3.0);
  EXPECT_EQ(message.tau_limit.back(), 4.0);
  EXPECT_EQ(message.external_torque.back(), 5.0);
  EXPECT_EQ(message.pose_tool_in_base.position.z, 3.0);
  EXPECT_NEAR(message.pose_tool_in_base.orientation.x, std::sin(1.5), 1e-12);
  EXPECT_NEAR(message.pose_tool_in_base.orientation.w, std::cos(1.5), 1e-12);
  EXPECT_EQ(message.twist_tool_in_base.angular.z, 6.0);
  EXPECT_EQ(message.reference_twist_tool_in_base.linear.y, 8.0);
  EXPECT_EQ(message.wrench_command.force.x, 6.0);
  EXPECT_EQ(message.external_wrench.torque.z, -1.0);
  EXPECT_TRUE(message.in_contact);
  EXPECT_FALSE(message.object_lost);
  EXPECT_TRUE(message.gripper_commanded);
  EXPECT_EQ(message.gripper_opening_command, 0.03);
  EXPECT_EQ(message.gripper_max_force, 20.0);
  EXPECT_TRUE(message.torque_saturated);
  EXPECT_EQ(message.cycles, 8U);
  EXPECT_EQ(message.chunks_accepted, 9U);
  EXPECT_EQ(message.chunks_rejected, 10U);
  EXPECT_EQ(message.last_reject_reason, vla_msgs::msg::ControllerState::REJECT_OLD_GRANT);
}

}  // namespace
