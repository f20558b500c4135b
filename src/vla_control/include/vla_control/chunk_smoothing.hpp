// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "vla_control/types.hpp"

namespace vla_control {

/// Farthest that smoothing may move a waypoint; 0 = it leaves positions or rotations as they are.
struct SmoothingLimits {
  double deviation = 0.0;           ///< m
  double rotation_deviation = 0.0;  ///< rad
};

/// Variance of the noise per axis, averaged over the chunks of one source; negative = none was
/// seen.
struct WaypointNoise {
  double position = -1.0;  ///< m^2
  double rotation = -1.0;  ///< rad^2
};

/// Takes the noise out of evenly spaced waypoints, in place. Bounded work, does not allocate.
///
/// Minimises sum w_i |x_i - y_i|^2 + lambda sum |D^3 x|^2 (the third differences: jerk), after
/// Eilers, "A perfect smoother", Analytical Chemistry 75 (2003), here on the group: rotations by
/// Gauss-Newton in small rotations of each waypoint, so that none is special. It is symmetric in
/// time (no lag) and leaves parabolas alone. lambda passes motions below about 1.8 Hz and is
/// lowered until what is taken away is no more than the noise, which is estimated from the fourth
/// differences: a clean curve is kept. The few differences of one chunk overlap and may all happen
/// to be small, so that no less is taken for its noise than the chunks before had on average.
/// Waypoints that would move too far are weighted up, and what is still beyond the limit is scaled
/// back.
///
/// \param step_dt s between waypoints. Fewer than six of them are left as they are.
/// \param noise of the chunks before; this one is counted.
void smooth_waypoints(std::span<Pose> poses, double step_dt, const SmoothingLimits& limits,
                      WaypointNoise& noise) noexcept;

}  // namespace vla_control
