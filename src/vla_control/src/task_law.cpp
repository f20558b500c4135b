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

/// Asymmetry of a stiffness that is taken for rounding, of its largest element.
constexpr double kAsymmetry = 1e-9;

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

/// b = L^-1 b. Eigen's own solvers block and pack, which costs more than it brings at this size.
void solve_lower(const OperationalSpace& space, JointVector& b) noexcept {
  const JointMatrix& L = space.mass_cholesky.matrixLLT();
  const Eigen::Index n = b.size();
  for (Eigen::Index k = 0; k < n; ++k) {
    b[k] *= space.inverse_pivots[k];
    for (Eigen::Index i = k + 1; i < n; ++i) b[i] -= L(i, k) * b[k];
  }
}

/// b = L^-T b.
void solve_upper(const OperationalSpace& space, JointVector& b) noexcept {
  const JointMatrix& L = space.mass_cholesky.matrixLLT();
  const Eigen::Index n = b.size();
  for (Eigen::Index i = n - 1; i >= 0; --i) {
    for (Eigen::Index k = i + 1; k < n; ++k) b[i] -= L(k, i) * b[k];
    b[i] *= space.inverse_pivots[i];
  }
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
  solve_lower(*this, x);
  solve_upper(*this, x);
  return x;
}

Vector6 OperationalSpace::acceleration_of(const JointVector& tau) const noexcept {
  JointVector whitened = tau;
  solve_lower(*this, whitened);
  return whitened_jacobian.lazyProduct(whitened);
}

Vector6 OperationalSpace::wrench_of(const JointVector& tau) const noexcept {
  const Vector6 acceleration = acceleration_of(tau);
  return inertia * acceleration;
}

JointVector OperationalSpace::joint_velocity_of(const Vector6& twist) const noexcept {
  const Vector6 momentum = inertia * twist;
  JointVector out = whitened_jacobian.transpose().lazyProduct(momentum);
  solve_upper(*this, out);
  return out;
}

void DampingDesign::configure(const Matrix6& stiffness, double damping_ratio, double min_frequency,
                              double rate) noexcept {
  rate_ = rate;
  set_gains(stiffness, damping_ratio);
  least_squared_frequency_ = min_frequency * min_frequency;
}

void DampingDesign::set_gains(const Matrix6& stiffness, double damping_ratio) noexcept {
  stiffness_ = stiffness;
  stiffness_factor_ = stiffness.llt().matrixL();
  damping_ratio_ = damping_ratio;
  const double most = largest_frequency(rate_, damping_ratio);
  most_squared_frequency_ = most * most;
}

bool DampingDesign::squared_frequencies(const Dynamics& dynamics, OperationalSpace& out,
                                        Matrix6& S) const noexcept {
  out.mass_cholesky.compute(dynamics.mass_matrix);
  out.valid = out.mass_cholesky.info() == Eigen::Success && !is_singular(out.mass_cholesky);
  if (!out.valid) return false;
  const JointMatrix& L = out.mass_cholesky.matrixLLT();
  out.inverse_pivots = L.diagonal().cwiseInverse();
  out.whitened_jacobian = dynamics.jacobian;
  // S = A A^T with A = K^T/2 J M^-T/2, one column after the other.
  const Matrix6 factor = stiffness_factor_.transpose();
  S.setZero();
  for (Eigen::Index i = 0; i < L.rows(); ++i) {
    Vector6 column = out.whitened_jacobian.col(i);
    for (Eigen::Index k = 0; k < i; ++k) column -= L(i, k) * out.whitened_jacobian.col(k);
    column *= out.inverse_pivots[i];
    out.whitened_jacobian.col(i) = column;
    const Vector6 stiff = factor * column;
    S.noalias() += stiff * stiff.transpose();
  }
  return true;
}

void DampingDesign::compute_inertia(const Dynamics& dynamics, OperationalSpace& out) noexcept {
  Matrix6 S;
  if (!squared_frequencies(dynamics, out, S)) return;
  Eigen::LLT<Matrix6> cholesky(S);
  // The least pivot falls to zero with the least eigenvalue.
  const double pivot = cholesky.info() == Eigen::Success
                           ? cholesky.matrixLLT().diagonal().cwiseAbs2().minCoeff()
                           : 0.0;
  if (!(pivot >= least_squared_frequency_)) {
    const double nearness = 1.0 - pivot / least_squared_frequency_;
    S.diagonal().array() += least_squared_frequency_ * nearness * nearness;
    cholesky.compute(S);
  }
  const Matrix6 rows = cholesky.matrixL().solve(Matrix6(stiffness_factor_.transpose()));
  out.inertia.noalias() = rows.transpose() * rows;
  out.valid = out.inertia.allFinite();
}

void DampingDesign::compute(const Dynamics& dynamics, OperationalSpace& out) noexcept {
  Matrix6 S;
  if (!squared_frequencies(dynamics, out, S)) return;
  eigen_.compute(S);
  out.valid = eigen_.info() == Eigen::Success;
  if (!out.valid) return;

  Vector6 inertia_root, damping_root, share;
  for (int i = 0; i < 6; ++i) {
    double s = std::max(eigen_.eigenvalues()[i], 0.0);
    if (s < least_squared_frequency_) {
      const double nearness = 1.0 - s / least_squared_frequency_;
      s += least_squared_frequency_ * nearness * nearness;
    }
    inertia_root[i] = 1.0 / std::sqrt(s);
    share[i] = std::min(1.0, most_squared_frequency_ / s);
    damping_root[i] = std::sqrt(2.0 * damping_ratio_ * std::sqrt(share[i]) * inertia_root[i]);
  }
  out.softened = share.minCoeff() < 1.0;
  const Matrix6 V = stiffness_factor_ * eigen_.eigenvectors();
  const Matrix6 V_inertia = V * inertia_root.asDiagonal();
  const Matrix6 V_damping = V * damping_root.asDiagonal();
  out.inertia.noalias() = V_inertia * V_inertia.transpose();
  out.damping.noalias() = V_damping * V_damping.transpose();
  out.stiffness = stiffness_;
  if (out.softened) {
    const Matrix6 V_share = V * share.asDiagonal();
    out.stiffness.noalias() = V_share * V.transpose();
  }
}

bool is_valid_stiffness(const Matrix6& K, const StiffnessRange& range) noexcept {
  // Written so that NaN fails.
  if (!K.allFinite()) return false;
  const double asymmetry = (K - K.transpose()).cwiseAbs().maxCoeff();
  if (!(asymmetry <= kAsymmetry * K.cwiseAbs().maxCoeff())) return false;
  const Eigen::SelfAdjointEigenSolver<Matrix3> translation(K.topLeftCorner<3, 3>(),
                                                           Eigen::EigenvaluesOnly);
  const Eigen::SelfAdjointEigenSolver<Matrix3> rotation(K.bottomRightCorner<3, 3>(),
                                                        Eigen::EigenvaluesOnly);
  const Eigen::LLT<Matrix6> cholesky(K);
  constexpr double kRounding = 1e-9;
  return translation.eigenvalues().minCoeff() >= (1.0 - kRounding) * range.least_translational &&
         translation.eigenvalues().maxCoeff() <= (1.0 + kRounding) * range.most_translational &&
         rotation.eigenvalues().minCoeff() >= (1.0 - kRounding) * range.least_rotational &&
         rotation.eigenvalues().maxCoeff() <= (1.0 + kRounding) * range.most_rotational &&
         cholesky.info() == Eigen::Success;
}

bool is_valid(const TaskGains& gains) noexcept {
  const Matrix6& K = gains.stiffness;
  // Written so that NaN fails.
  if (!(gains.damping_ratio >= 0.1 && gains.damping_ratio <= 3.0)) return false;
  const auto joints = gains.joint_stiffness.array();
  if (!(joints >= kLeastJointStiffness).all() || !(joints <= kMostJointStiffness).all()) {
    return false;
  }
  return is_valid_stiffness(K, {});
}

TaskGains task_gains(const ControllerConfig& config) {
  TaskGains gains;
  gains.damping_ratio = config.damping_ratio;
  gains.joint_stiffness = JointVector::Map(
      config.joint_stiffness.data(), static_cast<Eigen::Index>(config.joint_stiffness.size()));
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
  chunk_stiffness_.configure(config.gain_ramp_s);
  frequency_ << Vector3::Constant(config.translational_frequency),
      Vector3::Constant(config.rotational_frequency);
  jacobian_rate_ = config.jacobian_rate_feed_forward;
  max_position_error_ = config.max_position_error;
  max_rotation_error_ = config.max_rotation_error;
  const TaskGains gains = task_gains(config);
  design_.configure(gains.stiffness, gains.damping_ratio, config.min_task_frequency, config.rate);
  reset(gains);
}

void TaskLaw::reset(const TaskGains& gains) noexcept {
  const JointVector joints =
      gains.joint_stiffness.size() > 0 ? gains.joint_stiffness : to_.joint_stiffness;
  to_ = gains;
  to_.joint_stiffness = joints;
  gains_ = from_ = to_;
  ramp_phase_ = 1.0;
  chunk_stiffness_.reset();
  stiffness_ = gains.stiffness;
  design_.set_gains(stiffness_, gains.damping_ratio);
}

void TaskLaw::approach(const TaskGains& gains) noexcept {
  from_ = gains_;
  to_ = gains;
  if (to_.joint_stiffness.size() == 0) to_.joint_stiffness = from_.joint_stiffness;
  ramp_phase_ = 0.0;
}

void TaskLaw::advance(std::int64_t now_ns, double period) noexcept {
  now_ns_ = now_ns;
  period_ = period;
  if (ramp_phase_ >= 1.0) return;
  ramp_phase_ = std::min(1.0, ramp_phase_ + period / ramp_duration_);
  const double s = ramp_phase_;
  const double sigma = s * s * (3.0 - 2.0 * s);
  // Between two positive definite matrices all are.
  gains_.stiffness = from_.stiffness + sigma * (to_.stiffness - from_.stiffness);
  gains_.joint_stiffness =
      from_.joint_stiffness + sigma * (to_.joint_stiffness - from_.joint_stiffness);
  gains_.damping_ratio = from_.damping_ratio + sigma * (to_.damping_ratio - from_.damping_ratio);
  design_.set_gains(gains_.stiffness, gains_.damping_ratio);
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
  const bool in_joints = kind_ == TaskLawKind::kJointImpedance;
  if (in_joints) {
    design_.compute_inertia(dynamics, space_);
  } else {
    const bool in_tool = frame_ == StiffnessFrame::kTool;
    const bool varies = chunk_stiffness_.active();
    const Matrix6& asked = chunk_stiffness_.advance(
        now_ns_, period_,
        in_tool ? turned(gains_.stiffness, reference.pose.rotation) : gains_.stiffness);
    if (in_tool || varies) design_.set_gains(asked, gains_.damping_ratio);
    design_.compute(dynamics, space_);
    stiffness_ = space_.stiffness;
  }
  period_ = 0.0;
  out.error = pose_error(reference.pose, dynamics.pose_tool_in_base);
  out.clipped = clip_error(out.error, max_position_error_, max_rotation_error_);
  out.twist = dynamics.jacobian.lazyProduct(dq);
  if (in_joints) return;
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
