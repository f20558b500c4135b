// SPDX-License-Identifier: Apache-2.0
#include "chunk_intake.hpp"

#include <algorithm>
#include <cmath>

#include "handover.hpp"
#include "so3.hpp"
#include "vla_control/chunk_blend.hpp"
#include "vla_control/task_law.hpp"

namespace vla_control {
namespace {

/// Farthest a waypoint may be in any case, so that no later product overflows. m
constexpr double kFarthest = 100.0;
/// Steps in which a chunk that cannot be blended in is slowed down further, and the most of them.
constexpr double kSlower = 1.15;
constexpr int kAttempts = 24;
/// A velocity that is as good as over is taken up for so long. s
constexpr double kShortestHold = 1e-3;
/// Values of one stiffness matrix.
constexpr std::size_t kStiffnessValues = 36;

bool all_finite(const std::vector<double>& values) noexcept {
  return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
}

/// Seconds from `from` to `to`. In floating point: a garbage stamp must not overflow.
double seconds(std::int64_t from_ns, std::int64_t to_ns) noexcept {
  return (static_cast<double>(to_ns) - static_cast<double>(from_ns)) * 1e-9;
}

/// Where a reference will be if it keeps its velocity for `t` s.
ReferenceSample at_later(const ReferenceSample& now, double t) noexcept {
  ReferenceSample later = now;
  later.pose.position += t * now.linear_velocity;
  const Vector3 turn = t * now.angular_velocity;
  later.pose.rotation = so3::exp(turn) * now.pose.rotation;
  return later;
}

/// Shortest smoothstep over a distance, s; its derivatives peak at 1.875 and 5.7736.
double fade_time(double distance, double velocity, double acceleration) noexcept {
  return std::max(1.875 * distance / velocity, std::sqrt(5.7736 * distance / acceleration));
}

}  // namespace

MotionLimits motion_limits(const ControllerConfig& config) noexcept {
  return {config.max_linear_velocity, config.max_linear_acceleration, config.max_angular_velocity,
          config.max_angular_acceleration};
}

void ChunkIntake::configure(const ControllerConfig& config, const RobotDescription& description) {
  chunk_ = config.chunk;
  gripper_ = config.gripper;
  force_ = config.force;
  stiffness_accepted_ = config.chunk.accept_stiffness &&
                        config.task_law == TaskLawKind::kImpedance &&
                        config.output == OutputKind::kTorque;
  supervised_ = config.heartbeat_timeout_s > 0.0;
  limits_ = motion_limits(config);
  workspace_min_ = Vector3::Map(config.workspace_min.data());
  workspace_max_ = Vector3::Map(config.workspace_max.data());
  base_frame_ = description.base_frame;
  tool_frame_ = description.tool_frame;
  prediction_ = std::make_unique<JointPrediction>(description, config);
  if (config.task_law == TaskLawKind::kJointImpedance) {
    planner_ = std::make_unique<JointPlanner>(description, config);
  }
}

std::size_t ChunkIntake::steps_of(const Chunk& chunk) const noexcept {
  return vla_control::steps_of(chunk, prediction_->model().n());
}

RejectReason ChunkIntake::check_form(const Chunk& chunk) const noexcept {
  const bool accepted =
      chunk.mode == ChunkMode::kPose ||
      (chunk.mode == ChunkMode::kJointPosition && chunk_.accept_joint_positions) ||
      (chunk.mode == ChunkMode::kTwist && chunk_.accept_twists);
  if (!accepted) return RejectReason::kUnsupportedMode;
  const std::size_t steps = steps_of(chunk);
  if (steps == 0) return RejectReason::kEmpty;
  const std::size_t knots = steps + (chunk.mode == ChunkMode::kTwist ? 1 : 0);
  if (steps > static_cast<std::size_t>(chunk_.max_steps) ||
      knots > static_cast<std::size_t>(kMaxSteps)) {
    return RejectReason::kTooLong;
  }
  const auto fits = [steps](std::size_t size) { return size == 0 || size == steps; };
  if (!fits(chunk.gripper_opening.size()) || !fits(chunk.gripper_max_force.size())) {
    return RejectReason::kBadShape;
  }
  // Forces without openings would command nothing.
  if (chunk.gripper_opening.empty() && !chunk.gripper_max_force.empty()) {
    return RejectReason::kBadShape;
  }
  if (!std::isfinite(chunk.step_dt) || !all_finite(chunk.gripper_opening) ||
      !all_finite(chunk.gripper_max_force)) {
    return RejectReason::kNotFinite;
  }
  const RejectReason reason = check_mode(chunk, prediction_->model().joint_names());
  if (reason != RejectReason::kNone) return reason;
  if (chunk.step_dt < chunk_.min_step_dt || chunk.step_dt > chunk_.max_step_dt) {
    return RejectReason::kBadStep;
  }
  if (chunk.base_frame != base_frame_ || chunk.tool_frame != tool_frame_) {
    return RejectReason::kWrongFrame;
  }
  return RejectReason::kNone;
}

RejectReason ChunkIntake::check_wrenches(const Chunk& chunk) const noexcept {
  if (chunk.wrenches.empty()) return RejectReason::kNone;
  if (chunk.wrenches.size() != steps_of(chunk)) return RejectReason::kBadShape;
  for (const Vector6& wrench : chunk.wrenches) {
    if (!wrench.allFinite()) return RejectReason::kNotFinite;
  }
  const bool any = std::any_of(force_.axes.begin(), force_.axes.end(), [](bool on) { return on; });
  return any ? RejectReason::kNone : RejectReason::kUnsupportedMode;
}

RejectReason ChunkIntake::check_stiffness(const Chunk& chunk) const noexcept {
  if (chunk.stiffness.empty()) return RejectReason::kNone;
  if (chunk.stiffness.size() != kStiffnessValues * steps_of(chunk)) return RejectReason::kBadShape;
  if (!all_finite(chunk.stiffness)) return RejectReason::kNotFinite;
  if (!stiffness_accepted_) return RejectReason::kUnsupportedMode;
  StiffnessRange range;
  range.most_translational = chunk_.max_translational_stiffness;
  range.most_rotational = chunk_.max_rotational_stiffness;
  for (std::size_t i = 0; i < chunk.stiffness.size(); i += kStiffnessValues) {
    if (!is_valid_stiffness(Matrix6::Map(chunk.stiffness.data() + i), range)) {
      return RejectReason::kBadStiffness;
    }
  }
  return RejectReason::kNone;
}

void ChunkIntake::schedule_stiffness(const Chunk& chunk, PreparedChunk& out) const noexcept {
  out.stiffness.start_ns = out.start_ns;
  out.stiffness.step_dt = chunk.step_dt * out.slowdown;
  out.stiffness.steps = static_cast<int>(chunk.stiffness.size() / kStiffnessValues);
  for (std::size_t i = 0; i < chunk.stiffness.size() / kStiffnessValues; ++i) {
    // Symmetric but for rounding, which goes, too.
    const Matrix6 matrix = Matrix6::Map(chunk.stiffness.data() + i * kStiffnessValues);
    out.stiffness.matrix[i] = 0.5 * (matrix + matrix.transpose());
  }
}

RejectReason ChunkIntake::check_time(const Chunk& chunk, const IntakeView& view) const noexcept {
  const double age = seconds(chunk.stamp_ns, view.time_ns);
  if (age > chunk_.max_age_s || chunk.stamp_ns < view.not_before_ns) return RejectReason::kStale;
  if (age < -chunk_.max_future_s) return RejectReason::kFuture;
  const bool to_the_end = chunk.mode == ChunkMode::kTwist;  // a twist lasts for its step
  const auto steps = static_cast<double>(steps_of(chunk)) - (to_the_end ? 0.0 : 1.0);
  if (steps > 0.0 && age > steps * chunk.step_dt) return RejectReason::kStale;
  return RejectReason::kNone;
}

RejectReason ChunkIntake::check_order(const Chunk& chunk, const IntakeView& view) const noexcept {
  const Epoch epoch{chunk.boot_id, chunk.grant};
  if (!view.heartbeat_fresh || epoch < view.epoch) return RejectReason::kOldGrant;
  if (view.unmonitored) return RejectReason::kUnmonitored;
  if (any_accepted_ && last_activation_ == view.activation) {
    // Two chunks may arrive between two updates, so the view alone does not tell the newest epoch.
    if (epoch < last_epoch_) return RejectReason::kOldGrant;
    if (epoch == last_epoch_ && chunk.sequence != 0 && chunk.sequence <= last_sequence_) {
      return RejectReason::kOldSequence;
    }
  }
  return RejectReason::kNone;
}

void ChunkIntake::set_times(const Chunk& chunk, std::int64_t start_ns, std::int64_t curve_end_ns,
                            PreparedChunk& out) const noexcept {
  // A single twist is a velocity to be had; several are a way, too, which is made up for.
  out.is_velocity = chunk.mode == ChunkMode::kTwist && chunk.twists.size() == 1;
  out.start_ns = start_ns;
  const double lasts = chunk.step_dt * out.slowdown;
  out.end_ns = out.is_velocity ? start_ns + static_cast<std::int64_t>(std::llround(lasts * 1e9))
                               : curve_end_ns;
}

ChunkBlend::Settings ChunkIntake::blend_settings(const IntakeView& view,
                                                 const PreparedChunk& out) const noexcept {
  ChunkBlend::Settings settings{limits_, chunk_.blend_time, chunk_.max_blend_time};
  const double left = seconds(std::max(view.time_ns, out.start_ns), out.end_ns);
  if (out.is_velocity) settings.held = std::max(left, kShortestHold);
  return settings;
}

template <typename Plan>
bool ChunkIntake::plan_blend(const Chunk& chunk, const IntakeView& view,
                             const ChunkBlend::Settings& settings,
                             const Plan& plan) const noexcept {
  // A new owner's chunk may come before the heartbeat that tells of it.
  const bool takes_over = supervised_ && Epoch{chunk.boot_id, chunk.grant} > view.epoch &&
                          (view.phase == Phase::kTracking || view.phase == Phase::kBraking);
  const double left = takes_over ? handover::kLasts : view.gentle_for;
  const handover::Into what = settings.held > 0.0    ? handover::Into::kVelocity
                              : steps_of(chunk) == 1 ? handover::Into::kPose
                                                     : handover::Into::kWay;
  const double shortest = handover::shortest_blend(left, what);
  if (shortest > 0.0) {
    ChunkBlend::Settings gentle = settings;
    gentle.shortest = std::max(shortest, settings.shortest);
    gentle.longest = std::max(gentle.shortest, settings.longest);
    gentle.limits = handover::limits(settings.limits);
    if (plan(gentle)) return true;
    gentle.limits = settings.limits;
    if (plan(gentle)) return true;
  }
  return plan(settings);
}

double ChunkIntake::excess(const Chunk& chunk, const IntakeView& view,
                           PreparedChunk& out) const noexcept {
  const ChunkSpline& spline = out.spline;
  const MotionLimits& demand = spline.demand();
  const double factor = chunk_.max_slowdown > 1.0 ? 1.0 : chunk_.velocity_factor;
  const double acceleration = std::max(demand.linear_acceleration / limits_.linear_acceleration,
                                       demand.angular_acceleration / limits_.angular_acceleration) /
                              chunk_.acceleration_factor;
  const double beyond = std::max({demand.linear_velocity / (factor * limits_.linear_velocity),
                                  demand.angular_velocity / (factor * limits_.angular_velocity),
                                  std::sqrt(acceleration)});
  if (beyond > 1.0) return beyond;
  const std::int64_t begin = std::max(view.time_ns, spline.start_ns());
  const ReferenceSample from = at_later(view.reference, seconds(view.time_ns, begin));
  const bool within =
      plan_blend(chunk, view, blend_settings(view, out), [&](const ChunkBlend::Settings& settings) {
        return ChunkBlend::plan(from, spline, begin, settings, out.blend);
      });
  return within ? 1.0 : kSlower;
}

RejectReason ChunkIntake::fit(const Chunk& chunk, const IntakeView& view,
                              PreparedChunk& out) noexcept {
  const std::span<const Pose> poses{path_.poses.data(), path_.knots};
  out.slowdown = 1.0;
  out.spline.build(poses, chunk.stamp_ns, path_.step_dt, limits_);
  const std::int64_t begin = std::max(view.time_ns, out.spline.start_ns());
  const ReferenceSample at = out.spline.sample(begin);
  const double distance = (at.pose.position - view.reference.pose.position).norm();
  const double angle = so3::log(view.reference.pose.rotation.transpose() * at.pose.rotation).norm();
  if (fade_time(distance, limits_.linear_velocity, limits_.linear_acceleration) >
          chunk_.max_blend_time ||
      fade_time(angle, limits_.angular_velocity, limits_.angular_acceleration) >
          chunk_.max_blend_time) {
    return RejectReason::kTooFast;
  }
  double joints = 1.0;  // slowdown that the joints need
  if (chunk_.joint_velocity_share > 0.0) {
    const JointDemand demand = prediction_->run(view.q, out.spline, begin);
    if (!demand.reachable) return RejectReason::kUnreachable;
    joints = std::max(1.0, demand.velocity_ratio);
  }
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    set_times(chunk, out.spline.start_ns(), out.spline.end_ns(), out);
    const double needed = std::max(excess(chunk, view, out), joints / out.slowdown);
    if (needed <= 1.0) return RejectReason::kNone;
    // A hair more, so that rounding does not ask for another round.
    out.slowdown *= 1.0 + 1e-9 + (needed - 1.0);
    if (out.slowdown > chunk_.max_slowdown) return RejectReason::kTooFast;
    out.spline.build(poses, start_of(chunk, view, out.slowdown), path_.step_dt * out.slowdown,
                     limits_);
  }
  return RejectReason::kTooFast;
}

std::int64_t ChunkIntake::start_of(const Chunk& chunk, const IntakeView& view,
                                   double slowdown) noexcept {
  // The curve turns slower around the time that is now; what is past stays past.
  const double age = std::max(0.0, seconds(chunk.stamp_ns, view.time_ns));
  return chunk.stamp_ns - static_cast<std::int64_t>(std::llround(age * (slowdown - 1.0) * 1e9));
}

RejectReason ChunkIntake::fit_joints(const Chunk& chunk, const IntakeView& view,
                                     PreparedChunk& out) noexcept {
  const bool of_joints = chunk.mode == ChunkMode::kJointPosition;
  out.slowdown = 1.0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::int64_t start_ns = start_of(chunk, view, out.slowdown);
    const double step_dt = path_.step_dt * out.slowdown;
    JointPlanner::Origin origin{std::max(view.time_ns, start_ns), view.joints, view.posture};
    origin.from.q += seconds(view.time_ns, origin.begin_ns) * view.joints.dq;
    if (of_joints) {
      planner_->follow_rows(out.posture, start_ns, step_dt, out.joints);
    } else {
      out.spline.build({path_.poses.data(), path_.knots}, start_ns, step_dt, limits_);
      if (!planner_->follow_curve(out.spline, origin, out.joints))
        return RejectReason::kUnreachable;
    }
    if (attempt == 0 && planner_->too_far(out.joints, origin)) return RejectReason::kTooFast;
    set_times(chunk, start_ns, of_joints ? out.joints.end_ns() : out.spline.end_ns(), out);
    double needed = planner_->excess(out.joints, origin.begin_ns);
    const auto plan = [&](const ChunkBlend::Settings& settings) {
      return planner_->plan(out.joints, origin, settings, out.joint_blend);
    };
    if (needed <= 1.0 && !plan_blend(chunk, view, blend_settings(view, out), plan)) {
      needed = kSlower;
    }
    if (needed <= 1.0) return RejectReason::kNone;
    // A hair more, so that rounding does not ask for another round.
    out.slowdown *= 1.0 + 1e-9 + (needed - 1.0);
    if (!(out.slowdown <= chunk_.max_slowdown)) return RejectReason::kTooFast;
  }
  return RejectReason::kTooFast;
}

RejectReason ChunkIntake::make_path(const Chunk& chunk, const IntakeView& view,
                                    PreparedChunk& out) noexcept {
  out.posture.steps = 0;
  switch (chunk.mode) {
    case ChunkMode::kPose:
      path_of_poses(chunk, path_);
      break;
    case ChunkMode::kTwist:
      path_of_twists(chunk, {view.time_ns, view.reference}, limits_, path_);
      break;
    case ChunkMode::kJointPosition: {
      const RejectReason reason = path_of_joints(chunk, prediction_->model(), path_, out.posture);
      if (reason != RejectReason::kNone) return reason;
      break;
    }
  }
  const double age = seconds(chunk.stamp_ns, view.time_ns);
  // Steps already past only shape the curve: an arm pushed out of the box may be led back.
  const auto is_past = [&](std::size_t i) {
    return static_cast<double>(i) * path_.step_dt < age && i + 1 < path_.knots;
  };
  for (std::size_t i = 0; i < path_.knots; ++i) {
    const Vector3& position = path_.poses[i].position;
    // Written so that NaN, as of twists that overflow, is out.
    if (!(position.cwiseAbs().maxCoeff() <= kFarthest) || !path_.poses[i].rotation.allFinite() ||
        (!is_past(i) && ((position - workspace_min_).minCoeff() < 0.0 ||
                         (workspace_max_ - position).minCoeff() < 0.0))) {
      return RejectReason::kOutOfWorkspace;
    }
  }
  // Another owner may be more precise.
  const bool same_owner = any_accepted_ && last_activation_ == view.activation &&
                          last_epoch_ == Epoch{chunk.boot_id, chunk.grant};
  out.noise = same_owner ? noise_ : WaypointNoise{};
  if (chunk.mode != ChunkMode::kPose) return RejectReason::kNone;
  const SmoothingLimits smoothing{chunk_.smoothing_deviation, chunk_.smoothing_rotation_deviation};
  smooth_waypoints({path_.poses.data(), path_.knots}, chunk.step_dt, smoothing, out.noise);
  for (std::size_t i = 0; i < path_.knots && smoothing.deviation > 0.0; ++i) {
    // Back into the box, which is no farther from the waypoint as it came.
    if (is_past(i)) continue;
    Vector3& position = path_.poses[i].position;
    position = position.cwiseMax(workspace_min_).cwiseMin(workspace_max_).eval();
  }
  return RejectReason::kNone;
}

void ChunkIntake::schedule_gripper(const Chunk& chunk, PreparedChunk& out) const noexcept {
  out.gripper.start_ns = out.start_ns;
  out.gripper.step_dt = chunk.step_dt * out.slowdown;
  out.gripper.steps = static_cast<int>(chunk.gripper_opening.size());
  for (std::size_t i = 0; i < chunk.gripper_opening.size(); ++i) {
    out.gripper.opening[i] = std::clamp(chunk.gripper_opening[i], 0.0, gripper_.max_opening);
    out.gripper.max_force[i] =
        chunk.gripper_max_force.empty()
            ? gripper_.default_force
            : std::clamp(chunk.gripper_max_force[i], 0.0, gripper_.max_force);
  }
}

void ChunkIntake::schedule_force(const Chunk& chunk, PreparedChunk& out) const noexcept {
  out.force.start_ns = out.start_ns;
  out.force.step_dt = chunk.step_dt * out.slowdown;
  out.force.steps = static_cast<int>(chunk.wrenches.size());
  out.force.clamped = false;
  for (std::size_t i = 0; i < chunk.wrenches.size(); ++i) {
    Vector6& wrench = out.force.wrench[i];
    wrench = chunk.wrenches[i];
    wrench.head<3>() = wrench.head<3>().cwiseMax(-force_.max_force).cwiseMin(force_.max_force);
    wrench.tail<3>() = wrench.tail<3>().cwiseMax(-force_.max_torque).cwiseMin(force_.max_torque);
    for (std::size_t axis = 0; axis < force_.axes.size(); ++axis) {
      const auto row = static_cast<Eigen::Index>(axis);
      const bool less = force_.axes[axis] && wrench[row] != chunk.wrenches[i][row];
      out.force.clamped = out.force.clamped || less;
    }
  }
}

RejectReason ChunkIntake::prepare(const Chunk& chunk, const IntakeView& view,
                                  PreparedChunk& out) noexcept {
  if (view.phase == Phase::kInactive) return RejectReason::kNotActive;
  if (view.phase == Phase::kFault) return RejectReason::kFault;
  RejectReason reason = check_form(chunk);
  if (reason == RejectReason::kNone) reason = check_wrenches(chunk);
  if (reason == RejectReason::kNone) reason = check_stiffness(chunk);
  if (reason == RejectReason::kNone) reason = check_time(chunk, view);
  if (reason == RejectReason::kNone) reason = check_order(chunk, view);
  if (reason == RejectReason::kNone) reason = make_path(chunk, view, out);
  if (reason == RejectReason::kNone) {
    reason = planner_ ? fit_joints(chunk, view, out) : fit(chunk, view, out);
  }
  if (reason != RejectReason::kNone) return reason;
  out.stamp_ns = chunk.stamp_ns;
  out.activation = view.activation;
  out.sequence = chunk.sequence;
  out.epoch = Epoch{chunk.boot_id, chunk.grant};
  out.posture.start_ns = out.start_ns;
  out.posture.step_dt = chunk.step_dt * out.slowdown;
  schedule_gripper(chunk, out);
  schedule_force(chunk, out);
  schedule_stiffness(chunk, out);
  return RejectReason::kNone;
}

void ChunkIntake::accepted(const PreparedChunk& chunk) noexcept {
  any_accepted_ = true;
  last_activation_ = chunk.activation;
  last_sequence_ = chunk.sequence;
  last_epoch_ = chunk.epoch;
  noise_ = chunk.noise;
}

}  // namespace vla_control
