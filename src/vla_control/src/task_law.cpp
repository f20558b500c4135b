// SPDX-License-Identifier: Apache-2.0
#include "vla_control/task_law.hpp"

#include <algorithm>
#include <cmath>

#include "so3.hpp"

namespace vla_control {
namespace {

/// Ratio of the pivots of a mass matrix's Cholesky factor below which it counts as singular. Real
/// arms stay above 1e-3.
constexpr double kLeastPivot = 1e-7;

/// Shortens both halves of an error to their limits; true if either was longer.
bool clip_error(Vector6& error, double position, double rotation) noexcept {
  const double position_norm = error.head<3>().norm();
  const double rotation_norm = error.tail<3>().norm();
  if (position_norm > position) error.head<3>() *= position / position_norm;
  if (rotation_norm > rotation) error.tail<3>() *= rotation / rotation_norm;
  return position_norm > position || rotation_norm > rotation;
}

/// Whether a factor has lost a direction to rounding: its smallest pivot is no longer a number to
/// divide by.
bool is_singular(const Eigen::LLT<JointMatrix>& cholesky) noexcept {
  const JointMatrix& L = cholesky.matrixLLT();
  return !(L.diagonal().minCoeff() > kLeastPivot * L.diagonal().maxCoeff());
}

/// Turns both halves of a 6x6 matrix from the axes of a frame to those it is turned by R in.
Matrix6 turned(const Matrix6& matrix, const Matrix3& R) noexcept {
  Matrix6 out;
  for (int row : {0, 3}) {
    for (int column : {0, 3}) {
      out.block<3, 3>(row, column).noalias() = R * matrix.block<3, 3>(row, column) * R.transpose();
    }
  }
  return out;
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

Vector6 OperationalSpace::acceleration_of(const JointVector& tau) const noexcept {
  const JointVector whitened = mass_cholesky.matrixL().solve(tau);
  return whitened_jacobian.transpose().lazyProduct(whitened);
}

Vector6 OperationalSpace::wrench_of(const JointVector& tau) const noexcept {
  const Vector6 acceleration = acceleration_of(tau);
  return inertia * acceleration;
}

JointVector OperationalSpace::joint_velocity_of(const Vector6& twist) const noexcept {
  const Vector6 momentum = inertia * twist;
  JointVector out = whitened_jacobian.lazyProduct(momentum);
  mass_cholesky.matrixU().solveInPlace(out);
  return out;
}

void DampingDesign::configure(const Matrix6& stiffness, double damping_ratio,
                              double min_frequency) noexcept {
  set_gains(stiffness, damping_ratio);
  least_squared_frequency_ = min_frequency * min_frequency;
}

void DampingDesign::set_gains(const Matrix6& stiffness, double damping_ratio) noexcept {
  stiffness_factor_ = stiffness.llt().matrixL();
  damping_ratio_ = damping_ratio;
}

void DampingDesign::compute(const Dynamics& dynamics, OperationalSpace& out) noexcept {
  out.mass_cholesky.compute(dynamics.mass_matrix);
  out.valid = out.mass_cholesky.info() == Eigen::Success && !is_singular(out.mass_cholesky);
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

bool is_valid(const TaskGains& gains) noexcept {
  const Matrix6& K = gains.stiffness;
  // Written so that NaN fails.
  if (!(gains.damping_ratio >= 0.1 && gains.damping_ratio <= 3.0) || !K.allFinite()) return false;
  const double asymmetry = (K - K.transpose()).cwiseAbs().maxCoeff();
  if (asymmetry > 1e-9 * K.cwiseAbs().maxCoeff()) return false;
  const Eigen::SelfAdjointEigenSolver<Matrix3> translation(K.topLeftCorner<3, 3>(),
                                                           Eigen::EigenvaluesOnly);
  const Eigen::SelfAdjointEigenSolver<Matrix3> rotation(K.bottomRightCorner<3, 3>(),
                                                        Eigen::EigenvaluesOnly);
  const Eigen::LLT<Matrix6> cholesky(K);
  return translation.eigenvalues().minCoeff() >= 1.0 - 1e-9 &&
         translation.eigenvalues().maxCoeff() <= 10000.0 + 1e-6 &&
         rotation.eigenvalues().minCoeff() >= 0.1 - 1e-9 &&
         rotation.eigenvalues().maxCoeff() <= 1000.0 + 1e-6 && cholesky.info() == Eigen::Success;
}

TaskGains task_gains(const ControllerConfig& config) {
  TaskGains gains;
  gains.damping_ratio = config.damping_ratio;
  if (config.stiffness_matrix.size() == 36) {
    gains.stiffness = Eigen::Map<const Eigen::Matrix<double, 6, 6, Eigen::RowMajor>>(
        config.stiffness_matrix.data());
    return gains;
  }
  gains.stiffness.setZero();
  gains.stiffness.diagonal() << Vector3::Map(config.translational_stiffness.data()),
      Vector3::Map(config.rotational_stiffness.data());
  return gains;
}

void TaskLaw::configure(const ControllerConfig& config) {
  kind_ = config.task_law;
  frame_ = config.stiffness_frame;
  ramp_duration_ = config.gain_ramp_s;
  frequency_ << Vector3::Constant(config.translational_frequency),
      Vector3::Constant(config.rotational_frequency);
  jacobian_rate_ = config.jacobian_rate_feed_forward;
  max_position_error_ = config.max_position_error;
  max_rotation_error_ = config.max_rotation_error;
  const TaskGains gains = task_gains(config);
  design_.configure(gains.stiffness, gains.damping_ratio, config.min_task_frequency);
  reset(gains);
}

void TaskLaw::reset(const TaskGains& gains) noexcept {
  gains_ = from_ = to_ = gains;
  ramp_phase_ = 1.0;
  stiffness_ = gains.stiffness;
  design_.set_gains(stiffness_, gains.damping_ratio);
}

void TaskLaw::approach(const TaskGains& gains) noexcept {
  from_ = gains_;
  to_ = gains;
  ramp_phase_ = 0.0;
}

void TaskLaw::advance(double period) noexcept {
  if (ramp_phase_ >= 1.0) return;
  ramp_phase_ = std::min(1.0, ramp_phase_ + period / ramp_duration_);
  const double s = ramp_phase_;
  const double sigma = s * s * (3.0 - 2.0 * s);
  // Between two positive definite matrices all are.
  gains_.stiffness = from_.stiffness + sigma * (to_.stiffness - from_.stiffness);
  gains_.damping_ratio = from_.damping_ratio + sigma * (to_.damping_ratio - from_.damping_ratio);
  stiffness_ = gains_.stiffness;
  design_.set_gains(stiffness_, gains_.damping_ratio);
}

Vector6 TaskLaw::acceleration_for(const Dynamics& dynamics,
                                  const ReferenceSample& reference) const noexcept {
  Vector6 acceleration;
  acceleration << reference.linear_acceleration, reference.angular_acceleration;
  if (jacobian_rate_) acceleration -= dynamics.acceleration_bias;
  return acceleration;
}

void TaskLaw::compute(const Dynamics& dynamics, const JointVector& dq,
                      const ReferenceSample& reference, Output& out) noexcept {
  if (frame_ == StiffnessFrame::kTool) {
    stiffness_ = turned(gains_.stiffness, reference.pose.rotation);
    design_.set_gains(stiffness_, gains_.damping_ratio);
  }
  design_.compute(dynamics, space_);
  out.error = pose_error(reference.pose, dynamics.pose_tool_in_base);
  out.clipped = clip_error(out.error, max_position_error_, max_rotation_error_);
  out.twist = dynamics.jacobian.lazyProduct(dq);
  Vector6 velocity;
  velocity << reference.linear_velocity, reference.angular_velocity;
  const Vector6 acceleration = acceleration_for(dynamics, reference);
  if (kind_ == TaskLawKind::kOperationalSpace) {
    const Vector6 rate = 2.0 * gains_.damping_ratio * frequency_;
    const Vector6 pulled = frequency_.cwiseAbs2().cwiseProduct(out.error);
    const Vector6 wanted = pulled + rate.cwiseProduct(velocity) + acceleration;
    out.spring.noalias() = space_.inertia * pulled;
    const Vector6 slowed = rate.cwiseProduct(out.twist);
    out.drive.noalias() = space_.inertia * wanted;
    out.damping.noalias() = space_.inertia * slowed;
    out.damping = -out.damping;
    return;
  }
  out.spring.noalias() = stiffness_ * out.error;
  out.drive = out.spring;
  out.drive.noalias() += space_.damping * velocity;
  out.drive.noalias() += space_.inertia * acceleration;
  out.damping.noalias() = space_.damping * out.twist;
  out.damping = -out.damping;
}

Vector6 TaskLaw::drive_of(const Vector6& velocity, const Vector6& acceleration) const noexcept {
  if (kind_ == TaskLawKind::kOperationalSpace) {
    const Vector6 rate = 2.0 * gains_.damping_ratio * frequency_;
    const Vector6 wanted = rate.cwiseProduct(velocity) + acceleration;
    return space_.inertia * wanted;
  }
  return space_.damping * velocity + space_.inertia * acceleration;
}

Pose TaskLaw::reference_exerting(const Vector6& wrench, const Dynamics& dynamics,
                                 const Vector6& twist) const noexcept {
  const Vector6 acceleration = acceleration_for(dynamics, ReferenceSample{});
  Vector6 error;
  if (kind_ == TaskLawKind::kOperationalSpace) {
    error = space_.inertia.ldlt().solve(wrench) - acceleration +
            2.0 * gains_.damping_ratio * frequency_.cwiseProduct(twist);
    error = error.cwiseQuotient(frequency_.cwiseAbs2());
  } else {
    const Vector6 spring = wrench + space_.damping * twist - space_.inertia * acceleration;
    error = stiffness_.llt().solve(spring);
  }
  (void)clip_error(error, max_position_error_, max_rotation_error_);
  Pose pose;
  pose.position = dynamics.pose_tool_in_base.position + error.head<3>();
  pose.rotation.noalias() = so3::exp(error.tail<3>()) * dynamics.pose_tool_in_base.rotation;
  return pose;
}

}  // namespace vla_control
