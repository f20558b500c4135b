// SPDX-License-Identifier: Apache-2.0
#include "vla_control/force_tracking.hpp"

#include <algorithm>
#include <cmath>

namespace vla_control {
namespace {

/// Part of the wanted force that must be felt before its integral grows: there is no contact to
/// press against otherwise.
constexpr double kFelt = 0.2;
/// Time constant with which the target follows the chunk, so that a new one does not step it. s
constexpr double kTargetLag = 0.03;

}  // namespace

void ForceTracking::configure(const ForceConfig& config) noexcept {
  config_ = config;
  on_ = false;
  for (std::size_t i = 0; i < 6; ++i) {
    const auto row = static_cast<Eigen::Index>(i);
    on_ = on_ || config.axes[i];
    chosen_[row] = config.axes[i] ? 1.0 : 0.0;
    most_[row] = i < 3 ? config.max_integral_force : config.max_integral_torque;
  }
}

void ForceTracking::reset() noexcept {
  release();
  fade_ = 0.0;
  target_.setZero();
  integral_.setZero();
}

void ForceTracking::follow(const ForceSchedule& schedule) noexcept {
  // Only the steps that are filled: the rest may be as long ago as it likes.
  schedule_.start_ns = schedule.start_ns;
  schedule_.step_dt = schedule.step_dt;
  schedule_.steps = schedule.steps;
  schedule_.clamped = schedule.clamped;
  std::copy_n(schedule.wrench.begin(), schedule.steps, schedule_.wrench.begin());
}

Vector6 ForceTracking::wanted(std::int64_t now_ns) const noexcept {
  const double at = static_cast<double>(now_ns - schedule_.start_ns) * 1e-9 / schedule_.step_dt;
  const double last = static_cast<double>(schedule_.steps - 1);
  const double step = std::clamp(at, 0.0, last);
  const auto before = static_cast<std::size_t>(step);
  const auto after = std::min(before + 1, static_cast<std::size_t>(last));
  const double fraction = step - static_cast<double>(before);
  return schedule_.wrench[before] + fraction * (schedule_.wrench[after] - schedule_.wrench[before]);
}

void ForceTracking::update(std::int64_t now_ns, const Vector6& exerted, double period) noexcept {
  const bool asked = schedule_.steps > 0;
  const double step = period / config_.fade_s;
  fade_ = std::clamp(fade_ + (asked ? step : -step), 0.0, 1.0);
  if (!asked) {
    integral_ *= std::exp(-step);
    return;
  }
  target_ += (1.0 - std::exp(-period / kTargetLag)) * (wanted(now_ns) - target_);
  for (Eigen::Index i = 0; i < 6; ++i) {
    const bool felt = exerted[i] * target_[i] > kFelt * target_[i] * target_[i];
    if (!felt) continue;
    integral_[i] = std::clamp(integral_[i] + config_.gain * period * (target_[i] - exerted[i]),
                              -most_[i], most_[i]);
  }
}

void ForceTracking::apply(const Vector6& spring, Vector6& drive) const noexcept {
  if (fade_ <= 0.0) return;
  drive += fade_ * chosen_.cwiseProduct(target_ + integral_ - spring);
}

}  // namespace vla_control
