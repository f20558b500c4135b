// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <limits>
#include <optional>
#include <vector>

#include "vla_control/law_config.hpp"
#include "vla_control/payload.hpp"
#include "vla_control/tracking_config.hpp"

namespace vla_control {

class RobotModel;

/// Which chunks are accepted and how they are blended.
struct ChunkConfig {
  double max_age_s = 1.0;      ///< an older stamp is STALE
  double max_future_s = 0.2;   ///< a later stamp is FUTURE
  int max_steps = 64;          ///< more waypoints are TOO_LONG
  double min_step_dt = 0.001;  ///< s, BAD_STEP below
  double max_step_dt = 1.0;    ///< s, BAD_STEP above
  double blend_time = 0.15;    ///< s, shortest blend into a new chunk
  /// Longest blend. It is stretched as the disagreement needs, to stay within the reference's
  /// velocity and acceleration limits; a chunk that would need longer is TOO_FAST. Making up the
  /// distance lost while a moving chunk is taken up may take three times as long.
  double max_blend_time = 0.6;  ///< s
  /// A chunk is TOO_FAST beyond these multiples of the reference's limits. The mean velocity
  /// between waypoints is compared, and the acceleration at a waypoint, which noise of a few
  /// millimetres in densely spaced waypoints already makes large.
  double velocity_factor = 1.2;
  double acceleration_factor = 6.0;
  /// Modes that are accepted beside POSE. Joint positions are followed by the tool pose they amount
  /// to, with the posture in the nullspace; twists begin at the reference in force.
  bool accept_joint_positions = false;
  bool accept_twists = false;
  /// Accepts a stiffness per step under the impedance law, with eigenvalues of its translational
  /// and rotational blocks within [1, max_translational_stiffness] N/m and [0.1,
  /// max_rotational_stiffness] Nm/rad; beyond it is BAD_STIFFNESS.
  bool accept_stiffness = false;
  double max_translational_stiffness = 1500.0;
  double max_rotational_stiffness = 100.0;
  /// A chunk that is too fast is slowed down as a whole, up to so many times; 1 = it is rejected.
  /// Where slowing down is allowed, velocity_factor is taken for 1.
  double max_slowdown = 1.0;
  /// Share of max_joint_velocity that a chunk may need as predicted with the model, near
  /// singularities for instance; beyond it is slowed down or TOO_FAST. 0 = joints are not
  /// predicted. With a prediction, what is beyond the joint limits or out of reach is UNREACHABLE.
  double joint_velocity_share = 0.0;
  /// Farthest that smoothing may move a waypoint, m and rad (see smooth_waypoints); 0 = off. White
  /// noise of 2 mm needs about 6 mm to be taken out whole.
  double smoothing_deviation = 0.0;
  double smoothing_rotation_deviation = 0.0;
  /// After a chunk has run out for so long without another: FAULT_CHUNK_TIMEOUT. 0 = never; the arm
  /// then stays in a stiff hold and the next chunk is followed without a reset.
  double timeout_s = 0.0;
};

/// Range of gripper commands. Values outside are clamped.
struct GripperConfig {
  double max_opening = 0.08;    ///< m
  double default_force = 20.0;  ///< N, for chunks without forces
  double max_force = 70.0;      ///< N
};

/// Settings of the controller. Empty lists mean the default named beside them. Checked by
/// validated(), which throws naming the value and the valid range.
struct ControllerConfig {
  double rate = 1000.0;  ///< Hz, nominal; the law itself uses the period given to update
  OutputKind output = OutputKind::kTorque;
  TrackingConfig tracking;      ///< of motion output
  AdmittanceConfig admittance;  ///< of motion output; off without a force sensor

  std::array<double, 3> translational_stiffness{600.0, 600.0, 600.0};  ///< N/m, base axes
  std::array<double, 3> rotational_stiffness{30.0, 30.0, 30.0};        ///< Nm/rad, base axes
  /// 36 values by rows, N/m, N, Nm/rad: replaces the two above where the axes are coupled.
  /// Symmetric positive definite.
  std::vector<double> stiffness_matrix;
  StiffnessFrame stiffness_frame = StiffnessFrame::kBase;  ///< axes of all three
  double gain_ramp_s = 0.2;  ///< s, over which set_gains() takes effect
  double damping_ratio = 1.0;
  TaskLawKind task_law = TaskLawKind::kImpedance;
  /// Nm/rad, of the joint-impedance law; empty = 4 x torque_limit
  std::vector<double> joint_stiffness;
  double max_joint_error = 0.2;           ///< rad, clip of the error that law's springs see
  double translational_frequency = 20.0;  ///< rad/s, of the operational-space law
  double rotational_frequency = 20.0;     ///< rad/s, of the operational-space law
  double max_position_error = 0.10;       ///< m, clip of the error the spring sees
  double max_rotation_error = 0.7;        ///< rad
  /// Natural frequency below which a task direction counts as singular: the effective inertia is
  /// held below stiffness / frequency^2, so that forces stay bounded at singularities. rad/s
  double min_task_frequency = 3.0;

  double nullspace_stiffness = 10.0;  ///< Nm/rad
  double nullspace_damping_ratio = 1.0;
  std::vector<double> nullspace_posture;  ///< rad; empty = posture at activation
  double nullspace_speed = 0.3;  ///< rad/s, at which the posture moves to nullspace_posture

  std::vector<double> torque_limit;       ///< Nm; empty = effort limits of the URDF
  std::vector<double> torque_rate_limit;  ///< Nm/s; empty = 1000
  /// Nm/s, the hardware's own; bounds a torque change that opposes the joint's motion. empty = 10 x
  /// torque_rate_limit.
  std::vector<double> braking_torque_rate_limit;
  std::vector<double> max_joint_velocity;  ///< rad/s, damped above; empty = limits of the URDF
  double joint_velocity_damping = 20.0;    ///< Nms/rad on the velocity above max_joint_velocity

  double max_linear_velocity = 1.0;        ///< m/s, of the reference
  double max_linear_acceleration = 5.0;    ///< m/s^2, of brakes and cross-fades
  double max_angular_velocity = 2.5;       ///< rad/s
  double max_angular_acceleration = 15.0;  ///< rad/s^2

  /// Whether the commanded torque must contain gravity. No default: robots differ (a Franka adds
  /// gravity itself, a simulated arm does not).
  std::optional<bool> command_includes_gravity;

  /// What JointState::effort is. No default, for the same reason. Where it is a torque, activate()
  /// compares it with the model and refuses a residual beyond max_static_residual.
  std::optional<EffortState> effort_state;
  std::vector<double> max_static_residual;  ///< Nm; empty = 10 % of torque_limit

  FrictionConfig friction;
  std::vector<double> rotor_inertia;  ///< kg m^2 at the joint, added to the mass matrix; empty = 0
  /// Takes the curvature of the path into the acceleration feed-forward:
  /// Lambda (a_r - dJ/dt dq).
  bool jacobian_rate_feed_forward = false;
  Payload payload;              ///< at configuration; set_payload() and tare() change it
  double payload_ramp_s = 0.5;  ///< s, over which a change of payload takes effect
  IntegralConfig integral;
  SensingConfig sensing;
  ForceConfig force;
  WrenchLimits wrench_limits;
  BarrierConfig barrier;
  EnergyTankConfig energy_tank;

  ChunkConfig chunk;
  GripperConfig gripper;

  /// Age of the newest heartbeat above which the chunk in force is revoked. 0 = not watched.
  double heartbeat_timeout_s = 0.5;
  /// Time without a heartbeat after which FAULT_HEARTBEAT_LOST is raised. 0 = never: the arm stays
  /// in a stiff hold and a restarted supervisor is accepted without a reset.
  double heartbeat_fault_s = 0.0;

  double joint_state_timeout_s = 0.01;  ///< s of bad joint states after which FAULT_BAD_JOINT_STATE
  int clock_jump_periods = 50;          ///< a larger step of time_ns is FAULT_CLOCK_JUMP

  double hold_stiffness = 150.0;  ///< Nm/rad, joint stiffness in FAULT
  double hold_damping_ratio = 1.0;

  /// m, box in the base frame that waypoints must lie in.
  std::array<double, 3> workspace_min{-2.0, -2.0, -2.0};
  std::array<double, 3> workspace_max{2.0, 2.0, 2.0};
};

/// Returns the configuration with every empty list filled from the model.
/// \throws std::invalid_argument naming the field, its value and the valid range.
[[nodiscard]] ControllerConfig validated(const ControllerConfig& config, const RobotModel& model);

}  // namespace vla_control
