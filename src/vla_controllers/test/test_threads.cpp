// SPDX-License-Identifier: Apache-2.0
/// The loop runs in its thread while callbacks of every kind run in another, as in a controller
/// manager. Built with ThreadSanitizer (VLA_CONTROLLERS_TSAN) it reports data races of the plugin.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "rig.hpp"

namespace {

using vla_controllers::testing::fr3_parameters;
using vla_controllers::testing::kMilli;
using vla_controllers::testing::kStart;
using vla_controllers::testing::Rig;
using vla_controllers::testing::watch_parameters;
using State = vla_msgs::msg::ControllerState;

/// The thread of a controller manager: updates, and now and then another activation.
class Loop {
 public:
  explicit Loop(Rig& rig) : rig_(rig), thread_([this] { run(); }) {}
  ~Loop() { stop(); }

  void stop() {
    running_ = false;
    if (thread_.joinable()) thread_.join();
  }
  /// Deactivates and activates in the loop, as a switch does; waits until it is done.
  void activate_anew() {
    anew_ = true;
    while (anew_) std::this_thread::yield();
  }
  [[nodiscard]] bool good() const { return good_; }

 private:
  void run() {
    while (running_) {
      if (anew_) {
        good_ = good_ && rig_.controller->get_node()->deactivate().label() == "inactive" &&
                rig_.controller->get_node()->activate().label() == "active";
        anew_ = false;
      }
      (void)rig_.controller->update(rclcpp::Time(kStart),
                                    rclcpp::Duration::from_nanoseconds(kMilli));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  Rig& rig_;
  std::atomic<bool> running_{true};
  std::atomic<bool> anew_{false};
  std::atomic<bool> good_{true};
  std::thread thread_;
};

TEST(Threads, TheLoopAndTheCallbacksShareNothingUnguarded) {
  rclcpp::init(0, nullptr);
  {
    // ROS time stands still here while the loop's goes on, which shall not count as a jump.
    // Distances may come late: with ThreadSanitizer, or on a busy machine.
    Rig rig(fr3_parameters(watch_parameters(0.0, {{"clock_jump", 10.0},
                                                  {"state_rate", 200.0},
                                                  {"collision.rate", 1000.0},
                                                  {"barrier.distance_stale", 1.0}})));
    ASSERT_TRUE(rig.configure());
    ASSERT_TRUE(rig.activate());
    ASSERT_TRUE(rig.connect());
    rig.stepping = false;
    const auto stiffness = [&rig](double value) {
      return rig.controller->get_node()
          ->set_parameter({"translational_stiffness", std::vector<double>(3, value)})
          .successful;
    };
    Loop loop(rig);
    std::uint64_t sequence = 0;
    for (int round = 0; round < 5; ++round) {
      ASSERT_TRUE(rig.until([&] { return rig.state.cycles > 0 && !rig.state.unmonitored; }));
      ASSERT_TRUE(rig.send(rig.motion(0.02, 1.0, ++sequence)));
      ASSERT_TRUE(rig.until([&] { return rig.state.phase == State::PHASE_TRACKING; }));
      ASSERT_TRUE(stiffness(300.0 + round));
      ASSERT_TRUE(rig.send(rig.motion(0.01, 1.0, ++sequence)));
      ASSERT_TRUE(rig.call("tare"));
      ASSERT_TRUE(rig.call("stop"));
      ASSERT_TRUE(rig.until([&] { return rig.state.phase == State::PHASE_FAULT; }));
      ASSERT_TRUE(rig.call("reset"));
      ASSERT_TRUE(rig.until([&] { return rig.state.phase == State::PHASE_HOLDING; }));
      loop.activate_anew();
      // An activation counts chunks anew: a state from before it would deceive send().
      ASSERT_TRUE(rig.until([&] { return rig.state.chunks_accepted == 0; }));
      sequence = 0;
    }
    loop.stop();
    EXPECT_TRUE(loop.good());
    EXPECT_GT(rig.state.cycles, 0U);
  }
  rclcpp::shutdown();
}

/// A race on purpose, for ThreadSanitizer to report.
TEST(Control, DISABLED_Race) {
  long value = 0;
  std::thread other([&value] {
    for (int i = 0; i < 10'000; ++i) ++value;
  });
  for (int i = 0; i < 10'000; ++i) ++value;
  other.join();
  EXPECT_GT(value, 0);
}

}  // namespace
