// SPDX-License-Identifier: Apache-2.0
#include "admittance.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <numbers>

#include "so3.hpp"

namespace vla_control {
namespace {

Vector6 both_turned(const Matrix3& R, const Vector6& v) noexcept {
  Vector6 out;
  out.head<3>().noalias() = R * v.head<3>();
  out.tail<3>().noalias() = R * v.tail<3>();
  return out;
}

Vector6 halves(double translation, double rotation) noexcept {
  Vector6 out;
  out << Vector3::Constant(translation), Vector3::Constant(rotation);
  return out;
}

void shorten(Eigen::Ref<Vector3> v, double most) noexcept {
  const double length = v.norm();
  if (length > most) v *= most / length;
}

}  // namespace

double least_mass(double stiffness, double delay) noexcept {
  const double crossing = std::sqrt(std::sqrt(5.0) - 2.0);
  const double margin = std::atan(2.0 / crossing) - 0.25 * std::numbers::pi;
  const double ratio = delay * crossing / margin;
  return stiffness * ratio * ratio;
}

Admittance::Admittance(const ControllerConfig& config) noexcept
    : config_(config.admittance),
      mass_(halves(config_.mass, config_.inertia)),
      contact_stiffness_(halves(config_.contact_stiffness, config_.rotational_contact_stiffness)),
      lower_(Vector3::Map(config.workspace_min.data())),
      upper_(Vector3::Map(config.workspace_max.data())) {}

void Admittance::reset() noexcept {
  position_.setZero();
  rotation_.setIdentity();
  velocity_.setZero();
  exerted_.setZero();
}

Vector6 Admittance::offset() const noexcept {
  Vector6 out;
  out << position_, so3::log(rotation_);
  return out;
}

Matrix6 Admittance::damping_for(const TaskGains& gains) noexcept {
  const Vector6 root = mass_.cwiseSqrt();
  Matrix6 stiffness = gains.stiffness;
  stiffness.diagonal() += contact_stiffness_;
  const Vector6 inverse = root.cwiseInverse();
  const Matrix6 whitened = inverse.asDiagonal() * stiffness * inverse.asDiagonal();
  eigen_.compute(whitened);
  const Vector6 frequency = eigen_.eigenvalues().cwiseMax(0.0).cwiseSqrt();
  const Matrix6 V = root.asDiagonal() * eigen_.eigenvectors();
  const Matrix6 V_damping = V * (2.0 * std::max(1.0, gains.damping_ratio) * frequency).asDiagonal();
  Matrix6 out;
  out.noalias() = V_damping * V.transpose();
  return out;
}

void Admittance::update(const Vector6& felt, const TaskGains& gains, const Matrix3& axes,
                        ForceTracking& force, std::int64_t now_ns, double period) noexcept {
  const Matrix3 to_axes = axes.transpose();
  const Vector6 pull = both_turned(axes, gains.stiffness * both_turned(to_axes, offset()));
  exerted_ = -pull;
  if (force.on()) {
    force.update(now_ns, -felt, period);
    force.apply(-pull, exerted_);
  }
  // Implicit in velocity and offset: stable whatever the period is.
  Matrix6 implicit = period * damping_for(gains) + period * period * gains.stiffness;
  implicit.diagonal() += mass_;
  const Vector6 momentum = mass_.cwiseProduct(velocity_) + period * (felt + exerted_);
  const Eigen::LLT<Matrix6> factor(implicit);
  const Vector6 velocity = factor.solve(both_turned(to_axes, momentum));
  if (!velocity.allFinite()) {
    freeze();
    return;
  }
  velocity_ = both_turned(axes, velocity);
  shorten(velocity_.head<3>(), config_.max_velocity);
  shorten(velocity_.tail<3>(), config_.max_angular_velocity);
  const Vector6 before = offset();
  position_ += period * velocity_.head<3>();
  const Vector3 turn = period * velocity_.tail<3>();
  rotation_ = (so3::exp(turn) * rotation_).eval();
  bound();
  // What a bound has taken off is no momentum any more.
  velocity_.head<3>() = (position_ - before.head<3>()) / period;
}

void Admittance::bound() noexcept {
  shorten(position_, config_.max_offset);
  Vector3 phi = so3::log(rotation_);
  if (phi.norm() > config_.max_rotation_offset) velocity_.tail<3>().setZero();
  shorten(phi, config_.max_rotation_offset);
  // From its logarithm, which also takes off what rounding has added.
  rotation_ = so3::exp(phi);
}

Pose Admittance::apply(const Pose& reference) const noexcept {
  Pose out;
  // Giving way does not leave the workspace.
  out.position = (reference.position + position_)
                     .cwiseMax(lower_.cwiseMin(reference.position))
                     .cwiseMin(upper_.cwiseMax(reference.position));
  out.rotation.noalias() = rotation_ * reference.rotation;
  return out;
}

Pose Admittance::reference_of(const Pose& tool) const noexcept {
  Pose out;
  out.position = tool.position - position_;
  out.rotation.noalias() = rotation_.transpose() * tool.rotation;
  return out;
}

}  // namespace vla_control
