// SPDX-License-Identifier: Apache-2.0
#include "vla_control/chunk_blend.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "blend_limits.hpp"
#include "so3.hpp"

namespace vla_control {
namespace {

constexpr double kNanoseconds = 1e-9;
/// Ratio of one candidate for the offset time to the one before, and how often the interval between
/// the last that does not fit and the first that does is halved.
constexpr double kGrowth = 1.2;
constexpr int kBisections = 8;
/// Peak of |x''| T of the velocity's fade.
constexpr double kPeakFade = 1.5;
/// Share of the acceleration left that the velocity's fade may use.
constexpr double kShare = 2.0 / 3.0;
/// Velocity times to try, in multiples of the needed one.
constexpr std::array<double, 4> kFactors{1.0, 1.5, 2.5, 0.5};
/// Rate of a fade that keeps its offset, in 1 / velocity time; what is left of a velocity after so
/// many times its inverse is none, and after so many velocity times cannot be a peak.
constexpr double kRate = 3.0;
constexpr double kSettled = 16.0;
constexpr double kPeaksWithin = 2.0;
/// Disagreement that fits into any blend, so that nothing has to be searched. m, rad; m/s, rad/s;
/// m/s^2, rad/s^2
constexpr double kNoOffset = 1e-6;
constexpr double kNoVelocity = 1e-5;
constexpr double kNoAcceleration = 1e-3;

/// The curve that is blended to, sampled as far as needed: densely first.
class Curve {
 public:
  static constexpr int kPoints = 90;
  static constexpr int kFine = 61;  // every 10 ms up to 0.6 s, then every 40 ms
  struct Point {
    double t = 0.0;                                                          // s
    Vector3 velocity, acceleration, angular_velocity, angular_acceleration;  // angular: body axes
    MotionLimits peak;  // largest norms up to here
  };

  Curve(const ChunkSpline& spline, std::int64_t begin_ns, double longest) noexcept
      : spline_(spline), begin_ns_(begin_ns), scale_(std::max(1.0, longest / time_of(kPoints))) {}

  /// Point `i`; asked for in ascending order the first time.
  const Point& at(int i) noexcept {
    for (; filled_ <= i; ++filled_) fill(filled_);
    return points_[static_cast<std::size_t>(i)];
  }
  /// Number of points within `t` s.
  [[nodiscard]] int count(double t) const noexcept {
    int n = 0;
    while (n < kPoints && scale_ * time_of(n) < t) ++n;
    return n;
  }

 private:
  static double time_of(int i) noexcept {
    return i < kFine ? 0.01 * i : 0.6 + 0.04 * (i - kFine + 1);
  }
  void fill(int i) noexcept {
    Point& point = points_[static_cast<std::size_t>(i)];
    point.t = scale_ * time_of(i);
    const ReferenceSample at = spline_.sample(begin_ns_ + std::llround(point.t / kNanoseconds));
    point.velocity = at.linear_velocity;
    point.acceleration = at.linear_acceleration;
    point.angular_velocity.noalias() = at.pose.rotation.transpose() * at.angular_velocity;
    point.angular_acceleration.noalias() = at.pose.rotation.transpose() * at.angular_acceleration;
    point.peak = {point.velocity.norm(), point.acceleration.norm(), point.angular_velocity.norm(),
                  point.angular_acceleration.norm()};
    if (i == 0) return;
    const MotionLimits& before = points_[static_cast<std::size_t>(i - 1)].peak;
    point.peak.linear_velocity = std::max(point.peak.linear_velocity, before.linear_velocity);
    point.peak.linear_acceleration =
        std::max(point.peak.linear_acceleration, before.linear_acceleration);
    point.peak.angular_velocity = std::max(point.peak.angular_velocity, before.angular_velocity);
    point.peak.angular_acceleration =
        std::max(point.peak.angular_acceleration, before.angular_acceleration);
  }

  const ChunkSpline& spline_;
  const std::int64_t begin_ns_;
  const double scale_;
  int filled_ = 0;
  std::array<Point, kPoints> points_;
};

/// Velocity and acceleration of the linear or the angular part of a blended reference.
struct Rates {
  Vector3 velocity, acceleration;
};

Rates linear_rates(const Curve::Point& point, const OffsetFade::Sample& fade) noexcept {
  return {point.velocity + fade.first, point.acceleration + fade.second};
}

/// Body axes; see ChunkBlend::apply.
Rates angular_rates(const Curve::Point& point, const OffsetFade::Sample& fade) noexcept {
  const Vector3 back = -fade.value;
  const Matrix3 turn = so3::exp(back);
  const Vector3 w = so3::right_jacobian(fade.value, fade.first);
  const Vector3 w_new = turn * point.angular_velocity;
  return {w_new + w, turn * point.angular_acceleration + w_new.cross(w) +
                         so3::right_jacobian(fade.value, fade.second) +
                         so3::right_jacobian_rate(fade.value, fade.first)};
}

/// Position and rotation vector R_at^T R, with their derivatives, of a reference seen from another.
struct Difference {
  OffsetFade::Sample linear, angular;
};

/// The converse of ChunkBlend::apply.
Difference difference_between(const ReferenceSample& from, const ReferenceSample& at) noexcept {
  Difference out;
  out.linear.value = from.pose.position - at.pose.position;
  out.linear.first = from.linear_velocity - at.linear_velocity;
  out.linear.second = from.linear_acceleration - at.linear_acceleration;

  const Matrix3 back = from.pose.rotation.transpose();
  out.angular.value = so3::log(at.pose.rotation.transpose() * from.pose.rotation);
  const Vector3 w = from.angular_velocity - at.angular_velocity;
  const Vector3 alpha =
      from.angular_acceleration - at.angular_acceleration - at.angular_velocity.cross(w);
  out.angular.first = so3::right_jacobian_inverse(out.angular.value, back * w);
  out.angular.second = so3::right_jacobian_inverse(
      out.angular.value,
      back * alpha - so3::right_jacobian_rate(out.angular.value, out.angular.first));
  return out;
}

/// Finds the shortest fade for one of the two parts.
template <typename RatesOf>
bool search(const OffsetFade::Sample& from, const Rates& before, Curve& curve,
            const ChunkBlend::Settings& settings, double velocity_limit, double acceleration_limit,
            double MotionLimits::* own_velocity, double MotionLimits::* own_acceleration,
            const RatesOf& rates_of, OffsetFade& fade) noexcept {
  fade.begin(from, settings.shortest, settings.shortest);
  if (from.value.norm() < kNoOffset && from.first.norm() < kNoVelocity &&
      from.second.norm() < kNoAcceleration) {
    return true;
  }
  const double longest = ChunkBlend::kCatchUp * settings.longest;
  // The velocity's fade gets two thirds of the acceleration that the curve leaves: close to the
  // shortest blend, and a continuous function of the disagreement.
  const bool keep = settings.held > 0.0;
  const double own =
      keep ? 0.0 : curve.at(curve.count(settings.shortest) - 1).peak.*own_acceleration;
  const double room = std::max(kLeastRoom * acceleration_limit, acceleration_limit - own);
  const double needed = kPeakFade * from.first.norm() / (kShare * room);
  const auto fits = [&](double offset_time) {
    const int count = curve.count(offset_time);
    const MotionLimits& peak = curve.at(count - 1).peak;
    const double most_velocity =
        allowed_peak(velocity_limit, before.velocity.norm(), peak.*own_velocity);
    const double most_acceleration =
        allowed_peak(acceleration_limit, before.acceleration.norm(), peak.*own_acceleration);
    for (int i = 0; i < count; ++i) {
      const Curve::Point& point = curve.at(i);
      const Rates rates = rates_of(point, fade.sample(point.t));
      if (rates.acceleration.squaredNorm() > most_acceleration * most_acceleration ||
          rates.velocity.squaredNorm() > most_velocity * most_velocity) {
        return false;
      }
    }
    return true;
  };
  if (keep) {
    const double slowest = settings.longest;
    for (double time = std::clamp(needed, settings.shortest, slowest);;
         time = std::min(kGrowth * time, slowest)) {
      fade.begin(from, time, OffsetFade::kKept);
      if (fits(std::min(kPeaksWithin * time, settings.held))) return true;
      if (time >= slowest) return false;
    }
  }
  const auto find = [&](double velocity_time) {
    double good = 0.0, bad = 0.0;
    for (good = velocity_time;; good = std::min(kGrowth * good, longest)) {
      fade.begin(from, velocity_time, good);
      if (fits(good)) break;
      if (good >= longest) return false;
      bad = good;
    }
    for (int i = 0; i < kBisections && bad > 0.0; ++i) {
      const double middle = 0.5 * (good + bad);
      fade.begin(from, velocity_time, middle);
      (fits(middle) ? good : bad) = middle;
    }
    fade.begin(from, velocity_time, good);
    return true;
  };
  for (const double factor : kFactors) {
    if (find(std::clamp(factor * needed, settings.shortest, settings.longest))) return true;
  }
  fade.begin(from, settings.longest, longest);
  return false;
}

}  // namespace

template <typename Vector>
void BasicOffsetFade<Vector>::begin(const Sample& from, double velocity_time,
                                    double offset_time) noexcept {
  velocity_time_ = velocity_time;
  acceleration_time_ = 0.5 * velocity_time;
  offset_time_ = offset_time;
  acceleration_ = from.second;
  if (keeps()) {
    velocity_ = from.first;
    offset_ = from.value;
    return;
  }
  velocity_ = from.first + 0.5 * acceleration_time_ * acceleration_;
  offset_ = from.value + 0.5 * velocity_time_ * velocity_ -
            0.15 * acceleration_time_ * acceleration_time_ * acceleration_;
}

template <typename Vector>
typename BasicOffsetFade<Vector>::Sample BasicOffsetFade<Vector>::sample(double t) const noexcept {
  if (keeps()) return kept_sample(t);
  // Offset: 1 - smoothstep and its derivatives.
  const double s = std::min(t / offset_time_, 1.0);
  const double offset = 1.0 - s * s * s * (10.0 - s * (15.0 - 6.0 * s));
  const double offset_first = -30.0 * s * s * (1.0 - s) * (1.0 - s) / offset_time_;
  const double offset_second =
      -60.0 * s * (1.0 - s) * (1.0 - 2.0 * s) / (offset_time_ * offset_time_);
  // Velocity: 1 - 3 u^2 + 2 u^3, its derivative, and its integral from the end.
  const double u = std::min(t / velocity_time_, 1.0);
  const double velocity = velocity_time_ * (u - u * u * u + 0.5 * u * u * u * u - 0.5);
  const double velocity_first = 1.0 - u * u * (3.0 - 2.0 * u);
  const double velocity_second = -6.0 * u * (1.0 - u) / velocity_time_;
  // Acceleration: the same function and its two integrals from the end.
  const double w = std::min(t / acceleration_time_, 1.0);
  const double acceleration = -acceleration_time_ * acceleration_time_ *
                              (0.5 * w - w * w * (0.5 - w * w * (0.25 - 0.1 * w)) - 0.15);
  const double acceleration_first =
      acceleration_time_ * (w - w * w * w + 0.5 * w * w * w * w - 0.5);
  const double acceleration_second = 1.0 - w * w * (3.0 - 2.0 * w);

  Sample out;
  out.value = offset * offset_ + velocity * velocity_ + acceleration * acceleration_;
  out.first =
      offset_first * offset_ + velocity_first * velocity_ + acceleration_first * acceleration_;
  out.second =
      offset_second * offset_ + velocity_second * velocity_ + acceleration_second * acceleration_;
  return out;
}

template <typename Vector>
typename BasicOffsetFade<Vector>::Sample BasicOffsetFade<Vector>::kept_sample(
    double t) const noexcept {
  const double rate = kRate / velocity_time_;
  const double left = t < duration() ? std::exp(-rate * t) : 0.0;
  const Vector pull = acceleration_ + rate * velocity_;
  Sample out;
  out.value = offset_ + (1.0 - left) / rate * velocity_ +
              (1.0 - (1.0 + rate * t) * left) / (rate * rate) * pull;
  out.first = left * velocity_ + left * t * pull;
  out.second = left * acceleration_ - left * t * rate * pull;
  return out;
}

template <typename Vector>
double BasicOffsetFade<Vector>::duration() const noexcept {
  return keeps() ? kSettled / kRate * velocity_time_ : std::max(velocity_time_, offset_time_);
}

template class BasicOffsetFade<Vector3>;
template class BasicOffsetFade<JointVector>;

bool ChunkBlend::plan(const ReferenceSample& from, const ChunkSpline& to, std::int64_t begin_ns,
                      const Settings& settings, Times& times) noexcept {
  const Difference difference = difference_between(from, to.sample(begin_ns));
  const Rates linear_before{from.linear_velocity, from.linear_acceleration};
  const Rates angular_before{from.angular_velocity, from.angular_acceleration};
  const MotionLimits& limits = settings.limits;
  Curve curve(to, begin_ns, kCatchUp * settings.longest);
  OffsetFade linear, angular;
  const bool moves =
      search(difference.linear, linear_before, curve, settings, limits.linear_velocity,
             limits.linear_acceleration, &MotionLimits::linear_velocity,
             &MotionLimits::linear_acceleration, linear_rates, linear);
  const bool turns =
      search(difference.angular, angular_before, curve, settings, limits.angular_velocity,
             limits.angular_acceleration, &MotionLimits::angular_velocity,
             &MotionLimits::angular_acceleration, angular_rates, angular);
  times = {linear.velocity_time(), linear.offset_time(), angular.velocity_time(),
           angular.offset_time()};
  return moves && turns;
}

void ChunkBlend::begin(const ReferenceSample& from, const ReferenceSample& at,
                       const Times& times) noexcept {
  const Difference difference = difference_between(from, at);
  linear_.begin(difference.linear, times.velocity, times.offset);
  angular_.begin(difference.angular, times.angular_velocity, times.angular_offset);
}

ReferenceSample ChunkBlend::apply(const ReferenceSample& to, double t) const noexcept {
  const OffsetFade::Sample linear = linear_.sample(t);
  const OffsetFade::Sample angular = angular_.sample(t);
  ReferenceSample out;
  out.pose.position = to.pose.position + linear.value;
  out.linear_velocity = to.linear_velocity + linear.first;
  out.linear_acceleration = to.linear_acceleration + linear.second;
  out.pose.rotation.noalias() = to.pose.rotation * so3::exp(angular.value);
  const Vector3 w = out.pose.rotation * so3::right_jacobian(angular.value, angular.first);
  const Vector3 alpha =
      out.pose.rotation * (so3::right_jacobian(angular.value, angular.second) +
                           so3::right_jacobian_rate(angular.value, angular.first));
  out.angular_velocity = to.angular_velocity + w;
  out.angular_acceleration = to.angular_acceleration + alpha + to.angular_velocity.cross(w);
  return out;
}

double ChunkBlend::duration() const noexcept {
  return std::max(linear_.duration(), angular_.duration());
}

}  // namespace vla_control
