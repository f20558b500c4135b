// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "vla_control/types.hpp"

namespace vla_control {

/// What brakes and cross-fades may use.
struct MotionLimits {
  double linear_velocity = 1.0;        ///< m/s
  double linear_acceleration = 5.0;    ///< m/s^2
  double angular_velocity = 2.5;       ///< rad/s
  double angular_acceleration = 15.0;  ///< rad/s^2
};

/// C2 curve through the waypoints of one chunk, ending at rest in the last one.
///
/// Between waypoints: quintic polynomials that match position, velocity and acceleration at both
/// ends, the rotation as a rotation vector from the segment's first waypoint, so that neither a
/// rotation of pi from the base frame nor a long chain of rotations is special. Velocities and
/// accelerations at the waypoints are those of the parabola through three neighbours; the ends have
/// none.
///
/// Run-out: the curve's own time slows down smoothly over the last stretch, so that the reference
/// brakes along the commanded path and rests exactly at the last waypoint. Before the first
/// waypoint the curve is continued at constant velocity.
class ChunkSpline {
 public:
  /// \param poses 1 to kMaxSteps checked waypoints, `step_dt` s apart, the first at `start_ns`
  void build(std::span<const Pose> poses, std::int64_t start_ns, double step_dt,
             const MotionLimits& limits) noexcept;

  [[nodiscard]] ReferenceSample sample(std::int64_t time_ns) const noexcept;

  [[nodiscard]] std::int64_t start_ns() const noexcept { return start_ns_; }
  [[nodiscard]] std::int64_t end_ns() const noexcept { return end_ns_; }    ///< last waypoint
  [[nodiscard]] std::int64_t rest_ns() const noexcept { return rest_ns_; }  ///< at rest from here

  /// Largest mean velocity between waypoints and largest acceleration at one: what the chunk
  /// demands.
  [[nodiscard]] const MotionLimits& demand() const noexcept { return demand_; }

 private:
  using Coefficients = Eigen::Matrix<double, 3, 6>;  // ascending powers of t / step_dt
  struct Segment {
    Coefficients position;
    Coefficients rotation;  // rotation vector from start, body axes
    Matrix3 start;
  };
  struct Knot {
    Pose pose;
    Vector3 velocity, acceleration;                  // base axes
    Vector3 angular_velocity, angular_acceleration;  // body axes
  };

  [[nodiscard]] ReferenceSample sample_path(double t) const noexcept;

  std::int64_t start_ns_ = 0;
  std::int64_t end_ns_ = 0;
  std::int64_t rest_ns_ = 0;
  double step_dt_ = 1.0;
  double duration_ = 0.0;        // s, first to last waypoint
  double brake_duration_ = 0.0;  // s
  int segments_ = 0;
  std::array<Segment, kMaxSteps> path_;
  Knot first_, last_;
  MotionLimits demand_;
};

/// Motion that continues a given state without a jump of position, velocity or acceleration: either
/// to rest, or at constant velocity.
class MotionSegment {
 public:
  /// Stands still at `pose`.
  void hold(const Pose& pose, std::int64_t time_ns) noexcept;
  /// Brakes to rest within the acceleration limits.
  void brake(const ReferenceSample& from, std::int64_t time_ns,
             const MotionLimits& limits) noexcept;
  /// Lets the acceleration fade and keeps the velocity.
  void coast(const ReferenceSample& from, std::int64_t time_ns) noexcept;

  [[nodiscard]] ReferenceSample sample(std::int64_t time_ns) const noexcept;
  /// At rest from here on; meaningless after coast().
  [[nodiscard]] std::int64_t rest_ns() const noexcept { return rest_ns_; }

 private:
  void begin(const ReferenceSample& from, std::int64_t time_ns, double brake_duration) noexcept;

  std::int64_t start_ns_ = 0;
  std::int64_t rest_ns_ = 0;
  double brake_duration_ = 0.0;  // s; 0 = keeps its velocity
  Pose start_;
  Vector3 velocity_ = Vector3::Zero(), acceleration_ = Vector3::Zero();  // base axes
  Vector3 angular_velocity_ = Vector3::Zero(),
          angular_acceleration_ = Vector3::Zero();  // body axes
};

/// Cross-fade between two references at weight `sigma` and its derivatives by time:
/// x = x_old + sigma (x_new - x_old), R = R_old exp(sigma log(R_old^T R_new)), differentiated in
/// full.
[[nodiscard]] ReferenceSample cross_fade(const ReferenceSample& from, const ReferenceSample& to,
                                         double sigma, double dsigma, double ddsigma) noexcept;

/// Shortest cross-fade from one reference to another that stays within the limits, s.
[[nodiscard]] double blend_time_needed(const ReferenceSample& from, const ReferenceSample& to,
                                       const MotionLimits& limits) noexcept;

/// The reference in force: C2 in time within and across chunks, whenever and however often they
/// come.
///
/// A new chunk is cross-faded in over the blend time, stretched as its disagreement with the
/// reference needs. If it comes in the middle of a cross-fade, the running reference is carried on
/// at constant velocity as the old side. RT-safe.
class ChunkReference {
 public:
  void configure(const MotionLimits& limits, double blend_time) noexcept;
  /// Stands still at `pose`. The one operation that is not continuous.
  void hold(const Pose& pose, std::int64_t now_ns) noexcept;
  /// Fades to `spline`, beginning now (or at its first waypoint, if that is later).
  void follow(const ChunkSpline& spline, std::int64_t now_ns) noexcept;
  /// Brakes to a hold at once.
  void brake(std::int64_t now_ns) noexcept;
  /// As brake(), from a state of another time base; for jumps of the clock.
  void brake_from(const ReferenceSample& from, std::int64_t now_ns) noexcept;

  [[nodiscard]] ReferenceSample sample(std::int64_t now_ns) const noexcept;
  [[nodiscard]] bool at_rest(std::int64_t now_ns) const noexcept;

 private:
  [[nodiscard]] double blend_phase(std::int64_t now_ns) const noexcept;  // 0 to 1
  [[nodiscard]] ReferenceSample sample_old(std::int64_t now_ns) const noexcept;

  MotionLimits limits_;
  double min_blend_time_ = 0.15;
  MotionSegment segment_;               // the old side, unless old_is_spline_
  std::array<ChunkSpline, 2> splines_;  // new side and, if old_is_spline_, old side
  std::size_t newest_ = 0;
  bool old_is_spline_ = false;
  bool following_ = false;
  std::int64_t blend_start_ns_ = 0;
  double blend_time_ = 0.0;
};

}  // namespace vla_control
