// SPDX-License-Identifier: Apache-2.0
#include "vla_control/energy_tank.hpp"

#include <algorithm>

namespace vla_control {
namespace {

/// Fraction of the capacity over which the scale falls to zero.
constexpr double kLow = 0.1;
/// Time constant with which a draining tank shuts. s
constexpr double kShutting = 0.02;

}  // namespace

void EnergyTank::reset(const JointVector& dq) noexcept {
  energy_ = config_.capacity;
  dq_ = dq;
}

void EnergyTank::account(const JointVector& tau, const JointVector& dq, double period) noexcept {
  const double given = 0.5 * period * tau.dot(dq_ + dq);
  energy_ = std::min(energy_ + config_.refill_power * period - given, config_.capacity);
  dq_ = dq;
}

double EnergyTank::scale(double power) const noexcept {
  const double low = std::max(kLow * config_.capacity, kShutting * power);
  return std::clamp(energy_ / low, 0.0, 1.0);
}

}  // namespace vla_control
