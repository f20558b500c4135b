// SPDX-License-Identifier: Apache-2.0
#include "vla_control/chunk_reference.hpp"

#include <algorithm>
#include <cmath>

#include "so3.hpp"

namespace vla_control {
namespace {

constexpr double kNanoseconds = 1e-9;

}  // namespace

void BrakeProfile::begin(std::int64_t time_ns, const Braking& braking) noexcept {
  start_ns_ = time_ns;
  braking_ = {std::max(braking.duration, kShortest), braking.fade};
  rest_ns_ = time_ns + std::llround(std::max(braking_.duration, braking_.fade) / kNanoseconds);
}

void BrakeProfile::rest(std::int64_t time_ns) noexcept {
  begin(time_ns, {});
  rest_ns_ = time_ns;
}

BrakeProfile::Factors BrakeProfile::at(std::int64_t time_ns) const noexcept {
  const double t = std::max(0.0, static_cast<double>(time_ns - start_ns_) * kNanoseconds);
  const auto [duration, fade] = braking_;
  const double u = std::min(t / duration, 1.0);
  const double w = std::min(t / fade, 1.0);
  Factors out;
  out.f = duration * (u - u * u * u + 0.5 * u * u * u * u);
  out.df = 1.0 - u * u * (3.0 - 2.0 * u);
  out.ddf = -6.0 * u * (1.0 - u) / duration;
  out.g = fade * fade * w * w * (0.5 - w * (2.0 / 3.0 - 0.25 * w));
  out.dg = fade * w * (1.0 - w) * (1.0 - w);
  out.ddg = (1.0 - w) * (1.0 - 3.0 * w);
  return out;
}

double BrakeProfile::duration(double speed, double acceleration, double limit) noexcept {
  // The braking profile adds at most 1.5 v / T, the fading acceleration at most a third of itself.
  return 1.5 * speed / (limit - std::min(acceleration, limit) / 3.0);
}

double braking_time(const ReferenceSample& from, const MotionLimits& limits) noexcept {
  return std::max(
      BrakeProfile::duration(from.linear_velocity.norm(), from.linear_acceleration.norm(),
                             limits.linear_acceleration),
      BrakeProfile::duration(from.angular_velocity.norm(), from.angular_acceleration.norm(),
                             limits.angular_acceleration));
}

void MotionSegment::begin(const ReferenceSample& from) noexcept {
  start_ = from.pose;
  velocity_ = from.linear_velocity;
  acceleration_ = from.linear_acceleration;
  angular_velocity_.noalias() = from.pose.rotation.transpose() * from.angular_velocity;
  angular_acceleration_.noalias() = from.pose.rotation.transpose() * from.angular_acceleration;
}

void MotionSegment::hold(const Pose& pose, std::int64_t time_ns) noexcept {
  ReferenceSample still;
  still.pose = pose;
  begin(still);
  profile_.rest(time_ns);
}

void MotionSegment::brake(const ReferenceSample& from, std::int64_t time_ns,
                          const Braking& braking) noexcept {
  begin(from);
  profile_.begin(time_ns, braking);
}

ReferenceSample MotionSegment::sample(std::int64_t time_ns) const noexcept {
  const BrakeProfile::Factors k = profile_.at(time_ns);
  ReferenceSample out;
  out.pose.position = start_.position + k.f * velocity_ + k.g * acceleration_;
  out.linear_velocity = k.df * velocity_ + k.dg * acceleration_;
  out.linear_acceleration = k.ddf * velocity_ + k.ddg * acceleration_;
  const Vector3 phi = k.f * angular_velocity_ + k.g * angular_acceleration_;
  const Vector3 dphi = k.df * angular_velocity_ + k.dg * angular_acceleration_;
  const Vector3 ddphi = k.ddf * angular_velocity_ + k.ddg * angular_acceleration_;
  out.pose.rotation.noalias() = start_.rotation * so3::exp(phi);
  out.angular_velocity.noalias() = out.pose.rotation * so3::right_jacobian(phi, dphi);
  out.angular_acceleration.noalias() =
      out.pose.rotation * (so3::right_jacobian(phi, ddphi) + so3::right_jacobian_rate(phi, dphi));
  return out;
}

}  // namespace vla_control
