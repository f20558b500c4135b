// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "vla_control/types.hpp"

/// Settings of the pieces around the task law. Everything is off by default. Empty lists mean the
/// default named beside them.
namespace vla_control {

/// Which law holds the arm to its reference; see TaskLaw.
enum class TaskLawKind : std::uint8_t {
  kImpedance = 0,         ///< a spring of the configured stiffness
  kOperationalSpace = 1,  ///< a decoupled motion of the configured frequencies
  kJointImpedance = 2,    ///< a spring in every joint; see JointLaw
};

/// Axes of the stiffness.
enum class StiffnessFrame : std::uint8_t {
  kBase = 0,
  kTool = 1,  ///< of the reference
};

/// Gains that may change while the controller runs.
struct TaskGains {
  Matrix6 stiffness = Matrix6::Identity();  ///< N/m, N, Nm/rad; symmetric positive definite
  double damping_ratio = 1.0;
  /// Nm/rad, of the joint-impedance law, one per joint; empty = as it is
  JointVector joint_stiffness{};
};

/// Largest natural frequency w of a mode that a control rate can damp with the ratio zeta, rad/s.
///
/// A velocity that is damped with the rate d, one cycle T late, is stable for d T < 1; the damping
/// of a mode is d = 2 zeta w. With little damping it is the lag of a cycle and a half that counts:
/// w T < 4/3 zeta. A sixth of the bound or more is left to spare.
[[nodiscard]] double largest_frequency(double rate, double damping_ratio) noexcept;
/// The same for a damping without a spring: largest rate d, 1/s.
[[nodiscard]] double largest_damping_rate(double rate) noexcept;

/// Joint friction coulomb * dq / sqrt(dq^2 + smoothing_speed^2) + viscous * dq, as a smooth
/// stand-in for a sign. Compensated at the joint velocity of the REFERENCE: what the arm measures
/// has no part in it, so it cannot excite the arm, and a resting reference gets no torque.
struct FrictionConfig {
  std::vector<double> coulomb;    ///< Nm; empty = 0
  std::vector<double> viscous;    ///< Nms/rad; empty = 0
  double smoothing_speed = 0.02;  ///< rad/s
};

/// Leaky, clamped integral of the task spring's force, against the millimetres that static friction
/// leaves. It grows only while the reference rests and no contact is flagged.
struct IntegralConfig {
  double gain = 0.0;        ///< 1/s on the force K e; 0 = off
  double leak = 0.1;        ///< 1/s
  double max_force = 10.0;  ///< N
  double max_torque = 1.0;  ///< Nm
  /// Errors below these do not feed it: a resting arm does not hunt around static friction.
  double dead_position = 2e-4;  ///< m
  double dead_rotation = 1e-3;  ///< rad
};

/// Force tracking of the chunks' wrenches; see ForceTracking.
struct ForceConfig {
  /// Base axes (x, y, z, then the moments about them) along which a chunk's wrench is tracked; a
  /// chunk with wrenches is UNSUPPORTED_MODE without any.
  std::array<bool, 6> axes{};
  double gain = 4.0;                 ///< 1/s of the integral of the force that is missing
  double max_force = 50.0;           ///< N per axis; commands beyond are clamped
  double max_torque = 10.0;          ///< Nm per axis
  double max_integral_force = 10.0;  ///< N per axis
  double max_integral_torque = 2.0;  ///< Nm per axis
  double fade_s = 0.2;               ///< s, from position to force and back
};

/// Momentum observer and what is concluded from it.
struct SensingConfig {
  double observer_bandwidth = 50.0;  ///< 1/s
  double contact_force = 10.0;       ///< N at the tool, above which contact is flagged
  double contact_torque = 2.0;       ///< Nm
  double contact_release = 0.6;      ///< fraction of both, below which it may end
  double contact_release_s = 0.05;   ///< s below, after which it ends
  double yield_s = 0.02;  ///< s over which the tool begins to yield to contact; 0 = it does not
  /// Fraction of the expected payload's weight that must be missing before it counts as lost.
  double lost_fraction = 0.6;
  double lost_s = 0.15;          ///< s for which it must be missing
  double lost_least_mass = 0.1;  ///< kg, lighter payloads are not watched
  double tare_s = 0.25;          ///< s of standing still over which a tare averages
};

/// Velocity barriers: near a limit the speed towards it is damped to what `braking` still stops.
struct BarrierConfig {
  double joint_braking = 0.0;      ///< rad/s^2; 0 = no joint barrier
  double joint_margin = 0.05;      ///< rad between the URDF's limit and the soft limit
  double joint_fade = 0.05;        ///< rad before the soft limit over which an outward torque fades
  double workspace_braking = 0.0;  ///< m/s^2; 0 = no barrier of the measured tool at the workspace
  double workspace_fade = 0.02;    ///< m before the face over which an outward force fades
  /// m/s^2; 0 = no barrier between bodies. With it, distances must keep coming: without fresh ones
  /// the arm brakes to a hold and chunks are UNMONITORED.
  double distance_braking = 0.0;
  double distance_margin = 0.005;  ///< m that bodies are kept apart
  double distance_fade = 0.01;     ///< m before the margin over which a closing torque fades
  double distance_stale_s = 0.05;  ///< s, age above which distances are not fresh
};

/// Bounds the energy that the controller gives to the arm.
struct EnergyTankConfig {
  double capacity = 0.0;      ///< J; 0 = no tank
  double refill_power = 0.0;  ///< W, allowance for what friction eats
};

/// Largest wrench that the task law may exert at the tool, its whole being limited in both halves.
struct WrenchLimits {
  double force = std::numeric_limits<double>::infinity();   ///< N
  double torque = std::numeric_limits<double>::infinity();  ///< Nm
};

}  // namespace vla_control
