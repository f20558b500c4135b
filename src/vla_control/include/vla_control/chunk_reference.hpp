// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "vla_control/chunk_blend.hpp"
#include "vla_control/chunk_spline.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Motion that brakes a given state to rest without a jump of position, velocity or acceleration.
class MotionSegment {
 public:
  /// Stands still at `pose`.
  void hold(const Pose& pose, std::int64_t time_ns) noexcept;
  /// Brakes to rest within the acceleration limits.
  void brake(const ReferenceSample& from, std::int64_t time_ns,
             const MotionLimits& limits) noexcept;

  [[nodiscard]] ReferenceSample sample(std::int64_t time_ns) const noexcept;
  [[nodiscard]] std::int64_t rest_ns() const noexcept { return rest_ns_; }  ///< at rest from here

 private:
  void begin(const ReferenceSample& from, std::int64_t time_ns, double brake_duration) noexcept;

  std::int64_t start_ns_ = 0;
  std::int64_t rest_ns_ = 0;
  double brake_duration_ = 1.0;  // s
  Pose start_;
  Vector3 velocity_ = Vector3::Zero(), acceleration_ = Vector3::Zero();  // base axes
  Vector3 angular_velocity_ = Vector3::Zero(),
          angular_acceleration_ = Vector3::Zero();  // body axes
};

/// The reference in force: C2 in time within and across chunks, whenever and however often they
/// come.
///
/// A new chunk takes over at once (or at its first waypoint, if that is later), and the difference
/// to the reference that ran until then fades as ChunkBlend plans it: over the shortest blend time
/// where chunks agree, longer as their disagreement needs. RT-safe.
class ChunkReference {
 public:
  void configure(const MotionLimits& limits) noexcept { limits_ = limits; }
  /// Stands still at `pose`. The one operation that is not continuous.
  void hold(const Pose& pose, std::int64_t now_ns) noexcept;
  /// Goes over to `spline`, beginning now (or at its first waypoint, if that is later), in the
  /// times that ChunkBlend::plan has found.
  void follow(const ChunkSpline& spline, std::int64_t now_ns,
              const ChunkBlend::Times& times) noexcept;
  /// Brakes to a hold at once.
  void brake(std::int64_t now_ns) noexcept;
  /// As brake(), from a state of another time base; for jumps of the clock.
  void brake_from(const ReferenceSample& from, std::int64_t now_ns) noexcept;

  [[nodiscard]] ReferenceSample sample(std::int64_t now_ns) const noexcept;
  [[nodiscard]] bool at_rest(std::int64_t now_ns) const noexcept;

 private:
  struct Course {
    ChunkSpline spline;
    ChunkBlend blend;
    std::int64_t begin_ns = 0;

    [[nodiscard]] ReferenceSample sample(std::int64_t now_ns) const noexcept;
  };
  [[nodiscard]] ReferenceSample sample_before(std::int64_t now_ns) const noexcept;

  MotionLimits limits_;
  MotionSegment segment_;          // before the newest course, unless before_is_course_
  std::array<Course, 2> courses_;  // the newest and, if before_is_course_, the one before
  std::size_t newest_ = 0;
  bool before_is_course_ = false;
  bool following_ = false;
};

}  // namespace vla_control
