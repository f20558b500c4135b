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

// Peaks of the quintic smoothstep's derivatives on [0, 1].
constexpr double kPeakSlope = 1.875;
constexpr double kPeakCurvature = 5.7736;

/// Shortest T with kPeakCurvature d / T^2 + 2 kPeakSlope dv / T <= acceleration, and the mean
/// velocity that the distance adds within the velocity limit.
double fade_time(double distance, double velocity_difference, double velocity,
                 double acceleration) noexcept {
  const double b = kPeakSlope * velocity_difference;
  const double by_acceleration =
      (b + std::sqrt(b * b + acceleration * kPeakCurvature * distance)) / acceleration;
  return std::max(by_acceleration, kPeakSlope * distance / velocity);
}

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

void MotionSegment::coast(const ReferenceSample& from, std::int64_t time_ns) noexcept {
  begin(from, time_ns, 0.0);
}

ReferenceSample MotionSegment::sample(std::int64_t time_ns) const noexcept {
  const double t = std::max(0.0, static_cast<double>(time_ns - start_ns_) * kNanoseconds);
  // Multiples of the first velocity: distance, velocity, acceleration.
  double f = t, df = 1.0, ddf = 0.0;
  if (brake_duration_ > 0.0) {
    const double u = std::min(t / brake_duration_, 1.0);
    f = brake_duration_ * (u - u * u * u + 0.5 * u * u * u * u);
    df = 1.0 - u * u * (3.0 - 2.0 * u);
    ddf = -6.0 * u * (1.0 - u) / brake_duration_;
  }
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

ReferenceSample cross_fade(const ReferenceSample& from, const ReferenceSample& to, double sigma,
                           double dsigma, double ddsigma) noexcept {
  ReferenceSample out;
  const Vector3 dx = to.pose.position - from.pose.position;
  const Vector3 dv = to.linear_velocity - from.linear_velocity;
  const Vector3 da = to.linear_acceleration - from.linear_acceleration;
  out.pose.position = from.pose.position + sigma * dx;
  out.linear_velocity = from.linear_velocity + sigma * dv + dsigma * dx;
  out.linear_acceleration =
      from.linear_acceleration + sigma * da + 2.0 * dsigma * dv + ddsigma * dx;

  // E = R_old^T R_new = exp(phi); its body rates, in the axes of the new side.
  const Vector3 phi = so3::log(from.pose.rotation.transpose() * to.pose.rotation);
  const Vector3 w_from = to.pose.rotation.transpose() * from.angular_velocity;
  const Vector3 w_rel = to.pose.rotation.transpose() * to.angular_velocity - w_from;
  const Vector3 alpha_rel =
      to.pose.rotation.transpose() * (to.angular_acceleration - from.angular_acceleration) +
      w_rel.cross(w_from);
  const Vector3 dphi = so3::right_jacobian_inverse(phi, w_rel);
  const Vector3 ddphi =
      so3::right_jacobian_inverse(phi, alpha_rel - so3::right_jacobian_rate(phi, dphi));
  // R = R_old exp(psi) with psi = sigma phi.
  const Vector3 psi = sigma * phi;
  const Vector3 dpsi = dsigma * phi + sigma * dphi;
  const Vector3 ddpsi = ddsigma * phi + 2.0 * dsigma * dphi + sigma * ddphi;
  out.pose.rotation.noalias() = from.pose.rotation * so3::exp(psi);
  const Vector3 w_psi = out.pose.rotation * so3::right_jacobian(psi, dpsi);
  const Vector3 alpha_psi =
      out.pose.rotation * (so3::right_jacobian(psi, ddpsi) + so3::right_jacobian_rate(psi, dpsi));
  out.angular_velocity = from.angular_velocity + w_psi;
  out.angular_acceleration =
      from.angular_acceleration + alpha_psi + from.angular_velocity.cross(w_psi);
  return out;
}

double blend_time_needed(const ReferenceSample& from, const ReferenceSample& to,
                         const MotionLimits& limits) noexcept {
  const double angle = so3::log(from.pose.rotation.transpose() * to.pose.rotation).norm();
  return std::max(fade_time((to.pose.position - from.pose.position).norm(),
                            (to.linear_velocity - from.linear_velocity).norm(),
                            limits.linear_velocity, limits.linear_acceleration),
                  fade_time(angle, (to.angular_velocity - from.angular_velocity).norm(),
                            limits.angular_velocity, limits.angular_acceleration));
}

void ChunkReference::configure(const MotionLimits& limits, double blend_time) noexcept {
  limits_ = limits;
  min_blend_time_ = blend_time;
}

void ChunkReference::hold(const Pose& pose, std::int64_t now_ns) noexcept {
  segment_.hold(pose, now_ns);
  following_ = false;
  old_is_spline_ = false;
}

void ChunkReference::brake(std::int64_t now_ns) noexcept { brake_from(sample(now_ns), now_ns); }

void ChunkReference::brake_from(const ReferenceSample& from, std::int64_t now_ns) noexcept {
  segment_.brake(from, now_ns, limits_);
  following_ = false;
  old_is_spline_ = false;
}

void ChunkReference::follow(const ChunkSpline& spline, std::int64_t now_ns) noexcept {
  const double phase = blend_phase(now_ns);
  if (following_ && phase >= 1.0) {
    old_is_spline_ = true;
    newest_ = 1 - newest_;
  } else if (following_ && phase > 0.0) {
    segment_.coast(sample(now_ns), now_ns);
    old_is_spline_ = false;
  }
  splines_[newest_] = spline;
  following_ = true;
  blend_start_ns_ = std::max(now_ns, spline.start_ns());
  blend_time_ = std::max(
      min_blend_time_,
      blend_time_needed(sample_old(blend_start_ns_), spline.sample(blend_start_ns_), limits_));
}

double ChunkReference::blend_phase(std::int64_t now_ns) const noexcept {
  const double t = static_cast<double>(now_ns - blend_start_ns_) * kNanoseconds;
  return std::clamp(t / blend_time_, 0.0, 1.0);
}

ReferenceSample ChunkReference::sample_old(std::int64_t now_ns) const noexcept {
  return old_is_spline_ ? splines_[1 - newest_].sample(now_ns) : segment_.sample(now_ns);
}

ReferenceSample ChunkReference::sample(std::int64_t now_ns) const noexcept {
  if (!following_) return segment_.sample(now_ns);
  const double u = blend_phase(now_ns);
  if (u >= 1.0) return splines_[newest_].sample(now_ns);
  if (u <= 0.0) return sample_old(now_ns);
  const double sigma = u * u * u * (10.0 - u * (15.0 - 6.0 * u));
  const double dsigma = 30.0 * u * u * (1.0 - u) * (1.0 - u) / blend_time_;
  const double ddsigma = 60.0 * u * (1.0 - u) * (1.0 - 2.0 * u) / (blend_time_ * blend_time_);
  return cross_fade(sample_old(now_ns), splines_[newest_].sample(now_ns), sigma, dsigma, ddsigma);
}

bool ChunkReference::at_rest(std::int64_t now_ns) const noexcept {
  if (!following_) return now_ns >= segment_.rest_ns();
  return blend_phase(now_ns) >= 1.0 && now_ns >= splines_[newest_].rest_ns();
}

}  // namespace vla_control
