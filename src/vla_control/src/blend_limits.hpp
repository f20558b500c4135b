// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

namespace vla_control {

/// Share of the limits that a blend may use; the rest is for what sampling misses of a peak.
inline constexpr double kUsable = 0.97;
/// Rounding of peaks that the reference and the curve have themselves.
inline constexpr double kTolerance = 1e-6;
inline constexpr double kHeadroom = 1.03;
/// Acceleration that is taken for left at least, in limits.
inline constexpr double kLeastRoom = 0.35;

/// Peak that a blend may have: what the limit allows, and what the reference has at its beginning
/// (`before`) and the curve has itself (`own`). A reference that is close to the limit may come
/// closer; where noise in waypoints goes beyond it, a blend may add about as much again.
[[nodiscard]] inline double allowed_peak(double limit, double before, double own) noexcept {
  const double closer = std::min(limit, kHeadroom * before);
  const double peak = std::max(before, own);
  const double added = std::min(kLeastRoom * limit, std::max(0.0, peak - kUsable * limit));
  return std::max({kUsable * limit, closer, (1.0 + kTolerance) * peak + added});
}

}  // namespace vla_control
