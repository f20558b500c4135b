// SPDX-License-Identifier: Apache-2.0
#include "vla_control/chunk_spline.hpp"

#include <algorithm>
#include <cmath>

#include "so3.hpp"

namespace vla_control {
namespace {

constexpr double kNanoseconds = 1e-9;
/// Shortest brake: bounds the jerk of a slow chunk's end. s
constexpr double kMinBrakeDuration = 0.04;
/// Peak of |s''| T of the braking profile s' = 1 - 3 u^2 + 2 u^3.
constexpr double kPeakBraking = 1.5;
/// Share of the acceleration limit that a run-out uses: a short chunk may still be blended in then.
constexpr double kBrakeShare = 0.65;
/// Rounding of a sampled peak.
constexpr double kTolerance = 1.0 + 1e-3;

/// Quintic on [0, 1] with the given value, velocity and acceleration (per unit) at both ends.
Eigen::Matrix<double, 3, 6> quintic(const Vector3& x0, const Vector3& v0, const Vector3& a0,
                                    const Vector3& x1, const Vector3& v1,
                                    const Vector3& a1) noexcept {
  const Vector3 dx = x1 - x0;
  Eigen::Matrix<double, 3, 6> c;
  c.col(0) = x0;
  c.col(1) = v0;
  c.col(2) = 0.5 * a0;
  c.col(3) = 10.0 * dx - 6.0 * v0 - 4.0 * v1 - 1.5 * a0 + 0.5 * a1;
  c.col(4) = -15.0 * dx + 8.0 * v0 + 7.0 * v1 + 1.5 * a0 - a1;
  c.col(5) = 6.0 * dx - 3.0 * (v0 + v1) + 0.5 * (a1 - a0);
  return c;
}

struct Evaluated {
  Vector3 value, first, second;
};

Evaluated evaluate(const Eigen::Matrix<double, 3, 6>& c, double u, double step_dt) noexcept {
  Evaluated out;
  out.value =
      c.col(0) + u * (c.col(1) + u * (c.col(2) + u * (c.col(3) + u * (c.col(4) + u * c.col(5)))));
  out.first = c.col(1) + u * (2.0 * c.col(2) +
                              u * (3.0 * c.col(3) + u * (4.0 * c.col(4) + u * 5.0 * c.col(5))));
  out.second = 2.0 * c.col(2) + u * (6.0 * c.col(3) + u * (12.0 * c.col(4) + u * 20.0 * c.col(5)));
  out.first /= step_dt;
  out.second /= step_dt * step_dt;
  return out;
}

}  // namespace

void ChunkSpline::build(std::span<const Pose> poses, std::int64_t start_ns, double step_dt,
                        const MotionLimits& limits) noexcept {
  const int count = static_cast<int>(poses.size());
  start_ns_ = start_ns;
  step_dt_ = step_dt;
  segments_ = count - 1;
  duration_ = step_dt * segments_;
  demand_ = MotionLimits{0.0, 0.0, 0.0, 0.0};

  std::array<Knot, kMaxSteps> knots;
  for (int i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    Knot& knot = knots[at];
    knot.pose = poses[at];
    knot.velocity.setZero();
    knot.acceleration.setZero();
    knot.angular_velocity.setZero();
    knot.angular_acceleration.setZero();
    if (count == 1) continue;
    const bool has_before = i > 0;
    const bool has_after = i + 1 < count;
    Vector3 before = Vector3::Zero(), after = Vector3::Zero();
    Vector3 turn_before = Vector3::Zero(), turn_after = Vector3::Zero();
    if (has_before) {
      before = (poses[at].position - poses[at - 1].position) / step_dt;
      turn_before = -so3::log(poses[at].rotation.transpose() * poses[at - 1].rotation) / step_dt;
    }
    if (has_after) {
      after = (poses[at + 1].position - poses[at].position) / step_dt;
      turn_after = so3::log(poses[at].rotation.transpose() * poses[at + 1].rotation) / step_dt;
      demand_.linear_velocity = std::max(demand_.linear_velocity, after.norm());
      demand_.angular_velocity = std::max(demand_.angular_velocity, turn_after.norm());
    }
    if (has_before && has_after) {
      knot.velocity = 0.5 * (before + after);
      knot.acceleration = (after - before) / step_dt;
      // At the knot itself the rotation vector is zero, where its derivatives are the body rates.
      knot.angular_velocity = 0.5 * (turn_before + turn_after);
      knot.angular_acceleration = (turn_after - turn_before) / step_dt;
      demand_.linear_acceleration = std::max(demand_.linear_acceleration, knot.acceleration.norm());
      demand_.angular_acceleration =
          std::max(demand_.angular_acceleration, knot.angular_acceleration.norm());
    } else {
      knot.velocity = has_after ? after : before;
      knot.angular_velocity = has_after ? turn_after : turn_before;
    }
  }
  first_ = knots[0];
  last_ = knots[static_cast<std::size_t>(count - 1)];

  for (int i = 0; i < segments_; ++i) {
    const Knot& a = knots[static_cast<std::size_t>(i)];
    const Knot& b = knots[static_cast<std::size_t>(i) + 1];
    Segment& segment = path_[static_cast<std::size_t>(i)];
    const double dt2 = step_dt * step_dt;
    segment.position = quintic(a.pose.position, a.velocity * step_dt, a.acceleration * dt2,
                               b.pose.position, b.velocity * step_dt, b.acceleration * dt2);
    segment.start = a.pose.rotation;
    // Body rates at the segment's end, expressed as derivatives of its rotation vector.
    const Vector3 phi = so3::log(a.pose.rotation.transpose() * b.pose.rotation);
    const Vector3 dphi = so3::right_jacobian_inverse(phi, b.angular_velocity);
    const Vector3 ddphi = so3::right_jacobian_inverse(
        phi, b.angular_acceleration - so3::right_jacobian_rate(phi, dphi));
    segment.rotation = quintic(Vector3::Zero(), a.angular_velocity * step_dt,
                               a.angular_acceleration * dt2, phi, dphi * step_dt, ddphi * dt2);
  }

  // The brake may reach back over several waypoints; the fastest it touches decides.
  brake_duration_ = 0.0;
  if (count > 1) {
    brake_duration_ = kMinBrakeDuration;
    for (int i = count - 1; i >= 0; --i) {
      if (duration_ - i * step_dt > 0.5 * brake_duration_ + step_dt) break;
      const Knot& knot = knots[static_cast<std::size_t>(i)];
      brake_duration_ =
          std::max(brake_duration_,
                   braking_time(knot.velocity.norm(), knot.angular_velocity.norm(), limits));
    }
  }
  stretch_brake(limits);
  end_ns_ = start_ns + std::llround(duration_ / kNanoseconds);
  rest_ns_ = start_ns + std::llround((duration_ + 0.5 * brake_duration_) / kNanoseconds);
}

double ChunkSpline::braking_time(double speed, double angular_speed,
                                 const MotionLimits& limits) noexcept {
  return std::max({kMinBrakeDuration,
                   kPeakBraking * speed / (kBrakeShare * limits.linear_acceleration),
                   kPeakBraking * angular_speed / (kBrakeShare * limits.angular_acceleration)});
}

void ChunkSpline::stretch_brake(const MotionLimits& limits) noexcept {
  constexpr int kSamples = 16;
  constexpr double kGrowth = 1.08;
  // The path's own acceleration comes on top; where that alone is beyond, no brake can help.
  while (brake_duration_ > kMinBrakeDuration && 0.5 * brake_duration_ < duration_) {
    const double brake_start = duration_ - 0.5 * brake_duration_;
    double linear = 0.0, angular = 0.0;
    double own_linear = limits.linear_acceleration, own_angular = limits.angular_acceleration;
    for (int i = 0; i <= kSamples; ++i) {
      const double t = brake_start + brake_duration_ * i / kSamples;
      const ReferenceSample path = sample_path(std::min(t, duration_));
      own_linear = std::max(own_linear, path.linear_acceleration.norm());
      own_angular = std::max(own_angular, path.angular_acceleration.norm());
      const ReferenceSample braked = sample_at(t);
      linear = std::max(linear, braked.linear_acceleration.norm());
      angular = std::max(angular, braked.angular_acceleration.norm());
    }
    if (linear <= kTolerance * own_linear && angular <= kTolerance * own_angular) return;
    brake_duration_ *= kGrowth;
  }
}

ReferenceSample ChunkSpline::sample_path(double t) const noexcept {
  ReferenceSample out;
  if (segments_ == 0 || t >= duration_) {
    out.pose = last_.pose;
    out.linear_velocity = last_.velocity;
    out.angular_velocity = last_.pose.rotation * last_.angular_velocity;
    return out;
  }
  if (t < 0.0) {
    out.pose.position = first_.pose.position + t * first_.velocity;
    out.pose.rotation = first_.pose.rotation * so3::exp(t * first_.angular_velocity);
    out.linear_velocity = first_.velocity;
    out.angular_velocity = first_.pose.rotation * first_.angular_velocity;
    return out;
  }
  const int index = std::min(static_cast<int>(t / step_dt_), segments_ - 1);
  const Segment& segment = path_[static_cast<std::size_t>(index)];
  const double u = t / step_dt_ - index;
  const Evaluated x = evaluate(segment.position, u, step_dt_);
  out.pose.position = x.value;
  out.linear_velocity = x.first;
  out.linear_acceleration = x.second;
  const Evaluated phi = evaluate(segment.rotation, u, step_dt_);
  out.pose.rotation.noalias() = segment.start * so3::exp(phi.value);
  out.angular_velocity.noalias() = out.pose.rotation * so3::right_jacobian(phi.value, phi.first);
  out.angular_acceleration.noalias() =
      out.pose.rotation *
      (so3::right_jacobian(phi.value, phi.second) + so3::right_jacobian_rate(phi.value, phi.first));
  return out;
}

ReferenceSample ChunkSpline::sample(std::int64_t time_ns) const noexcept {
  return sample_at(static_cast<double>(time_ns - start_ns_) * kNanoseconds);
}

ReferenceSample ChunkSpline::sample_at(double t) const noexcept {
  const double brake_start = duration_ - 0.5 * brake_duration_;
  if (brake_duration_ > 0.0 && t > brake_start) {
    const double u = std::min((t - brake_start) / brake_duration_, 1.0);
    const double s = brake_start + brake_duration_ * (u - u * u * u + 0.5 * u * u * u * u);
    const double ds = 1.0 - u * u * (3.0 - 2.0 * u);
    const double dds = -6.0 * u * (1.0 - u) / brake_duration_;
    ReferenceSample out = sample_path(std::min(s, duration_));
    out.linear_acceleration = ds * ds * out.linear_acceleration + dds * out.linear_velocity;
    out.angular_acceleration = ds * ds * out.angular_acceleration + dds * out.angular_velocity;
    out.linear_velocity *= ds;
    out.angular_velocity *= ds;
    return out;
  }
  return sample_path(t);
}

}  // namespace vla_control
