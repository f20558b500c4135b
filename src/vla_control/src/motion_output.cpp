// SPDX-License-Identifier: Apache-2.0
#include "motion_output.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "vla_control/barrier.hpp"
#include "vla_control/task_law.hpp"

namespace vla_control {
namespace {

/// Joint speed below which an arm stands. rad/s
constexpr double kStandingSpeed = 0.02;
/// Longest wait for that. s
constexpr double kLongestSettling = 0.5;
/// Speed at which the command goes back to an arm that is let go. rad/s
constexpr double kYieldSpeed = 0.5;
/// Cycles over which an error of the commanded tool is taken back.
constexpr double kCorrectionCycles = 3.0;
/// Share of the reference's acceleration that corrections use.
constexpr double kCorrectionShare = 0.5;

JointVector to_joint_vector(const std::vector<double>& values) {
  return JointVector::Map(values.data(), static_cast<Eigen::Index>(values.size()));
}

JointMotionLimiter::Settings limits_of(const ControllerConfig& config, const RobotModel& model) {
  JointMotionLimiter::Settings settings;
  settings.lower = model.position_lower();
  settings.upper = model.position_upper();
  settings.velocity = to_joint_vector(config.max_joint_velocity);
  settings.acceleration = to_joint_vector(config.tracking.max_acceleration);
  settings.jerk = JointVector::Constant(model.n(), std::numeric_limits<double>::infinity());
  if (!config.tracking.max_jerk.empty()) settings.jerk = to_joint_vector(config.tracking.max_jerk);
  settings.period = 1.0 / config.rate;
  return settings;
}

/// Velocity along `error` that is back by the time it is there.
Vector3 correction(const Vector3& error, double braking, double reaction) noexcept {
  const double distance = error.norm();
  if (!(distance > 0.0)) return Vector3::Zero();
  return braking_speed(distance, braking, reaction) / distance * error;
}

void shorten(Eigen::Ref<Vector3> velocity, double most) noexcept {
  const double speed = velocity.norm();
  if (speed > most) velocity *= most / speed;
}

}  // namespace

MotionOutput::MotionOutput(const ControllerConfig& config, const RobotModel& model)
    : period_(1.0 / config.rate),
      feedback_(config.tracking.velocity_feedback),
      linear_speed_(config.chunk.velocity_factor * config.max_linear_velocity),
      angular_speed_(config.chunk.velocity_factor * config.max_angular_velocity),
      linear_braking_(kCorrectionShare * config.max_linear_acceleration),
      angular_braking_(kCorrectionShare * config.max_angular_acceleration),
      max_error_(config.max_position_error),
      max_rotation_error_(config.max_rotation_error),
      max_deviation_(to_joint_vector(config.tracking.max_deviation)) {
  const JointMotionLimiter::Settings limits = limits_of(config, model);
  const int taps = JointMotionLimiter::taps(limits);
  if (taps > JointMotionLimiter::kMostTaps) {
    throw std::invalid_argument("tracking.max_jerk needs the command averaged over " +
                                std::to_string(taps) +
                                " cycles at this rate and tracking.max_acceleration; at most " +
                                std::to_string(JointMotionLimiter::kMostTaps) +
                                " are possible: allow more jerk, or less "
                                "acceleration");
  }
  limiter_.configure(limits);
  kinematics_.configure(config);
  const double lag = config.tracking.drive_lag_s;
  expected_share_ = lag > 0.0 ? 1.0 - std::exp(-period_ / lag) : 1.0;
  reset(JointVector::Zero(model.n()), model);
}

ActivationRefusal MotionOutput::refusal(const JointState& joints) const noexcept {
  const JointMotionLimiter::Settings& limits = limiter_.settings();
  if ((joints.q - limits.lower).minCoeff() < 0.0 || (limits.upper - joints.q).minCoeff() < 0.0) {
    return ActivationRefusal::kOutsideLimits;
  }
  return joints.dq.cwiseAbs().maxCoeff() > kStandingSpeed ? ActivationRefusal::kMoving
                                                          : ActivationRefusal::kNone;
}

void MotionOutput::reset(const JointVector& q, const RobotModel& model) noexcept {
  limiter_.reset(q);
  expected_ = place_ = q;
  velocity_command_ = JointVector::Zero(q.size());
  activity_ = {};
  slowed_ = false;
  resume(model);
}

void MotionOutput::resume(const RobotModel& model) noexcept {
  before_ = tool(model);
  letting_go_ = placed_ = false;
  unsettled_ = 0.0;
}

std::int64_t MotionOutput::lead_ns() const noexcept { return std::llround(1e9 * limiter_.lead()); }

Vector6 MotionOutput::twist_to(const Pose& wanted, const Vector6& error) const noexcept {
  Vector6 twist = pose_error(wanted, before_) / period_;
  // What the motion of this cycle leaves of the error.
  const Vector6 left = error - period_ * twist;
  const double reaction = kCorrectionCycles * period_;
  twist.head<3>() += correction(left.head<3>(), linear_braking_, reaction);
  twist.tail<3>() += correction(left.tail<3>(), angular_braking_, reaction);
  shorten(twist.head<3>(), linear_speed_);
  shorten(twist.tail<3>(), angular_speed_);
  return twist;
}

bool MotionOutput::follow(const Pose& wanted, const JointVector* posture, const RobotModel& model,
                          DistanceBarrier* barrier, double share) noexcept {
  const JointVector& q = limiter_.target_q();
  const Vector6 error = pose_error(wanted, model.forward_kinematics(q));
  JointVector dq = kinematics_.joint_velocity(model.jacobian(q), twist_to(wanted, error), q,
                                              posture != nullptr ? *posture : q);
  dq *= share;
  slowed_ = (barrier != nullptr && barrier->slow(dq)) || share < 1.0;
  before_ = wanted;
  // Written so that NaN fails.
  const bool close = error.head<3>().norm() <= max_error_ &&
                     error.tail<3>().norm() <= max_rotation_error_ && dq.allFinite();
  if (close) advance(dq);
  return close;
}

void MotionOutput::advance(const JointVector& wanted) noexcept {
  activity_ = limiter_.advance(wanted);
  expected_ += expected_share_ * (limiter_.command_q() - expected_);
}

void MotionOutput::place_at(const JointVector& q) noexcept {
  const JointMotionLimiter::Settings& limits = limiter_.settings();
  place_ = q.cwiseMax(limits.lower).cwiseMin(limits.upper);
  placed_ = true;
  unsettled_ = 0.0;
}

void MotionOutput::let_go(const JointState* measured) noexcept {
  if (letting_go_) return;
  letting_go_ = true;
  placed_ = false;
  unsettled_ = 0.0;
  if (measured != nullptr) place_at(measured->q);
}

void MotionOutput::yield(const JointState* measured) noexcept {
  slowed_ = false;
  const JointMotionLimiter::Settings& limits = limiter_.settings();
  if (measured != nullptr) {
    const bool away =
        !placed_ || ((measured->q - place_).cwiseAbs() - max_deviation_).maxCoeff() > 0.0;
    unsettled_ = away ? unsettled_ + period_ : 0.0;
    const bool standing = limiter_.at_rest() && measured->dq.cwiseAbs().maxCoeff() < kStandingSpeed;
    if (away && (standing || unsettled_ > kLongestSettling)) place_at(measured->q);
  }
  JointVector wanted = JointVector::Zero(place_.size());
  if (placed_) {
    for (Eigen::Index i = 0; i < wanted.size(); ++i) {
      const double way = place_[i] - limiter_.target_q()[i];
      const double speed = std::min(
          kYieldSpeed, braking_speed(std::abs(way), kCorrectionShare * limits.acceleration[i],
                                     kCorrectionCycles * period_));
      wanted[i] = std::copysign(speed, way);
    }
  }
  advance(wanted);
}

bool MotionOutput::deviates(const JointVector& q) const noexcept {
  return ((q - expected_).cwiseAbs() - max_deviation_).maxCoeff() > 0.0;
}

bool MotionOutput::can_resume(const JointVector& q) const noexcept {
  return limiter_.at_rest() && !deviates(q);
}

void MotionOutput::command(const JointVector& measured, JointMotion& out) noexcept {
  out.q = limiter_.command_q();
  out.dq = limiter_.command_dq();
  if (feedback_ <= 0.0) return;
  // Drives that integrate velocities drift: they are told the way back, too, within the limits.
  const JointMotionLimiter::Settings& limits = limiter_.settings();
  const JointVector step = period_ * limits.acceleration;
  const JointVector wanted = (out.dq + feedback_ * (expected_ - measured))
                                 .cwiseMax(-limits.velocity)
                                 .cwiseMin(limits.velocity);
  velocity_command_ += (wanted - velocity_command_).cwiseMax(-step).cwiseMin(step);
  out.dq = velocity_command_;
}

}  // namespace vla_control
