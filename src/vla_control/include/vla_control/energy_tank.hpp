// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "vla_control/law_config.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Bounds the energy that the controller gives to the arm, whatever it comes from: a reference that
/// moves, a stiffness that grows, an integral, a feed-forward. RT-safe.
///
/// After Ferraguti, Secchi and Fantuzzi, "A tank-based approach to impedance control with variable
/// stiffness", ICRA 2013: what the damping takes from the arm fills a tank of limited size, what is
/// given to the arm drains it. There only the change of stiffness drains; here the account is kept
/// where the controller meets the arm, tau . dq of the torque that was applied, without what
/// carries weight, so that over any time t the arm receives at most capacity + refill_power * t. As
/// the tank runs low, everything but the damping and the bias forces is scaled down with it,
/// continuously, and so early that the fall takes longer than the limit of the torque's rate.
///
/// Coriolis compensation works on the arm, too: it keeps the speed while the inertia grows. Its
/// power, dq . dM/dt dq / 2, is booked, so that nothing is gained by going fast where the inertia
/// is small and braking where it is large.
///
/// The joint hold of FAULT is not scaled: it would drop the arm. It is a spring and a damper that
/// give back at most what was put into them, and what the spring stores when it is engaged is taken
/// out of the tank; in FAULT the arm can receive that much beyond an emptier one.
class EnergyTank {
 public:
  void configure(const EnergyTankConfig& config) noexcept { config_ = config; }
  [[nodiscard]] bool on() const noexcept { return config_.capacity > 0.0; }
  /// Full, at this joint velocity and mass matrix.
  void reset(const JointMatrix& mass, const JointVector& dq) noexcept;
  /// Another mass matrix that is none of the motion's doing: a change of the payload.
  void reload(const JointMatrix& mass) noexcept { mass_ = mass; }
  /// A cycle without a measurement: what it gave is booked when the velocity is known again.
  /// \param tau torque applied since the call before, without bias forces; Nm
  void coast(const JointVector& tau, double period) noexcept;
  /// Books a cycle. \param tau as above
  void account(const JointVector& tau, const JointMatrix& mass, const JointVector& dq,
               double period) noexcept;
  /// Takes out, as far as there is any, what a spring stores that then acts without being booked. J
  void spend(double energy) noexcept {
    energy_ = std::min(energy_, std::max(energy_ - energy, 0.0));
  }
  /// Factor on every torque that may give energy: 1, falling to 0 over the last tenth of the tank,
  /// or over what `power` takes in 20 ms if that is more. \param power that they would give, W
  [[nodiscard]] double scale(double power) const noexcept;
  [[nodiscard]] double energy() const noexcept { return energy_; }  ///< J

 private:
  EnergyTankConfig config_;
  double energy_ = 0.0;  // J
  JointVector dq_;
  JointMatrix mass_;
  JointVector impulse_;  // Nms, not yet booked
};

}  // namespace vla_control
