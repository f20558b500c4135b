// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "vla_control/chunk_spline.hpp"

namespace vla_control::handover {

/// How the reference goes from one owner to the next, who follows: gently, since nothing is wrong.
///
/// Its brake takes kBrake, longer only where the reference's limits need it, so that a tool at
/// v (m/s) that accelerates by a (m/s^2) goes on for at most 0.2 s v + 0.0133 s^2 a (50 mm at
/// 0.25 m/s), where the quick one takes 0.04 s and 0.02 s v at least.
inline constexpr double kBrake = 0.4;  ///< s
/// What the new owner commands is taken up within these where it can be.
inline constexpr double kAcceleration = 1.0;         ///< m/s^2
inline constexpr double kAngularAcceleration = 3.0;  ///< rad/s^2
/// After a change of hands blends are gentle for so long; those into single poses and velocities
/// for less, so that an operator who steers is soon followed as quickly as ever. s
inline constexpr double kLasts = 1.6, kPoseLasts = 0.8, kVelocityLasts = 0.5;
inline constexpr double kBlend = 1.4;           ///< s, what a blend into a way must take,
inline constexpr double kPoseBlend = 0.6;       ///< one into a single pose,
inline constexpr double kVelocityBlend = 0.35;  ///< and one into a velocity

enum class Into : std::uint8_t { kWay, kPose, kVelocity };

/// Shortest blend while `left` s are left of kLasts; not positive = as always. What still fades
/// when the next chunk comes goes on to fade until the same end.
[[nodiscard]] inline double shortest_blend(double left, Into what) noexcept {
  if (what == Into::kVelocity) return left > kLasts - kVelocityLasts ? kVelocityBlend : 0.0;
  if (what == Into::kPose) return std::min(left - (kLasts - kPoseLasts), kPoseBlend);
  return std::min(left, kBlend);
}

/// The limits that a hand-over keeps to where it can.
[[nodiscard]] inline MotionLimits limits(const MotionLimits& most) noexcept {
  MotionLimits out = most;
  out.linear_acceleration = std::min(most.linear_acceleration, kAcceleration);
  out.angular_acceleration = std::min(most.angular_acceleration, kAngularAcceleration);
  return out;
}

}  // namespace vla_control::handover
