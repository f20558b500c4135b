// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vla_control/law_config.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Bounds the energy that the controller gives to the arm, whatever it comes from: a reference that
/// moves, a stiffness that grows, an integral, a feed-forward. RT-safe.
///
/// After Ferraguti, Secchi and Fantuzzi, "A tank-based approach to impedance control with variable
/// stiffness", ICRA 2013: what the damping takes from the arm fills a tank of limited size, what is
/// given to the arm drains it. There only the change of stiffness drains; here the account is kept
/// where the controller meets the arm, tau . dq of the torque that was applied (without gravity and
/// Coriolis), so that over any time t the arm receives at most capacity + refill_power * t. As the
/// tank runs low, everything but the damping is scaled down with it, continuously, and so early
/// that the fall takes longer than the limit of the torque's rate.
class EnergyTank {
 public:
  void configure(const EnergyTankConfig& config) noexcept { config_ = config; }
  [[nodiscard]] bool on() const noexcept { return config_.capacity > 0.0; }
  /// Full, at this joint velocity.
  void reset(const JointVector& dq) noexcept;
  /// Goes on from this joint velocity: after a gap in the measurements.
  void resume(const JointVector& dq) noexcept { dq_ = dq; }
  /// Books a cycle. \param tau torque applied since the call before, without bias forces; Nm
  void account(const JointVector& tau, const JointVector& dq, double period) noexcept;
  /// Factor on every torque that may give energy: 1, falling to 0 over the last tenth of the tank,
  /// or over what `power` takes in 20 ms if that is more. \param power that they would give, W
  [[nodiscard]] double scale(double power) const noexcept;
  [[nodiscard]] double energy() const noexcept { return energy_; }  ///< J

 private:
  EnergyTankConfig config_;
  double energy_ = 0.0;  // J
  JointVector dq_;
};

}  // namespace vla_control
