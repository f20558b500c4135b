// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include "controller_impl.hpp"

namespace vla_control {
namespace {

/// Joint speeds below this count as standing still: FAULT takes over to the joint hold, a tare
/// counts. rad/s
constexpr double kStandingSpeed = 0.02;
/// Longest wait for that after the reference has come to rest. ns
constexpr std::int64_t kLongestSettling = 500'000'000;

/// Shortens one half of a wrench that is made of two parts; true if it was too long.
bool cap_half(Vector6& drive, Vector6& damping, Eigen::Index begin, double most) noexcept {
  const double length = (drive.segment<3>(begin) + damping.segment<3>(begin)).norm();
  if (!(length > most)) return false;
  drive.segment<3>(begin) *= most / length;
  damping.segment<3>(begin) *= most / length;
  return true;
}

}  // namespace

JointVector Controller::Impl::weight_at(const JointVector& q) const noexcept {
  JointVector tau = JointVector::Zero(model.n());
  if (include_gravity) tau = model.gravity(q);
  if (loaded) tau.noalias() += dynamics.jacobian.transpose().lazyProduct(load_counter_wrench());
  return tau;
}

Vector6 Controller::Impl::load_counter_wrench() const noexcept {
  const Payload& load = payload.current();
  Vector6 wrench = -load.bias;
  // With gravity in the bias forces the model carries the load's weight already.
  if (!include_gravity) {
    wrench -= payload_weight(load, dynamics.pose_tool_in_base, model.gravity_in_base());
  }
  return wrench;
}

void Controller::Impl::compute_dynamics(const JointState& joints) noexcept {
  model.compute(joints.q, joints.dq, include_gravity, dynamics);
  dynamics.mass_matrix.diagonal() += rotor_inertia;
  if (loaded) {
    dynamics.bias.noalias() += dynamics.jacobian.transpose().lazyProduct(load_counter_wrench());
  }
}

bool Controller::Impl::take_settings(double period) noexcept {
  if (payloads.refresh()) {
    known_payload = payloads.value();
    tared_payload = Payload{};
    payload.approach(known_payload);
    tare.cancel();
  }
  const bool reloaded = payload.advance(period);
  if (reloaded) {
    model.set_payload(payload.current());
    loaded = true;
  }
  if (gains.refresh()) task_law.approach(gains.value());
  task_law.advance(now_ns, period);
  return reloaded;
}

void Controller::Impl::sense(const JointState& joints, double period) noexcept {
  if (measurement_gap) {
    observer.resume(dynamics, joints.dq);
  } else {
    JointVector tau = limiter.previous();
    if (friction.any()) {
      friction.compute(joints.dq, tau_friction);
      tau -= tau_friction;
    }
    observer.update(dynamics, joints.dq, tau, period);
  }
  measurement_gap = false;
  if (!task_law.space().valid) return;
  external_wrench = task_law.space().wrench_of(observer.torque());
  contact.update(external_wrench, payload.current().mass, model.gravity_in_base(), period);

  if (tare_requested.exchange(false)) tare.begin();
  const bool standing =
      at_rest(now_ns) && !payload.ramping() && joints.dq.cwiseAbs().maxCoeff() < kStandingSpeed;
  if (tare.update(external_wrench, standing, period)) {
    const Vector3& gravity = model.gravity_in_base();
    const Vector6 unknown = tare.wrench() + tared_payload.bias +
                            payload_weight(tared_payload, dynamics.pose_tool_in_base, gravity);
    tared_payload = payload_explaining(unknown, dynamics.pose_tool_in_base, gravity);
    payload.approach(combined(known_payload, tared_payload));
    ++tares;
  }
}

void Controller::Impl::compute_torque(const JointState& joints, double period,
                                      JointVector& tau) noexcept {
  // The joint hold has paid for what its spring may give when it was engaged.
  JointVector given = JointVector::Zero(model.n());
  if (!joint_hold.engaged()) given = limiter.previous() - dynamics.bias;
  const bool reloaded = take_settings(period);
  compute_dynamics(joints);
  if (tank.on()) {
    if (reloaded) tank.reload(dynamics.mass_matrix);
    tank.account(given, dynamics.mass_matrix, joints.dq, period);
  }
  task_law.compute(dynamics, joints.dq, sample, task);
  if (in_joints) joint_task(joints, period);
  sense(joints, period);
  watch_distances(joints);
  if (phase == Phase::kFault) {
    engage_hold_when_at_rest(joints);
    // Not before it stands: what brakes it now would be the spring of a hold, and pull it back.
    if (resetting && joint_hold.engaged()) leave_fault(joints);
  }
  if (joint_hold.engaged()) {
    joint_hold.compute(joints.q, joints.dq, tau);
    wrench_command = task_law.space().wrench_of(tau);
  } else {
    task_torque(joints, period, tau);
  }
  if (joint_barrier.on() && joint_barrier.damp(joints.q, joints.dq, dynamics.mass_matrix, tau)) {
    ++barrier_activations;
  }
  if (distance_barrier.on() && distance_barrier.apply(tau, task_law.space())) {
    ++barrier_activations;
  }
  tau += dynamics.bias;
  // Without a valid inertia the law has computed nothing; NaN is what the caller acts on.
  if (!joint_hold.engaged() && !task_law.space().valid) {
    tau.setConstant(std::numeric_limits<double>::quiet_NaN());
  }
}

void Controller::Impl::watch_distances(const JointState& joints) noexcept {
  if (!distance_barrier.on()) return;
  distance_barrier.advance(joints.q, joints.dq, task_law.space(), distances_shrink());
}

/// Distances that are not fresh allow ever less, and nothing when they are twice as old.
double Controller::Impl::distances_shrink() const noexcept {
  const double late = distances_age / config.barrier.distance_stale_s - 1.0;
  return distances_seen ? std::clamp(1.0 - late, 0.0, 1.0) : 0.0;
}

void Controller::Impl::task_torque(const JointState& joints, double period,
                                   JointVector& tau) noexcept {
  steer_posture(period);
  if (!in_joints) {
    nullspace.compute(dynamics, task_law.space(), joints.q, joints.dq, period, tau_null);
  }
  const bool settling = at_rest(now_ns) && !contact.in_contact() && !task.clipped;
  const bool growing = integral.on() && settling;
  const Matrix6 stiffness =
      in_joints && growing ? joint_law.stiffness_at_tool(dynamics) : task_law.stiffness();
  integral.update(stiffness, task.error, growing, period);

  // What may give energy to the arm, and what only takes it.
  const OperationalSpace& space = task_law.space();
  Vector6 drive = task.drive + integral.wrench();
  Vector6 twist;
  twist << sample.linear_velocity, sample.angular_velocity;
  JointVector joint_velocity = joint_sample.dq;
  if (contact_yield.on()) {
    const ContactYield::Motion pressing =
        contact_yield.update(sample, at_rest(now_ns), task.twist.head<3>(),
                             external_wrench.head<3>(), contact.in_contact(), period);
    if (in_joints) {
      const JointVector away =
          joint_law.drive_of(dynamics, space.joint_velocity_of(pressing.velocity),
                             space.joint_velocity_of(pressing.acceleration));
      drive -= space.wrench_of(away);
    } else {
      drive -= task_law.drive_of(pressing.velocity, pressing.acceleration);
    }
    twist -= pressing.velocity;
    if (in_joints) joint_velocity -= space.joint_velocity_of(pressing.velocity);
  }
  if (force.on()) {
    force.update(now_ns, -external_wrench, period);
    force.apply(task.spring + integral.wrench(), drive);
  }
  Vector6 damping = task.damping;
  const bool capped_force = cap_half(drive, damping, 0, config.wrench_limits.force);
  const bool capped_torque = cap_half(drive, damping, 3, config.wrench_limits.torque);
  const bool capped = capped_force || capped_torque || force.clamped();
  wrench_saturations += task.clipped || capped ? 1U : 0U;

  tau = dynamics.jacobian.transpose().lazyProduct(drive);
  tau += tau_null;
  if (friction.any()) {
    if (!in_joints) joint_velocity = space.joint_velocity_of(twist);
    friction.compute(joint_velocity, tau_friction);
    tau += tau_friction;
  }
  bool barrier = false;
  if (workspace_barrier.on()) {
    const Vector3& position = dynamics.pose_tool_in_base.position;
    Vector6 counter = Vector6::Zero();
    if (workspace_barrier.fade(position, space.acceleration_of(tau), space, counter)) {
      tau.noalias() += dynamics.jacobian.transpose().lazyProduct(counter);
      drive += counter;
      barrier = true;
    }
    barrier = workspace_barrier.damp(position, task.twist, space, damping) || barrier;
  }
  wrench_command = drive + damping;
  if (joint_barrier.on()) barrier = joint_barrier.fade(joints.q, tau) || barrier;
  barrier_activations += barrier ? 1U : 0U;
  if (tank.on()) tau *= tank.scale(tau.dot(joints.dq));
  tau.noalias() += dynamics.jacobian.transpose().lazyProduct(damping);
  if (in_joints) tau += tau_null_damping;
}

void Controller::Impl::steer_posture(double period) noexcept {
  if (phase != Phase::kTracking) return;
  if (posture.steps > 0) {
    nullspace.approach(posture.at(now_ns), period);
  } else {
    nullspace.approach_posture(period);
  }
}

void Controller::Impl::joint_task(const JointState& joints, double period) noexcept {
  JointLaw::Output& out = joint_task_output;
  joint_law.compute(dynamics, joint_sample, joints, task_law.gains(), period, out);
  // What it amounts to at the tool is limited as a wrench; the rest moves the tool nowhere.
  const OperationalSpace& space = task_law.space();
  if (!space.valid) return;
  task.clipped = out.clipped;
  task.spring = space.wrench_of(out.spring);
  task.drive = space.wrench_of(out.drive);
  task.damping = space.wrench_of(out.damping);
  tau_null = out.drive;
  tau_null.noalias() -= dynamics.jacobian.transpose().lazyProduct(task.drive);
  tau_null_damping = out.damping;
  tau_null_damping.noalias() -= dynamics.jacobian.transpose().lazyProduct(task.damping);
}

void Controller::Impl::engage_hold_when_at_rest(const JointState& joints) noexcept {
  if (joint_hold.engaged()) return;
  if (!at_rest(now_ns)) fault_rest_ns = now_ns;
  const bool standing = joints.dq.cwiseAbs().maxCoeff() < kStandingSpeed;
  const std::int64_t waited = now_ns - fault_rest_ns;
  if (hold_at_once || (waited > 0 && standing) || waited > kLongestSettling) {
    const JointVector tau = limiter.previous() - dynamics.bias;
    const double stored = joint_hold.engage(tau, joints.q, joints.dq, dynamics);
    if (tank.on()) tank.spend(stored);
    hold_at_once = false;
  }
}

void Controller::Impl::leave_fault(const JointState& joints) noexcept {
  resetting = false;
  if (!task_law.space().valid) return;
  const JointVector tau = limiter.previous() - dynamics.bias;
  if (in_joints) {
    joint_reference.hold(joint_law.reference_exerting(tau, joints), now_ns);
    nullspace.reset(joints.q);
  } else {
    const Vector6 wrench = task_law.space().wrench_of(tau);
    reference.hold(task_law.reference_exerting(wrench, dynamics, task.twist), now_ns);
    nullspace.reset_exerting(tau, joints.q, joints.dq, dynamics);
  }
  sample_reference(now_ns);
  integral.reset();
  force.reset();
  task_law.compute(dynamics, joints.dq, sample, task);
  if (in_joints) joint_task(joints, 0.0);
  joint_hold.release();
  phase = Phase::kHolding;
  fault = Fault::kNone;
  not_before_ns = std::max(not_before_ns, last_time_ns);
}

ActivationRefusal Controller::Impl::check_effort(const JointState& joints) const noexcept {
  const EffortState declared = config.effort_state.value_or(EffortState::kNone);
  if (declared == EffortState::kNone || declared == EffortState::kCurrent) {
    return ActivationRefusal::kNone;
  }
  if (joints.effort.size() != model.n() || !joints.effort.allFinite()) {
    return ActivationRefusal::kEffortMissing;
  }
  const Payload& load = payload.current();
  Vector6 carried = load.bias;
  JointVector expected = JointVector::Zero(model.n());
  if (declared == EffortState::kTotal) {
    expected = model.gravity(joints.q);  // with the payload's
  } else {
    carried += payload_weight(load, dynamics.pose_tool_in_base, model.gravity_in_base());
  }
  expected.noalias() -= dynamics.jacobian.transpose().lazyProduct(carried);
  const JointVector residual = (joints.effort - expected).cwiseAbs();
  const bool plausible = (residual.array() <= max_static_residual.array()).all();
  return plausible ? ActivationRefusal::kNone : ActivationRefusal::kStaticResidual;
}

void Controller::Impl::publish_sensing(ControllerState& state) const noexcept {
  state.external_torque = observer.torque();
  state.external_wrench = external_wrench;
  state.in_contact = contact.in_contact();
  state.object_lost = contact.object_lost();
  const Payload& load = payload.current();
  state.payload_mass = load.mass;
  state.load_wrench =
      load.bias + payload_weight(load, dynamics.pose_tool_in_base, model.gravity_in_base());
  state.tares = tares;
  state.tank_energy = tank.energy();
  state.smallest_distance = distance_barrier.smallest();
}

}  // namespace vla_control
