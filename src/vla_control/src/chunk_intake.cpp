// SPDX-License-Identifier: Apache-2.0
#include "chunk_intake.hpp"

#include <algorithm>
#include <cmath>

#include "so3.hpp"
#include "vla_control/chunk_blend.hpp"
#include "vla_control/chunk_smoothing.hpp"

namespace vla_control {
namespace {

/// Deviation of a quaternion's norm from one that is taken for rounding.
constexpr double kNormTolerance = 1e-2;
/// Farthest a waypoint may be in any case, so that no later product overflows. m
constexpr double kFarthest = 100.0;

bool all_finite(const std::vector<double>& values) noexcept {
  return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
}

/// Seconds from `from` to `to`. In floating point: a garbage stamp must not overflow.
double seconds(std::int64_t from_ns, std::int64_t to_ns) noexcept {
  return (static_cast<double>(to_ns) - static_cast<double>(from_ns)) * 1e-9;
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

void ChunkIntake::configure(const ControllerConfig& config, const std::string& base_frame,
                            const std::string& tool_frame) {
  chunk_ = config.chunk;
  gripper_ = config.gripper;
  force_ = config.force;
  limits_ = motion_limits(config);
  workspace_min_ = Vector3::Map(config.workspace_min.data());
  workspace_max_ = Vector3::Map(config.workspace_max.data());
  base_frame_ = base_frame;
  tool_frame_ = tool_frame;
}

RejectReason ChunkIntake::check_form(const Chunk& chunk) const noexcept {
  if (chunk.mode != ChunkMode::kPose) return RejectReason::kUnsupportedMode;
  const std::size_t steps = chunk.waypoints.size();
  if (steps == 0) return RejectReason::kEmpty;
  if (steps > static_cast<std::size_t>(chunk_.max_steps)) return RejectReason::kTooLong;
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
  for (const Waypoint& waypoint : chunk.waypoints) {
    if (!waypoint.position.allFinite() || !waypoint.quat_xyzw.allFinite()) {
      return RejectReason::kNotFinite;
    }
  }
  for (const Waypoint& waypoint : chunk.waypoints) {
    if (!(std::abs(waypoint.quat_xyzw.norm() - 1.0) < kNormTolerance)) {
      return RejectReason::kBadQuaternion;
    }
  }
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
  if (chunk.wrenches.size() != chunk.waypoints.size()) return RejectReason::kBadShape;
  for (const Vector6& wrench : chunk.wrenches) {
    if (!wrench.allFinite()) return RejectReason::kNotFinite;
  }
  const bool any = std::any_of(force_.axes.begin(), force_.axes.end(), [](bool on) { return on; });
  return any ? RejectReason::kNone : RejectReason::kUnsupportedMode;
}

RejectReason ChunkIntake::check_time(const Chunk& chunk, const IntakeView& view) const noexcept {
  const double age = seconds(chunk.stamp_ns, view.time_ns);
  if (age > chunk_.max_age_s || chunk.stamp_ns < view.not_before_ns) return RejectReason::kStale;
  if (age < -chunk_.max_future_s) return RejectReason::kFuture;
  const auto steps = static_cast<double>(chunk.waypoints.size() - 1);
  if (steps > 0.0 && age > steps * chunk.step_dt) return RejectReason::kStale;
  return RejectReason::kNone;
}

RejectReason ChunkIntake::check_order(const Chunk& chunk, const IntakeView& view) const noexcept {
  const Epoch epoch{chunk.boot_id, chunk.grant};
  if (!view.heartbeat_fresh || epoch < view.epoch) return RejectReason::kOldGrant;
  if (any_accepted_ && last_activation_ == view.activation) {
    // Two chunks may arrive between two updates, so the view alone does not tell the newest epoch.
    if (epoch < last_epoch_) return RejectReason::kOldGrant;
    if (epoch == last_epoch_ && chunk.sequence != 0 && chunk.sequence <= last_sequence_) {
      return RejectReason::kOldSequence;
    }
  }
  return RejectReason::kNone;
}

RejectReason ChunkIntake::check_motion(const ChunkSpline& spline,
                                       const IntakeView& view) const noexcept {
  const MotionLimits& demand = spline.demand();
  if (demand.linear_velocity > chunk_.velocity_factor * limits_.linear_velocity ||
      demand.angular_velocity > chunk_.velocity_factor * limits_.angular_velocity ||
      demand.linear_acceleration > chunk_.acceleration_factor * limits_.linear_acceleration ||
      demand.angular_acceleration > chunk_.acceleration_factor * limits_.angular_acceleration) {
    return RejectReason::kTooFast;
  }
  const std::int64_t begin = std::max(view.time_ns, spline.start_ns());
  const ReferenceSample at = spline.sample(begin);
  const double distance = (at.pose.position - view.reference.pose.position).norm();
  const double angle = so3::log(view.reference.pose.rotation.transpose() * at.pose.rotation).norm();
  if (fade_time(distance, limits_.linear_velocity, limits_.linear_acceleration) >
          chunk_.max_blend_time ||
      fade_time(angle, limits_.angular_velocity, limits_.angular_acceleration) >
          chunk_.max_blend_time) {
    return RejectReason::kTooFast;
  }
  ChunkBlend blend;
  const bool within = blend.plan(view.reference, spline, begin,
                                 {limits_, chunk_.blend_time, chunk_.max_blend_time});
  return within ? RejectReason::kNone : RejectReason::kTooFast;
}

RejectReason ChunkIntake::prepare(const Chunk& chunk, const IntakeView& view,
                                  PreparedChunk& out) const noexcept {
  if (view.phase == Phase::kInactive) return RejectReason::kNotActive;
  if (view.phase == Phase::kFault) return RejectReason::kFault;
  RejectReason reason = check_form(chunk);
  if (reason == RejectReason::kNone) reason = check_wrenches(chunk);
  if (reason == RejectReason::kNone) reason = check_time(chunk, view);
  if (reason == RejectReason::kNone) reason = check_order(chunk, view);
  if (reason != RejectReason::kNone) return reason;

  const std::size_t steps = chunk.waypoints.size();
  const double age = seconds(chunk.stamp_ns, view.time_ns);
  // Steps already past only shape the curve: an arm pushed out of the box may be led back.
  const auto is_past = [&](std::size_t i) {
    return static_cast<double>(i) * chunk.step_dt < age && i + 1 < steps;
  };
  std::array<Pose, kMaxSteps> poses;
  for (std::size_t i = 0; i < steps; ++i) {
    const Waypoint& waypoint = chunk.waypoints[i];
    poses[i].position = waypoint.position;
    poses[i].rotation = Eigen::Quaterniond(waypoint.quat_xyzw).normalized().toRotationMatrix();
    if (waypoint.position.cwiseAbs().maxCoeff() > kFarthest ||
        (!is_past(i) && ((waypoint.position - workspace_min_).minCoeff() < 0.0 ||
                         (workspace_max_ - waypoint.position).minCoeff() < 0.0))) {
      return RejectReason::kOutOfWorkspace;
    }
  }
  const SmoothingLimits smoothing{chunk_.smoothing_deviation, chunk_.smoothing_rotation_deviation};
  smooth_waypoints({poses.data(), steps}, chunk.step_dt, smoothing);
  for (std::size_t i = 0; i < steps && smoothing.deviation > 0.0; ++i) {
    // Back into the box, which is no farther from the waypoint as it came.
    if (is_past(i)) continue;
    poses[i].position = poses[i].position.cwiseMax(workspace_min_).cwiseMin(workspace_max_).eval();
  }
  out.stamp_ns = chunk.stamp_ns;
  out.activation = view.activation;
  out.sequence = chunk.sequence;
  out.epoch = Epoch{chunk.boot_id, chunk.grant};
  out.spline.build({poses.data(), steps}, chunk.stamp_ns, chunk.step_dt, limits_);
  out.gripper.start_ns = chunk.stamp_ns;
  out.gripper.step_dt = chunk.step_dt;
  out.gripper.steps = static_cast<int>(chunk.gripper_opening.size());
  for (std::size_t i = 0; i < chunk.gripper_opening.size(); ++i) {
    out.gripper.opening[i] = std::clamp(chunk.gripper_opening[i], 0.0, gripper_.max_opening);
    out.gripper.max_force[i] =
        chunk.gripper_max_force.empty()
            ? gripper_.default_force
            : std::clamp(chunk.gripper_max_force[i], 0.0, gripper_.max_force);
  }
  out.force.start_ns = chunk.stamp_ns;
  out.force.step_dt = chunk.step_dt;
  out.force.steps = static_cast<int>(chunk.wrenches.size());
  for (std::size_t i = 0; i < chunk.wrenches.size(); ++i) {
    Vector6& wrench = out.force.wrench[i];
    wrench = chunk.wrenches[i];
    wrench.head<3>() = wrench.head<3>().cwiseMax(-force_.max_force).cwiseMin(force_.max_force);
    wrench.tail<3>() = wrench.tail<3>().cwiseMax(-force_.max_torque).cwiseMin(force_.max_torque);
  }
  return check_motion(out.spline, view);
}

void ChunkIntake::accepted(const PreparedChunk& chunk) noexcept {
  any_accepted_ = true;
  last_activation_ = chunk.activation;
  last_sequence_ = chunk.sequence;
  last_epoch_ = chunk.epoch;
}

}  // namespace vla_control
