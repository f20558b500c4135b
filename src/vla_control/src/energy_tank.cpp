// SPDX-License-Identifier: Apache-2.0
#include "vla_control/energy_tank.hpp"

#include <algorithm>
#include <cmath>

namespace vla_control {
namespace {

/// Fraction of the capacity over which the scale falls to zero.
constexpr double kLow = 0.1;
/// Time constant with which a draining tank shuts. s
constexpr double kShutting = 0.02;

}  // namespace

void EnergyTank::reset(const JointMatrix& mass, const JointVector& dq) noexcept {
  energy_ = config_.capacity;
  dq_ = dq;
  mass_ = mass;
  impulse_.setZero(dq.size());
}

void EnergyTank::coast(const JointVector& tau, double period) noexcept {
  impulse_ += period * tau;
  energy_ = std::min(energy_ + config_.refill_power * period, config_.capacity);
}

void EnergyTank::account(const JointVector& tau, const JointMatrix& mass, const JointVector& dq,
                         double period) noexcept {
  impulse_ += period * tau;
  const JointVector velocity = 0.5 * (dq_ + dq);
  const JointMatrix change = mass - mass_;
  const JointVector momentum = change.lazyProduct(velocity);
  const double given = impulse_.dot(velocity) + 0.5 * momentum.dot(velocity);
  // What is not finite belongs to a cycle whose torque was replaced.
  const double booked = config_.refill_power * period - (std::isfinite(given) ? given : 0.0);
  energy_ = std::min(energy_ + booked, config_.capacity);
  dq_ = dq;
  mass_ = mass;
  impulse_.setZero();
}

double EnergyTank::scale(double power) const noexcept {
  const double low = std::max(kLow * config_.capacity, kShutting * power);
  return std::clamp(energy_ / low, 0.0, 1.0);
}

}  // namespace vla_control
