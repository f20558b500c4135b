// SPDX-License-Identifier: Apache-2.0
#include "vla_control/nullspace.hpp"

#include <algorithm>
#include <cmath>

namespace vla_control {
namespace {

/// Time constant with which a displacement taken over at a hand-over fades. s
constexpr double kOffsetFade = 0.5;

/// Largest natural frequency of the joint hold as a fraction of the control rate (rad per cycle):
/// with a cycle of delay a critically damped joint is stable well beyond it.
constexpr double kLargestPhasePerCycle = 0.2;

/// Time after which the bound of the damping is computed again: it changes with the posture. s
constexpr double kBoundPeriod = 0.01;

/// Bounds the setpoint's displacement of a mode that has hardly any inertia. Nm/rad
constexpr double kLeastStiffness = 0.1;

/// Damping of each joint as if it moved alone: 2 zeta sqrt(K M_ii).
JointVector joint_damping(double stiffness, double ratio, const Dynamics& dynamics) noexcept {
  return 2.0 * ratio * (stiffness * dynamics.mass_matrix.diagonal().array()).sqrt().matrix();
}

/// Sum of the rates, 1/s, with which a damping of each joint slows the motions in the nullspace:
/// the trace of M^-1 N D, of which no single rate is more.
double damping_rate(const JointVector& damping, const OperationalSpace& space) noexcept {
  // With M = L L^T and W = J L^-T, M^-1 N = L^-T (1 - W^T Lambda W) L^-1.
  const Eigen::Index n = damping.size();
  JointMatrix mobility = JointMatrix::Identity(n, n);
  space.mass_cholesky.matrixL().solveInPlace(mobility);
  const Eigen::Matrix<double, 6, Eigen::Dynamic, Eigen::ColMajor, 6, kMaxJoints> moved =
      space.whitened_jacobian.lazyProduct(mobility);
  double rate = 0.0;
  for (Eigen::Index i = 0; i < n; ++i) {
    const Vector6 column = moved.col(i);
    const Vector6 wrench = space.inertia * column;
    rate += damping[i] * std::max(0.0, mobility.col(i).squaredNorm() - column.dot(wrench));
  }
  return rate;
}

}  // namespace

JointVector project_to_nullspace(const JointVector& tau, const Dynamics& dynamics,
                                 const OperationalSpace& space) noexcept {
  const Vector6 wrench = space.wrench_of(tau);
  JointVector out = tau;
  out.noalias() -= dynamics.jacobian.transpose().lazyProduct(wrench);
  return out;
}

void Nullspace::configure(const ControllerConfig& config) noexcept {
  fastest_ = JointVector::Map(config.max_joint_velocity.data(),
                              static_cast<Eigen::Index>(config.max_joint_velocity.size()));
  stiffness_ = config.nullspace_stiffness;
  damping_ratio_ = config.nullspace_damping_ratio;
  largest_rate_ = largest_damping_rate(config.rate);
  speed_ = config.nullspace_speed;
  target_.resize(static_cast<Eigen::Index>(config.nullspace_posture.size()));
  for (Eigen::Index i = 0; i < target_.size(); ++i) {
    target_[i] = config.nullspace_posture[static_cast<std::size_t>(i)];
  }
}

void Nullspace::reset(const JointVector& q) noexcept {
  bound_age_ = kBoundPeriod;
  posture_ = q;
  offset_.setZero(q.size());
}

void Nullspace::reset_exerting(const JointVector& tau, const JointVector& q, const JointVector& dq,
                               const Dynamics& dynamics) noexcept {
  reset(q);
  if (stiffness_ <= 0.0) return;
  const JointVector damping = joint_damping(stiffness_, damping_ratio_, dynamics);
  offset_ = (tau + damping.cwiseProduct(dq)) / stiffness_;
}

void Nullspace::approach_posture(double period) noexcept {
  if (target_.size() == 0) return;
  const double step = speed_ * period;
  posture_ += (target_ - posture_).cwiseMax(-step).cwiseMin(step);
}

void Nullspace::approach(const JointVector& q, double period) noexcept {
  const JointVector step = fastest_ * period;
  posture_ += (q - posture_).cwiseMax(-step).cwiseMin(step);
}

void Nullspace::compute(const Dynamics& dynamics, const OperationalSpace& space,
                        const JointVector& q, const JointVector& dq, double period,
                        JointVector& tau) noexcept {
  JointVector damping = joint_damping(stiffness_, damping_ratio_, dynamics);
  bound_age_ += period;
  if (bound_age_ >= kBoundPeriod) {
    bound_age_ = 0.0;
    bound_ = std::min(1.0, largest_rate_ / damping_rate(damping, space));
  }
  damping *= bound_;
  const JointVector spring = stiffness_ * (posture_ + offset_ - q) - damping.cwiseProduct(dq);
  tau = project_to_nullspace(spring, dynamics, space);
  offset_ *= std::exp(-period / kOffsetFade);
}

void JointHold::configure(const ControllerConfig& config) noexcept {
  max_stiffness_ = config.hold_stiffness;
  max_frequency_ = kLargestPhasePerCycle * config.rate;
  damping_ratio_ = config.hold_damping_ratio;
}

double JointHold::engage(const JointVector& tau, const JointVector& q, const JointVector& dq,
                         const Dynamics& dynamics) noexcept {
  // Modes of the mass matrix: each gets its own damping, and no more stiffness than can be damped.
  eigen_.compute(dynamics.mass_matrix);
  const JointVector inertia = eigen_.eigenvalues().cwiseMax(0.0);
  const JointVector stiffness = (max_frequency_ * max_frequency_ * inertia)
                                    .cwiseMin(max_stiffness_)
                                    .cwiseMax(kLeastStiffness);
  const JointVector damping =
      2.0 * damping_ratio_ * (stiffness.array() * inertia.array()).sqrt().matrix();
  const JointMatrix& V = eigen_.eigenvectors();
  const JointMatrix V_stiffness = V * stiffness.asDiagonal();
  const JointMatrix V_damping = V * damping.asDiagonal();
  stiffness_ = V_stiffness.lazyProduct(V.transpose());
  damping_ = V_damping.lazyProduct(V.transpose());
  JointVector spring = tau;
  spring.noalias() += damping_.lazyProduct(dq);
  const JointVector modal = V.transpose().lazyProduct(spring);
  setpoint_ = q;
  setpoint_.noalias() += V.lazyProduct(modal.cwiseQuotient(stiffness));
  engaged_ = true;
  return 0.5 * modal.cwiseAbs2().cwiseQuotient(stiffness).sum();
}

void JointHold::compute(const JointVector& q, const JointVector& dq,
                        JointVector& tau) const noexcept {
  const JointVector error = setpoint_ - q;
  tau = stiffness_.lazyProduct(error);
  tau.noalias() -= damping_.lazyProduct(dq);
}

}  // namespace vla_control
