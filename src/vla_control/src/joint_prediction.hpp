// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_control/chunk_spline.hpp"
#include "vla_control/config.hpp"
#include "vla_control/robot_model.hpp"

namespace vla_control {

/// What the joints would have to do along a chunk.
struct JointDemand {
  /// Largest predicted joint speed over the allowed one: by how much the chunk must be slowed down.
  double velocity_ratio = 0.0;
  /// Joints stay within their limits and the tool can be where the chunk wants it.
  bool reachable = true;
};

/// Predicts the joints' motion along a chunk: inverse kinematics by integration with the
/// dynamically consistent inverse M^-1 J^T (J M^-1 J^T)^-1, along which the task law's forces
/// accelerate an arm; the posture spring in the nullspace is left out. Not for the loop: the
/// model's scratch memory is used by one thread. Bounded work, does not allocate after
/// construction.
class JointPrediction {
 public:
  JointPrediction(const RobotDescription& description, const ControllerConfig& config);

  [[nodiscard]] const RobotModel& model() const noexcept { return model_; }

  /// \param q rad, measured; \param from_ns time from which on the chunk will be followed
  [[nodiscard]] JointDemand run(const JointVector& q, const ChunkSpline& spline,
                                std::int64_t from_ns) noexcept;

 private:
  RobotModel model_;
  JointVector allowed_velocity_;  // rad/s
  JointVector standing_;          // rad/s, zero
  Dynamics dynamics_;
};

}  // namespace vla_control
