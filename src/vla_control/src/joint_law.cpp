// SPDX-License-Identifier: Apache-2.0
#include "vla_control/joint_law.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

namespace vla_control {
namespace {

/// Bounds the stiffness felt at the tool in a direction that no joint moves it in: share of the
/// trace of J K^-1 J^T.
constexpr double kLeastCompliance = 1e-3;
/// Time between two designs. s
constexpr double kDesignPeriod = 0.01;

}  // namespace

void JointLaw::configure(const ControllerConfig& config) noexcept {
  max_error_ = config.max_joint_error;
  rate_ = config.rate;
}

void JointLaw::design(const JointMatrix& mass_matrix, const TaskGains& gains,
                      Design& out) noexcept {
  // The inertia is K^-1/2 M K^-1/2 = V diag(m) V^T; a mode's frequency is m^-1/2, and where that is
  // too high its stiffness falls to m times its squared bound.
  const double most = largest_frequency(rate_, gains.damping_ratio);
  const JointVector inverse_root = gains.joint_stiffness.cwiseSqrt().cwiseInverse();
  JointMatrix scaled = inverse_root.asDiagonal() * mass_matrix;
  scaled *= inverse_root.asDiagonal();
  eigen_.compute(scaled);
  const JointVector inertia = eigen_.eigenvalues().cwiseMax(0.0);
  const JointVector allowed = (most * most * inertia).cwiseMin(1.0);
  const JointVector damped = 2.0 * (allowed.array() * inertia.array()).sqrt().matrix();
  const JointMatrix& V = eigen_.eigenvectors();
  const JointMatrix V_allowed = V * allowed.asDiagonal();
  const JointMatrix V_damped = V * damped.asDiagonal();
  out.stiffness = V_allowed.lazyProduct(V.transpose());
  out.damping = V_damped.lazyProduct(V.transpose());
  out.softened = allowed.minCoeff() < 1.0;
}

void JointLaw::advance(const JointMatrix& mass_matrix, const TaskGains& gains,
                       double period) noexcept {
  if (!designed_) {
    design(mass_matrix, gains, to_);
    now_ = to_;
    age_ = kDesignPeriod;
    designed_ = true;
  }
  age_ += period;
  if (age_ >= kDesignPeriod) {
    from_ = now_;
    design(mass_matrix, gains, to_);
    age_ = 0.0;
  }
  const double share = age_ / kDesignPeriod;
  now_.stiffness = (1.0 - share) * from_.stiffness + share * to_.stiffness;
  now_.damping = (1.0 - share) * from_.damping + share * to_.damping;
}

void JointLaw::compute(const Dynamics& dynamics, const JointReferenceSample& reference,
                       const JointState& joints, const TaskGains& gains, double period,
                       Output& out) noexcept {
  const JointVector root = gains.joint_stiffness.cwiseSqrt();
  advance(dynamics.mass_matrix, gains, period);
  stiffness_ = root.asDiagonal() * now_.stiffness;
  stiffness_ *= root.asDiagonal();
  damping_ = (gains.damping_ratio * root).asDiagonal() * now_.damping;
  damping_ *= root.asDiagonal();

  JointVector error = reference.q - joints.q;
  const double farthest = error.cwiseAbs().maxCoeff();
  out.clipped = farthest > max_error_;
  out.softened = to_.softened;
  if (out.clipped) error *= max_error_ / farthest;
  out.spring = stiffness_.lazyProduct(error);
  out.drive = out.spring + drive_of(dynamics, reference.dq, reference.ddq);
  out.damping = damping_.lazyProduct(joints.dq);
  out.damping = -out.damping;
}

JointVector JointLaw::drive_of(const Dynamics& dynamics, const JointVector& dq,
                               const JointVector& ddq) const noexcept {
  JointVector out = damping_.lazyProduct(dq);
  out.noalias() += dynamics.mass_matrix.lazyProduct(ddq);
  return out;
}

JointVector JointLaw::reference_exerting(const JointVector& tau,
                                         const JointState& joints) const noexcept {
  JointVector error = tau;
  error.noalias() += damping_.lazyProduct(joints.dq);
  const Eigen::LLT<JointMatrix> stiffness(stiffness_);
  stiffness.solveInPlace(error);
  const double farthest = error.cwiseAbs().maxCoeff();
  if (farthest > max_error_) error *= max_error_ / farthest;
  return joints.q + error;
}

Matrix6 JointLaw::stiffness_at_tool(const Dynamics& dynamics) const noexcept {
  const Eigen::LLT<JointMatrix> stiffness(stiffness_);
  Eigen::Matrix<double, Eigen::Dynamic, 6, Eigen::ColMajor, kMaxJoints, 6> whitened =
      dynamics.jacobian.transpose();
  stiffness.matrixL().solveInPlace(whitened);
  Matrix6 compliance = whitened.transpose().lazyProduct(whitened);
  compliance.topLeftCorner<3, 3>().diagonal().array() +=
      kLeastCompliance * compliance.topLeftCorner<3, 3>().trace();
  compliance.bottomRightCorner<3, 3>().diagonal().array() +=
      kLeastCompliance * compliance.bottomRightCorner<3, 3>().trace();
  return compliance.llt().solve(Matrix6::Identity());
}

}  // namespace vla_control
