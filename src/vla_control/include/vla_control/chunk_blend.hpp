// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "vla_control/chunk_spline.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// A vector that goes from a given value, velocity and acceleration to zero for good, C2 in time.
///
/// Three parts, each monotone where it can be: the acceleration fades over half the velocity time,
/// the velocity over the velocity time (both along u -> 1 - 3 u^2 + 2 u^3), and what has then been
/// covered, with the value itself, over the offset time (along the quintic smoothstep). A velocity
/// therefore falls without passing zero, and how fast the distance lost by it is made up is free.
///
/// With an infinite offset time (kKept) nothing is made up: velocity x and acceleration go to zero
/// as those of a critically damped motion, x" = -2 w x' - w^2 x, and the value stays where that has
/// left it. Begun again from a state of its own it goes on as before, and what begins without an
/// acceleration never passes zero: a stream of velocities is approached without overshoot, however
/// often it comes.
template <typename Vector>
class BasicOffsetFade {
 public:
  struct Sample {
    Vector value, first, second;
  };
  /// \param velocity_time s, `offset_time` s; both positive
  void begin(const Sample& from, double velocity_time, double offset_time) noexcept;
  [[nodiscard]] Sample sample(double t) const noexcept;
  [[nodiscard]] double duration() const noexcept;  ///< s, zero (if kept, constant) from here on
  [[nodiscard]] bool keeps() const noexcept { return offset_time_ == kKept; }
  [[nodiscard]] double velocity_time() const noexcept { return velocity_time_; }  ///< s
  [[nodiscard]] double offset_time() const noexcept { return offset_time_; }      ///< s

  static constexpr double kKept = std::numeric_limits<double>::infinity();  ///< an offset time

 private:
  [[nodiscard]] Sample kept_sample(double t) const noexcept;

  static constexpr Eigen::Index kSize = std::max(0, int{Vector::SizeAtCompileTime});

  Vector offset_ = Vector::Zero(kSize), velocity_ = offset_, acceleration_ = offset_;
  double velocity_time_ = 1.0;
  double acceleration_time_ = 0.5;
  double offset_time_ = 1.0;
};

using OffsetFade = BasicOffsetFade<Vector3>;

/// How a running reference goes over into a new chunk: the difference between the two fades, in
/// position and as rotation vector R_new^T R, so that the sum is C2 in time. Where offsets are
/// kept, that of the place stays.
class ChunkBlend {
 public:
  /// Limits and the range of durations, s.
  struct Settings {
    MotionLimits limits;
    double shortest = 0.15;
    double longest = 0.6;
    /// For how long a curve of constant velocity is followed, s; the way lost while velocities fade
    /// is then not made up. 0 = it is a way to be followed.
    double held = 0.0;
  };

  /// How long the parts of the two fades take, s; see OffsetFade.
  struct Times {
    double velocity = 0.15, offset = 0.15;                  // of the position
    double angular_velocity = 0.15, angular_offset = 0.15;  // of the rotation
  };

  /// Finds the shortest blend from `from` at `begin_ns` to the curve `to`, whose sampled velocity
  /// and acceleration stay within the limits. Where `from` or the curve are beyond these themselves
  /// (noise in waypoints), up to a third of the limit may be added. RT-safe, bounded.
  ///
  /// The velocity's difference fades within the longest time; making up the distance lost by it
  /// may take kCatchUp times as long. Does not allocate, but takes some hundred microseconds: for
  /// the thread that pushes chunks, not for the loop.
  /// \return false if there is none; `times` are then those of the slowest one
  [[nodiscard]] static bool plan(const ReferenceSample& from, const ChunkSpline& to,
                                 std::int64_t begin_ns, const Settings& settings,
                                 Times& times) noexcept;

  /// Begins to fade the difference between `from` and the curve at `at`. RT-safe.
  void begin(const ReferenceSample& from, const ReferenceSample& at, const Times& times) noexcept;

  /// The blended reference, `t` s after the beginning, where the curve is at `to`. RT-safe.
  [[nodiscard]] ReferenceSample apply(const ReferenceSample& to, double t) const noexcept;
  [[nodiscard]] double duration() const noexcept;  ///< s, of all that moves
  [[nodiscard]] bool keeps() const noexcept { return linear_.keeps() || angular_.keeps(); }

  static constexpr double kCatchUp = 3.0;

 private:
  OffsetFade linear_, angular_;
};

}  // namespace vla_control
