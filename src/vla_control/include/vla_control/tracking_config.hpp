// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "vla_control/types.hpp"

/// Settings of the controller's second output: joint motion for drives that take no torque.
namespace vla_control {

/// What the controller commands.
enum class OutputKind : std::uint8_t {
  kTorque = 0,  ///< joint torques: a compliant arm
  /// Joint positions and velocities. Position tracking, not compliant, unless a force sensor is
  /// claimed (AdmittanceConfig).
  kMotion = 1,
};

/// Motion output. Position limits are the URDF's, velocity limits max_joint_velocity; the command
/// stays within max_position_error and max_rotation_error of the reference.
struct TrackingConfig {
  /// rad, what is usual for max_deviation: 5 mm at half a metre.
  static constexpr double kDeviation = 0.01;

  std::vector<double> max_acceleration;  ///< rad/s^2, of the command; no default
  std::vector<double> max_jerk;          ///< rad/s^3, of the command; empty = not bounded
  /// rad between the joints that are measured and those expected, beyond which the arm brakes and
  /// FAULT_TRACKING_DEVIATION is raised: it is blocked, or was stopped by its own safety. The more
  /// is allowed, the longer and harder a blocked arm presses. empty = kDeviation
  std::vector<double> max_deviation;
  /// s by which the drives follow a command late. It is expected of the measured joints; it does
  /// not change the command.
  double drive_lag_s = 0.0;
  /// 1/s by which what the joints are off goes into the commanded velocity, for drives that are
  /// told nothing but velocities; 0 where they are told positions.
  double velocity_feedback = 0.0;
};

/// Admittance: the reference gives way to what a force sensor feels, M a + D v + K x = F_ext -
/// F_des in the axes of the stiffness. K is the task stiffness; D makes the arm critically damped
/// against surroundings as stiff as `contact_stiffness`, and so over-damped in the air.
struct AdmittanceConfig {
  /// Frame of the URDF in which the force sensor measures, on the tool's side of the last joint.
  /// Empty = no sensor is claimed: position tracking, not compliant.
  std::string sensor_frame;
  double mass = 10.0;    ///< kg
  double inertia = 0.2;  ///< kg m^2
  /// Stiffest surroundings, tool and sensor included, in which contact is stable. Configuration
  /// fails, naming the least mass, where it would not be.
  double contact_stiffness = 10000.0;           ///< N/m
  double rotational_contact_stiffness = 100.0;  ///< Nm/rad
  double filter_s = 0.01;                       ///< s, time constant of the measured wrench
  double stale_s = 0.1;  ///< s without a change after which the sensor counts as stuck; 0 = never
  double timeout_s = 0.02;  ///< s without a finite wrench after which FAULT_FORCE_SENSOR is raised
  double max_velocity = 0.25;         ///< m/s, at which the tool gives way
  double max_angular_velocity = 1.0;  ///< rad/s
  double max_offset = 0.1;            ///< m from the reference
  double max_rotation_offset = 0.5;   ///< rad
  /// Beyond these, as filtered, FAULT_CONTACT_FORCE is raised.
  double max_force = 100.0;  ///< N
  double max_torque = 20.0;  ///< Nm

  [[nodiscard]] bool on() const noexcept { return !sensor_frame.empty(); }
};

}  // namespace vla_control
