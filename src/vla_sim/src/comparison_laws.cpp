// SPDX-License-Identifier: Apache-2.0
#include "vla_sim/comparison_laws.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "vla_control/task_law.hpp"

namespace vla_sim {
namespace {

using vla_control::Jacobian;
using vla_control::JointVector;
using vla_control::Matrix6;
using vla_control::Pose;
using vla_control::Vector3;
using vla_control::Vector6;

/// Weight of the regularisation in the inverse of J J^T.
constexpr double kRegularisation = 1e-6;
/// Gain of the closed-loop inverse kinematics. 1/s
constexpr double kKinematicGain = 50.0;

/// J^T (J J^T + lambda I)^-1 x.
JointVector pseudo_inverse(const Jacobian& jacobian, const Vector6& x) {
  Matrix6 gram = jacobian * jacobian.transpose();
  gram.diagonal().array() += kRegularisation;
  return jacobian.transpose() * gram.llt().solve(x);
}

/// The pose a share `weight` of the way from one to another, on the group.
Pose between(const Pose& from, const Pose& to, double weight) {
  const Vector6 difference = vla_control::pose_error(to, from);
  const Vector3 turn = weight * difference.tail<3>();
  const double angle = turn.norm();
  Pose out = from;
  out.position += weight * difference.head<3>();
  if (angle > 0.0) {
    out.rotation = Eigen::AngleAxisd(angle, turn / angle).toRotationMatrix() * from.rotation;
  }
  return out;
}

}  // namespace

PeerLaw::PeerLaw(const vla_control::RobotDescription& description, const PeerConfig& config,
                 vla_control::Controller* preview)
    : model_(description), config_(config), preview_(preview) {
  if (!(config_.target_smoothing >= 0.0 && config_.target_smoothing < 1.0)) {
    throw std::invalid_argument("target_smoothing " + std::to_string(config_.target_smoothing) +
                                " is outside [0, 1)");
  }
}

bool PeerLaw::activate(const vla_control::JointState& state, std::int64_t time_ns) noexcept {
  target_ = model_.forward_kinematics(state.q);
  filtered_ = target_;
  posture_ = state.q;
  previous_.setZero(model_.n());
  if (config_.command_includes_gravity) previous_ = model_.gravity(state.q);
  report_ = {};
  return preview_ == nullptr || preview_->activate(state, time_ns);
}

void PeerLaw::update(const vla_control::JointState& state, std::int64_t time_ns, double period,
                     vla_control::JointTorques& out) noexcept {
  if (preview_ != nullptr) {
    preview_->update(state, time_ns, period, out);
    target_ = preview_->state().reference.pose;
  }
  filtered_ = between(filtered_, target_, 1.0 - config_.target_smoothing);
  model_.compute(state.q, state.dq, false, dynamics_);
  const Vector6 twist = dynamics_.jacobian * state.dq;
  Vector6 error = vla_control::pose_error(filtered_, dynamics_.pose_tool_in_base);
  Vector6 clip, stiffness;
  clip << Vector3::Constant(config_.position_error_clip),
      Vector3::Constant(config_.rotation_error_clip);
  stiffness << Vector3::Constant(config_.translational_stiffness),
      Vector3::Constant(config_.rotational_stiffness);
  error = error.cwiseMax(-clip).cwiseMin(clip);
  const Vector6 damping = 2.0 * stiffness.cwiseSqrt();
  const Vector6 wrench = stiffness.cwiseProduct(error) - damping.cwiseProduct(twist);

  const JointVector posture = config_.nullspace_stiffness * (posture_ - state.q) -
                              2.0 * std::sqrt(config_.nullspace_stiffness) * state.dq;
  const Vector6 moved = dynamics_.jacobian * posture;
  const double limit = config_.nullspace_torque_limit;
  const JointVector null =
      (posture - pseudo_inverse(dynamics_.jacobian, moved)).cwiseMax(-limit).cwiseMin(limit);

  JointVector tau = dynamics_.jacobian.transpose() * wrench + null;
  if (config_.command_includes_gravity) tau += model_.gravity(state.q);
  const double step = config_.torque_step_limit;
  const JointVector change = tau - previous_;
  report_.torque_rate_saturated = change.cwiseAbs().maxCoeff() > step;
  previous_ += change.cwiseMax(-step).cwiseMin(step);
  out.tau = previous_;
  report_.reference = {};
  report_.reference.pose = target_;
}

PositionLaw::PositionLaw(const vla_control::RobotDescription& description, double frequency,
                         bool command_includes_gravity, vla_control::Controller& preview)
    : servo_(description, frequency, command_includes_gravity, preview.config().rotor_inertia),
      preview_(preview) {}

bool PositionLaw::activate(const vla_control::JointState& state, std::int64_t time_ns) noexcept {
  q_reference_ = state.q;
  report_ = {};
  return preview_.activate(state, time_ns);
}

void PositionLaw::update(const vla_control::JointState& state, std::int64_t time_ns, double period,
                         vla_control::JointTorques& out) noexcept {
  preview_.update(state, time_ns, period, out);
  report_.reference = preview_.state().reference;
  const vla_control::RobotModel& model = servo_.model();
  const Vector6 error =
      vla_control::pose_error(report_.reference.pose, model.forward_kinematics(q_reference_));
  Vector6 twist;
  twist << report_.reference.linear_velocity, report_.reference.angular_velocity;
  twist += kKinematicGain * error;
  const JointVector dq_reference = pseudo_inverse(model.jacobian(q_reference_), twist);
  q_reference_ += period * dq_reference;
  report_.torque_saturated = servo_.compute(state, q_reference_, dq_reference, out.tau);
}

}  // namespace vla_sim
