// SPDX-License-Identifier: Apache-2.0
#include "vla_control/differential_kinematics.hpp"

namespace vla_control {
namespace {

/// Lever at which a rotation counts as much as a translation. m
constexpr double kLever = 0.25;
/// Least singular value that is inverted as it is: a tool at 0.25 m/s along it needs 5 rad/s. m
constexpr double kLeastSingularValue = 0.05;
/// Rate at which the posture is approached. 1/s
constexpr double kPostureRate = 2.0;

}  // namespace

void DifferentialKinematics::configure(const ControllerConfig& config) noexcept {
  posture_speed_ = config.nullspace_speed;
}

JointVector DifferentialKinematics::joint_velocity(const Jacobian& jacobian, const Vector6& twist,
                                                   const JointVector& q,
                                                   const JointVector& posture) noexcept {
  Jacobian scaled = jacobian;
  scaled.bottomRows<3>() *= kLever;
  Vector6 wanted = twist;
  wanted.tail<3>() *= kLever;
  const Matrix6 gram = scaled.lazyProduct(scaled.transpose());
  eigen_.compute(gram);
  constexpr double kLeast = kLeastSingularValue * kLeastSingularValue;
  Vector6 inverse;
  for (Eigen::Index i = 0; i < 6; ++i) {
    double square = std::max(eigen_.eigenvalues()[i], 0.0);
    if (square < kLeast) {
      const double nearness = 1.0 - square / kLeast;
      square += kLeast * nearness * nearness;
    }
    inverse[i] = 1.0 / square;
  }
  const Matrix6& V = eigen_.eigenvectors();
  const bool redundant = q.size() > 6;
  JointVector spare = JointVector::Zero(q.size());
  if (redundant) {
    spare = kPostureRate * (posture - q);
    spare = spare.cwiseMax(-posture_speed_).cwiseMin(posture_speed_).eval();
    wanted.noalias() -= scaled.lazyProduct(spare);
  }
  const Vector6 modal = V.transpose().lazyProduct(wanted);
  const Vector6 weighted = V.lazyProduct(inverse.cwiseProduct(modal));
  JointVector dq = spare;
  dq.noalias() += scaled.transpose().lazyProduct(weighted);
  return dq;
}

}  // namespace vla_control
