// SPDX-License-Identifier: Apache-2.0
#include "vla_control/joint_reference.hpp"

#include <algorithm>
#include <cmath>

namespace vla_control {
namespace {

constexpr double kNanoseconds = 1e-9;

/// Quintic that matches both knots, `h` s apart, at the fraction `u` between them.
JointReferenceSample between(const JointReferenceSample& a, const JointReferenceSample& b, double h,
                             double u) noexcept {
  const JointVector v0 = h * a.dq, v1 = h * b.dq;
  const JointVector a0 = h * h * a.ddq, a1 = h * h * b.ddq;
  const JointVector dx = b.q - a.q;
  const JointVector c3 = 10.0 * dx - 6.0 * v0 - 4.0 * v1 - 1.5 * a0 + 0.5 * a1;
  const JointVector c4 = -15.0 * dx + 8.0 * v0 + 7.0 * v1 + 1.5 * a0 - a1;
  const JointVector c5 = 6.0 * dx - 3.0 * (v0 + v1) + 0.5 * (a1 - a0);
  JointReferenceSample out;
  out.q = a.q + u * (v0 + u * (0.5 * a0 + u * (c3 + u * (c4 + u * c5))));
  out.dq = (v0 + u * (a0 + u * (3.0 * c3 + u * (4.0 * c4 + u * 5.0 * c5)))) / h;
  out.ddq = (a0 + u * (6.0 * c3 + u * (12.0 * c4 + u * 20.0 * c5))) / (h * h);
  return out;
}

}  // namespace

void JointSpline::begin(std::int64_t start_ns, double step_dt, int count) noexcept {
  start_ns_ = start_ns;
  step_dt_ = step_dt;
  count_ = count;
  duration_ = step_dt * (count - 1);
}

void JointSpline::differentiate(double brake_duration) noexcept {
  brake_duration_ = count_ > 1 ? brake_duration : 0.0;
  end_ns_ = start_ns_ + std::llround(duration_ / kNanoseconds);
  rest_ns_ = start_ns_ + std::llround((duration_ + 0.5 * brake_duration_) / kNanoseconds);
  const Eigen::Index n = knots_[0].q.size();
  for (int i = 0; i < count_; ++i) {
    const auto at = static_cast<std::size_t>(i);
    JointReferenceSample& knot = knots_[at];
    knot.dq.setZero(n);
    knot.ddq.setZero(n);
    const bool last = i + 1 == count_;
    if (count_ == 1 || (last && brake_duration_ <= 0.0)) continue;
    if (i > 0 && !last) {
      knot.dq = (knots_[at + 1].q - knots_[at - 1].q) / (2.0 * step_dt_);
      knot.ddq = (knots_[at + 1].q - 2.0 * knot.q + knots_[at - 1].q) / (step_dt_ * step_dt_);
    } else if (last) {
      knot.dq = (knot.q - knots_[at - 1].q) / step_dt_;
    } else {
      knot.dq = (knots_[at + 1].q - knot.q) / step_dt_;
    }
  }
}

JointReferenceSample JointSpline::sample_path(double t) const noexcept {
  const JointReferenceSample& last = knots_[static_cast<std::size_t>(count_ - 1)];
  if (count_ == 1 || t >= duration_) {
    return {last.q, last.dq, JointVector::Zero(last.q.size())};
  }
  if (t < 0.0) {
    const JointReferenceSample& first = knots_[0];
    return {first.q + t * first.dq, first.dq, JointVector::Zero(first.q.size())};
  }
  const int index = std::min(static_cast<int>(t / step_dt_), count_ - 2);
  const auto at = static_cast<std::size_t>(index);
  return between(knots_[at], knots_[at + 1], step_dt_, t / step_dt_ - index);
}

JointReferenceSample JointSpline::sample(std::int64_t time_ns) const noexcept {
  const double t = static_cast<double>(time_ns - start_ns_) * kNanoseconds;
  const double brake_start = duration_ - 0.5 * brake_duration_;
  if (brake_duration_ <= 0.0 || t <= brake_start) return sample_path(t);
  const double u = std::min((t - brake_start) / brake_duration_, 1.0);
  const double s = brake_start + brake_duration_ * (u - u * u * u + 0.5 * u * u * u * u);
  const double ds = 1.0 - u * u * (3.0 - 2.0 * u);
  const double dds = -6.0 * u * (1.0 - u) / brake_duration_;
  JointReferenceSample out = sample_path(std::min(s, duration_));
  out.ddq = ds * ds * out.ddq + dds * out.dq;
  out.dq *= ds;
  return out;
}

void JointBlend::begin(const JointReferenceSample& from, const JointReferenceSample& at,
                       const Times& times) noexcept {
  fade_.begin({from.q - at.q, from.dq - at.dq, from.ddq - at.ddq}, times.velocity, times.offset);
}

JointReferenceSample JointBlend::apply(const JointReferenceSample& to, double t) const noexcept {
  const auto fade = fade_.sample(t);
  return {to.q + fade.value, to.dq + fade.first, to.ddq + fade.second};
}

void JointSegment::hold(const JointVector& q, std::int64_t time_ns) noexcept {
  start_ = {q, JointVector::Zero(q.size()), JointVector::Zero(q.size())};
  profile_.rest(time_ns);
}

void JointSegment::brake(const JointReferenceSample& from, std::int64_t time_ns,
                         const Braking& braking) noexcept {
  start_ = from;
  profile_.begin(time_ns, braking);
}

JointReferenceSample JointSegment::sample(std::int64_t time_ns) const noexcept {
  const BrakeProfile::Factors k = profile_.at(time_ns);
  return {start_.q + k.f * start_.dq + k.g * start_.ddq, k.df * start_.dq + k.dg * start_.ddq,
          k.ddf * start_.dq + k.ddg * start_.ddq};
}

}  // namespace vla_control
