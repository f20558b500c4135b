// SPDX-License-Identifier: Apache-2.0
#include "vla_control/controller.hpp"

#include <algorithm>
#include <cmath>

#include "controller_impl.hpp"

namespace vla_control {
namespace {

JointVector to_joint_vector(const std::vector<double>& values) {
  return JointVector::Map(values.data(), static_cast<Eigen::Index>(values.size()));
}

/// An admittance integrates by itself.
ForceConfig force_config(const ControllerConfig& config) {
  ForceConfig out = config.force;
  if (config.admittance.on()) out.gain = 0.0;
  return out;
}

}  // namespace

Controller::Impl::Impl(const RobotDescription& description_in, const ControllerConfig& config_in)
    : description(description_in),
      model(description_in),
      config(validated(config_in, model)),
      include_gravity(config.command_includes_gravity.value_or(true)),
      in_joints(config.task_law == TaskLawKind::kJointImpedance),
      rotor_inertia(to_joint_vector(config.rotor_inertia)),
      max_static_residual(to_joint_vector(config.max_static_residual)) {
  intake.configure(config, description);
  task_law.configure(config);
  joint_law.configure(config);
  nullspace.configure(config);
  joint_hold.configure(config);
  limiter.configure({to_joint_vector(config.torque_limit),
                     to_joint_vector(config.torque_rate_limit),
                     to_joint_vector(config.braking_torque_rate_limit),
                     to_joint_vector(config.max_joint_velocity), config.joint_velocity_damping});
  friction.configure(config.friction);
  integral.configure(config.integral);
  force.configure(force_config(config));
  observer.configure(config.sensing.observer_bandwidth);
  contact.configure(config.sensing);
  contact_yield.configure(config.sensing);
  tare.configure(config.sensing.tare_s);
  payload.configure(config.payload_ramp_s);
  joint_barrier.configure(config, model);
  workspace_barrier.configure(config);
  distance_barrier.configure(config);
  tank.configure(config.energy_tank);
  if (config.output == OutputKind::kMotion) motion.emplace(config, model);
  if (config.admittance.on()) {
    force_sensor.emplace(description, config);
    admittance.emplace(config);
  }
  known_payload = config.payload;
  jump_ns = std::llround(1e9 * config.clock_jump_periods / config.rate);
  good.q = JointVector::Zero(model.n());
  good.dq = good.q;
  tau_null = good.q;
  tau_null_damping = good.q;
  joint_sample = {good.q, good.q, good.q};
  joint_reference.hold(good.q, 0);
  tau_blind = good.q;
  no_torque = good.q;
  tau_friction = good.q;
  limiter.reset(good.q);
  load_payload();
  compute_dynamics(good);
  observer.reset(dynamics, good.dq);
  publish(good, good.q, 0);
}

bool Controller::Impl::activate(const JointState& joints, std::int64_t time_ns) noexcept {
  deactivate();
  activation_refusal = ActivationRefusal::kBadJointState;
  if (!is_plausible(joints)) return false;
  if (payloads.refresh()) known_payload = payloads.value();
  load_payload();
  compute_dynamics(joints);
  activation_refusal = motion.has_value() ? check_motion(joints) : check_effort(joints);
  if (activation_refusal != ActivationRefusal::kNone) return false;
  reference.hold(dynamics.pose_tool_in_base, time_ns);
  joint_reference.hold(joints.q, time_ns);
  sample_reference(time_ns);
  gripper.reset();
  gripper_commanded.store(false, std::memory_order_relaxed);
  nullspace.reset(joints.q);
  joint_hold.release();
  if (motion.has_value()) {
    motion->reset(joints.q, model);
    measure_tool(joints);
    rigid = false;
    if (admittance.has_value()) admittance->reset();
  }
  limiter.reset(dynamics.bias);
  task = TaskLaw::Output{};
  task_law.reset();
  if (gains.refresh()) task_law.reset(gains.value());
  joint_law.reset();
  integral.reset();
  force.reset();
  observer.reset(dynamics, joints.dq);
  contact.reset();
  contact_yield.reset();
  tare.cancel();
  tank.reset(dynamics.mass_matrix, joints.dq);
  wrench_command.setZero();
  external_wrench.setZero();
  measurement_gap = false;
  tares = 0;
  tau_null.setZero(model.n());
  tau_null_damping.setZero(model.n());
  tau_blind.setZero(model.n());

  // Whatever was offered or asked for before does not count.
  (void)chunks.refresh();
  (void)heartbeats.refresh();
  (void)distances.refresh();
  stop_requested.store(false);
  reset_requested.store(false);
  revoke_requested.store(false);
  tare_requested.store(false);
  chunks_accepted.store(0);
  chunks_rejected.store(0);
  last_reject_reason.store(RejectReason::kNone);

  phase = Phase::kHolding;
  fault = Fault::kNone;
  chunk_in_force = false;
  awaiting_owner = false;
  gentle_for = 0.0;
  resetting = false;
  hold_at_once = false;
  heartbeat_seen = false;
  heartbeat_fresh = config.heartbeat_timeout_s <= 0.0;
  distances_seen = false;
  distances_fresh = !distance_barrier.on();
  distance_barrier.reset();
  epoch = Epoch{};
  chunk_sequence = 0;
  chunk_slowdown = 1.0;
  posture.steps = 0;
  last_time_ns = now_ns = not_before_ns = time_ns;
  bad_state_time = 0.0;
  good = joints;
  cycles = 0;
  ++activations;
  torque_saturations = rate_saturations = wrench_saturations = barrier_activations = 0;
  publish(joints, motion.has_value() ? no_torque : limiter.previous(), time_ns);
  return true;
}

void Controller::Impl::load_payload() noexcept {
  tared_payload = Payload{};
  payload.reset(known_payload);
  model.set_payload(known_payload);
  loaded = known_payload.mass > 0.0 || !known_payload.bias.isZero(0.0);
}

void Controller::Impl::deactivate() noexcept {
  phase = Phase::kInactive;
  fault = Fault::kNone;
  chunk_in_force = false;
  wrench_command.setZero();
  const JointVector zero = JointVector::Zero(model.n());
  limiter.reset(zero);
  publish(good, zero, now_ns);
}

void Controller::Impl::count_rejection(RejectReason reason) noexcept {
  chunks_rejected.fetch_add(1, std::memory_order_relaxed);
  last_reject_reason.store(reason, std::memory_order_relaxed);
}

Controller::Controller(const RobotDescription& description, const ControllerConfig& config)
    : impl_(std::make_unique<Impl>(description, config)) {}
Controller::~Controller() = default;

bool Controller::activate(const JointState& state, std::int64_t time_ns) noexcept {
  return impl_->activate(state, time_ns);
}

void Controller::deactivate() noexcept { impl_->deactivate(); }

RejectReason Controller::push_chunk(const Chunk& chunk) noexcept {
  Impl& s = *impl_;
  if (s.pushing.test_and_set(std::memory_order_acquire)) {
    s.count_rejection(RejectReason::kBusy);
    return RejectReason::kBusy;
  }
  (void)s.views.refresh();
  PreparedChunk& slot = s.chunks.writable();
  const RejectReason reason = s.intake.prepare(chunk, s.views.value(), slot);
  if (reason == RejectReason::kNone) {
    s.intake.accepted(slot);
    s.chunks.publish();
    s.chunks_accepted.fetch_add(1, std::memory_order_relaxed);
  } else {
    s.count_rejection(reason);
  }
  s.pushing.clear(std::memory_order_release);
  return reason;
}

void Controller::heartbeat(std::uint64_t boot_id, std::uint64_t grant, std::int64_t time_ns,
                           Owner owner) noexcept {
  Heartbeat& slot = impl_->heartbeats.writable();
  slot.epoch = Epoch{boot_id, grant};
  slot.time_ns = time_ns;
  slot.owner = owner;
  impl_->heartbeats.publish();
}

void Controller::stop() noexcept { impl_->stop_requested.store(true); }
void Controller::reset() noexcept { impl_->reset_requested.store(true); }
void Controller::revoke() noexcept { impl_->revoke_requested.store(true); }

void Controller::tare() noexcept { impl_->tare_requested.store(true); }

bool Controller::set_payload(const Payload& payload) noexcept {
  if (!is_physical(payload)) return false;
  impl_->payloads.writable() = payload;
  impl_->payloads.publish();
  return true;
}

bool Controller::set_gains(const TaskGains& gains) noexcept {
  const Eigen::Index joints = gains.joint_stiffness.size();
  if (!is_valid(gains) || (joints != 0 && joints != impl_->model.n())) return false;
  impl_->gains.writable() = gains;
  impl_->gains.publish();
  return true;
}

bool Controller::measured(JointSample& out) noexcept {
  if (!impl_->samples.refresh()) return false;
  out = impl_->samples.value();
  return true;
}

bool Controller::push_distances(const Distances& distances) noexcept {
  if (!is_valid(distances, impl_->model.n())) return false;
  impl_->distances.writable() = distances;
  impl_->distances.publish();
  return true;
}

ActivationRefusal Controller::activation_refusal() const noexcept {
  return impl_->activation_refusal;
}

void Controller::update(const JointState& state, std::int64_t time_ns, double period,
                        JointTorques& out) noexcept {
  impl_->update(state, time_ns, period, out);
}

void Controller::update(const JointState& state, std::int64_t time_ns, double period,
                        JointMotion& out) noexcept {
  impl_->update(state, time_ns, period, out);
}

GripperCommand Controller::gripper_command() const noexcept {
  return {impl_->gripper_opening.load(std::memory_order_relaxed),
          impl_->gripper_force.load(std::memory_order_relaxed),
          impl_->gripper_commanded.load(std::memory_order_relaxed)};
}

ControllerState Controller::state() noexcept {
  Impl& s = *impl_;
  (void)s.snapshots.refresh();
  const Snapshot& now = s.snapshots.value();
  ControllerState out = now.state;
  // A count below the last one read is from after a new activation.
  const auto increased = [](std::uint64_t& last, std::uint64_t count) {
    const bool more = count > last || (count < last && count > 0);
    last = count;
    return more;
  };
  out.torque_saturated = increased(s.last_read.torque_saturations, now.torque_saturations);
  out.torque_rate_saturated = increased(s.last_read.rate_saturations, now.rate_saturations);
  out.wrench_saturated = increased(s.last_read.wrench_saturations, now.wrench_saturations);
  out.barrier_active = increased(s.last_read.barrier_activations, now.barrier_activations);
  out.chunks_accepted = s.chunks_accepted.load(std::memory_order_relaxed);
  out.chunks_rejected = s.chunks_rejected.load(std::memory_order_relaxed);
  out.last_reject_reason = s.last_reject_reason.load(std::memory_order_relaxed);
  return out;
}

const RobotModel& Controller::model() const noexcept { return impl_->model; }
const ControllerConfig& Controller::config() const noexcept { return impl_->config; }
const RobotDescription& Controller::description() const noexcept { return impl_->description; }

}  // namespace vla_control
