// SPDX-License-Identifier: Apache-2.0
#include "vla_control/joint_motion_limiter.hpp"

#include <algorithm>
#include <cmath>

#include "vla_control/barrier.hpp"

namespace vla_control {
namespace {

/// Joint speed below which a command stands, but for what a sensor's noise makes of it. rad/s
constexpr double kResting = 2e-3;

}  // namespace

int JointMotionLimiter::taps(const Settings& settings) noexcept {
  double most = 1.0;
  for (Eigen::Index i = 0; i < settings.jerk.size(); ++i) {
    if (!std::isfinite(settings.jerk[i])) continue;
    most = std::max(most, 2.0 * settings.acceleration[i] / (settings.jerk[i] * settings.period));
  }
  // A hair less than a whole number is rounding.
  return static_cast<int>(std::ceil(std::min(most - 1e-9, 1e6)));
}

void JointMotionLimiter::configure(const Settings& settings) noexcept {
  settings_ = settings;
  taps_ = std::clamp(taps(settings), 1, kMostTaps);
}

void JointMotionLimiter::reset(const JointVector& q) noexcept {
  q_ = command_q_ = q;
  dq_ = command_dq_ = JointVector::Zero(q.size());
  past_.fill(q);
  next_ = 0;
}

JointMotionLimiter::Activity JointMotionLimiter::advance(const JointVector& wanted) noexcept {
  Activity activity;
  const double period = settings_.period;
  // The whole motion is slowed down, so that the tool keeps its direction.
  const double excess = (wanted.array() / settings_.velocity.array()).abs().maxCoeff();
  JointVector aim = wanted;
  if (excess > 1.0) aim /= excess;
  activity.velocity = excess > 1.0 + 1e-9;

  // What braking allows; it never is less than what braking hard since the last cycle leaves.
  JointVector low(aim.size()), high(aim.size());
  for (Eigen::Index i = 0; i < aim.size(); ++i) {
    const double a = settings_.acceleration[i];
    high[i] = std::min(settings_.velocity[i], braking_speed(settings_.upper[i] - q_[i], a, period));
    low[i] = -std::min(settings_.velocity[i], braking_speed(q_[i] - settings_.lower[i], a, period));
    const double within = std::clamp(aim[i], low[i], high[i]);
    activity.position = activity.position || within != aim[i];
    aim[i] = within;
  }
  const JointVector change = aim - dq_;
  const double steep =
      (change.array() / (period * settings_.acceleration.array())).abs().maxCoeff();
  activity.acceleration = steep > 1.0 + 1e-9;
  const double share = steep > 1.0 ? 1.0 / steep : 1.0;
  for (Eigen::Index i = 0; i < aim.size(); ++i) {
    // A joint that must brake for its limit does so, whatever the others need.
    dq_[i] = std::clamp(dq_[i] + share * change[i], low[i], high[i]);
  }
  q_ += period * dq_;

  past_[static_cast<std::size_t>(next_)] = q_;
  next_ = (next_ + 1) % taps_;
  JointVector mean = JointVector::Zero(q_.size());
  for (int i = 0; i < taps_; ++i) mean += past_[static_cast<std::size_t>(i)];
  mean /= static_cast<double>(taps_);
  command_dq_ = (mean - command_q_) / period;
  command_q_ = mean;
  return activity;
}

bool JointMotionLimiter::at_rest() const noexcept {
  return dq_.cwiseAbs().maxCoeff() < kResting && command_dq_.cwiseAbs().maxCoeff() < kResting;
}

}  // namespace vla_control
