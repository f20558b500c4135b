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

  /// How long the run-out of a straight path takes at these speeds, m/s and rad/s; half of it is
  /// before the last waypoint. s
  [[nodiscard]] static double braking_time(double speed, double angular_speed,
                                           const MotionLimits& limits) noexcept;

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

  /// Lengthens the brake until it stays within the limits on a curved path, too.
  void stretch_brake(const MotionLimits& limits) noexcept;
  [[nodiscard]] ReferenceSample sample_path(double t) const noexcept;  // without run-out
  [[nodiscard]] ReferenceSample sample_at(double t) const noexcept;    // t in s from the start

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

}  // namespace vla_control
