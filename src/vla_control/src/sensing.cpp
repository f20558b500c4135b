// SPDX-License-Identifier: Apache-2.0
#include "vla_control/sensing.hpp"

#include <cmath>

namespace vla_control {
namespace {

/// How much of a payload's weight may push sideways or beyond it while it still counts as lost.
constexpr double kOtherForce = 0.6;

}  // namespace

void MomentumObserver::reset(const Dynamics& dynamics, const JointVector& dq) noexcept {
  torque_.setZero(dq.size());
  resume(dynamics, dq);
}

void MomentumObserver::resume(const Dynamics& dynamics, const JointVector& dq) noexcept {
  mass_ = dynamics.mass_matrix;
  bias_ = dynamics.bias;
  dq_ = dq;
}

void MomentumObserver::update(const Dynamics& dynamics, const JointVector& dq,
                              const JointVector& tau, double period) noexcept {
  mass_ = 0.5 * (mass_ + dynamics.mass_matrix);
  const JointVector change = dq - dq_;
  JointVector impulse = 0.5 * (bias_ + dynamics.bias) - tau;
  impulse *= period;
  impulse.noalias() += mass_.lazyProduct(change);
  // Implicit in the torque: stable at any rate.
  torque_ = (torque_ + bandwidth_ * impulse) / (1.0 + bandwidth_ * period);
  resume(dynamics, dq);
}

void ContactMonitor::reset() noexcept {
  in_contact_ = false;
  object_lost_ = false;
  below_time_ = 0.0;
  missing_time_ = 0.0;
}

void ContactMonitor::update(const Vector6& wrench, double payload_mass, const Vector3& gravity,
                            double period) noexcept {
  const double force = wrench.head<3>().norm();
  const double torque = wrench.tail<3>().norm();
  if (force > config_.contact_force || torque > config_.contact_torque) {
    in_contact_ = true;
    below_time_ = 0.0;
  } else if (force < config_.contact_release * config_.contact_force &&
             torque < config_.contact_release * config_.contact_torque) {
    below_time_ += period;
    if (below_time_ >= config_.contact_release_s) in_contact_ = false;
  } else {
    below_time_ = 0.0;
  }

  const double g = gravity.norm();
  const double weight = payload_mass * g;
  bool missing = false;
  if (payload_mass >= config_.lost_least_mass && g > 0.0) {
    const double up = -wrench.head<3>().dot(gravity) / g;
    const double sideways = std::sqrt(std::max(0.0, force * force - up * up));
    missing = up >= config_.lost_fraction * weight && up <= (1.0 + kOtherForce) * weight &&
              sideways <= kOtherForce * weight;
  }
  missing_time_ = missing ? missing_time_ + period : 0.0;
  if (missing_time_ >= config_.lost_s && missing) object_lost_ = true;
  if (!missing) object_lost_ = false;
}

void Tare::begin() noexcept {
  running_ = true;
  time_ = 0.0;
  sum_.setZero();
}

bool Tare::update(const Vector6& wrench, bool standing, double period) noexcept {
  if (!running_) return false;
  if (!standing) {
    begin();
    return false;
  }
  time_ += period;
  sum_ += period * wrench;
  running_ = time_ < duration_;
  return !running_;
}

}  // namespace vla_control
