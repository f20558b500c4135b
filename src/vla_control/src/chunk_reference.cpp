// SPDX-License-Identifier: Apache-2.0
#include "vla_control/chunk_reference.hpp"

#include <algorithm>
#include <cmath>

#include "so3.hpp"

namespace vla_control {
namespace {

constexpr double kNanoseconds = 1e-9;
constexpr double kMinBrakeDuration = 0.04;  // s
/// Time in which the acceleration of the state that is continued fades to zero. s
constexpr double kFadeDuration = 0.05;

}  // namespace

void MotionSegment::begin(const ReferenceSample& from, std::int64_t time_ns,
                          double brake_duration) noexcept {
  start_ns_ = time_ns;
  brake_duration_ = brake_duration;
  const double end = std::max(brake_duration, kFadeDuration);
  rest_ns_ = time_ns + std::llround(end / kNanoseconds);
  start_ = from.pose;
  velocity_ = from.linear_velocity;
  acceleration_ = from.linear_acceleration;
  angular_velocity_.noalias() = from.pose.rotation.transpose() * from.angular_velocity;
  angular_acceleration_.noalias() = from.pose.rotation.transpose() * from.angular_acceleration;
}

void MotionSegment::hold(const Pose& pose, std::int64_t time_ns) noexcept {
  ReferenceSample still;
  still.pose = pose;
  begin(still, time_ns, kMinBrakeDuration);
  rest_ns_ = time_ns;
}

void MotionSegment::brake(const ReferenceSample& from, std::int64_t time_ns,
                          const MotionLimits& limits) noexcept {
  // The braking profile adds at most 1.5 v / T, the fading acceleration at most a third of itself.
  const auto duration = [](double speed, double acceleration, double limit) {
    return 1.5 * speed / (limit - std::min(acceleration, limit) / 3.0);
  };
  begin(from, time_ns,
        std::max({kMinBrakeDuration,
                  duration(from.linear_velocity.norm(), from.linear_acceleration.norm(),
                           limits.linear_acceleration),
                  duration(from.angular_velocity.norm(), from.angular_acceleration.norm(),
                           limits.angular_acceleration)}));
}

ReferenceSample MotionSegment::sample(std::int64_t time_ns) const noexcept {
  const double t = std::max(0.0, static_cast<double>(time_ns - start_ns_) * kNanoseconds);
  // Multiples of the first velocity: distance, velocity, acceleration.
  const double u = std::min(t / brake_duration_, 1.0);
  const double f = brake_duration_ * (u - u * u * u + 0.5 * u * u * u * u);
  const double df = 1.0 - u * u * (3.0 - 2.0 * u);
  const double ddf = -6.0 * u * (1.0 - u) / brake_duration_;
  // Multiples of the first acceleration.
  const double w = std::min(t / kFadeDuration, 1.0);
  const double g = kFadeDuration * kFadeDuration * w * w * (0.5 - w * (2.0 / 3.0 - 0.25 * w));
  const double dg = kFadeDuration * w * (1.0 - w) * (1.0 - w);
  const double ddg = (1.0 - w) * (1.0 - 3.0 * w);

  ReferenceSample out;
  out.pose.position = start_.position + f * velocity_ + g * acceleration_;
  out.linear_velocity = df * velocity_ + dg * acceleration_;
  out.linear_acceleration = ddf * velocity_ + ddg * acceleration_;
  const Vector3 phi = f * angular_velocity_ + g * angular_acceleration_;
  const Vector3 dphi = df * angular_velocity_ + dg * angular_acceleration_;
  const Vector3 ddphi = ddf * angular_velocity_ + ddg * angular_acceleration_;
  out.pose.rotation.noalias() = start_.rotation * so3::exp(phi);
  out.angular_velocity.noalias() = out.pose.rotation * so3::right_jacobian(phi, dphi);
  out.angular_acceleration.noalias() =
      out.pose.rotation * (so3::right_jacobian(phi, ddphi) + so3::right_jacobian_rate(phi, dphi));
  return out;
}

void ChunkReference::hold(const Pose& pose, std::int64_t now_ns) noexcept {
  segment_.hold(pose, now_ns);
  following_ = false;
  before_is_course_ = false;
}

void ChunkReference::brake(std::int64_t now_ns) noexcept { brake_from(sample(now_ns), now_ns); }

void ChunkReference::brake_from(const ReferenceSample& from, std::int64_t now_ns) noexcept {
  segment_.brake(from, now_ns, limits_);
  following_ = false;
  before_is_course_ = false;
}

void ChunkReference::follow(const ChunkSpline& spline, std::int64_t now_ns,
                            const ChunkBlend::Times& times) noexcept {
  // A chunk that has not begun yet is replaced by the new one.
  if (following_ && now_ns >= courses_[newest_].begin_ns) {
    before_is_course_ = true;
    newest_ = 1 - newest_;
  }
  following_ = true;
  Course& course = courses_[newest_];
  course.spline = spline;
  course.begin_ns = std::max(now_ns, spline.start_ns());
  course.blend.begin(sample_before(course.begin_ns), course.spline.sample(course.begin_ns), times);
}

ReferenceSample ChunkReference::Course::sample(std::int64_t now_ns) const noexcept {
  const ReferenceSample along = spline.sample(now_ns);
  const double t = static_cast<double>(now_ns - begin_ns) * kNanoseconds;
  return t < blend.duration() ? blend.apply(along, t) : along;
}

ReferenceSample ChunkReference::sample_before(std::int64_t now_ns) const noexcept {
  return before_is_course_ ? courses_[1 - newest_].sample(now_ns) : segment_.sample(now_ns);
}

ReferenceSample ChunkReference::sample(std::int64_t now_ns) const noexcept {
  if (!following_) return segment_.sample(now_ns);
  const Course& course = courses_[newest_];
  return now_ns < course.begin_ns ? sample_before(now_ns) : course.sample(now_ns);
}

bool ChunkReference::at_rest(std::int64_t now_ns) const noexcept {
  if (!following_) return now_ns >= segment_.rest_ns();
  const Course& course = courses_[newest_];
  const double t = static_cast<double>(now_ns - course.begin_ns) * kNanoseconds;
  return t >= course.blend.duration() && now_ns >= course.spline.rest_ns();
}

}  // namespace vla_control
