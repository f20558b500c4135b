// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vla_control/chunk_spline.hpp"
#include "vla_control/config.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Joint positions along a chunk, for the posture in the nullspace of the task.
struct PostureSchedule {
  std::int64_t start_ns = 0;
  double step_dt = 0.05;  ///< s
  int steps = 0;          ///< 0 = the chunk leaves the posture as it is
  std::array<JointVector, kMaxSteps> q;

  /// Posture wanted at a time, linear between steps. RT-safe. Only with steps.
  [[nodiscard]] JointVector at(std::int64_t time_ns) const noexcept;
};

/// What a chunk of any mode means as tool poses, one per knot of its curve.
struct ChunkPath {
  std::array<Pose, kMaxSteps> poses;
  std::size_t knots = 0;
  double step_dt = 0.05;  ///< s between two knots
};

/// Where a chunk of twists begins: the reference at the time of the intake.
struct PathOrigin {
  std::int64_t time_ns = 0;
  ReferenceSample reference;
};

/// Number of steps of a chunk in its mode: waypoints, twists, or rows of joint values. `joints`:
/// how many the arm has.
[[nodiscard]] std::size_t steps_of(const Chunk& chunk, int joints) noexcept;

/// Checks what only the mode decides: arrays that belong to another mode or do not agree, numbers
/// that are not finite, quaternions. `joint_names`: the arm's.
[[nodiscard]] RejectReason check_mode(const Chunk& chunk,
                                      const std::vector<std::string>& joint_names) noexcept;

/// Waypoints as poses; quaternions are normalised.
void path_of_poses(const Chunk& chunk, ChunkPath& out) noexcept;

/// Forward kinematics of every row; also fills the posture. The names may come in any order.
/// \return kOutOfWorkspace if a joint value is outside its limits
[[nodiscard]] RejectReason path_of_joints(const Chunk& chunk, const RobotModel& model,
                                          ChunkPath& out, PostureSchedule& posture) noexcept;

/// Integrates the twists, each constant over its step, so that the path passes through the origin
/// when the arm gets there: one knot more than twists. The path of a single twist, which is
/// held until its step ends and braked from there, is longer by that brake.
void path_of_twists(const Chunk& chunk, const PathOrigin& origin, const MotionLimits& limits,
                    ChunkPath& out) noexcept;

}  // namespace vla_control
