// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vla_control/config.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/task_law.hpp"

namespace vla_control {

/// Largest speed towards a limit at `distance` from which a constant `braking` still stops before
/// it, when it begins after `reaction`: v reaction + v^2 / (2 braking) = distance.
/// Zero at and beyond the limit.
[[nodiscard]] double braking_speed(double distance, double braking, double reaction) noexcept;

/// The reaction time, in s, that the barriers of a controller at `rate` (Hz) allow for, and the
/// gain, in 1/s, with which their dampers take off what is too fast.
[[nodiscard]] double barrier_reaction(double rate) noexcept;
[[nodiscard]] double barrier_gain(double reaction) noexcept;

/// Brings joints to rest before their soft limits. RT-safe.
///
/// Two parts. A damper takes off what is faster, towards a limit, than braking_speed(): it opposes
/// the motion, so that it only ever takes energy. And a torque that pushes outward is faded out
/// over the last stretch, by position alone, so that a joint that is pulled in and let out again
/// has gained nothing. Beyond a soft limit a joint is free to come back and is not pushed.
class JointBarrier {
 public:
  /// \throws std::invalid_argument when the margins leave a joint no room
  void configure(const ControllerConfig& config, const RobotModel& model);
  [[nodiscard]] bool on() const noexcept { return braking_ > 0.0; }
  /// Fades what pushes outward. \return true if it did
  bool fade(const JointVector& q, JointVector& tau) const noexcept;
  /// Adds the damper. \return true if it acts
  bool damp(const JointVector& q, const JointVector& dq, const JointMatrix& mass_matrix,
            JointVector& tau) const noexcept;

 private:
  double braking_ = 0.0;    // rad/s^2
  double fade_ = 0.05;      // rad
  double reaction_ = 0.08;  // s
  JointVector lower_, upper_;
};

/// The same for the measured tool at the faces of the workspace box, base axes. What fades is the
/// outward acceleration, which a moment about the tool point causes as well as a force. RT-safe.
class WorkspaceBarrier {
 public:
  void configure(const ControllerConfig& config) noexcept;
  [[nodiscard]] bool on() const noexcept { return braking_ > 0.0; }
  /// Adds to `counter` what fades the outward part of `acceleration`, the one that all driving
  /// torques together give to the tool. \return true if there was any
  bool fade(const Vector3& position, const Vector6& acceleration, const OperationalSpace& space,
            Vector6& counter) const noexcept;
  /// Adds the damper. \return true if it acts
  bool damp(const Vector3& position, const Vector6& twist, const OperationalSpace& space,
            Vector6& wrench) const noexcept;

 private:
  double braking_ = 0.0;    // m/s^2
  double fade_ = 0.02;      // m
  double reaction_ = 0.08;  // s
  Vector3 lower_ = Vector3::Zero(), upper_ = Vector3::Zero();
};

}  // namespace vla_control
