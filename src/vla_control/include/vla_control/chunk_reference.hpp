// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_control/chunk_blend.hpp"
#include "vla_control/chunk_spline.hpp"
#include "vla_control/seamless_reference.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Motion that brakes a given state to rest without a jump of position, velocity or acceleration.
class MotionSegment {
 public:
  /// Stands still at `pose`.
  void hold(const Pose& pose, std::int64_t time_ns) noexcept;
  void brake(const ReferenceSample& from, std::int64_t time_ns, const Braking& braking) noexcept;

  [[nodiscard]] ReferenceSample sample(std::int64_t time_ns) const noexcept;
  [[nodiscard]] std::int64_t rest_ns() const noexcept { return profile_.rest_ns(); }

 private:
  void begin(const ReferenceSample& from) noexcept;

  BrakeProfile profile_;
  Pose start_;
  Vector3 velocity_ = Vector3::Zero(), acceleration_ = Vector3::Zero();  // base axes
  Vector3 angular_velocity_ = Vector3::Zero(),
          angular_acceleration_ = Vector3::Zero();  // body axes
};

/// Shortest time in which a motion of the tool may brake. s
[[nodiscard]] double braking_time(const ReferenceSample& from, const MotionLimits& limits) noexcept;

/// Poses of the tool.
struct ToolSpace {
  using Sample = ReferenceSample;
  using Place = Pose;
  using Spline = ChunkSpline;
  using Blend = ChunkBlend;
  using Segment = MotionSegment;
};
using ChunkReference = SeamlessReference<ToolSpace>;

}  // namespace vla_control
