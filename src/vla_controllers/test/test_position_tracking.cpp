// SPDX-License-Identifier: Apache-2.0
/// The plugin on drives that are told positions and velocities, with and without a force sensor.
#include <gtest/gtest.h>
#include <rcutils/logging.h>

#include <cmath>
#include <limits>
#include <string>

#include "rig.hpp"

namespace {

using vla_control::JointVector;
using vla_controllers::testing::Rig;
using vla_controllers::testing::tracking_parameters;
using vla_msgs::msg::ControllerState;

class PositionTracking : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { rclcpp::init(0, nullptr); }
  static void TearDownTestSuite() { rclcpp::shutdown(); }

  static bool start(Rig& rig) { return rig.configure() && rig.activate() && rig.connect(); }

  /// Lets the sensor tare, and reports what changes a little from cycle to cycle, as sensors do.
  static void feel(Rig& rig, const vla_control::Vector6& wrench, double seconds) {
    for (int i = 0; i < static_cast<int>(seconds * 1000.0); ++i) {
      rig.wrench = wrench;
      rig.wrench[5] += 1e-4 * (i % 3);
      rig.run(0.001);
    }
  }
};

TEST_F(PositionTracking, FollowsAChunkAndTellsThatItIsNotCompliant) {
  Rig rig(tracking_parameters(false));
  ASSERT_TRUE(start(rig));
  const auto commands = rig.controller->command_interface_configuration().names;
  ASSERT_EQ(commands.size(), 14U);
  EXPECT_EQ(commands[0], "fr3_joint1/position");
  EXPECT_EQ(commands[7], "fr3_joint1/velocity");
  EXPECT_EQ(rig.controller->state_interface_configuration().names.size(), 14U);
  const auto before = rig.tool();
  ASSERT_TRUE(rig.send(rig.motion(0.1, 1.5, 1)));
  rig.run(2.0);
  EXPECT_NEAR(rig.tool().y() - before.y(), 0.1, 1e-4);
  ASSERT_TRUE(rig.until([&] { return rig.state.cycles > 1500; }));
  EXPECT_FALSE(rig.state.compliant);
  EXPECT_EQ(rig.state.q_command.size(), 7U);
  EXPECT_EQ(rig.state.fault, ControllerState::FAULT_NONE);
  // What stays in the hardware is where the arm is.
  const JointVector q = rig.q;
  ASSERT_TRUE(rig.deactivate());
  EXPECT_LT((rig.q_command - q).cwiseAbs().maxCoeff(), 1e-9);
}

TEST_F(PositionTracking, ABlockedArmIsAFaultAndIsLetGo) {
  Rig rig(tracking_parameters(false));
  ASSERT_TRUE(start(rig));
  ASSERT_TRUE(rig.send(rig.motion(0.1, 1.5, 1)));
  rig.run(0.5);
  rig.blocked = true;
  rig.run(2.0);
  ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_FAULT; }));
  EXPECT_EQ(rig.state.fault, ControllerState::FAULT_TRACKING_DEVIATION);
  EXPECT_LT((rig.q_command - rig.q).cwiseAbs().maxCoeff(), 1e-5);
  rig.blocked = false;
  ASSERT_TRUE(rig.call("reset"));
  ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_HOLDING; }));
  EXPECT_TRUE(rig.send(rig.motion(0.05, 1.5, 2)));
}

TEST_F(PositionTracking, AMovingArmIsNotTakenOver) {
  Rig rig(tracking_parameters(false));
  ASSERT_TRUE(rig.configure());
  rig.dq[0] = 0.1;
  EXPECT_FALSE(rig.activate());
  rig.dq[0] = 0.0;
  EXPECT_TRUE(rig.activate());
}

TEST_F(PositionTracking, GivesWayToAForceSensorAndStopsWithoutOne) {
  Rig rig(tracking_parameters(true));
  ASSERT_TRUE(start(rig));
  const auto states = rig.controller->state_interface_configuration().names;
  ASSERT_EQ(states.size(), 20U);
  EXPECT_EQ(states[14], "wrist/force.x");
  EXPECT_EQ(states[19], "wrist/torque.z");
  const auto before = rig.tool();
  vla_control::Vector6 push = vla_control::Vector6::Zero();
  feel(rig, push, 0.5);
  push[0] = 10.0;  // along the sensor's x
  feel(rig, push, 2.0);
  const vla_control::Pose pose = rig.model.forward_kinematics(rig.q);
  const vla_control::Vector3 way = pose.rotation.transpose() * (rig.tool() - before);
  EXPECT_GT(way.x(), 0.003);
  EXPECT_LT(std::abs(way.y()) + std::abs(way.z()), 1e-3);
  EXPECT_TRUE(rig.state.compliant);
  rig.wrench[2] = std::numeric_limits<double>::quiet_NaN();
  rig.run(0.1);
  ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_FAULT; }));
  EXPECT_EQ(rig.state.fault, ControllerState::FAULT_FORCE_SENSOR);
  EXPECT_FALSE(rig.state.compliant);
}

TEST_F(PositionTracking, ASensorThatReportsTheOppositeIsTurnedRound) {
  Rig rig(tracking_parameters(true, {{"force_sensor.reports", "tool_on_environment"}}));
  ASSERT_TRUE(start(rig));
  const auto before = rig.tool();
  vla_control::Vector6 push = vla_control::Vector6::Zero();
  feel(rig, push, 0.5);
  push[0] = 10.0;
  feel(rig, push, 2.0);
  const vla_control::Pose pose = rig.model.forward_kinematics(rig.q);
  EXPECT_LT((pose.rotation.transpose() * (rig.tool() - before)).x(), -0.003);
}

}  // namespace
