// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "admittance.hpp"
#include "chunk_intake.hpp"
#include "force_sensor.hpp"
#include "motion_output.hpp"
#include "vla_control/barrier.hpp"
#include "vla_control/chunk_reference.hpp"
#include "vla_control/contact_yield.hpp"
#include "vla_control/controller.hpp"
#include "vla_control/distance_barrier.hpp"
#include "vla_control/energy_tank.hpp"
#include "vla_control/feed_forward.hpp"
#include "vla_control/force_tracking.hpp"
#include "vla_control/gripper_reference.hpp"
#include "vla_control/joint_law.hpp"
#include "vla_control/joint_reference.hpp"
#include "vla_control/limits.hpp"
#include "vla_control/mailbox.hpp"
#include "vla_control/nullspace.hpp"
#include "vla_control/payload.hpp"
#include "vla_control/sensing.hpp"
#include "vla_control/task_law.hpp"

namespace vla_control {

struct Heartbeat {
  Epoch epoch;
  std::int64_t time_ns = 0;
  Owner owner = Owner::kNone;
};

/// What state() reads; counts instead of flags, so that the reader can tell what is new.
struct Snapshot {
  ControllerState state;
  std::uint64_t torque_saturations = 0;
  std::uint64_t rate_saturations = 0;
  std::uint64_t wrench_saturations = 0;
  std::uint64_t barrier_activations = 0;
};

/// State of the loop. Members below "loop" belong to the thread of update().
struct Controller::Impl {
  Impl(const RobotDescription& description_in, const ControllerConfig& config_in);

  [[nodiscard]] bool activate(const JointState& joints, std::int64_t time_ns) noexcept;
  void deactivate() noexcept;
  void update(const JointState& joints, std::int64_t time_ns, double period,
              JointTorques& out) noexcept;
  void update(const JointState& joints, std::int64_t time_ns, double period,
              JointMotion& out) noexcept;

  // Stages of update().
  /// What both outputs begin with. \return the period, or the nominal one if it cannot be one; s
  [[nodiscard]] double begin_cycle(std::int64_t time_ns, double period) noexcept;
  void watch_clock(std::int64_t time_ns) noexcept;
  void take_requests(std::int64_t time_ns) noexcept;
  void take_heartbeat(std::int64_t time_ns) noexcept;
  void take_distances(std::int64_t time_ns) noexcept;
  void take_chunk(std::int64_t time_ns) noexcept;
  void advance_phase(std::int64_t time_ns) noexcept;
  void compute_torque(const JointState& joints, double period, JointVector& tau) noexcept;
  void load_payload() noexcept;
  /// \return whether the payload in force has changed
  [[nodiscard]] bool take_settings(double period) noexcept;
  void compute_dynamics(const JointState& joints) noexcept;
  void sense(const JointState& joints, double period) noexcept;
  void watch_distances(const JointState& joints) noexcept;
  [[nodiscard]] double distances_shrink() const noexcept;
  void task_torque(const JointState& joints, double period, JointVector& tau) noexcept;
  void joint_task(const JointState& joints, double period) noexcept;
  void steer_posture(double period) noexcept;
  void engage_hold_when_at_rest(const JointState& joints) noexcept;
  void leave_fault(const JointState& joints) noexcept;
  void coast_blind(double period, JointVector& tau) noexcept;
  [[nodiscard]] bool follow_reference(double period) noexcept;
  void feel(const JointState& joints, double period) noexcept;
  [[nodiscard]] Pose give_way(const Pose& wanted, double period) noexcept;
  void resume_motion() noexcept;
  void measure_tool(const JointState& joints) noexcept;
  void publish(const JointState& joints, const JointVector& tau, std::int64_t time_ns) noexcept;

  // The reference in force: of poses, or of joints under the joint-impedance law.
  void sample_reference(std::int64_t time_ns) noexcept;
  void brake_reference(std::int64_t time_ns) noexcept;
  /// Brakes as handover.hpp says, or at once if that led out of the workspace.
  void slow_reference(std::int64_t time_ns) noexcept;
  [[nodiscard]] bool in_workspace(const Pose& pose) const noexcept;
  /// As brake_reference(), from the last sample; for jumps of the clock.
  void brake_reference_in_new_time(std::int64_t time_ns) noexcept;
  [[nodiscard]] bool at_rest(std::int64_t time_ns) const noexcept;
  [[nodiscard]] double joint_braking_time(const JointReferenceSample& from,
                                          const MotionLimits& limits) const noexcept;

  // Transitions.
  void raise(Fault fault, std::int64_t time_ns) noexcept;
  void revoke_chunk(std::int64_t time_ns) noexcept;
  void hand_over(std::int64_t time_ns) noexcept;
  void count_rejection(RejectReason reason) noexcept;

  void publish_sensing(ControllerState& state) const noexcept;

  [[nodiscard]] bool is_plausible(const JointState& joints) const noexcept;
  [[nodiscard]] ActivationRefusal check_effort(const JointState& joints) const noexcept;
  [[nodiscard]] ActivationRefusal check_motion(const JointState& joints) noexcept;
  /// Torque that carries the arm's weight, where it is ours to carry, and the payload's. Nm
  [[nodiscard]] JointVector weight_at(const JointVector& q) const noexcept;
  /// Wrench at the tool that counters what the bias forces of the model do not know of the payload.
  [[nodiscard]] Vector6 load_counter_wrench() const noexcept;

  const RobotDescription description;
  RobotModel model;
  const ControllerConfig config;
  const bool include_gravity;
  const bool in_joints;                   // the law is joint impedance
  const JointVector rotor_inertia;        // kg m^2
  const JointVector max_static_residual;  // Nm
  ActivationRefusal activation_refusal = ActivationRefusal::kNone;

  // Hand-over into the loop.
  ChunkIntake intake;  // thread of push_chunk()
  std::atomic_flag pushing;
  Mailbox<PreparedChunk> chunks;
  Mailbox<Heartbeat> heartbeats;
  std::atomic<bool> stop_requested{false};
  std::atomic<bool> reset_requested{false};
  std::atomic<bool> revoke_requested{false};
  std::atomic<bool> tare_requested{false};
  Mailbox<Payload> payloads;
  Mailbox<TaskGains> gains;
  Mailbox<Distances> distances;

  // Hand-over out of the loop.
  Mailbox<IntakeView> views;
  Mailbox<Snapshot> snapshots;
  Mailbox<JointSample> samples;
  Snapshot last_read;  // thread of state()
  std::atomic<double> gripper_opening{0.0};
  std::atomic<double> gripper_force{0.0};
  std::atomic<bool> gripper_commanded{false};
  std::atomic<std::uint64_t> chunks_accepted{0};
  std::atomic<std::uint64_t> chunks_rejected{0};
  std::atomic<RejectReason> last_reject_reason{RejectReason::kNone};

  // Loop: the pipeline.
  ChunkReference reference;
  JointReference joint_reference;
  GripperReference gripper;
  TaskLaw task_law;
  JointLaw joint_law;
  Nullspace nullspace;
  JointHold joint_hold;
  TorqueLimiter limiter;
  JointFriction friction;
  TaskIntegral integral;
  ForceTracking force;
  MomentumObserver observer;
  ContactMonitor contact;
  ContactYield contact_yield;
  Tare tare;
  PayloadRamp payload;
  JointBarrier joint_barrier;
  WorkspaceBarrier workspace_barrier;
  DistanceBarrier distance_barrier;
  EnergyTank tank;
  std::optional<MotionOutput> motion;       // with motion output
  std::optional<ForceSensor> force_sensor;  // where one is claimed
  std::optional<Admittance> admittance;     // there, too
  bool rigid = false;  // the force sensor has failed: what has been given way to is kept
  Dynamics dynamics;
  TaskLaw::Output task;
  JointLaw::Output joint_task_output;
  Vector6 wrench_command = Vector6::Zero();   // N, Nm; after all limits of the task
  Vector6 external_wrench = Vector6::Zero();  // N, Nm; observed
  Payload known_payload;                      // as configured or set
  Payload tared_payload;                      // what the last tare found besides
  JointVector tau_null;                       // beside the task's wrenches: all but damping,
  JointVector tau_null_damping;               // and damping of the joint law
  JointVector tau_friction;
  JointVector no_torque;
  JointVector tau_blind;  // gravity at the last good state, while joint states are bad
  ReferenceSample sample;
  JointReferenceSample joint_sample;  // of the joint law's reference

  // Loop: what is going on.
  Phase phase = Phase::kInactive;
  Fault fault = Fault::kNone;
  bool chunk_in_force = false;   // taken up and not revoked since; it may have run out
  bool awaiting_owner = false;   // handed over, and nothing has come yet
  double gentle_for = 0.0;       // s, left of a hand-over
  bool resetting = false;        // the next good joint state leaves FAULT
  bool hold_at_once = false;     // FAULT does not wait for rest before it holds the joints
  bool heartbeat_seen = false;   // since activation
  bool heartbeat_fresh = false;  // or not watched
  bool distances_fresh = false;  // or not awaited
  bool distances_seen = false;   // since activation
  double distances_age = 0.0;    // s
  Epoch epoch;
  std::uint64_t chunk_sequence = 0;
  double chunk_slowdown = 1.0;
  bool chunk_is_velocity = false;  // does not run out by itself
  PostureSchedule posture;         // of the chunk taken up last
  std::int64_t chunk_stamp_ns = 0;
  std::int64_t chunk_end_ns = 0;
  std::int64_t heartbeat_ns = 0;
  std::int64_t last_time_ns = 0;
  std::int64_t now_ns = 0;
  std::int64_t not_before_ns = 0;
  std::int64_t fault_rest_ns = 0;  // since when the reference rests in FAULT
  std::int64_t jump_ns = 0;        // step of the clock that counts as a jump
  double bad_state_time = 0.0;     // s
  bool loaded = false;             // a payload is or was in force
  bool measurement_gap = false;    // the last cycle had no plausible joint state
  std::uint64_t tares = 0;
  JointState good;  // last plausible joint state
  std::uint64_t cycles = 0;
  std::uint64_t activations = 0;
  std::uint64_t torque_saturations = 0;
  std::uint64_t rate_saturations = 0;
  std::uint64_t wrench_saturations = 0;
  std::uint64_t barrier_activations = 0;
};

}  // namespace vla_control
