// SPDX-License-Identifier: Apache-2.0
/// Fuzzes the way of an ActionChunk of any content into the controller. Seeded.
///
///   fuzz_message_adapter [inputs = 20000] [seed = 1] [--lose | --overrun] [--seconds N]
///
/// The adapter must keep every value bit by bit, and whatever it hands on, the controller must
/// accept or reject it and command finite torques. AddressSanitizer and UBSan watch. Two controls
/// must make the program fail: --lose drops a value behind the adapter's back, --overrun reads
/// beyond the end of a list. With --seconds it goes on for so long. Exits with 1 when an invariant
/// breaks, naming the input.
#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "chain.hpp"
#include "fuzz_source.hpp"
#include "vla_controllers/message_adapter.hpp"

namespace vla_controllers {
namespace {

using vla_control::Chunk;
using vla_control::RejectReason;
using vla_control::testing::Source;
using vla_msgs::msg::ActionChunk;

constexpr int kJoints = 7;
constexpr std::int64_t kPeriod = 1'000'000;  // ns

bool same(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

bool same(const std::vector<double>& a, const std::vector<double>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](double x, double y) { return same(x, y); });
}

bool same(const vla_control::Vector6& values, const geometry_msgs::msg::Vector3& head,
          const geometry_msgs::msg::Vector3& tail) {
  return same(values[0], head.x) && same(values[1], head.y) && same(values[2], head.z) &&
         same(values[3], tail.x) && same(values[4], tail.y) && same(values[5], tail.z);
}

bool same(const vla_control::Waypoint& waypoint, const geometry_msgs::msg::Pose& pose) {
  return same(waypoint.position[0], pose.position.x) &&
         same(waypoint.position[1], pose.position.y) &&
         same(waypoint.position[2], pose.position.z) &&
         same(waypoint.quat_xyzw[0], pose.orientation.x) &&
         same(waypoint.quat_xyzw[1], pose.orientation.y) &&
         same(waypoint.quat_xyzw[2], pose.orientation.z) &&
         same(waypoint.quat_xyzw[3], pose.orientation.w);
}

/// Whether every value of the message that the core reads is in the chunk, bit by bit.
bool same(const Chunk& chunk, const ActionChunk& message) {
  const auto poses =
      std::equal(chunk.waypoints.begin(), chunk.waypoints.end(), message.poses.begin(),
                 message.poses.end(), [](const auto& a, const auto& b) { return same(a, b); });
  const auto twists = std::equal(
      chunk.twists.begin(), chunk.twists.end(), message.twists.begin(), message.twists.end(),
      [](const auto& a, const auto& b) { return same(a, b.linear, b.angular); });
  const auto wrenches =
      std::equal(chunk.wrenches.begin(), chunk.wrenches.end(), message.wrenches.begin(),
                 message.wrenches.end(),
                 [](const auto& a, const auto& b) { return same(a, b.force, b.torque); });
  return poses && twists && wrenches && chunk.base_frame == message.header.frame_id &&
         chunk.tool_frame == message.tool_frame && chunk.boot_id == message.boot_id &&
         chunk.grant == message.grant && chunk.sequence == message.sequence &&
         static_cast<std::uint8_t>(chunk.mode) == message.mode &&
         same(chunk.step_dt, message.step_dt) && chunk.joint_names == message.joint_names &&
         same(chunk.joint_values, message.joint_values) &&
         same(chunk.gripper_opening, message.gripper_opening) &&
         same(chunk.gripper_max_force, message.gripper_max_force);
}

/// Lists of a length, or now and then of any.
class Maker {
 public:
  Maker(Source& source, std::size_t length) : source_(source), length_(length) {}

  [[nodiscard]] std::size_t length() { return source_.chance(0.02) ? source_.below(100) : length_; }
  [[nodiscard]] double number() {
    return source_.chance(0.002) ? source_.garbage() : source_.within(-1.0, 1.0);
  }
  [[nodiscard]] std::vector<double> numbers(std::size_t columns) {
    std::vector<double> out(length() * columns);
    for (double& value : out) value = number();
    return out;
  }
  /// A number that is often too small, but rarely so great that nothing could follow it.
  [[nodiscard]] std::uint64_t counter(std::uint64_t usual) {
    if (source_.chance(2e-5)) return source_.counter();
    return source_.chance(0.02) ? source_.below(usual + 1) : usual;
  }
  [[nodiscard]] std::string text(const char* usual) {
    if (!source_.chance(0.02)) return usual;
    std::string out(source_.below(300), '\0');
    for (char& c : out) c = static_cast<char>(source_.below(256));
    return out;
  }
  void fill(geometry_msgs::msg::Vector3& v) {
    v.x = 0.01 * number();
    v.y = 0.01 * number();
    v.z = 0.01 * number();
  }

 private:
  Source& source_;
  std::size_t length_;
};

/// A message around a pose: many are good, any may be anything.
ActionChunk make_message(Source& source, const vla_control::Pose& pose,
                         const vla_control::JointVector& q, std::uint64_t sequence) {
  ActionChunk message;
  Maker make(source, 1 + source.below(source.chance(0.9) ? 16 : 64));
  message.header.stamp.sec = static_cast<std::int32_t>(source.bits());
  message.header.stamp.nanosec = static_cast<std::uint32_t>(source.bits());
  message.header.frame_id = make.text("base");
  message.tool_frame = make.text("tool");
  message.boot_id = make.counter(1);
  message.grant = make.counter(1);
  message.sequence = make.counter(sequence);
  message.inference_id = source.bits();
  message.policy_id = make.text("policy");
  message.instruction_id = static_cast<std::uint32_t>(source.bits());
  message.conditioned_steps = static_cast<std::uint32_t>(source.bits());
  message.mode = static_cast<std::uint8_t>(source.chance(0.02) ? source.bits() : source.below(3));
  message.step_dt = source.chance(0.02) ? source.garbage() : 0.05;
  const bool all = source.chance(0.02);  // lists of every mode at once
  if (all || message.mode == ActionChunk::MODE_POSE) {
    const Eigen::Quaterniond quat(pose.rotation);
    message.poses.resize(make.length());
    for (auto& step : message.poses) {
      step.position.x = pose.position.x() + 0.001 * make.number();
      step.position.y = pose.position.y() + 0.001 * make.number();
      step.position.z = pose.position.z() + 0.001 * make.number();
      step.orientation.x = source.chance(0.001) ? source.garbage() : quat.x();
      step.orientation.y = quat.y();
      step.orientation.z = quat.z();
      step.orientation.w = source.chance(0.001) ? source.garbage() : quat.w();
    }
  }
  if (all || message.mode == ActionChunk::MODE_JOINT_POSITION) {
    for (int j = 1; j <= kJoints; ++j) {
      message.joint_names.push_back(make.text(("joint" + std::to_string(j)).c_str()));
    }
    message.joint_values = make.numbers(kJoints);
    for (std::size_t i = 0; i < message.joint_values.size(); ++i) {
      message.joint_values[i] =
          q[static_cast<Eigen::Index>(i % kJoints)] + 0.001 * message.joint_values[i];
    }
  }
  if (all || message.mode == ActionChunk::MODE_TWIST) {
    message.twists.resize(make.length());
    for (auto& twist : message.twists) {
      make.fill(twist.linear);
      make.fill(twist.angular);
    }
  }
  if (source.chance(0.3)) message.gripper_opening = make.numbers(1);
  if (source.chance(0.2)) message.gripper_max_force = make.numbers(1);
  if (source.chance(0.1)) message.stiffness = make.numbers(36);
  if (source.chance(0.1)) {
    message.wrenches.resize(make.length());
    for (auto& wrench : message.wrenches) {
      make.fill(wrench.force);
      make.fill(wrench.torque);
    }
  }
  return message;
}

enum class Control { kNone, kLose, kOverrun };

/// Spoils what the adapter has made, which must not go unnoticed.
void spoil(Chunk& chunk, Control control) {
  if (control == Control::kLose && !chunk.waypoints.empty()) chunk.waypoints.pop_back();
  if (control == Control::kOverrun && !chunk.joint_values.empty()) {
    const volatile double* end = chunk.joint_values.data() + chunk.joint_values.capacity();
    chunk.step_dt = *end;
  }
}

class Fuzzer {
 public:
  Fuzzer(std::uint64_t seed, Control control)
      : source_(seed), control_(control), state_(vla_control::testing::bent(kJoints)) {
    vla_control::ControllerConfig config;
    config.command_includes_gravity = true;
    config.effort_state = vla_control::EffortState::kNone;
    config.chunk.accept_joint_positions = config.chunk.accept_twists = true;
    config.force.axes[2] = source_.chance(0.5);
    controller_ = std::make_unique<vla_control::Controller>(
        vla_control::testing::make_chain(kJoints), config);
    torques_.tau.setZero(kJoints);
  }

  bool run(std::uint64_t inputs) {
    if (!activate()) return false;
    for (std::uint64_t input = 0; input < inputs; ++input) {
      const char* broken = step();
      if (broken != nullptr) {
        std::printf("BAD at input %llu: not true that %s\n", static_cast<unsigned long long>(input),
                    broken);
        return false;
      }
    }
    std::printf("%llu inputs", static_cast<unsigned long long>(inputs));
    for (std::size_t i = 0; i < reasons_.size(); ++i) {
      const std::string_view name = to_string(static_cast<RejectReason>(i));
      if (reasons_[i] > 0) {
        std::printf(", %.*s %llu", static_cast<int>(name.size()), name.data(),
                    static_cast<unsigned long long>(reasons_[i]));
      }
    }
    std::printf("\n");
    // What is never accepted would not be tested behind the intake.
    return reasons_[0] > inputs / 200;
  }

 private:
  bool activate() {
    sequence_ = 0;
    if (!controller_->activate(state_, now_)) return false;
    controller_->heartbeat(1, 1, now_);
    controller_->update(state_, now_, 1e-3, torques_);
    return true;
  }

  /// What is broken; null if nothing is.
  const char* step() {
    const ActionChunk message =
        make_message(source_, controller_->state().reference.pose, state_.q, ++sequence_);
    const std::int64_t stamp = to_ns(message.header.stamp);
    if (stamp >= 0 && to_ns(to_time(stamp)) != stamp) return "times go forth and back";
    Chunk chunk = to_chunk(message, source_.chance(0.98) ? now_ : stamp);
    spoil(chunk, control_);
    if (!same(chunk, message)) return "the adapter keeps every value";
    const RejectReason reason = controller_->push_chunk(chunk);
    ++reasons_[static_cast<std::size_t>(reason)];
    if (source_.chance(0.2)) {
      now_ += kPeriod;
      controller_->update(state_, now_, 1e-3, torques_);
      if (!torques_.tau.allFinite()) return "torques are finite";
    }
    if (source_.chance(0.01)) {
      const auto out = to_message(controller_->state(), stamp, {"base", "tool", {}});
      if (out.q.size() != static_cast<std::size_t>(kJoints)) return "states keep their joints";
    }
    // Counters may have been driven to their end.
    if (source_.chance(0.001) && !activate()) return "a plausible joint state activates";
    return nullptr;
  }

  Source source_;
  Control control_;
  vla_control::JointState state_;
  std::unique_ptr<vla_control::Controller> controller_;
  vla_control::JointTorques torques_;
  std::int64_t now_ = 1'000'000'000;
  std::uint64_t sequence_ = 0;
  std::array<std::uint64_t, 1 + static_cast<std::size_t>(RejectReason::kUnreachable)> reasons_{};
};

}  // namespace
}  // namespace vla_controllers

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  using vla_controllers::Control;
  std::array<std::uint64_t, 2> numbers{20000, 1};
  std::size_t position = 0;
  long seconds = 0;
  Control control = Control::kNone;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--lose") == 0) {
      control = Control::kLose;
    } else if (std::strcmp(argv[i], "--overrun") == 0) {
      control = Control::kOverrun;
    } else if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      seconds = std::strtol(argv[++i], nullptr, 10);
    } else if (position < numbers.size()) {
      numbers[position++] = std::strtoull(argv[i], nullptr, 10);
    }
  }
  constexpr std::uint64_t kRound = 20'000;  // then a fresh controller
  const auto end = Clock::now() + std::chrono::seconds(seconds);
  for (std::uint64_t done = 0; done < numbers[0] || Clock::now() < end;
       done += kRound, ++numbers[1]) {
    vla_controllers::Fuzzer fuzzer(numbers[1], control);
    if (!fuzzer.run(done < numbers[0] ? std::min(kRound, numbers[0] - done) : kRound)) return 1;
  }
  return 0;
}
