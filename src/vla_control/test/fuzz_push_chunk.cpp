// SPDX-License-Identifier: Apache-2.0
/// Fuzzes push_chunk between updates, requests and clocks of every kind. Seeded.
///
///   fuzz_push_chunk [inputs = 20000] [seed = 1] [--control] [--overflow] [--seconds N]
///
/// A second controller sees all the same except for the chunks that the first has rejected: both
/// must command the same torques, bit by bit. With --control it misses an accepted chunk, too, and
/// the program must notice. With --overflow it reads out of bounds, which a sanitizer must notice.
/// With --seconds it goes on for so long. Exits with 1 when an invariant breaks, naming the input.
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "chain.hpp"
#include "fuzz_source.hpp"

namespace vla_control {
namespace {

using testing::Source;

constexpr int kJoints = 7;
constexpr double kRate = 1000.0;
constexpr double kPeriod = 1.0 / kRate;
constexpr std::int64_t kSecond = 1'000'000'000;

/// A chunk that is mostly good around `pose`.
Chunk plausible(Source& source, const Pose& pose, const JointVector& q, std::int64_t now,
                std::uint64_t sequence) {
  Chunk chunk;
  chunk.base_frame = "base";
  chunk.tool_frame = "tool";
  chunk.step_dt = source.chance(0.7) ? 0.05 : source.within(0.001, 1.0);
  chunk.stamp_ns = now - static_cast<std::int64_t>(source.within(-0.05, 0.2) * 1e9);
  chunk.sequence = source.chance(0.9) ? sequence : 0;
  const std::size_t steps = 1 + source.below(source.chance(0.8) ? 20 : 64);
  const double speed = source.chance(0.8) ? source.within(0.0, 0.5) : source.within(0.0, 5.0);
  const double noise = source.chance(0.7) ? 0.0 : source.within(0.0, 0.02);
  const Vector3 towards(source.within(-1, 1), source.within(-1, 1), source.within(-1, 1));
  const Vector3 axis =
      Vector3(source.within(-1, 1), source.within(-1, 1), source.within(0.1, 1)).normalized();
  const Vector3 offset = source.within(0.0, 0.05) * towards;
  for (std::size_t i = 0; i < steps; ++i) {
    const double t = chunk.step_dt * static_cast<double>(i);
    Waypoint waypoint;
    waypoint.position = pose.position + offset + speed * t * towards +
                        noise * Vector3(source.unit(), source.unit(), source.unit());
    const Eigen::Quaterniond turn(Eigen::AngleAxisd(speed * t + noise * source.unit(), axis));
    waypoint.quat_xyzw = (turn * Eigen::Quaterniond(pose.rotation)).coeffs();
    chunk.waypoints.push_back(waypoint);
  }
  if (source.chance(0.2)) {
    chunk.mode = ChunkMode::kTwist;
    chunk.waypoints.clear();
    for (std::size_t i = 0; i < steps; ++i) {
      Vector6 twist;
      twist << speed * towards, speed * axis;
      chunk.twists.push_back(twist);
    }
  } else if (source.chance(0.2)) {
    chunk.mode = ChunkMode::kJointPosition;
    chunk.waypoints.clear();
    for (Eigen::Index j = 0; j < q.size(); ++j) {
      chunk.joint_names.push_back("joint" + std::to_string(j + 1));
    }
    for (std::size_t i = 0; i < steps; ++i) {
      const double angle = speed * chunk.step_dt * static_cast<double>(i);
      for (const double x : q) chunk.joint_values.push_back(x + angle);
    }
  }
  if (source.chance(0.3)) {
    for (std::size_t i = 0; i < steps; ++i) {
      Matrix6 stiffness = Matrix6::Zero();
      stiffness.diagonal() << Vector3::Constant(source.within(-10.0, 2000.0)),
          Vector3::Constant(source.within(-1.0, 150.0));
      stiffness(0, 1) = stiffness(1, 0) = source.within(-5.0, 5.0);
      chunk.stiffness.insert(chunk.stiffness.end(), stiffness.data(), stiffness.data() + 36);
    }
    if (source.chance(0.1))
      chunk.stiffness[source.below(chunk.stiffness.size())] = source.garbage();
    if (source.chance(0.05)) chunk.stiffness.pop_back();
  }
  if (source.chance(0.5)) {
    for (std::size_t i = 0; i < steps; ++i) chunk.gripper_opening.push_back(source.unit());
    if (source.chance(0.5)) chunk.gripper_max_force.assign(steps, source.within(0.0, 100.0));
  }
  return chunk;
}

std::size_t steps_of(const Chunk& chunk) {
  if (chunk.mode == ChunkMode::kTwist) return chunk.twists.size();
  if (chunk.mode == ChunkMode::kJointPosition) return chunk.joint_values.size() / kJoints;
  return chunk.waypoints.size();
}

/// Spoils one thing.
void spoil(Source& source, Chunk& chunk) {
  const auto list = [&source] {
    std::vector<double> out(source.below(80));
    for (double& x : out) x = source.chance(0.5) ? source.unit() : source.garbage();
    return out;
  };
  switch (source.below(22)) {
    case 16:
      chunk.wrenches.resize(source.below(80), Vector6::Constant(source.garbage()));
      break;
    case 17:
      // Just within or just beyond what is accepted.
      chunk.step_dt = std::nextafter(source.chance(0.5) ? 0.001 : 1.0, source.garbage());
      break;
    case 18:
      // In unsigned numbers: the stamp may have been spoilt before.
      chunk.stamp_ns = static_cast<std::int64_t>(
          static_cast<std::uint64_t>(chunk.stamp_ns) +
          (source.chance(0.5) ? 1U : ~std::uint64_t{0}) *
              static_cast<std::uint64_t>(kSecond + static_cast<std::int64_t>(source.below(3)) - 1));
      break;
    case 19: {
      const double scale = 1.0 + source.within(-2e-3, 2e-3);
      for (Waypoint& waypoint : chunk.waypoints) waypoint.quat_xyzw *= scale;
      break;
    }
    case 0:
      chunk.waypoints.resize(source.below(200));
      break;
    case 1:
      chunk.waypoints.clear();
      break;
    case 2:
      chunk.stamp_ns = source.time();
      break;
    case 3:
      chunk.step_dt = source.garbage();
      break;
    case 4:
      chunk.base_frame = source.chance(0.5) ? "" : std::string(source.below(300), 'x');
      break;
    case 5:
      chunk.tool_frame = source.chance(0.5) ? "base" : std::string("to\0ol", 5);
      break;
    case 6:
      chunk.mode = static_cast<ChunkMode>(source.below(256));
      break;
    case 7:
      chunk.gripper_opening = list();
      break;
    case 8:
      chunk.gripper_max_force = list();
      break;
    case 9:
      chunk.boot_id = source.chance(0.05) ? source.counter() : source.below(3);
      break;
    case 10:
      chunk.grant = source.chance(0.05) ? source.counter() : source.below(3);
      break;
    case 11:
      chunk.sequence = source.chance(0.05) ? source.counter() : source.below(1000);
      break;
    case 12:
      chunk.joint_values = list();
      break;
    case 13:
      if (!chunk.joint_values.empty()) {
        chunk.joint_values[source.below(chunk.joint_values.size())] = source.garbage();
      }
      break;
    case 14:
      chunk.joint_names.resize(source.below(20), "joint1");
      break;
    case 15:
      chunk.twists.resize(source.below(80), Vector6::Constant(source.garbage()));
      break;
    default:
      if (!chunk.twists.empty()) {
        chunk
            .twists[source.below(chunk.twists.size())][static_cast<Eigen::Index>(source.below(6))] =
            source.garbage();
      }
      if (chunk.waypoints.empty()) break;
      for (std::uint64_t n = 1 + source.below(4); n > 0; --n) {
        Waypoint& waypoint = chunk.waypoints[source.below(chunk.waypoints.size())];
        const auto axis = static_cast<Eigen::Index>(source.below(7));
        const double value = source.garbage();
        if (axis < 3) {
          waypoint.position[axis] = value;
        } else {
          waypoint.quat_xyzw[axis - 3] = value;
        }
      }
  }
}

class Fuzzer {
 public:
  Fuzzer(std::uint64_t seed, bool control) : source_(seed), control_(control) {
    ControllerConfig config;
    config.command_includes_gravity = true;
    config.effort_state = EffortState::kNone;
    config.heartbeat_timeout_s = source_.chance(0.5) ? 0.1 : 0.0;
    if (source_.chance(0.5)) {
      config.chunk.smoothing_deviation = 0.005;
      config.chunk.smoothing_rotation_deviation = 0.03;
    }
    everything_ = source_.chance(0.5);
    if (everything_) {
      testing::switch_everything_on(config, kJoints);
      config.barrier.distance_braking = 0.0;  // nothing here computes distances
      config.force.axes.fill(true);
    }
    config.chunk.accept_joint_positions = source_.chance(0.8);
    if (source_.chance(0.3)) config.task_law = TaskLawKind::kJointImpedance;
    config.chunk.accept_stiffness = source_.chance(0.8);
    config.chunk.accept_twists = source_.chance(0.8);
    if (source_.chance(0.5)) config.chunk.max_slowdown = source_.within(1.0, 20.0);
    if (source_.chance(0.3)) config.chunk.joint_velocity_share = 0.9;
    watched_ = config.heartbeat_timeout_s > 0.0;
    const RobotDescription description = testing::make_chain(kJoints);
    first_ = std::make_unique<Controller>(description, config);
    second_ = std::make_unique<Controller>(description, config);
    state_ = testing::bent(kJoints);
    torques_.tau.setZero(kJoints);
    other_ = torques_;
    activate();
  }

  [[nodiscard]] std::uint64_t accepted() const { return accepted_; }

  bool run(std::uint64_t inputs) {
    for (input_ = 0; input_ < inputs && good_; ++input_) {
      push();
      if (source_.chance(0.5)) cycle();
      if (source_.chance(0.04)) request();
      if (source_.chance(0.2) && first_->state().phase == Phase::kFault) {
        (void)second_->state();
        first_->reset();
        second_->reset();
      }
      if (source_.chance(0.002)) {
        for (int i = 0; i < 300 && good_; ++i) cycle();  // lets a chunk run out
      }
    }
    std::printf("%llu inputs, %llu accepted, %llu cycles%s\n",
                static_cast<unsigned long long>(input_), static_cast<unsigned long long>(accepted_),
                static_cast<unsigned long long>(cycles_), good_ ? "" : ": BROKEN");
    for (std::size_t i = 0; i < reasons_.size(); ++i) {
      const std::string_view name = to_string(static_cast<RejectReason>(i));
      std::printf("  %.*s %llu\n", static_cast<int>(name.size()), name.data(),
                  static_cast<unsigned long long>(reasons_[i]));
    }
    return good_;
  }

 private:
  void activate() {
    state_ = testing::bent(kJoints);
    const bool both = first_->activate(state_, now_) && second_->activate(state_, now_);
    require(both, "a plausible joint state activates");
    fresh_ = true;
    sequence_ = 0;
  }

  void push() {
    Chunk chunk = plausible(source_, first_->state().reference.pose, state_.q, now_, ++sequence_);
    (void)second_->state();  // both are read alike
    if (watched_) chunk.boot_id = chunk.grant = 1;
    if (everything_ && source_.chance(0.3)) {
      chunk.wrenches.assign(steps_of(chunk), Vector6::Constant(source_.within(-100.0, 100.0)));
    }
    if (source_.chance(0.5)) {
      for (std::uint64_t n = 1 + source_.below(3); n > 0; --n) spoil(source_, chunk);
    }
    const RejectReason reason = first_->push_chunk(chunk);
    ++reasons_[static_cast<std::size_t>(reason)];
    if (reason != RejectReason::kNone) return;
    ++accepted_;
    if (control_ && accepted_ > 20) return;
    require(second_->push_chunk(chunk) == RejectReason::kNone,
            "rejected chunks change nothing about which are accepted");
  }

  /// Gains and payload, about half of them garbage.
  void change_settings() {
    TaskGains gains;
    gains.stiffness.diagonal().setConstant(source_.within(10.0, 900.0));
    gains.damping_ratio = source_.within(0.2, 2.0);
    Payload payload;
    payload.mass = source_.within(0.0, 3.0);
    if (source_.chance(0.5)) {
      const auto row = static_cast<Eigen::Index>(source_.below(6));
      gains.stiffness(row, static_cast<Eigen::Index>(source_.below(6))) = source_.garbage();
      payload.bias[row] = source_.garbage();
    }
    require(first_->set_gains(gains) == second_->set_gains(gains), "gains are judged alike");
    if (std::abs(payload.bias.norm()) < 1e3 || !payload.bias.allFinite()) {
      require(first_->set_payload(payload) == second_->set_payload(payload),
              "payloads are judged alike");
    }
    if (!source_.chance(0.3)) return;
    first_->tare();
    second_->tare();
  }

  void request() {
    if (source_.chance(0.1)) change_settings();
    switch (source_.below(10)) {
      case 0:
        first_->stop();
        second_->stop();
        break;
      case 1:
        first_->revoke();
        second_->revoke();
        break;
      case 2: {
        const std::uint64_t boot = source_.chance(0.9) ? 1 : source_.below(5);
        const std::uint64_t grant = source_.chance(0.9) ? 1 : source_.below(5);
        const std::int64_t when = source_.chance(0.8) ? now_ : source_.time();
        const auto owner = static_cast<Owner>(source_.below(5));  // 4 is none of them
        first_->heartbeat(boot, grant, when, owner);
        second_->heartbeat(boot, grant, when, owner);
        break;
      }
      case 3:
        if (!source_.chance(0.5)) break;
        first_->deactivate();
        second_->deactivate();
        cycle();
        activate();
        break;
      case 4:
        if (source_.chance(0.2)) now_ += static_cast<std::int64_t>(source_.bits() % 400) * kSecond;
        break;
      case 5:
        if (source_.chance(0.2)) now_ -= static_cast<std::int64_t>(source_.bits() % 400) * kSecond;
        break;
      default:
        first_->reset();
        second_->reset();
    }
    // Stays within what clocks count to.
    if (std::abs(now_) > std::int64_t{1} << 60) now_ = 0;
  }

  void cycle() {
    ++cycles_;
    now_ += kSecond / 1000;
    if (watched_ && !source_.chance(0.001)) {
      first_->heartbeat(1, 1, now_);
      second_->heartbeat(1, 1, now_);
    }
    JointState measured = state_;
    bool plausible_state = true;
    if (source_.chance(0.002)) {
      measured.q[static_cast<Eigen::Index>(source_.below(kJoints))] = source_.garbage();
      plausible_state = false;
    } else if (source_.chance(0.2)) {
      for (Eigen::Index i = 0; i < kJoints; ++i) {
        measured.dq[i] = source_.within(-0.1, 0.1);
        measured.q[i] = state_.q[i] + source_.within(-0.01, 0.01);
      }
    }
    const double period = source_.chance(0.99) ? kPeriod : source_.garbage();
    const JointVector before = torques_.tau;
    first_->update(measured, now_, period, torques_);
    second_->update(measured, now_, period, other_);

    const ControllerState state = first_->state();
    require(torques_.tau.allFinite(), "torques are finite");
    require(((state.tau_limit - torques_.tau.cwiseAbs()).array() >= 0.0).all(),
            "torques are within the limits");
    require(std::memcmp(torques_.tau.data(), other_.tau.data(), sizeof(double) * kJoints) == 0,
            "rejected chunks change no torque");
    require(state.reference.pose.position.allFinite() && state.reference.pose.rotation.allFinite(),
            "the reference is finite");
    require(state.phase == second_->state().phase, "rejected chunks change no phase");
    require(state.fault != Fault::kNumeric, "no input leads to a numeric fault");
    if (plausible_state && !fresh_ && state.phase != Phase::kInactive && period == kPeriod) {
      const ControllerConfig& config = first_->config();
      for (Eigen::Index i = 0; i < kJoints; ++i) {
        const double change = torques_.tau[i] - before[i];
        const bool braking = std::abs(measured.dq[i]) > 0.01 && change * measured.dq[i] < 0.0;
        const auto at = static_cast<std::size_t>(i);
        const double rate =
            braking ? config.braking_torque_rate_limit[at] : config.torque_rate_limit[at];
        require(std::abs(change) <= rate * kPeriod * (1.0 + 1e-9) + 1e-9,
                "torque rates are within the limits");
      }
    }
    fresh_ = false;
  }

  void require(bool holds, const char* what) {
    if (holds || !good_) return;
    good_ = false;
    std::printf("BAD at input %llu: not true that %s\n", static_cast<unsigned long long>(input_),
                what);
  }

  Source source_;
  const bool control_;
  bool watched_ = false;
  bool everything_ = false;
  bool good_ = true;
  bool fresh_ = true;  // no torque of this activation yet
  std::unique_ptr<Controller> first_, second_;
  JointState state_;
  JointTorques torques_, other_;
  std::int64_t now_ = kSecond;
  std::uint64_t sequence_ = 0;
  std::uint64_t input_ = 0;
  std::uint64_t accepted_ = 0;
  std::array<std::uint64_t, 1 + static_cast<std::size_t>(RejectReason::kBadStiffness)> reasons_{};
  std::uint64_t cycles_ = 0;
};

}  // namespace
}  // namespace vla_control

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  std::uint64_t inputs = 20000;
  std::uint64_t seed = 1;
  long seconds = 0;
  bool control = false;
  int position = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--control") == 0) {
      control = true;
    } else if (std::strcmp(argv[i], "--overflow") == 0) {
      const std::vector<double> values(static_cast<std::size_t>(argc));
      const volatile double beyond = values.data()[argc];
      (void)beyond;
    } else if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      seconds = std::strtol(argv[++i], nullptr, 10);
    } else {
      (position++ == 0 ? inputs : seed) = std::strtoull(argv[i], nullptr, 10);
    }
  }
  // A fresh pair of controllers now and then, with other settings.
  constexpr std::uint64_t kRound = 100'000;
  const auto end = Clock::now() + std::chrono::seconds(seconds);
  std::uint64_t offered = 0;
  std::uint64_t accepted = 0;
  for (std::uint64_t done = 0; done < inputs || Clock::now() < end; done += kRound, ++seed) {
    const std::uint64_t left = done < inputs ? inputs - done : kRound;
    vla_control::Fuzzer fuzzer(seed, control);
    const std::uint64_t round = std::min(kRound, seconds > 0 ? kRound / 10 : left);
    if (!fuzzer.run(round)) return 1;
    offered += round;
    accepted += fuzzer.accepted();
  }
  // Settings that accept next to nothing are among the rounds; all of them together are not.
  return accepted > offered / 200 ? 0 : 1;
}
