// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "chunk_path.hpp"
#include "joint_planning.hpp"
#include "joint_prediction.hpp"
#include "vla_control/chunk_reference.hpp"
#include "vla_control/chunk_smoothing.hpp"
#include "vla_control/chunk_stiffness.hpp"
#include "vla_control/config.hpp"
#include "vla_control/force_tracking.hpp"
#include "vla_control/gripper_reference.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Who owns the arm: compared lexicographically, the greater pair is the newer one.
struct Epoch {
  std::uint64_t boot_id = 0;
  std::uint64_t grant = 0;
  auto operator<=>(const Epoch&) const = default;
};

/// What a chunk is checked against: the controller as of its last update.
struct IntakeView {
  std::int64_t time_ns = 0;
  std::int64_t not_before_ns =
      0;                         ///< older stamps are from before an activation, reset, revocation
  std::uint64_t activation = 0;  ///< counts activations
  Phase phase = Phase::kInactive;
  bool heartbeat_fresh = false;
  bool unmonitored = false;
  double gentle_for = 0.0;  ///< s, left of a change of hands
  Epoch epoch;
  ReferenceSample reference;
  JointVector q;                ///< rad, measured
  JointReferenceSample joints;  ///< reference of the joint-impedance law
  JointVector posture;          ///< rad, kept in the nullspace
};

/// A checked chunk, ready for the loop.
struct PreparedChunk {
  std::int64_t stamp_ns = 0;
  std::uint64_t activation = 0;
  std::uint64_t sequence = 0;
  Epoch epoch;
  ChunkSpline spline;
  ChunkBlend::Times blend;
  JointSpline joints;  ///< of the joint-impedance law, instead of the curve of poses
  JointBlend::Times joint_blend;
  std::int64_t start_ns = 0, end_ns = 0;  ///< of what is commanded
  bool is_velocity = false;               ///< a single twist: held to the end, where it is braked
  GripperSchedule gripper;
  ForceSchedule force;
  StiffnessSchedule stiffness;
  PostureSchedule posture;
  double slowdown = 1.0;
  WaypointNoise noise;  ///< of its owner's waypoints, with its own
};

/// Checks chunks and turns them into curves, in the thread that pushes them. Does not allocate.
class ChunkIntake {
 public:
  /// The only place that allocates.
  void configure(const ControllerConfig& config, const RobotDescription& description);

  /// Fills `out` when the chunk is acceptable; otherwise its content means nothing.
  [[nodiscard]] RejectReason prepare(const Chunk& chunk, const IntakeView& view,
                                     PreparedChunk& out) noexcept;
  /// Remembers an accepted chunk, whose sequence the next one must exceed.
  void accepted(const PreparedChunk& chunk) noexcept;

 private:
  [[nodiscard]] RejectReason check_form(const Chunk& chunk) const noexcept;
  [[nodiscard]] RejectReason check_time(const Chunk& chunk, const IntakeView& view) const noexcept;
  [[nodiscard]] RejectReason check_order(const Chunk& chunk, const IntakeView& view) const noexcept;
  [[nodiscard]] RejectReason check_wrenches(const Chunk& chunk) const noexcept;
  [[nodiscard]] RejectReason check_stiffness(const Chunk& chunk) const noexcept;
  [[nodiscard]] RejectReason make_path(const Chunk& chunk, const IntakeView& view,
                                       PreparedChunk& out) noexcept;
  /// Builds the curve, slowed down as far as it needs to be and may be.
  [[nodiscard]] RejectReason fit(const Chunk& chunk, const IntakeView& view,
                                 PreparedChunk& out) noexcept;
  /// The same in the space of the joints.
  [[nodiscard]] RejectReason fit_joints(const Chunk& chunk, const IntakeView& view,
                                        PreparedChunk& out) noexcept;
  /// Time at which a curve of this slowdown begins.
  [[nodiscard]] static std::int64_t start_of(const Chunk& chunk, const IntakeView& view,
                                             double slowdown) noexcept;
  /// How many times slower the curve must become for the reference's own limits; 1 = it is fine,
  /// and `out.blend` tells how it is taken up.
  [[nodiscard]] double excess(const Chunk& chunk, const IntakeView& view,
                              PreparedChunk& out) const noexcept;
  /// Fills when what is commanded begins and ends, which is the curve's end unless it is a
  /// velocity.
  void set_times(const Chunk& chunk, std::int64_t start_ns, std::int64_t curve_end_ns,
                 PreparedChunk& out) const noexcept;
  [[nodiscard]] ChunkBlend::Settings blend_settings(const IntakeView& view,
                                                    const PreparedChunk& out) const noexcept;
  /// Plans by `plan(settings)` how a chunk is taken up: gently after a change of hands, if it can.
  template <typename Plan>
  [[nodiscard]] bool plan_blend(const Chunk& chunk, const IntakeView& view,
                                const ChunkBlend::Settings& settings,
                                const Plan& plan) const noexcept;
  void schedule_force(const Chunk& chunk, PreparedChunk& out) const noexcept;
  void schedule_stiffness(const Chunk& chunk, PreparedChunk& out) const noexcept;
  void schedule_gripper(const Chunk& chunk, PreparedChunk& out) const noexcept;
  [[nodiscard]] std::size_t steps_of(const Chunk& chunk) const noexcept;

  ChunkConfig chunk_;
  GripperConfig gripper_;
  ForceConfig force_;
  bool stiffness_accepted_ = false;
  bool supervised_ = false;  // by a heartbeat
  MotionLimits limits_;
  Vector3 workspace_min_, workspace_max_;
  std::string base_frame_, tool_frame_;
  std::unique_ptr<JointPrediction> prediction_;
  std::unique_ptr<JointPlanner> planner_;  // only under the joint-impedance law
  ChunkPath path_;
  bool any_accepted_ = false;
  std::uint64_t last_activation_ = 0;
  std::uint64_t last_sequence_ = 0;
  Epoch last_epoch_;
  WaypointNoise noise_;  // of the waypoints accepted in last_epoch_
};

[[nodiscard]] MotionLimits motion_limits(const ControllerConfig& config) noexcept;

}  // namespace vla_control
