// SPDX-License-Identifier: Apache-2.0
#include "vla_control/task_law.hpp"

#include <algorithm>
#include <cmath>

#include "so3.hpp"

namespace vla_control {
namespace {

/// Shortens both halves of an error to their limits; true if either was longer.
bool clip_error(Vector6& error, double position, double rotation) noexcept {
  const double position_norm = error.head<3>().norm();
  const double rotation_norm = error.tail<3>().norm();
  if (position_norm > position) error.head<3>() *= position / position_norm;
  if (rotation_norm > rotation) error.tail<3>() *= rotation / rotation_norm;
  return position_norm > position || rotation_norm > rotation;
}

}  // namespace

Vector6 pose_error(const Pose& reference, const Pose& measured) noexcept {
  Vector6 error;
  error.head<3>() = reference.position - measured.position;
  error.tail<3>() = so3::log(reference.rotation * measured.rotation.transpose());
  return error;
}

JointVector OperationalSpace::solve_mass(const JointVector& b) const noexcept {
  JointVector x = b;
  mass_cholesky.solveInPlace(x);
  return x;
}

Vector6 OperationalSpace::wrench_of(const JointVector& tau) const noexcept {
  const JointVector whitened = mass_cholesky.matrixL().solve(tau);
  const Vector6 acceleration = whitened_jacobian.transpose().lazyProduct(whitened);
  return inertia * acceleration;
}

void DampingDesign::configure(const Matrix6& stiffness, double damping_ratio,
                              double min_frequency) {
  stiffness_factor_ = stiffness.llt().matrixL();
  damping_ratio_ = damping_ratio;
  least_squared_frequency_ = min_frequency * min_frequency;
}

void DampingDesign::compute(const Dynamics& dynamics, OperationalSpace& out) noexcept {
  out.mass_cholesky.compute(dynamics.mass_matrix);
  out.valid = out.mass_cholesky.info() == Eigen::Success;
  if (!out.valid) return;
  out.whitened_jacobian = dynamics.jacobian.transpose();
  out.mass_cholesky.matrixL().solveInPlace(out.whitened_jacobian);

  // S = A^T A with A = M^-1/2 J^T L.
  Eigen::Matrix<double, Eigen::Dynamic, 6, Eigen::ColMajor, kMaxJoints, 6> A;
  A = out.whitened_jacobian.lazyProduct(stiffness_factor_);
  const Matrix6 S = A.transpose().lazyProduct(A);
  eigen_.compute(S);
  out.valid = eigen_.info() == Eigen::Success;
  if (!out.valid) return;

  Vector6 inertia_root, damping_root;
  for (int i = 0; i < 6; ++i) {
    double s = std::max(eigen_.eigenvalues()[i], 0.0);
    if (s < least_squared_frequency_) {
      const double nearness = 1.0 - s / least_squared_frequency_;
      s += least_squared_frequency_ * nearness * nearness;
    }
    inertia_root[i] = 1.0 / std::sqrt(s);
    damping_root[i] = std::sqrt(2.0 * damping_ratio_ * inertia_root[i]);
  }
  const Matrix6 V = stiffness_factor_ * eigen_.eigenvectors();
  const Matrix6 V_inertia = V * inertia_root.asDiagonal();
  const Matrix6 V_damping = V * damping_root.asDiagonal();
  out.inertia.noalias() = V_inertia * V_inertia.transpose();
  out.damping.noalias() = V_damping * V_damping.transpose();
}

void TaskLaw::configure(const ControllerConfig& config) {
  stiffness_.setZero();
  for (int i = 0; i < 3; ++i) {
    const auto at = static_cast<std::size_t>(i);
    stiffness_(i, i) = config.translational_stiffness[at];
    stiffness_(i + 3, i + 3) = config.rotational_stiffness[at];
  }
  max_position_error_ = config.max_position_error;
  max_rotation_error_ = config.max_rotation_error;
  design_.configure(stiffness_, config.damping_ratio, config.min_task_frequency);
}

void TaskLaw::compute(const Dynamics& dynamics, const JointVector& dq,
                      const ReferenceSample& reference, Output& out) noexcept {
  design_.compute(dynamics, space_);
  Vector6 error = pose_error(reference.pose, dynamics.pose_tool_in_base);
  out.clipped = clip_error(error, max_position_error_, max_rotation_error_);
  out.twist = dynamics.jacobian.lazyProduct(dq);
  Vector6 velocity_error, acceleration;
  velocity_error << reference.linear_velocity, reference.angular_velocity;
  velocity_error -= out.twist;
  acceleration << reference.linear_acceleration, reference.angular_acceleration;
  out.wrench.noalias() = stiffness_ * error;
  out.wrench.noalias() += space_.damping * velocity_error;
  out.wrench.noalias() += space_.inertia * acceleration;
  out.tau = dynamics.jacobian.transpose().lazyProduct(out.wrench);
}

Pose TaskLaw::reference_exerting(const Vector6& wrench, const Pose& measured,
                                 const Vector6& twist) const noexcept {
  const Vector6 spring = wrench + space_.damping * twist;
  Vector6 error = spring.cwiseQuotient(stiffness_.diagonal());
  (void)clip_error(error, max_position_error_, max_rotation_error_);
  Pose pose;
  pose.position = measured.position + error.head<3>();
  pose.rotation.noalias() = so3::exp(error.tail<3>()) * measured.rotation;
  return pose;
}

}  // namespace vla_control
