// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "controller_impl.hpp"
#include "handover.hpp"

namespace vla_control {
namespace {

/// Joint states beyond these are taken for garbage, as NaN is. rad, rad/s
constexpr double kLargestPosition = 100.0;
constexpr double kLargestVelocity = 50.0;
/// Time constant with which torque beyond gravity fades while joint states are bad. s
constexpr double kBlindFade = 0.05;
/// A period outside of this range cannot be one; the nominal one is used. s
constexpr double kShortestPeriod = 1e-5;
constexpr double kLongestPeriod = 0.1;
/// When every brake is over. ns
constexpr std::int64_t kLongAfter = 10'000'000'000;

double seconds(std::int64_t ns) noexcept { return static_cast<double>(ns) * 1e-9; }

}  // namespace

bool Controller::Impl::is_plausible(const JointState& joints) const noexcept {
  const Eigen::Index n = model.n();
  // Written so that NaN fails: every comparison with it is false.
  return joints.q.size() == n && joints.dq.size() == n && joints.q.allFinite() &&
         joints.dq.allFinite() && joints.q.cwiseAbs().maxCoeff() <= kLargestPosition &&
         joints.dq.cwiseAbs().maxCoeff() <= kLargestVelocity;
}

void Controller::Impl::update(const JointState& joints, std::int64_t time_ns, double period,
                              JointTorques& out) noexcept {
  if (phase == Phase::kInactive || motion.has_value()) {
    out.tau.setZero(model.n());
    return;
  }
  period = begin_cycle(time_ns, period);
  if (!is_plausible(joints)) {
    if (bad_state_time <= 0.0) {
      tau_blind = weight_at(good.q);
    }
    bad_state_time += period;
    measurement_gap = true;
    if (bad_state_time > config.joint_state_timeout_s) {
      raise(Fault::kBadJointState, time_ns);
      // When measurements return, the arm is held wherever it then is.
      joint_hold.release();
      hold_at_once = true;
    }
    advance_phase(time_ns);
    if (tank.on()) tank.coast(limiter.previous() - dynamics.bias, period);
    coast_blind(period, out.tau);
    publish(good, out.tau, time_ns);
    last_time_ns = time_ns;
    return;
  }
  bad_state_time = 0.0;
  good = joints;
  advance_phase(time_ns);
  compute_torque(joints, period, out.tau);
  if (out.tau.allFinite()) {
    const TorqueLimiter::Activity activity =
        limiter.apply(joints.dq, dynamics.mass_matrix, period, out.tau);
    torque_saturations += activity.torque ? 1U : 0U;
    rate_saturations += activity.rate ? 1U : 0U;
  } else {
    tau_blind = weight_at(joints.q);
    if (!tau_blind.allFinite()) tau_blind.setZero();
    measurement_gap = true;
    raise(Fault::kNumeric, time_ns);
    hold_at_once = true;
    coast_blind(period, out.tau);
  }
  publish(joints, out.tau, time_ns);
  last_time_ns = time_ns;
}

double Controller::Impl::begin_cycle(std::int64_t time_ns, double period) noexcept {
  ++cycles;
  watch_clock(time_ns);
  now_ns = time_ns;
  const bool possible = period >= kShortestPeriod && period <= kLongestPeriod;
  if (!possible) period = 1.0 / config.rate;
  gentle_for = std::max(0.0, gentle_for - period);
  take_heartbeat(time_ns);
  take_requests(time_ns);
  take_distances(time_ns);
  take_chunk(time_ns);
  return period;
}

void Controller::Impl::watch_clock(std::int64_t time_ns) noexcept {
  if (cycles == 1) return;  // the loop may begin any time after activation
  // Unsigned difference: no overflow between arbitrary clock values.
  const std::uint64_t step =
      static_cast<std::uint64_t>(time_ns) - static_cast<std::uint64_t>(last_time_ns);
  if (time_ns >= last_time_ns && step <= static_cast<std::uint64_t>(jump_ns)) return;
  // The reference goes on from where it was, in the new time.
  brake_reference_in_new_time(time_ns);
  last_time_ns = time_ns;
  not_before_ns = time_ns;
  heartbeat_seen = false;
  heartbeat_fresh = config.heartbeat_timeout_s <= 0.0;
  distances_seen = false;
  if (phase == Phase::kFault) {
    fault_rest_ns = time_ns;
  } else {
    raise(Fault::kClockJump, time_ns);
  }
}

void Controller::Impl::raise(Fault reason, std::int64_t time_ns) noexcept {
  if (phase == Phase::kFault) return;
  revoke_chunk(time_ns);
  gripper.release();  // a fault neither drops nor squeezes, and a reset alone moves nothing
  phase = Phase::kFault;
  fault = reason;
  fault_rest_ns = time_ns;
  joint_hold.release();
  hold_at_once = false;
  resetting = false;
}

void Controller::Impl::revoke_chunk(std::int64_t time_ns) noexcept {
  // Commands from before this moment must not come back; those of the last cycle are the newest
  // that could have been made in knowledge of nothing but the time before.
  not_before_ns = std::max(not_before_ns, last_time_ns);
  if (!chunk_in_force && !awaiting_owner) return;
  chunk_in_force = false;
  awaiting_owner = false;
  gentle_for = 0.0;
  gripper.revoke();
  brake_reference(time_ns);
  if (phase == Phase::kTracking) phase = Phase::kBraking;
}

void Controller::Impl::hand_over(std::int64_t time_ns) noexcept {
  if (!chunk_in_force && !awaiting_owner) return;  // it rests, or brakes for a reason
  gentle_for = handover::kLasts;
  if (!chunk_in_force) return;  // it slows down already
  chunk_in_force = false;
  awaiting_owner = true;
  gripper.revoke();
  slow_reference(time_ns);
  if (phase == Phase::kTracking) phase = Phase::kBraking;
}

void Controller::Impl::take_requests(std::int64_t time_ns) noexcept {
  if (revoke_requested.exchange(false)) revoke_chunk(time_ns);
  // First reset, then stop: a stop that comes together with a reset must win.
  if (reset_requested.exchange(false) && phase == Phase::kFault) resetting = true;
  if (stop_requested.exchange(false)) {
    resetting = false;
    raise(Fault::kStopRequested, time_ns);
  }
}

void Controller::Impl::take_heartbeat(std::int64_t time_ns) noexcept {
  if (heartbeats.refresh()) {
    const Heartbeat& beat = heartbeats.value();
    if (beat.epoch > epoch) {
      const bool followed = beat.epoch.boot_id == epoch.boot_id &&
                            (beat.owner == Owner::kPolicy || beat.owner == Owner::kOperator);
      epoch = beat.epoch;
      // The epoch alone tells older chunks from newer ones: stamps from before the grant are fine.
      const std::int64_t before = not_before_ns;
      followed ? hand_over(time_ns) : revoke_chunk(time_ns);
      not_before_ns = before;
    }
    if (beat.epoch == epoch) {
      const std::int64_t beat_ns = std::min(beat.time_ns, time_ns);
      heartbeat_ns = heartbeat_seen ? std::max(heartbeat_ns, beat_ns) : beat_ns;
      heartbeat_seen = true;
    }
  }
  if (config.heartbeat_timeout_s <= 0.0) return;
  const double age = seconds(time_ns) - seconds(heartbeat_ns);
  const bool fresh = heartbeat_seen && age <= config.heartbeat_timeout_s;
  if (heartbeat_fresh && !fresh) revoke_chunk(time_ns);
  heartbeat_fresh = fresh;
  if (heartbeat_seen && config.heartbeat_fault_s > 0.0 && age > config.heartbeat_fault_s) {
    raise(Fault::kHeartbeatLost, time_ns);
  }
}

void Controller::Impl::take_distances(std::int64_t time_ns) noexcept {
  if (!distance_barrier.on()) return;
  if (distances.refresh()) {
    distance_barrier.take(distances.value());
    distances_seen = true;
  }
  // A stamp of the future is as wrong as one of long ago.
  distances_age = std::abs(seconds(time_ns) - seconds(distance_barrier.time_ns()));
  const bool fresh = distances_seen && distances_age <= config.barrier.distance_stale_s;
  if (distances_fresh && !fresh) revoke_chunk(time_ns);
  distances_fresh = fresh;
}

void Controller::Impl::take_chunk(std::int64_t time_ns) noexcept {
  if (!chunks.refresh()) return;
  const PreparedChunk& chunk = chunks.value();
  // It was checked against the cycle before; what has changed since is checked again.
  RejectReason reason = RejectReason::kNone;
  if (chunk.activation != activations || chunk.stamp_ns < not_before_ns) {
    reason = RejectReason::kStale;
  } else if (phase == Phase::kFault) {
    reason = RejectReason::kFault;
  } else if (!heartbeat_fresh || chunk.epoch < epoch) {
    reason = RejectReason::kOldGrant;
  } else if (!distances_fresh) {
    reason = RejectReason::kUnmonitored;
  }
  if (reason != RejectReason::kNone) {
    count_rejection(reason);
    return;
  }
  const bool takes_over = config.heartbeat_timeout_s > 0.0 && chunk.epoch > epoch;
  if (takes_over && chunk_in_force) gentle_for = handover::kLasts;
  awaiting_owner = false;
  epoch = chunk.epoch;
  chunk_sequence = chunk.sequence;
  chunk_stamp_ns = chunk.stamp_ns;
  chunk_end_ns = chunk.end_ns;
  chunk_slowdown = chunk.slowdown;
  chunk_is_velocity = chunk.is_velocity;
  posture.steps = 0;
  if (chunk.posture.steps > 0) posture = chunk.posture;
  if (in_joints) {
    joint_reference.follow(chunk.joints, time_ns, chunk.joint_blend);
  } else {
    reference.follow(chunk.spline, time_ns, chunk.blend);
  }
  gripper.follow(chunk.gripper);
  force.follow(chunk.force);
  task_law.chunk_stiffness().follow(chunk.stiffness);
  phase = Phase::kTracking;
  chunk_in_force = true;
}

void Controller::Impl::advance_phase(std::int64_t time_ns) noexcept {
  sample_reference(time_ns);
  const GripperCommand command = gripper.update(time_ns);
  gripper_opening.store(command.opening, std::memory_order_relaxed);
  gripper_force.store(command.max_force, std::memory_order_relaxed);
  gripper_commanded.store(command.commanded, std::memory_order_relaxed);
  if (phase == Phase::kTracking && time_ns >= chunk_end_ns) {
    phase = Phase::kBraking;
    if (chunk_is_velocity) brake_reference(time_ns);
  }
  if (phase != Phase::kTracking) {
    force.release();
    task_law.chunk_stiffness().release();
  }
  if (phase == Phase::kBraking && at_rest(time_ns)) phase = Phase::kHolding;
  if (chunk_in_force && config.chunk.timeout_s > 0.0 &&
      seconds(time_ns - chunk_end_ns) > config.chunk.timeout_s) {
    raise(Fault::kChunkTimeout, time_ns);
  }
}

void Controller::Impl::sample_reference(std::int64_t time_ns) noexcept {
  if (!in_joints) {
    sample = reference.sample(time_ns);
    return;
  }
  joint_sample = joint_reference.sample(time_ns);
  sample = model.tool_motion(joint_sample);
}

double Controller::Impl::joint_braking_time(const JointReferenceSample& from,
                                            const MotionLimits& limits) const noexcept {
  return std::max(
      braking_time(model.tool_motion(from), limits),
      BrakeProfile::duration(from.dq.cwiseAbs().maxCoeff(), from.ddq.cwiseAbs().maxCoeff(),
                             limits.angular_acceleration));
}

void Controller::Impl::brake_reference(std::int64_t time_ns) noexcept {
  const MotionLimits limits = motion_limits(config);
  if (in_joints) {
    joint_reference.brake(time_ns, {joint_braking_time(joint_reference.sample(time_ns), limits)});
  } else {
    reference.brake(time_ns, {braking_time(reference.sample(time_ns), limits)});
  }
}

void Controller::Impl::slow_reference(std::int64_t time_ns) noexcept {
  const MotionLimits limits = motion_limits(config);
  const std::int64_t later_ns = time_ns + kLongAfter;
  if (in_joints) {
    const JointReferenceSample from = joint_reference.sample(time_ns);
    const double quick = joint_braking_time(from, limits);
    joint_reference.brake(time_ns, {std::max(quick, handover::kBrake), handover::kBrake});
    const Pose rest = model.forward_kinematics(joint_reference.sample(later_ns).q);
    if (!in_workspace(rest)) joint_reference.brake(time_ns, {quick});
  } else {
    const ReferenceSample from = reference.sample(time_ns);
    const double quick = braking_time(from, limits);
    reference.brake(time_ns, {std::max(quick, handover::kBrake), handover::kBrake});
    if (!in_workspace(reference.sample(later_ns).pose)) reference.brake(time_ns, {quick});
  }
}

bool Controller::Impl::in_workspace(const Pose& pose) const noexcept {
  return (pose.position - Vector3::Map(config.workspace_min.data())).minCoeff() >= 0.0 &&
         (Vector3::Map(config.workspace_max.data()) - pose.position).minCoeff() >= 0.0;
}

void Controller::Impl::brake_reference_in_new_time(std::int64_t time_ns) noexcept {
  const MotionLimits limits = motion_limits(config);
  if (in_joints) {
    joint_reference.brake_from(joint_sample, time_ns, {joint_braking_time(joint_sample, limits)});
  } else {
    reference.brake_from(sample, time_ns, {braking_time(sample, limits)});
  }
}

bool Controller::Impl::at_rest(std::int64_t time_ns) const noexcept {
  return in_joints ? joint_reference.at_rest(time_ns) : reference.at_rest(time_ns);
}

void Controller::Impl::coast_blind(double period, JointVector& tau) noexcept {
  const double fade = std::exp(-period / kBlindFade);
  tau = tau_blind + (limiter.previous() - tau_blind) * fade;
  // What the task had a part in fades with it.
  wrench_command *= fade;
  if (!wrench_command.allFinite()) wrench_command.setZero();
  // Nothing is known of the motion that a change might brake.
  const JointVector unknown = JointVector::Zero(model.n());
  (void)limiter.apply(unknown, dynamics.mass_matrix, period, tau);
}

void Controller::Impl::publish(const JointState& joints, const JointVector& tau,
                               std::int64_t time_ns) noexcept {
  IntakeView& view = views.writable();
  view.time_ns = time_ns;
  view.not_before_ns = not_before_ns;
  view.activation = activations;
  view.phase = phase;
  view.heartbeat_fresh = heartbeat_fresh;
  // At activation the first distances are still to come; the loop decides then.
  view.gentle_for = gentle_for;
  view.unmonitored = cycles > 0 && !distances_fresh;
  view.epoch = epoch;
  view.reference = sample;
  view.q = joints.q;
  view.joints = joint_sample;
  view.posture = nullspace.posture();
  views.publish();

  if (distance_barrier.on()) {
    JointSample& measured = samples.writable();
    measured.time_ns = time_ns;
    measured.q = joints.q;
    samples.publish();
  }

  Snapshot& snapshot = snapshots.writable();
  const bool following = chunk_in_force && (phase == Phase::kTracking || phase == Phase::kBraking);
  ControllerState& state = snapshot.state;
  state.time_ns = time_ns;
  state.phase = phase;
  state.fault = fault;
  state.boot_id = epoch.boot_id;
  state.grant = epoch.grant;
  state.sequence = following ? chunk_sequence : 0;
  state.chunk_age = following ? seconds(time_ns - chunk_stamp_ns) : -1.0;
  state.chunk_remaining = following ? seconds(chunk_end_ns - time_ns) : -1.0;
  state.chunk_slowdown = following ? chunk_slowdown : 1.0;
  state.q = joints.q;
  state.dq = joints.dq;
  state.tau_command = tau;
  state.tau_limit = limiter.settings().torque;
  if (motion.has_value()) {
    if (activations > 0) {
      state.q_command = motion->q();
      state.dq_command = motion->dq();
    }
    state.compliant = admittance.has_value() && !rigid;
  }
  state.pose_tool_in_base = dynamics.pose_tool_in_base;
  state.twist_tool_in_base = task.twist;
  state.reference = sample;
  if (in_joints) state.joint_reference = joint_sample;
  state.wrench_command = wrench_command;
  state.gripper = {gripper_opening.load(std::memory_order_relaxed),
                   gripper_force.load(std::memory_order_relaxed),
                   gripper_commanded.load(std::memory_order_relaxed)};
  state.heartbeat_lost = !heartbeat_fresh;
  state.unmonitored = !distances_fresh;
  state.stiffness_limited = in_joints ? joint_task_output.softened : task_law.space().softened;
  state.cycles = cycles;
  publish_sensing(state);
  snapshot.barrier_activations = barrier_activations;
  snapshot.torque_saturations = torque_saturations;
  snapshot.rate_saturations = rate_saturations;
  snapshot.wrench_saturations = wrench_saturations;
  snapshots.publish();
}

}  // namespace vla_control
