// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "controller_impl.hpp"

namespace vla_control {
namespace {

/// Joint speed below which a tare counts. rad/s
constexpr double kStandingSpeed = 0.02;

}  // namespace

/// The second output path: reference -> joint motion. Owner, chunks, clock and phases are those of
/// the first.
void Controller::Impl::update(const JointState& joints, std::int64_t time_ns, double period,
                              JointMotion& out) noexcept {
  if (!motion.has_value() || activations == 0) {
    out.q = joints.q;
    out.dq.setZero(joints.q.size());
    return;
  }
  if (phase == Phase::kInactive) {
    out.q = motion->q();
    out.dq.setZero(model.n());
    return;
  }
  period = begin_cycle(time_ns, period);
  const bool measured = is_plausible(joints);
  if (measured) {
    good = joints;
    bad_state_time = 0.0;
    measure_tool(joints);
  } else {
    bad_state_time += period;
    if (bad_state_time > config.joint_state_timeout_s) raise(Fault::kBadJointState, time_ns);
  }
  if (measured && motion->deviates(joints.q)) {
    raise(Fault::kTrackingDeviation, time_ns);
    motion->let_go(&joints);
  }
  if (force_sensor.has_value()) feel(joints, period);
  const bool sound = measured && (!force_sensor.has_value() || force_sensor->alive());
  if (resetting && sound && motion->can_resume(joints.q)) resume_motion();
  advance_phase(time_ns);
  if (distance_barrier.on()) distance_barrier.advance(motion->target_q(), distances_shrink());
  const JointState* known = measured ? &joints : nullptr;
  if (!motion->letting_go() && !follow_reference(period)) {
    raise(Fault::kTrackingDeviation, time_ns);
    motion->let_go(known);
  }
  if (motion->letting_go()) motion->yield(known);
  const JointMotionLimiter::Activity& activity = motion->activity();
  barrier_activations += activity.position || motion->slowed() ? 1U : 0U;
  wrench_saturations += activity.velocity || activity.acceleration ? 1U : 0U;
  motion->command(good.q, out);
  publish(good, no_torque, time_ns);
  last_time_ns = time_ns;
}

bool Controller::Impl::follow_reference(double period) noexcept {
  if (phase == Phase::kTracking) {
    if (posture.steps > 0) {
      nullspace.approach(posture.at(now_ns), period);
    } else {
      nullspace.approach_posture(period);
    }
  }
  const std::int64_t lead_ns = motion->lead_ns();
  const ReferenceSample ahead = lead_ns > 0 ? reference.sample(now_ns + lead_ns) : sample;
  const JointVector* wanted = phase == Phase::kTracking ? &nullspace.posture() : nullptr;
  const Pose pose = give_way(ahead.pose, period);
  if (!distance_barrier.on()) return motion->follow(pose, wanted, model, nullptr, 1.0);
  return motion->follow(pose, wanted, model, &distance_barrier, distances_shrink());
}

ActivationRefusal Controller::Impl::check_motion(const JointState& joints) noexcept {
  if (force_sensor.has_value() &&
      !force_sensor->reset(joints.wrench, dynamics.pose_tool_in_base, payload.current(),
                           model.gravity_in_base())) {
    return ActivationRefusal::kForceSensorMissing;
  }
  return motion->refusal(joints);
}

/// The force sensor, and what its failure and too much of a force lead to.
void Controller::Impl::feel(const JointState& joints, double period) noexcept {
  if (payloads.refresh()) payload.approach(payloads.value());
  (void)payload.advance(period);
  if (gains.refresh()) task_law.approach(gains.value());
  task_law.advance(now_ns, period);
  if (tare_requested.exchange(false)) force_sensor->tare();
  const bool standing = reference.at_rest(now_ns) && good.dq.cwiseAbs().maxCoeff() < kStandingSpeed;
  const bool tared =
      force_sensor->update(joints.wrench, dynamics.pose_tool_in_base, payload.current(),
                           model.gravity_in_base(), standing && !payload.ramping(), period);
  tares += tared ? 1U : 0U;
  external_wrench = force_sensor->wrench();
  contact.update(external_wrench, payload.current().mass, model.gravity_in_base(), period);
  if (!force_sensor->alive()) {
    rigid = true;
    raise(Fault::kForceSensor, now_ns);
  } else if (external_wrench.head<3>().norm() > config.admittance.max_force ||
             external_wrench.tail<3>().norm() > config.admittance.max_torque) {
    raise(Fault::kContactForce, now_ns);
  }
}

Pose Controller::Impl::give_way(const Pose& wanted, double period) noexcept {
  if (!admittance.has_value()) return wanted;
  if (rigid) {
    admittance->freeze();
    return admittance->apply(wanted);
  }
  const Matrix3 axes = config.stiffness_frame == StiffnessFrame::kTool
                           ? wanted.rotation
                           : Matrix3(Matrix3::Identity());
  admittance->update(external_wrench, task_law.gains(), axes, force, now_ns, period);
  wrench_command = admittance->exerted();
  return admittance->apply(wanted);
}

void Controller::Impl::resume_motion() noexcept {
  resetting = false;
  rigid = false;
  motion->resume(model);
  if (admittance.has_value()) admittance->freeze();
  const Pose tool = motion->tool(model);
  reference.hold(admittance.has_value() ? admittance->reference_of(tool) : tool, now_ns);
  nullspace.reset(motion->q());
  phase = Phase::kHolding;
  fault = Fault::kNone;
  not_before_ns = std::max(not_before_ns, last_time_ns);
}

void Controller::Impl::measure_tool(const JointState& joints) noexcept {
  dynamics.pose_tool_in_base = model.forward_kinematics(joints.q);
  task.twist = model.jacobian(joints.q).lazyProduct(joints.dq);
}

}  // namespace vla_control
