// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vla_control/types.hpp"

namespace vla_control {

/// Last stage before the motors: joint velocity, absolute torque, torque rate. RT-safe.
class TorqueLimiter {
 public:
  struct Settings {
    JointVector torque;           ///< Nm
    JointVector rate;             ///< Nm/s
    JointVector braking_rate;     ///< Nm/s, the hardware's own
    JointVector velocity;         ///< rad/s, damped above
    double velocity_damping = 0;  ///< Nms/rad
  };
  struct Activity {
    bool torque = false;
    bool rate = false;
  };

  void configure(const Settings& settings) noexcept { settings_ = settings; }
  /// Torque in force before the next apply(); clamped to the absolute limit.
  void reset(const JointVector& tau) noexcept;

  /// Limits `tau` in place. A change that opposes the joint's motion (braking) is bounded by the
  /// hardware's own rate alone. Finite input is the caller's duty. The damping of joints that are
  /// too fast is held below what the cycle can damp: a light wrist would otherwise swing.
  /// \param mass_matrix kg m^2, with the rotors'
  [[nodiscard]] Activity apply(const JointVector& dq, const JointMatrix& mass_matrix, double period,
                               JointVector& tau) noexcept;

  [[nodiscard]] const JointVector& previous() const noexcept { return previous_; }
  [[nodiscard]] const Settings& settings() const noexcept { return settings_; }

 private:
  [[nodiscard]] JointVector damping(const JointVector& dq, const JointMatrix& mass_matrix,
                                    double period) const noexcept;

  Settings settings_;
  JointVector previous_;
};

}  // namespace vla_control
