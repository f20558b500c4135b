// SPDX-License-Identifier: Apache-2.0
#include "vla_control/feed_forward.hpp"

#include <cmath>

namespace vla_control {
namespace {

/// Takes `dead` off the length of a vector.
Vector3 beyond(const Vector3& v, double dead) noexcept {
  const double norm = v.norm();
  if (norm <= dead) return Vector3::Zero();
  return (1.0 - dead / norm) * v;
}

Vector3 at_most(const Vector3& v, double most) noexcept {
  const double norm = v.norm();
  if (norm <= most) return v;
  return (most / norm) * v;
}

}  // namespace

void JointFriction::configure(const FrictionConfig& config) noexcept {
  const auto n = static_cast<Eigen::Index>(config.coulomb.size());
  coulomb_ = JointVector::Map(config.coulomb.data(), n);
  viscous_ = JointVector::Map(config.viscous.data(), n);
  squared_speed_ = config.smoothing_speed * config.smoothing_speed;
  any_ = coulomb_.maxCoeff() > 0.0 || viscous_.maxCoeff() > 0.0;
}

void JointFriction::compute(const JointVector& dq, JointVector& tau) const noexcept {
  tau = coulomb_.array() * dq.array() / (dq.array().square() + squared_speed_).sqrt() +
        viscous_.array() * dq.array();
}

void TaskIntegral::update(const Matrix6& stiffness, const Vector6& error, bool grow,
                          double period) noexcept {
  if (config_.gain <= 0.0) return;
  if (grow) {
    Vector6 counted;
    counted << beyond(error.head<3>(), config_.dead_position),
        beyond(error.tail<3>(), config_.dead_rotation);
    wrench_.noalias() += (config_.gain * period) * (stiffness * counted);
  }
  wrench_ *= std::exp(-config_.leak * period);
  wrench_.head<3>() = at_most(wrench_.head<3>(), config_.max_force);
  wrench_.tail<3>() = at_most(wrench_.tail<3>(), config_.max_torque);
}

}  // namespace vla_control
