// SPDX-License-Identifier: Apache-2.0
#include "chunk_path.hpp"

#include <algorithm>
#include <cmath>

#include "so3.hpp"

namespace vla_control {
namespace {

/// Deviation of a quaternion's norm from one that is taken for rounding.
constexpr double kNormTolerance = 1e-2;
constexpr double kNanoseconds = 1e-9;

/// Column of `name` in the chunk, or its number of columns.
std::size_t column_of(const Chunk& chunk, const std::string& name) noexcept {
  const auto found = std::find(chunk.joint_names.begin(), chunk.joint_names.end(), name);
  return static_cast<std::size_t>(found - chunk.joint_names.begin());
}

Pose moved(const Pose& pose, const Vector6& twist, double time) noexcept {
  const Vector3 turn = time * twist.tail<3>();
  Pose out;
  out.position = pose.position + time * twist.head<3>();
  out.rotation.noalias() = so3::exp(turn) * pose.rotation;
  return out;
}

RejectReason check_waypoints(const Chunk& chunk) noexcept {
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
  return RejectReason::kNone;
}

RejectReason check_joints(const Chunk& chunk,
                          const std::vector<std::string>& joint_names) noexcept {
  if (chunk.joint_names.size() != joint_names.size() ||
      chunk.joint_values.size() % joint_names.size() != 0) {
    return RejectReason::kBadShape;
  }
  // As many names as joints and each joint among them: none is there twice.
  for (const std::string& name : joint_names) {
    if (column_of(chunk, name) == joint_names.size()) return RejectReason::kBadShape;
  }
  const bool finite = std::all_of(chunk.joint_values.begin(), chunk.joint_values.end(),
                                  [](double x) { return std::isfinite(x); });
  return finite ? RejectReason::kNone : RejectReason::kNotFinite;
}

}  // namespace

JointVector PostureSchedule::at(std::int64_t time_ns) const noexcept {
  const double last = steps - 1;
  const double position =
      std::clamp(static_cast<double>(time_ns - start_ns) * kNanoseconds / step_dt, 0.0, last);
  const auto before = static_cast<std::size_t>(position);
  const std::size_t after = std::min(before + 1, static_cast<std::size_t>(steps - 1));
  const double share = position - static_cast<double>(before);
  const JointVector out = (1.0 - share) * q[before] + share * q[after];
  return out;
}

std::size_t steps_of(const Chunk& chunk, int joints) noexcept {
  switch (chunk.mode) {
    case ChunkMode::kPose:
      return chunk.waypoints.size();
    case ChunkMode::kJointPosition:
      return chunk.joint_values.size() / static_cast<std::size_t>(joints);
    case ChunkMode::kTwist:
      return chunk.twists.size();
  }
  return 0;
}

RejectReason check_mode(const Chunk& chunk, const std::vector<std::string>& joint_names) noexcept {
  const bool poses = !chunk.waypoints.empty();
  const bool joints = !chunk.joint_values.empty() || !chunk.joint_names.empty();
  const bool twists = !chunk.twists.empty();
  if ((poses && chunk.mode != ChunkMode::kPose) ||
      (joints && chunk.mode != ChunkMode::kJointPosition) ||
      (twists && chunk.mode != ChunkMode::kTwist)) {
    return RejectReason::kBadShape;
  }
  switch (chunk.mode) {
    case ChunkMode::kPose:
      return check_waypoints(chunk);
    case ChunkMode::kJointPosition:
      return check_joints(chunk, joint_names);
    case ChunkMode::kTwist:
      for (const Vector6& twist : chunk.twists) {
        if (!twist.allFinite()) return RejectReason::kNotFinite;
      }
      return RejectReason::kNone;
  }
  return RejectReason::kUnsupportedMode;
}

void path_of_poses(const Chunk& chunk, ChunkPath& out) noexcept {
  out.knots = chunk.waypoints.size();
  out.step_dt = chunk.step_dt;
  for (std::size_t i = 0; i < out.knots; ++i) {
    const Waypoint& waypoint = chunk.waypoints[i];
    out.poses[i].position = waypoint.position;
    out.poses[i].rotation = Eigen::Quaterniond(waypoint.quat_xyzw).normalized().toRotationMatrix();
  }
}

RejectReason path_of_joints(const Chunk& chunk, const RobotModel& model, ChunkPath& out,
                            PostureSchedule& posture) noexcept {
  const auto joints = static_cast<std::size_t>(model.n());
  out.knots = steps_of(chunk, model.n());
  out.step_dt = chunk.step_dt;
  std::array<std::size_t, kMaxJoints> columns{};
  for (std::size_t j = 0; j < joints; ++j) columns[j] = column_of(chunk, model.joint_names()[j]);
  posture.steps = static_cast<int>(out.knots);
  for (std::size_t i = 0; i < out.knots; ++i) {
    JointVector& q = posture.q[i];
    q.resize(model.n());
    for (std::size_t j = 0; j < joints; ++j) {
      q[static_cast<Eigen::Index>(j)] = chunk.joint_values[i * joints + columns[j]];
    }
    if ((q - model.position_lower()).minCoeff() < 0.0 ||
        (model.position_upper() - q).minCoeff() < 0.0) {
      return RejectReason::kOutOfWorkspace;
    }
    out.poses[i] = model.forward_kinematics(q);
  }
  return RejectReason::kNone;
}

void path_of_twists(const Chunk& chunk, const PathOrigin& origin, const MotionLimits& limits,
                    ChunkPath& out) noexcept {
  const std::size_t steps = chunk.twists.size();
  out.knots = steps + 1;
  out.step_dt = chunk.step_dt;
  if (steps == 1) {
    const Vector6& twist = chunk.twists[0];
    out.step_dt +=
        0.5 * ChunkSpline::braking_time(twist.head<3>().norm(), twist.tail<3>().norm(), limits);
  }
  const double dt = out.step_dt;
  const double age =
      (static_cast<double>(origin.time_ns) - static_cast<double>(chunk.stamp_ns)) * kNanoseconds;
  Vector6 moving;
  moving << origin.reference.linear_velocity, origin.reference.angular_velocity;
  // Until a chunk of the future begins, the reference goes on.
  const Pose start = moved(origin.reference.pose, moving, std::max(0.0, -age));
  const double now = std::max(0.0, age);
  const std::size_t current = std::min(static_cast<std::size_t>(now / dt), steps - 1);
  const double since = now - static_cast<double>(current) * dt;
  out.poses[current] = moved(start, chunk.twists[current], -since);
  for (std::size_t i = current; i > 0; --i) {
    out.poses[i - 1] = moved(out.poses[i], chunk.twists[i - 1], -dt);
  }
  for (std::size_t i = current; i < steps; ++i) {
    out.poses[i + 1] = moved(out.poses[i], chunk.twists[i], dt);
  }
}

}  // namespace vla_control
