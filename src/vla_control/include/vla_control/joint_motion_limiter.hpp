// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "vla_control/types.hpp"

namespace vla_control {

/// Last stage before drives that are told positions: a joint motion that never leaves its limits of
/// position, velocity, acceleration and jerk, whatever is wished for. RT-safe.
///
/// One step per cycle of the drive, whatever this machine's clock does: limits hold for the
/// sequence that the drive interpolates. A velocity is admitted only if constant braking still ends
/// before the position limit, so that there always is an admissible next one. Jerk is bounded by a
/// moving average over n cycles, of which every bound survives: an average of admissible positions,
/// velocities and accelerations is admissible, and its acceleration changes by at most 2 a / (n T)
/// per T.
class JointMotionLimiter {
 public:
  struct Settings {
    JointVector lower, upper;  ///< rad; may be infinite
    JointVector velocity;      ///< rad/s
    JointVector acceleration;  ///< rad/s^2
    JointVector jerk;          ///< rad/s^3; infinite = not bounded
    double period = 1e-3;      ///< s, of the drive's cycle
  };
  /// What was shortened.
  struct Activity {
    bool velocity = false;
    bool acceleration = false;
    bool position = false;
  };
  static constexpr int kMostTaps = 64;

  /// Cycles that the moving average spans.
  [[nodiscard]] static int taps(const Settings& settings) noexcept;

  void configure(const Settings& settings) noexcept;
  /// At rest at `q`, which must be within the limits.
  void reset(const JointVector& q) noexcept;
  /// One cycle towards the joint velocity `wanted`, which must be finite.
  Activity advance(const JointVector& wanted) noexcept;

  /// Where the joints are taken to, before the average: `lead` ahead of the command.
  [[nodiscard]] const JointVector& target_q() const noexcept { return q_; }
  [[nodiscard]] const JointVector& target_dq() const noexcept { return dq_; }
  [[nodiscard]] const JointVector& command_q() const noexcept { return command_q_; }
  [[nodiscard]] const JointVector& command_dq() const noexcept { return command_dq_; }
  [[nodiscard]] double lead() const noexcept { return 0.5 * (taps_ - 1) * settings_.period; }
  [[nodiscard]] bool at_rest() const noexcept;
  [[nodiscard]] const Settings& settings() const noexcept { return settings_; }

 private:
  Settings settings_;
  int taps_ = 1;
  int next_ = 0;
  std::array<JointVector, kMostTaps> past_;  // of q_, a ring
  JointVector q_, dq_, command_q_, command_dq_;
};

}  // namespace vla_control
