// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vla_control/config.hpp"
#include "vla_control/task_law.hpp"

namespace vla_control {

/// Posture spring in the dynamically consistent nullspace of the task:
/// tau = (I - J^T Lambda J M^-1) (K (q_posture - q) - D dq), D from the joints' own inertia. A
/// motion of the nullspace may have far less of it, so that D is bounded by what the control rate
/// can damp. RT-safe.
class Nullspace {
 public:
  void configure(const ControllerConfig& config) noexcept;
  /// The posture becomes `q`; nothing moves.
  void reset(const JointVector& q) noexcept;
  /// The posture becomes `q`, displaced by what makes the spring exert `tau`; the displacement then
  /// fades with a time constant of 0.5 s.
  void reset_exerting(const JointVector& tau, const JointVector& q, const JointVector& dq,
                      const Dynamics& dynamics) noexcept;
  /// Moves the posture towards the configured one, if there is one. Called while tracking only.
  void approach_posture(double period) noexcept;
  /// Moves the posture towards `q`, as fast as the joints may move.
  void approach(const JointVector& q, double period) noexcept;
  /// \param period s since the call before
  void compute(const Dynamics& dynamics, const OperationalSpace& space, const JointVector& q,
               const JointVector& dq, double period, JointVector& tau) noexcept;

  [[nodiscard]] const JointVector& posture() const noexcept { return posture_; }

 private:
  double stiffness_ = 10.0;
  double damping_ratio_ = 1.0;
  double largest_rate_ = 700.0;  // 1/s
  double bound_ = 1.0;           // factor on the damping
  double bound_age_ = 0.0;       // s
  double speed_ = 0.3;
  JointVector target_;   // empty = keep the posture
  JointVector fastest_;  // rad/s
  JointVector posture_;
  JointVector offset_;
};

/// tau - J^T Lambda J M^-1 tau: the part of a joint torque that does not accelerate the tool.
/// RT-safe.
[[nodiscard]] JointVector project_to_nullspace(const JointVector& tau, const Dynamics& dynamics,
                                               const OperationalSpace& space) noexcept;

/// Joint-space stiffness around the place where it was engaged: the law in FAULT. RT-safe.
///
/// Stiffness and damping are designed along the modes of the mass matrix at that place, so that
/// every mode has the damping ratio asked for; a mode too light for the control rate to damp at the
/// configured stiffness gets less.
class JointHold {
 public:
  void configure(const ControllerConfig& config) noexcept;
  void release() noexcept { engaged_ = false; }
  [[nodiscard]] bool engaged() const noexcept { return engaged_; }
  /// Engages so that the torque starts at `tau` (without bias forces): no jump, contact is carried.
  /// \return what its spring stores, J
  [[nodiscard]] double engage(const JointVector& tau, const JointVector& q, const JointVector& dq,
                              const Dynamics& dynamics) noexcept;
  void compute(const JointVector& q, const JointVector& dq, JointVector& tau) const noexcept;

 private:
  double max_stiffness_ = 150.0;
  double max_frequency_ = 200.0;  // rad/s
  double damping_ratio_ = 1.0;
  bool engaged_ = false;
  JointMatrix stiffness_, damping_;
  JointVector setpoint_;
  Eigen::SelfAdjointEigenSolver<JointMatrix> eigen_;
};

}  // namespace vla_control
