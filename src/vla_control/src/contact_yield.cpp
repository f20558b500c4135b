// SPDX-License-Identifier: Apache-2.0
#include "vla_control/contact_yield.hpp"

#include <algorithm>

namespace vla_control {
namespace {

/// Below this force its direction says nothing; the last one is kept. N
constexpr double kLeastForce = 1.0;
/// Time constant of the tool's velocity: what bounces off an obstacle does not move along with it.
/// s
constexpr double kSlow = 0.03;
/// Time constant of the force at rest. s
constexpr double kRest = 0.1;
/// A reference slower than this does not tell whether the tool is held up; what was known is kept.
constexpr double kLeastSpeed = 0.02;  // m/s

}  // namespace

void ContactYield::configure(const SensingConfig& config) noexcept {
  fade_ = config.yield_s;
  least_force_ = config.contact_release * config.contact_force;
}

void ContactYield::reset() noexcept {
  share_ = 0.0;
  blocked_ = 0.0;
  velocity_.setZero();
  resting_.setZero();
}

ContactYield::Motion ContactYield::update(const ReferenceSample& reference, bool at_rest,
                                          const Vector3& velocity, const Vector3& force,
                                          bool in_contact, double period) noexcept {
  if (at_rest) resting_ += std::min(1.0, period / kRest) * (force - resting_);
  const bool held_up = in_contact && (force - resting_).norm() > least_force_;
  share_ = std::clamp(share_ + (held_up ? period : -period) / fade_, 0.0, 1.0);
  velocity_ += std::min(1.0, period / kSlow) * (velocity - velocity_);
  const double strength = force.norm();
  if (strength > kLeastForce) towards_ = -force / strength;
  const double wanted = std::max(0.0, reference.linear_velocity.dot(towards_));
  if (wanted > kLeastSpeed) {
    blocked_ = 1.0 - std::clamp(velocity_.dot(towards_) / wanted, 0.0, 1.0);
  } else if (share_ <= 0.0) {
    blocked_ = 0.0;
  }
  const double out = share_ * blocked_;
  Motion pressing;
  pressing.velocity.head<3>() = out * wanted * towards_;
  pressing.acceleration.head<3>() = out * reference.linear_acceleration.dot(towards_) * towards_;
  return pressing;
}

}  // namespace vla_control
