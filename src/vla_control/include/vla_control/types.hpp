// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <Eigen/Geometry>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Real-time core of the compliant controller: no ROS, no simulator, no logging.
///
/// Units are SI, angles are radians. Times are int64 nanoseconds of one controller clock. Poses are
/// of the tool frame in the base frame unless a name says otherwise.
namespace vla_control {

/// Most joints a controlled chain may have; bounds every joint-sized vector, so that none
/// allocates.
inline constexpr int kMaxJoints = 10;
/// Most waypoints a chunk may have.
inline constexpr int kMaxSteps = 64;

using Vector3 = Eigen::Vector3d;
using Matrix3 = Eigen::Matrix3d;
using Vector6 = Eigen::Matrix<double, 6, 1>;
using Matrix6 = Eigen::Matrix<double, 6, 6>;
using JointVector = Eigen::Matrix<double, Eigen::Dynamic, 1, Eigen::ColMajor, kMaxJoints, 1>;
using JointMatrix =
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor, kMaxJoints, kMaxJoints>;
/// 6 x n: linear rows first, then angular; base axes, at the tool point.
using Jacobian = Eigen::Matrix<double, 6, Eigen::Dynamic, Eigen::ColMajor, 6, kMaxJoints>;

/// Position (m) and rotation of the tool frame in the base frame.
struct Pose {
  Vector3 position = Vector3::Zero();
  Matrix3 rotation = Matrix3::Identity();
};

/// A pose with its first two time derivatives. Angular quantities are in base axes.
struct ReferenceSample {
  Pose pose;
  Vector3 linear_velocity = Vector3::Zero();       ///< m/s
  Vector3 angular_velocity = Vector3::Zero();      ///< rad/s
  Vector3 linear_acceleration = Vector3::Zero();   ///< m/s^2
  Vector3 angular_acceleration = Vector3::Zero();  ///< rad/s^2
};

/// Joint positions with their first two time derivatives, in the order of
/// RobotDescription::joint_names. rad, rad/s, rad/s^2
struct JointReferenceSample {
  JointVector q, dq, ddq;
};

/// Measured joint state, in the order of RobotDescription::joint_names.
struct JointState {
  JointVector q;         ///< rad
  JointVector dq;        ///< rad/s
  JointVector effort{};  ///< as ControllerConfig::effort_state declares; empty = not measured
  /// N, Nm of the surroundings on the tool, at the origin and in the axes of the force sensor's
  /// frame; only where AdmittanceConfig::sensor_frame claims one.
  std::optional<Vector6> wrench{};
};

/// Commanded joint torques, in the order of RobotDescription::joint_names.
struct JointTorques {
  JointVector tau;  ///< Nm
};

/// Commanded joint motion, in the order of RobotDescription::joint_names: where the joints shall be
/// one cycle from now, and how fast they get there.
struct JointMotion {
  JointVector q;   ///< rad
  JointVector dq;  ///< rad/s
};

/// What the gripper is asked to do.
struct GripperCommand {
  double opening = 0.0;    ///< m between the finger pads
  double max_force = 0.0;  ///< N
  /// False until a chunk has commanded the gripper since activation, and again after a fault: leave
  /// the gripper as it is.
  bool commanded = false;
};

/// Which of the fields of a chunk is filled. Numbers as MODE_* of vla_msgs/ActionChunk.
enum class ChunkMode : std::uint8_t { kPose = 0, kJointPosition = 1, kTwist = 2 };

/// What a robot reports as measured joint effort.
enum class EffortState : std::uint8_t {
  kTotal = 0,        ///< Nm, with gravity
  kGravityFree = 1,  ///< Nm, gravity taken off by the robot
  kCurrent = 2,      ///< a motor current
  kNone = 3,         ///< not measured
};

/// Why activate() has refused.
enum class ActivationRefusal : std::uint8_t {
  kNone = 0,           ///< it has not
  kBadJointState = 1,  ///< not finite, implausible or of the wrong size
  kEffortMissing =
      2,  ///< effort_state declares a torque, the joint state has none or no finite one
  kStaticResidual = 3,      ///< the measured torque is not what the model expects of a resting arm
  kOutsideLimits = 4,       ///< motion output: a joint is beyond its position limits
  kMoving = 5,              ///< motion output: the joints do not stand still
  kForceSensorMissing = 6,  ///< a force sensor is claimed, the joint state has no finite wrench
};

/// What the controller is doing. Numbers as PHASE_* of vla_msgs/ControllerState.
enum class Phase : std::uint8_t {
  kInactive = 0,  ///< not activated, no torque
  kHolding = 1,   ///< holds a pose, waits for a chunk
  kTracking = 2,  ///< follows chunks
  kBraking = 3,   ///< the chunk has run out or was revoked: brakes smoothly to a hold
  kFault = 4,     ///< joints held with stiffness until reset
};

/// Why the controller is in Phase::kFault. Numbers as FAULT_* of vla_msgs/ControllerState.
enum class Fault : std::uint8_t {
  kNone = 0,
  kStopRequested = 1,
  kHeartbeatLost = 2,
  kChunkTimeout = 3,
  kBadJointState = 4,
  kClockJump = 5,
  kNumeric = 6,
  kTrackingDeviation = 7,  ///< motion output: the arm is not where it was commanded to be
  kForceSensor = 8,        ///< the claimed force sensor is silent, stuck or not finite
  kContactForce = 9,       ///< the claimed force sensor measures more than is allowed
};

/// Why a chunk was rejected. Numbers as REJECT_* of vla_msgs/ControllerState.
enum class RejectReason : std::uint8_t {
  kNone = 0,           ///< accepted
  kNotActive = 1,      ///< the controller is not activated
  kEmpty = 2,          ///< no waypoint
  kTooLong = 3,        ///< more waypoints than configured
  kBadShape = 4,       ///< arrays of another mode, lengths or joint names that do not agree
  kNotFinite = 5,      ///< NaN or infinity
  kBadQuaternion = 6,  ///< not of unit norm, or a matrix that is no rotation
  kBadStep = 7,        ///< step_dt out of range
  kWrongFrame = 8,     ///< base or tool frame is not the configured one
  kStale = 9,          ///< stamp too old, before the last activation/reset/revocation, or run out
  kFuture = 10,        ///< stamp too far in the future
  kOldGrant = 11,      ///< boot id and grant are older than those in force, or revoked
  kOldSequence = 12,   ///< not newer than the chunk before
  kUnsupportedMode = 13,  ///< a mode that the configuration does not accept
  kOutOfWorkspace = 14,   ///< a waypoint outside the workspace box or the joint limits
  kTooFast = 15,          ///< velocity, acceleration or jump beyond what may be followed
  kFault = 16,            ///< in FAULT, until reset
  kBusy = 17,             ///< another thread is pushing a chunk right now
  kUnreachable = 18,      ///< the joints cannot bring the tool where the chunk wants it
  kUnmonitored = 19,      ///< distances to itself and its surroundings are awaited, none is fresh
  kBadStiffness = 20,     ///< not symmetric positive definite, or outside the configured range
};

/// Unit quaternion and position of one waypoint, as received (not yet checked).
struct Waypoint {
  Vector3 position = Vector3::Zero();                           ///< m
  Eigen::Vector4d quat_xyzw = Eigen::Vector4d(0., 0., 0., 1.);  ///< x, y, z, w
};

/// A chunk of future commands. Step i is meant for stamp_ns + i * step_dt; a twist lasts for its
/// step.
struct Chunk {
  std::int64_t stamp_ns = 0;             ///< when the observation was taken
  double step_dt = 0.05;                 ///< s
  std::string base_frame;                ///< frame the waypoints are in
  std::string tool_frame;                ///< frame whose poses they are
  ChunkMode mode = ChunkMode::kPose;     ///< which of the following is filled
  std::vector<Waypoint> waypoints;       ///< absolute commanded poses, one per step (kPose)
  std::vector<std::string> joint_names;  ///< columns of joint_values, in any order
  std::vector<double> joint_values;      ///< rad, row-major [step][joint] (kJointPosition)
  /// m/s and rad/s of the tool point, base axes, one per step (kTwist)
  std::vector<Vector6> twists;
  std::vector<double> gripper_opening;    ///< m, one per step; empty = leave as it is
  std::vector<double> gripper_max_force;  ///< N, one per step; empty = default force
  std::vector<Vector6> wrenches;          ///< N, Nm the tool shall exert, base axes; empty = none
  /// N/m, N, Nm/rad; row-major [step][6][6], symmetric positive definite, base axes; empty = the
  /// configured stiffness
  std::vector<double> stiffness;
  std::uint64_t boot_id = 0;
  std::uint64_t grant = 0;
  std::uint64_t sequence = 0;  ///< counts from 1 within a grant; 0 = not numbered, not checked
};

/// Snapshot of the controller, at the end of the last update. Fields as vla_msgs/ControllerState.
struct ControllerState {
  std::int64_t time_ns = 0;
  Phase phase = Phase::kInactive;
  Fault fault = Fault::kNone;
  std::uint64_t boot_id = 0;
  std::uint64_t grant = 0;
  std::uint64_t sequence = 0;    ///< of the chunk being followed; 0 = none
  double chunk_age = -1.0;       ///< s since the stamp of the chunk being followed; -1 = none
  double chunk_remaining = 0.0;  ///< s until it runs out; negative = run out or none
  /// How many times longer the chunk being followed takes than asked for; 1 = as asked for, or
  /// none.
  double chunk_slowdown = 1.0;
  JointVector q;            ///< rad, measured
  JointVector dq;           ///< rad/s, measured
  JointVector tau_command;  ///< Nm, after all limits
  JointVector tau_limit;    ///< Nm
  JointVector q_command;    ///< rad, commanded after all limits; empty with torque output
  JointVector dq_command;   ///< rad/s, the same
  /// False: position tracking, not compliant. Contact is then neither felt nor yielded to.
  bool compliant = true;
  Pose pose_tool_in_base;                        ///< measured
  Vector6 twist_tool_in_base = Vector6::Zero();  ///< measured, linear then angular
  ReferenceSample reference;                     ///< in force
  JointReferenceSample joint_reference;      ///< in force, of the joint-impedance law; else empty
  Vector6 wrench_command = Vector6::Zero();  ///< N, Nm at the tool point, base axes
  GripperCommand gripper;
  bool torque_saturated = false;       ///< since the state() before
  bool torque_rate_saturated = false;  ///< since the state() before
  /// A clip of the error, the wrench or the force asked for was active since the state() before;
  /// with motion output, a limit of the joints' velocity or acceleration.
  bool wrench_saturated = false;
  /// The control rate cannot damp the stiffness asked for: some mode has less of it.
  bool stiffness_limited = false;
  bool heartbeat_lost = false;        ///< the heartbeat is watched and none is fresh
  std::uint64_t cycles = 0;           ///< since activation
  std::uint64_t chunks_accepted = 0;  ///< since activation
  std::uint64_t chunks_rejected = 0;  ///< since activation
  RejectReason last_reject_reason = RejectReason::kNone;
  JointVector external_torque;                ///< Nm, observed, of the surroundings on the arm
  Vector6 external_wrench = Vector6::Zero();  ///< N, Nm; the same as felt at the tool, base axes
  bool in_contact = false;
  bool object_lost = false;   ///< the payload's weight is gone
  double payload_mass = 0.0;  ///< kg, in force
  /// N, Nm at the tool point, base axes; weight and bias of the payload in force, as carried
  Vector6 load_wrench = Vector6::Zero();
  std::uint64_t tares = 0;      ///< completed since activation
  bool barrier_active = false;  ///< a barrier acted since the state() before
  bool unmonitored = false;     ///< distances are awaited and none is fresh
  /// m, least distance between two bodies; infinity = none is near, or they are not monitored
  double smallest_distance = std::numeric_limits<double>::infinity();
  double tank_energy = 0.0;  ///< J left in the energy tank; 0 without one
};

/// Name of an enumerator as in the messages, such as "OLD_GRANT".
[[nodiscard]] std::string_view to_string(RejectReason reason) noexcept;
[[nodiscard]] std::string_view to_string(Phase phase) noexcept;
[[nodiscard]] std::string_view to_string(Fault fault) noexcept;
[[nodiscard]] std::string_view to_string(EffortState state) noexcept;
[[nodiscard]] std::string_view to_string(ActivationRefusal refusal) noexcept;

}  // namespace vla_control
