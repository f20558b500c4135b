// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vla_control/law_config.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Friction model of the joints, see FrictionConfig. RT-safe.
class JointFriction {
 public:
  /// Lists must be filled, one value per joint.
  void configure(const FrictionConfig& config) noexcept;
  /// False when every coefficient is zero.
  [[nodiscard]] bool any() const noexcept { return any_; }
  /// Torque that moves the joints at `dq` against their friction, Nm.
  void compute(const JointVector& dq, JointVector& tau) const noexcept;

 private:
  JointVector coulomb_, viscous_;
  double squared_speed_ = 4e-4;  // (rad/s)^2
  bool any_ = false;
};

/// Leaky, clamped integral of the spring force, see IntegralConfig. RT-safe.
class TaskIntegral {
 public:
  void configure(const IntegralConfig& config) noexcept { config_ = config; }
  [[nodiscard]] bool on() const noexcept { return config_.gain > 0.0; }
  void reset() noexcept { wrench_.setZero(); }
  /// \param error (m, rad) of the reference from the tool, base axes
  /// \param grow false while the reference moves or contact is flagged: it then only leaks
  void update(const Matrix6& stiffness, const Vector6& error, bool grow, double period) noexcept;
  [[nodiscard]] const Vector6& wrench() const noexcept { return wrench_; }  ///< N, Nm; base axes

 private:
  IntegralConfig config_;
  Vector6 wrench_ = Vector6::Zero();
};

}  // namespace vla_control
