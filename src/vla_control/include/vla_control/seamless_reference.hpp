// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace vla_control {

/// How a motion is braked, s: the time in which its velocity goes, and its acceleration.
struct Braking {
  double duration = 0.04;
  double fade = 0.05;
};

/// Distance, velocity and acceleration of a smooth brake: multiples of the velocity (f) and of the
/// acceleration (g) that the motion had at its beginning. RT-safe.
class BrakeProfile {
 public:
  struct Factors {
    double f, df, ddf, g, dg, ddg;
  };
  /// Shortest brake. s
  static constexpr double kShortest = 0.04;

  void begin(std::int64_t time_ns, const Braking& braking) noexcept;
  /// Is over from the beginning.
  void rest(std::int64_t time_ns) noexcept;
  [[nodiscard]] Factors at(std::int64_t time_ns) const noexcept;
  [[nodiscard]] std::int64_t rest_ns() const noexcept { return rest_ns_; }  ///< at rest from here

  /// Time that brings `speed` to zero while a motion accelerates by `acceleration`, with no more
  /// than `limit`. s
  [[nodiscard]] static double duration(double speed, double acceleration, double limit) noexcept;

 private:
  std::int64_t start_ns_ = 0;
  std::int64_t rest_ns_ = 0;
  Braking braking_;
};

/// The reference in force: C2 in time within and across chunks, whenever and however often they
/// come.
///
/// A new chunk takes over at once (or at its first waypoint, if that is later), and the difference
/// to the reference that ran until then fades as the blend was planned: over the shortest blend
/// time where chunks agree, longer as their disagreement needs. RT-safe.
///
/// \tparam Space what it moves in: its Sample, Place (where it may rest), Spline, Blend and Segment
/// (a brake).
template <typename Space>
class SeamlessReference {
 public:
  using Sample = typename Space::Sample;
  using Spline = typename Space::Spline;
  using Blend = typename Space::Blend;

  /// Stands still. The one operation that is not continuous.
  void hold(const typename Space::Place& place, std::int64_t now_ns) noexcept {
    segment_.hold(place, now_ns);
    following_ = false;
    before_is_course_ = false;
  }

  /// Goes over to `spline`, beginning now (or at its first waypoint, if that is later), in the
  /// times that have been planned.
  void follow(const Spline& spline, std::int64_t now_ns,
              const typename Blend::Times& times) noexcept {
    // A chunk that has not begun yet is replaced by the new one.
    if (following_ && now_ns >= courses_[newest_].begin_ns) {
      before_is_course_ = true;
      newest_ = 1 - newest_;
    }
    following_ = true;
    Course& course = courses_[newest_];
    course.spline = spline;
    course.begin_ns = std::max(now_ns, spline.start_ns());
    course.blend.begin(sample_before(course.begin_ns), course.spline.sample(course.begin_ns),
                       times);
  }

  /// Brakes to a hold at once.
  void brake(std::int64_t now_ns, const Braking& braking) noexcept {
    brake_from(sample(now_ns), now_ns, braking);
  }

  /// As brake(), from a state of another time base; for jumps of the clock.
  void brake_from(const Sample& from, std::int64_t now_ns, const Braking& braking) noexcept {
    segment_.brake(from, now_ns, braking);
    following_ = false;
    before_is_course_ = false;
  }

  [[nodiscard]] Sample sample(std::int64_t now_ns) const noexcept {
    if (!following_) return segment_.sample(now_ns);
    const Course& course = courses_[newest_];
    return now_ns < course.begin_ns ? sample_before(now_ns) : course.sample(now_ns);
  }

  [[nodiscard]] bool at_rest(std::int64_t now_ns) const noexcept {
    if (!following_) return now_ns >= segment_.rest_ns();
    const Course& course = courses_[newest_];
    return course.since(now_ns) >= course.blend.duration() && now_ns >= course.spline.rest_ns();
  }

 private:
  struct Course {
    Spline spline;
    Blend blend;
    std::int64_t begin_ns = 0;

    [[nodiscard]] double since(std::int64_t now_ns) const noexcept {
      return static_cast<double>(now_ns - begin_ns) * 1e-9;
    }
    [[nodiscard]] Sample sample(std::int64_t now_ns) const noexcept {
      const Sample along = spline.sample(now_ns);
      const double t = since(now_ns);
      return t < blend.duration() || blend.keeps() ? blend.apply(along, t) : along;
    }
  };
  [[nodiscard]] Sample sample_before(std::int64_t now_ns) const noexcept {
    return before_is_course_ ? courses_[1 - newest_].sample(now_ns) : segment_.sample(now_ns);
  }

  typename Space::Segment segment_;  // before the newest course, unless before_is_course_
  std::array<Course, 2> courses_;    // the newest and, if before_is_course_, the one before
  std::size_t newest_ = 0;
  bool before_is_course_ = false;
  bool following_ = false;
};

}  // namespace vla_control
