// SPDX-License-Identifier: Apache-2.0
/// The plugin keeps the arm off itself and off a table, and stops it when nobody watches.
#include <gtest/gtest.h>
#include <rcutils/logging.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>

#include "logged.hpp"
#include "rig.hpp"
#include "vla_control/collision_monitor.hpp"

namespace {

using rclcpp::Parameter;
using vla_control::Vector3;
using vla_controllers::testing::fr3_parameters;
using vla_controllers::testing::fr3_urdf;
using vla_controllers::testing::keep_log;
using vla_controllers::testing::logged;
using vla_controllers::testing::Rig;
using vla_controllers::testing::tracking_parameters;
using vla_controllers::testing::watch_parameters;
using vla_msgs::msg::ActionChunk;
using vla_msgs::msg::ControllerState;

constexpr double kFarTable = 0.0;  // m, top of a table that is in no way

/// Threads of this process that compute distances.
std::vector<pid_t> watchers() {
  std::vector<pid_t> found;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm") >> std::ws, name);
    if (name == "vla_distances") found.push_back(std::stoi(task.path().filename()));
  }
  return found;
}

std::atomic<bool> stalled{false};  // NOLINT: a signal handler has no other way

void stall(int) {
  while (stalled) usleep(1000);
}

/// The threads that compute distances stand still as long as this object lives.
class Stall {
 public:
  Stall() {
    stalled = true;
    struct sigaction action{};
    action.sa_handler = &stall;
    sigaction(SIGUSR1, &action, nullptr);
    for (const pid_t thread : watchers()) syscall(SYS_tgkill, getpid(), thread, SIGUSR1);
  }
  ~Stall() { stalled = false; }
};

class CollisionWatch : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    rclcpp::init(0, nullptr);
    keep_log();
  }
  static void TearDownTestSuite() { rclcpp::shutdown(); }
  void SetUp() override { logged.clear(); }

  static bool start(Rig& rig) {
    rig.paced = true;
    return rig.configure() && rig.activate() && rig.connect() &&
           rig.until([&rig] { return rig.state.cycles > 0 && !rig.state.unmonitored; });
  }

  /// Least distance while a chunk is followed, m; negative = bodies overlap.
  static double least_in(Rig& rig, double table, const ActionChunk& chunk) {
    vla_control::CollisionConfig truth;
    truth.home = vla_control::JointVector::Map(vla_controllers::testing::fr3_home().data(), 7);
    truth.obstacles.emplace_back();
    truth.obstacles.back().name = "table";
    truth.obstacles.back().position.z() = table;
    truth.ignored_pairs = {{"fr3_link0", "fr3_link2"},
                           {"fr3_link2", "fr3_link4"},
                           {"fr3_link4", "fr3_link6"},
                           {"fr3_link4", "fr3_link7"}};
    vla_control::CollisionMonitor monitor(vla_controllers::testing::fr3(), truth);
    EXPECT_TRUE(rig.send(chunk)) << logged;
    double least = 1.0;
    for (int i = 0; i < 300; ++i) {
      rig.run(0.01);
      for (const auto& near : monitor.compute(rig.q)) least = std::min(least, near.distance);
    }
    const Vector3 before = rig.tool();
    rig.run(0.1);
    EXPECT_LT((rig.tool() - before).norm(), 2e-3);
    EXPECT_EQ(rig.state.fault, ControllerState::FAULT_NONE);
    return least;
  }
};

std::vector<Parameter> with_barrier(bool on, std::vector<Parameter> changes) {
  changes.emplace_back("barrier.distance_braking", on ? 4.0 : 0.0);
  return changes;
}

TEST_F(CollisionWatch, AnArmSentIntoTheTableRestsBeforeIt) {
  constexpr double kTable = 0.25;  // m; the arm begins 123 mm above it
  const auto least = [](bool efforts, bool watched) {
    const auto parameters = watch_parameters(kTable, with_barrier(watched, {}));
    Rig rig(efforts ? fr3_parameters(parameters) : tracking_parameters(false, parameters));
    EXPECT_TRUE(start(rig)) << logged;
    rig.paced = watched;
    const double found = least_in(rig, kTable, rig.motion(Vector3(0.0, 0.0, -0.2), 2.0, 1));
    EXPECT_EQ(std::isfinite(rig.state.smallest_distance), watched);
    return found;
  };
  for (const bool efforts : {true, false}) {
    EXPECT_LT(least(efforts, false), -0.05);  // the control
    const double rested = least(efforts, true);
    EXPECT_GT(rested, 0.0);
    EXPECT_LT(rested, 0.02);  // it went there
  }
}

TEST_F(CollisionWatch, AnArmSentIntoItselfRestsBeforeIt) {
  constexpr double kTable = -1.0;
  const std::vector<double> goal{0.31, 1.0,  -0.11, -2.92,
                                 0.3,  1.96, 1.01};  // links 0 and 7 overlap
  const auto least = [&goal](bool watched) {
    const std::vector<Parameter> changes{{"chunk.accept_joint_positions", true},
                                         {"nullspace_stiffness", 50.0},
                                         {"max_linear_velocity", 1.0},
                                         {"max_angular_velocity", 3.0}};
    Rig rig(fr3_parameters(watch_parameters(kTable, with_barrier(watched, changes))));
    EXPECT_TRUE(start(rig)) << logged;
    rig.paced = watched;
    ActionChunk chunk = rig.motion(0.0, 2.5, 1);
    const std::size_t steps = chunk.poses.size();
    chunk.mode = ActionChunk::MODE_JOINT_POSITION;
    chunk.poses.clear();
    chunk.joint_names = vla_controllers::testing::fr3().joint_names;
    for (std::size_t step = 0; step < steps; ++step) {
      const double s = static_cast<double>(step) / static_cast<double>(steps - 1);
      const double share = s * s * s * (10.0 - 15.0 * s + 6.0 * s * s);
      for (std::size_t i = 0; i < goal.size(); ++i) {
        const double from = rig.q[static_cast<Eigen::Index>(i)];
        chunk.joint_values.push_back(from + share * (goal[i] - from));
      }
    }
    return least_in(rig, kTable, chunk);
  };
  EXPECT_LT(least(false), -0.05);  // the control
  const double rested = least(true);
  EXPECT_GT(rested, 0.0);
  EXPECT_LT(rested, 0.02);
}

TEST_F(CollisionWatch, WithoutFreshDistancesTheArmBrakesToAHold) {
  Rig rig(fr3_parameters(watch_parameters(kFarTable)));
  ASSERT_TRUE(start(rig)) << logged;
  ASSERT_TRUE(rig.send(rig.motion(0.1, 1.5, 1))) << logged;
  rig.run(0.5);
  const double before = rig.tool().y();
  {
    const Stall nobody_watches;
    rig.run(0.5);
    ASSERT_TRUE(rig.until([&] { return rig.state.phase == ControllerState::PHASE_HOLDING; }));
    EXPECT_TRUE(rig.state.unmonitored);
    EXPECT_LT(rig.tool().y() - before, 0.05);  // 0.07 were left
    EXPECT_LT(rig.dq.cwiseAbs().maxCoeff(), 0.01);
    EXPECT_FALSE(rig.send(rig.motion(0.05, 1.5, 2)));
    EXPECT_EQ(rig.state.last_reject_reason, ControllerState::REJECT_UNMONITORED);
  }
  ASSERT_TRUE(rig.until([&] { return !rig.state.unmonitored; }));
  EXPECT_TRUE(rig.send(rig.motion(0.05, 1.5, 3))) << logged;
  rig.run(2.0);
  EXPECT_NEAR(rig.tool().y() - before, 0.1, 0.05);
}

TEST_F(CollisionWatch, TheThreadLivesFromConfigurationToCleanup) {
  Rig rig(fr3_parameters(watch_parameters(kFarTable)));
  EXPECT_EQ(watchers().size(), 0U);
  ASSERT_TRUE(start(rig)) << logged;
  EXPECT_EQ(watchers().size(), 1U);
  ASSERT_TRUE(rig.deactivate());
  EXPECT_EQ(watchers().size(), 1U);  // idle: nobody measures
  rig.dq.setZero();
  ASSERT_TRUE(rig.activate()) << logged;
  ASSERT_TRUE(rig.until([&] { return rig.state.cycles > 0 && !rig.state.unmonitored; }));
  ASSERT_TRUE(rig.deactivate());
  ASSERT_EQ(rig.controller->get_node()->cleanup().id(),
            lifecycle_msgs::msg::State::PRIMARY_STATE_UNCONFIGURED);
  EXPECT_EQ(watchers().size(), 0U);
  ASSERT_TRUE(rig.configure()) << logged;
  ASSERT_EQ(rig.controller->get_node()->shutdown().id(),
            lifecycle_msgs::msg::State::PRIMARY_STATE_FINALIZED);
}

TEST_F(CollisionWatch, WhatIsMissingIsNamed) {
  const std::vector<std::pair<Parameter, std::vector<std::string>>> mistakes{
      {Parameter("collision.home", std::vector<double>{}), {"collision.home has 0", "7 joints"}},
      {Parameter("collision.home", std::vector<double>{0.0, 1.7, 0.0, -2.4, 0.0, 2.2, 0.8}),
       {"'table'", "apart at home"}},
      {Parameter("collision.may_touch", std::vector<std::string>{"table"}),
       {"may_touch has 1 names", "pairs"}},
      {Parameter("collision.may_touch", std::vector<std::string>{"hand", "table"}),
       {"'hand' is no link", "fr3_link7"}},
      {Parameter("obstacle.table.size", std::vector<double>{1.0, 1.0}),
       {"obstacle.table.size has 2", "half space"}},
      {Parameter("obstacle.table.quat_xyzw", std::vector<double>{0.0, 0.0, 0.0, 0.0}),
       {"obstacle 'table'", "unit quaternion"}},
      {Parameter("obstacle.table.position"), {"obstacle.table.position"}},
      {Parameter("collision.rate", 10.0), {"collision.rate"}},
  };
  for (const auto& [parameter, told] : mistakes) {
    logged.clear();
    Rig rig(fr3_parameters(watch_parameters(kFarTable, {parameter})));
    EXPECT_FALSE(rig.configure()) << parameter;
    for (const std::string& text : told) {
      EXPECT_NE(logged.find(text), std::string::npos)
          << parameter << ": no '" << text << "' in: " << logged;
    }
  }
  logged.clear();
  const std::regex shapes("<collision>[\\s\\S]*?</collision>");
  Rig bare(fr3_parameters(watch_parameters(kFarTable)), std::regex_replace(fr3_urdf(), shapes, ""));
  EXPECT_FALSE(bare.configure());
  EXPECT_NE(logged.find("no collision geometry"), std::string::npos) << logged;
}

TEST_F(CollisionWatch, ABarrierThatIsOffIsReported) {
  const std::string line = "barrier.distance_braking is 0";
  Rig watched(fr3_parameters(watch_parameters(kFarTable)));
  ASSERT_TRUE(watched.configure()) << logged;
  EXPECT_EQ(logged.find(line), std::string::npos) << logged;
  Rig alone(fr3_parameters());
  ASSERT_TRUE(alone.configure());
  EXPECT_NE(logged.find(line), std::string::npos) << logged;
}

}  // namespace
