// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_control/config.hpp"
#include "vla_control/differential_kinematics.hpp"
#include "vla_control/distance_barrier.hpp"
#include "vla_control/joint_motion_limiter.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// From a moving tool pose to a joint motion within its limits: the controller's second output.
///
/// The correction closes on the *commanded* joints, so that nothing measured can excite the arm.
/// What is measured only guards: joints that are not where they are expected mean that the arm is
/// blocked or was stopped by its own safety. RT-safe.
class MotionOutput {
 public:
  /// \throws std::invalid_argument if the jerk cannot be bounded at this rate
  MotionOutput(const ControllerConfig& config, const RobotModel& model);

  /// Why the arm cannot be taken over as it is.
  [[nodiscard]] ActivationRefusal refusal(const JointState& joints) const noexcept;
  /// Stands at `q`.
  void reset(const JointVector& q, const RobotModel& model) noexcept;

  /// By how much the command trails what the reference is sampled for. ns
  [[nodiscard]] std::int64_t lead_ns() const noexcept;

  /// One cycle along the poses handed in, cycle by cycle. \param posture approached by redundant
  /// joints; nullptr = they leave it as it is \param barrier slows it down; nullptr = none does
  /// \param share of the velocity that may stay, in [0, 1]
  /// \return false, having done nothing, if the command cannot stay with them
  [[nodiscard]] bool follow(const Pose& wanted, const JointVector* posture, const RobotModel& model,
                            DistanceBarrier* barrier, double share) noexcept;

  /// From now on the joints are taken, braking first, to where they are measured now, so that a
  /// blocked arm no longer presses; and again to where the arm comes to stand, if that is
  /// elsewhere.
  /// \param measured nullptr = not known: they brake, and wait until it is
  void let_go(const JointState* measured) noexcept;
  [[nodiscard]] bool letting_go() const noexcept { return letting_go_; }
  /// One cycle of that.
  void yield(const JointState* measured) noexcept;

  /// Whether the measured joints are farther from those expected than allowed.
  [[nodiscard]] bool deviates(const JointVector& q) const noexcept;
  /// Whether following may begin anew: the command stands, and the arm where it stands.
  [[nodiscard]] bool can_resume(const JointVector& q) const noexcept;
  /// Goes on following from where the command stands.
  void resume(const RobotModel& model) noexcept;

  void command(const JointVector& measured, JointMotion& out) noexcept;
  [[nodiscard]] const JointVector& q() const noexcept { return limiter_.command_q(); }
  /// Where the joints are taken to; the command trails it by lead_ns().
  [[nodiscard]] const JointVector& target_q() const noexcept { return limiter_.target_q(); }
  [[nodiscard]] const JointVector& dq() const noexcept { return limiter_.command_dq(); }
  [[nodiscard]] Pose tool(const RobotModel& model) const noexcept {
    return model.forward_kinematics(limiter_.target_q());
  }
  /// What the last cycle shortened.
  [[nodiscard]] const JointMotionLimiter::Activity& activity() const noexcept { return activity_; }
  /// Whether the barrier has slowed it down.
  [[nodiscard]] bool slowed() const noexcept { return slowed_; }

 private:
  [[nodiscard]] Vector6 twist_to(const Pose& wanted, const Vector6& error) const noexcept;
  void advance(const JointVector& wanted) noexcept;
  void place_at(const JointVector& q) noexcept;

  JointMotionLimiter limiter_;
  DifferentialKinematics kinematics_;
  JointMotionLimiter::Activity activity_;
  double period_ = 1e-3;             // s
  double expected_share_ = 1.0;      // of the way to the command, per cycle
  double feedback_ = 0.0;            // 1/s
  double linear_speed_ = 1.0;        // m/s
  double angular_speed_ = 2.5;       // rad/s
  double linear_braking_ = 2.5;      // m/s^2, of corrections
  double angular_braking_ = 7.5;     // rad/s^2
  double max_error_ = 0.1;           // m
  double max_rotation_error_ = 0.7;  // rad
  JointVector max_deviation_;        // rad
  Pose before_;                      // wanted in the cycle before
  JointVector expected_;             // rad, of the measured joints
  JointVector velocity_command_;     // rad/s, with feedback
  bool slowed_ = false;
  bool letting_go_ = false;
  bool placed_ = false;     // place_ is known
  JointVector place_;       // rad
  double unsettled_ = 0.0;  // s that the arm has been away from place_
};

}  // namespace vla_control
