// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "logged.hpp"
#include "rig.hpp"

namespace {

using rclcpp::Parameter;
using vla_controllers::testing::fr3_parameters;
using vla_controllers::testing::fr3_urdf;
using vla_controllers::testing::keep_log;
using vla_controllers::testing::kMilli;
using vla_controllers::testing::logged;
using vla_controllers::testing::Rig;
using vla_msgs::msg::ControllerState;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class CartesianController : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    rclcpp::init(0, nullptr);
    keep_log();
  }
  static void TearDownTestSuite() { rclcpp::shutdown(); }
  void SetUp() override { logged.clear(); }
};

/// A rig that is active and connected.
class ActiveController : public CartesianController {
 protected:
  void SetUp() override {
    CartesianController::SetUp();
    ASSERT_TRUE(rig.initialised);
    ASSERT_TRUE(rig.configure()) << logged;
    ASSERT_TRUE(rig.activate()) << logged;
    ASSERT_TRUE(rig.connect());
  }
  Rig rig{fr3_parameters()};
};

TEST_F(CartesianController, ClaimsEffortAndMeasuresWhatWasDeclared) {
  Rig rig(fr3_parameters());
  ASSERT_TRUE(rig.configure()) << logged;
  const auto commands = rig.controller->command_interface_configuration().names;
  const auto states = rig.controller->state_interface_configuration().names;
  ASSERT_EQ(commands.size(), 7U);
  EXPECT_EQ(commands.front(), "fr3_joint1/effort");
  ASSERT_EQ(states.size(), 21U);
  EXPECT_EQ(states[0], "fr3_joint1/position");
  EXPECT_EQ(states[7], "fr3_joint1/velocity");
  EXPECT_EQ(states[14], "fr3_joint1/effort");

  Rig blind(fr3_parameters({Parameter("effort_state", "none")}));
  ASSERT_TRUE(blind.configure()) << logged;
  EXPECT_EQ(blind.controller->state_interface_configuration().names.size(), 14U);
}

struct Mistake {
  Parameter parameter;
  std::vector<std::string> told;  // in the error message
};

TEST_F(CartesianController, ConfigurationFailsAndNamesTheChoices) {
  const std::vector<Mistake> mistakes{
      {Parameter("base_frame", "world0"), {"base_frame", "world0", "fr3_link0", "fr3_link8"}},
      {Parameter("tool_frame", "hand"), {"tool_frame", "hand", "fr3_link8"}},
      {Parameter("joints", std::vector<std::string>{"panda_joint1"}),
       {"panda_joint1", "fr3_joint1", "fr3_joint7"}},
      {Parameter("joints", std::vector<std::string>{}), {"joints"}},
      {Parameter("command_includes_gravity"), {"command_includes_gravity", "true", "false"}},
      {Parameter("effort_state"), {"effort_state", "gravity_free", "current", "none"}},
      {Parameter("effort_state", "torque"), {"effort_state", "torque", "gravity_free"}},
      {Parameter("command_interfaces"), {"command_interfaces", "[position, velocity]"}},
      {Parameter("command_interfaces", std::vector<std::string>{"torque"}),
       {"command_interfaces", "torque"}},
      {Parameter("command_interfaces", std::vector<std::string>{"effort", "position"}),
       {"command_interfaces", "[position, velocity]"}},
      {Parameter("command_interfaces", std::vector<std::string>{"position"}),
       {"tracking.max_acceleration is not set"}},
      {Parameter("force_sensor.name", "tcp"), {"force_sensor.frame", "tool_on_environment"}},
      {Parameter("control_rate"), {"control_rate"}},
      {Parameter("control_rate", 500.0), {"control_rate", "500", "1000"}},
      {Parameter("locked_joints", std::vector<std::string>{"fr3_joint1"}),
       {"locked_joints", "1 names", "0 values"}},
      {Parameter("damping_ratio", -1.0), {"damping_ratio"}},
      {Parameter("translational_stiffness", std::vector<double>{600.0}),
       {"translational_stiffness", "3"}},
      {Parameter("torque_limit", std::vector<double>{87.0, 87.0}), {"torque_limit", "2", "7"}},
      {Parameter("workspace_max", std::vector<double>{1.0, 1.0, -3.0}), {"workspace_min[2]"}},
  };
  for (const Mistake& mistake : mistakes) {
    logged.clear();
    Rig rig(fr3_parameters({mistake.parameter}));
    ASSERT_TRUE(rig.initialised) << mistake.parameter.get_name();
    EXPECT_FALSE(rig.configure()) << mistake.parameter.get_name();
    EXPECT_EQ(rig.controller->get_lifecycle_state().id(),
              lifecycle_msgs::msg::State::PRIMARY_STATE_UNCONFIGURED);
    for (const std::string& text : mistake.told) {
      EXPECT_NE(logged.find(text), std::string::npos)
          << mistake.parameter.get_name() << ": no '" << text << "' in: " << logged;
    }
  }
  logged.clear();
  Rig without_urdf(fr3_parameters(), "");
  EXPECT_FALSE(without_urdf.configure());
  EXPECT_NE(logged.find("robot_description"), std::string::npos) << logged;
}

TEST_F(CartesianController, ExamplesConfigureAndNameNoUnknownParameter) {
  struct Example {
    std::string system, arm;
    unsigned int rate;
    std::vector<Parameter> changes;  // the URDF here has no hand, and other collision geometry
  };
  const Parameter fr3_pairs(
      "collision.may_touch",
      std::vector<std::string>{"fr3_link0", "fr3_link2", "fr3_link2", "fr3_link4", "fr3_link4",
                               "fr3_link6", "fr3_link4", "fr3_link7"});
  const Parameter ur5e_pairs("collision.may_touch",
                             std::vector<std::string>{"base_link_inertia", "upper_arm_link",
                                                      "forearm_link", "wrist_2_link"});
  for (const Example& example :
       {Example{"franka", "fr3", 1000, {Parameter("tool_frame", "fr3_link8"), fr3_pairs}},
        Example{"ur5e", "ur5e", 500, {ur5e_pairs}},
        // Its joints and frames are named as the UR5e's.
        Example{"ur5", "ur5e", 125, {ur5e_pairs}}}) {
    const std::string file =
        std::string(REPOSITORY) + "/config/" + example.system + "/controllers.yaml";
    Rig rig(example.changes, vla_controllers::testing::urdf(example.arm), example.rate, file);
    ASSERT_TRUE(rig.initialised);
    EXPECT_TRUE(rig.configure()) << example.system << ": " << logged;
    const auto parameters = rig.controller->get_node()->get_node_parameters_interface();
    const auto& given = parameters->get_parameter_overrides();
    EXPECT_GT(given.size(), 8U);
    for (const auto& [name, value] : given) {
      EXPECT_TRUE(parameters->has_parameter(name)) << example.system << ": " << name;
    }
  }
}

TEST_F(CartesianController, RaisedLimitsAreReported) {
  Rig usual(fr3_parameters());
  ASSERT_TRUE(usual.configure());
  EXPECT_EQ(logged.find("raised"), std::string::npos) << logged;
  Rig fast(fr3_parameters({Parameter("max_linear_velocity", 0.7)}));
  ASSERT_TRUE(fast.configure());
  EXPECT_NE(logged.find("max_linear_velocity is raised to 0.7"), std::string::npos) << logged;
  logged.clear();
  Rig patient(fr3_parameters({Parameter("tracking.max_deviation", std::vector<double>(7, 0.05))}));
  ASSERT_TRUE(patient.configure());
  EXPECT_NE(logged.find("tracking.max_deviation is raised to 0.05"), std::string::npos) << logged;
}

TEST_F(CartesianController, ActivationRefusesWhatTheModelDoesNotExplain) {
  Rig rig(fr3_parameters());
  ASSERT_TRUE(rig.configure());
  rig.effort_offset[1] = 30.0;
  EXPECT_FALSE(rig.activate());
  EXPECT_NE(logged.find("STATIC_RESIDUAL"), std::string::npos) << logged;
  rig.effort_offset[1] = kNaN;
  EXPECT_FALSE(rig.activate());
  rig.effort_offset[1] = 0.0;
  rig.q[0] = kNaN;
  EXPECT_FALSE(rig.activate());
  rig.q[0] = 0.0;
  EXPECT_TRUE(rig.activate()) << logged;
}

TEST_F(ActiveController, HoldsStillAndTellsIt) {
  const auto before = rig.tool();
  rig.run(0.5);
  EXPECT_LT((rig.tool() - before).norm(), 1e-5);
  EXPECT_LT(rig.tau.cwiseAbs().maxCoeff(), 1e-3);
  ASSERT_TRUE(rig.until([&] { return rig.state.cycles > 400; }));
  EXPECT_EQ(rig.state.phase, ControllerState::PHASE_HOLDING);
  EXPECT_EQ(rig.state.header.frame_id, "fr3_link0");
  EXPECT_EQ(rig.state.tool_frame, "fr3_link8");
  EXPECT_EQ(rig.state.joint_names.size(), 7U);
  // The stamp is the ROS time of the cycle, to within a period.
  const std::int64_t stamp = static_cast<std::int64_t>(rig.state.header.stamp.sec) * 1000 * kMilli +
                             rig.state.header.stamp.nanosec;
  EXPECT_LE(stamp, rig.ros_ns + kMilli);
  EXPECT_GT(stamp, rig.ros_ns - 1000 * kMilli);
}

TEST_F(ActiveController, FollowsAChunk) {
  const auto start = rig.tool();
  ASSERT_TRUE(rig.send(rig.motion(0.1, 1.5, 1))) << logged;
  rig.run(0.7);
  EXPECT_GT(rig.tool().y() - start.y(), 0.02);
  rig.run(1.8);
  EXPECT_NEAR(rig.tool().y() - start.y(), 0.1, 1e-3);
  EXPECT_NEAR(rig.tool().x() - start.x(), 0.0, 1e-3);
  EXPECT_NEAR(rig.tool().z() - start.z(), 0.0, 1e-3);
  ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_HOLDING; }));
  EXPECT_EQ(rig.state.chunks_rejected, 0U);
}

TEST_F(ActiveController, AdvancesByThePeriodsItIsGiven) {
  // The loop's periods say that half the time passes: the chunk takes twice as many cycles.
  const auto start = rig.tool();
  ASSERT_TRUE(rig.send(rig.motion(0.1, 1.5, 1))) << logged;
  for (int i = 0; i < 750; ++i) rig.step(kMilli / 2);
  const double half_way = rig.tool().y() - start.y();
  EXPECT_GT(half_way, 0.002);
  EXPECT_LT(half_way, 0.04);
}

TEST_F(ActiveController, RejectsWhatTheCoreRejects) {
  auto chunk = rig.motion(0.05, 1.5, 1);
  chunk.header.frame_id = "world";
  EXPECT_FALSE(rig.send(chunk));
  EXPECT_EQ(rig.state.last_reject_reason, ControllerState::REJECT_WRONG_FRAME);
  chunk = rig.motion(0.05, 1.5, 1);
  chunk.poses[3].position.x = kNaN;
  EXPECT_FALSE(rig.send(chunk));
  EXPECT_EQ(rig.state.last_reject_reason, ControllerState::REJECT_NOT_FINITE);
  chunk = rig.motion(0.05, 1.5, 1);
  chunk.header.stamp.sec -= 5;
  EXPECT_FALSE(rig.send(chunk));
  EXPECT_EQ(rig.state.last_reject_reason, ControllerState::REJECT_STALE);
  chunk = rig.motion(0.05, 1.5, 1);
  chunk.header.stamp.sec += 5;
  EXPECT_FALSE(rig.send(chunk));
  EXPECT_EQ(rig.state.last_reject_reason, ControllerState::REJECT_FUTURE);
  EXPECT_TRUE(rig.send(rig.motion(0.05, 1.5, 2)));
  chunk = rig.motion(0.05, 1.5, 3);
  chunk.grant = 0;
  EXPECT_FALSE(rig.send(chunk));
  EXPECT_EQ(rig.state.last_reject_reason, ControllerState::REJECT_OLD_GRANT);
}

TEST_F(CartesianController, BrakesToAHoldWithoutAHeartbeat) {
  Rig rig(fr3_parameters({Parameter("heartbeat_timeout", 0.2)}));
  ASSERT_TRUE(rig.configure());
  ASSERT_TRUE(rig.activate());
  ASSERT_TRUE(rig.connect());
  EXPECT_FALSE(rig.send(rig.motion(0.1, 1.5, 1)));  // nobody is there who could grant
  rig.heartbeat = std::make_shared<vla_msgs::msg::ControlOwner>();
  rig.heartbeat->boot_id = 1;
  rig.heartbeat->grant = 1;
  ASSERT_TRUE(rig.until([&] { return rig.state.grant == 1; }));
  const auto start = rig.tool();
  ASSERT_TRUE(rig.send(rig.motion(0.1, 1.5, 1))) << logged;
  rig.run(0.3);
  rig.heartbeat.reset();
  rig.run(3.0);
  EXPECT_LT(rig.tool().y() - start.y(), 0.09);
  EXPECT_LT(rig.dq.cwiseAbs().maxCoeff(), 1e-3);
  ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_HOLDING; }));
}

TEST_F(ActiveController, StopHoldsUntilReset) {
  ASSERT_TRUE(rig.send(rig.motion(0.1, 1.5, 1)));
  ASSERT_TRUE(rig.call("stop"));
  ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_FAULT; }));
  EXPECT_EQ(rig.state.fault, ControllerState::FAULT_STOP_REQUESTED);
  EXPECT_FALSE(rig.send(rig.motion(0.1, 1.5, 2)));
  rig.run(1.0);
  EXPECT_LT(rig.dq.cwiseAbs().maxCoeff(), 1e-3);
  ASSERT_TRUE(rig.call("reset"));
  ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_HOLDING; }));
  EXPECT_TRUE(rig.send(rig.motion(0.1, 1.5, 3))) << logged;
}

TEST_F(ActiveController, ATareCarriesWhatNobodyHasToldOf) {
  const auto start = rig.tool();
  rig.pull.z() = -5.0;
  rig.run(3.0);
  const double sag = start.z() - rig.tool().z();
  EXPECT_GT(sag, 0.004);  // the control: nothing else takes it up
  ASSERT_TRUE(rig.call("tare"));
  rig.run(4.0);
  EXPECT_LT(std::abs(start.z() - rig.tool().z()), 0.1 * sag);
}

TEST_F(ActiveController, AJumpOfRosTimeMeansHold) {
  for (const int direction : {1, -1}) {
    const auto start = rig.tool();
    const auto sequence = static_cast<std::uint64_t>(2 - direction);
    ASSERT_TRUE(rig.send(rig.motion(0.1, 1.5, sequence))) << logged;
    rig.run(0.3);
    rig.ros_ns += direction * 30'000 * kMilli;
    ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_HOLDING; }));
    EXPECT_LT(rig.tool().y() - start.y(), 0.08);
    EXPECT_NE(logged.find("ROS time has jumped"), std::string::npos);
    // The controller is not in FAULT, and what is observed in the new time is followed.
    EXPECT_EQ(rig.state.fault, ControllerState::FAULT_NONE);
    EXPECT_TRUE(rig.send(rig.motion(0.0, 1.5, sequence + 1))) << logged;
  }
}

TEST_F(ActiveController, MissedPeriodsAreAFault) {
  ASSERT_TRUE(rig.send(rig.motion(0.1, 1.5, 1)));
  rig.step(200 * kMilli);
  ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_FAULT; }));
  EXPECT_EQ(rig.state.fault, ControllerState::FAULT_CLOCK_JUMP);
}

TEST_F(ActiveController, ChunksBeforeActivationAreForgotten) {
  rig.run(0.1);
  const auto chunk = rig.motion(0.1, 1.5, 1);
  ASSERT_TRUE(rig.deactivate());
  EXPECT_EQ(rig.tau.cwiseAbs().maxCoeff(), 0.0);  // the drives carry gravity
  rig.stepping = false;
  ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_INACTIVE; }));
  EXPECT_FALSE(rig.call("stop"));  // there is nothing to stop, and nobody is told otherwise
  rig.chunks->publish(chunk);
  const auto rejected = [&] {
    return rig.state.last_reject_reason == ControllerState::REJECT_NOT_ACTIVE;
  };
  ASSERT_TRUE(rig.until(rejected));
  rig.stepping = true;
  rig.dq.setZero();
  ASSERT_TRUE(rig.activate()) << logged;
  const auto start = rig.tool();
  rig.run(1.0);
  EXPECT_LT((rig.tool() - start).norm(), 1e-4);
}

TEST_F(CartesianController, CarriesGravityWhereTheDriveDoesNot) {
  Rig rig(fr3_parameters({Parameter("command_includes_gravity", true)}));
  rig.drive_carries_gravity = false;
  rig.tau = rig.model.gravity(rig.q);  // whoever held the arm before
  ASSERT_TRUE(rig.configure());
  ASSERT_TRUE(rig.activate()) << logged;
  const auto start = rig.tool();
  rig.run(0.5);
  EXPECT_LT((rig.tool() - start).norm(), 1e-5);
  EXPECT_GT(rig.tau.cwiseAbs().maxCoeff(), 10.0);
  // The last command stays in the hardware: it must not let the arm fall.
  ASSERT_TRUE(rig.deactivate());
  EXPECT_LT((rig.tau - rig.model.gravity(rig.q)).norm(), 1e-6);
}

TEST_F(ActiveController, GainsChangeWhileActive) {
  rig.run(0.1);
  ASSERT_TRUE(rig.controller->get_node()
                  ->set_parameter(Parameter("translational_stiffness",
                                            std::vector<double>{200.0, 200.0, 200.0}))
                  .successful);
  EXPECT_FALSE(
      rig.controller->get_node()
          ->set_parameter(Parameter("translational_stiffness", std::vector<double>{-1.0, 1.0, 1.0}))
          .successful);
  EXPECT_FALSE(rig.controller->get_node()
                   ->set_parameter(Parameter("torque_limit", std::vector<double>{}))
                   .successful);
  rig.run(0.5);
  ASSERT_TRUE(rig.until([&] { return rig.state.cycles > 500; }));
  EXPECT_EQ(rig.state.phase, ControllerState::PHASE_HOLDING);
}

TEST_F(ActiveController, MayBeCleanedUpAndUsedAgain) {
  ASSERT_TRUE(rig.deactivate());
  ASSERT_EQ(rig.controller->get_node()->cleanup().id(),
            lifecycle_msgs::msg::State::PRIMARY_STATE_UNCONFIGURED);
  rig.dq.setZero();
  rig.tau.setZero();
  ASSERT_TRUE(rig.configure()) << logged;
  ASSERT_TRUE(rig.activate()) << logged;
  ASSERT_TRUE(rig.connect());
  EXPECT_TRUE(rig.send(rig.motion(0.05, 1.5, 1))) << logged;
}

}  // namespace
