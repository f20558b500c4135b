// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_control/controller.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_sim/law.hpp"
#include "vla_sim/position_drives.hpp"

/// The laws that the controller is compared with in the benchmark. They run in simulation only.
namespace vla_sim {

/// Settings of PeerLaw; the defaults are those that the peer publishes.
struct PeerConfig {
  double translational_stiffness = 600.0;  ///< N/m
  double rotational_stiffness = 30.0;      ///< Nm/rad
  double position_error_clip = 0.1;        ///< m, per axis
  double rotation_error_clip = 0.5;        ///< rad, per axis
  double nullspace_stiffness = 1.0;        ///< Nm/rad
  double nullspace_torque_limit = 5.0;     ///< Nm, per joint
  double target_smoothing = 0.1;           ///< share of the old target that is kept per cycle
  double torque_step_limit = 0.5;          ///< Nm per cycle
  bool command_includes_gravity = false;
};

/// Cartesian impedance as published by crisp_controllers (Apache-2.0, version of August 2025):
/// F = K clip(e) - 2 sqrt(K) J dq, a posture spring in the kinematic nullspace, an exponential
/// moving average of the target, a limit on the torque's change per cycle; no feed-forward.
///
/// It differs from the published code in one point, to its advantage: the moving average is taken
/// on the group, so that it has no jump where a rotation vector wraps at pi.
class PeerLaw final : public Law {
 public:
  /// \param preview controller whose reference is the target in every cycle; it is updated along
  ///     with this law and its torques are dropped. nullptr = targets come from set_target().
  PeerLaw(const vla_control::RobotDescription& description, const PeerConfig& config,
          vla_control::Controller* preview);

  void set_target(const vla_control::Pose& pose) noexcept { target_ = pose; }

  [[nodiscard]] int joints() const noexcept override { return model_.n(); }
  [[nodiscard]] bool activate(const vla_control::JointState& state,
                              std::int64_t time_ns) noexcept override;
  void update(const vla_control::JointState& state, std::int64_t time_ns, double period,
              vla_control::JointTorques& out) noexcept override;
  [[nodiscard]] LawReport report() noexcept override { return report_; }

 private:
  vla_control::RobotModel model_;
  PeerConfig config_;
  vla_control::Controller* preview_;
  vla_control::Pose target_, filtered_;
  vla_control::JointVector posture_, previous_;
  vla_control::Dynamics dynamics_;
  LawReport report_;
};

/// A stiff position loop, as an industrial arm has: the reference of `preview` through closed-loop
/// inverse kinematics, then critically damped joint position control of a given bandwidth.
class PositionLaw final : public Law {
 public:
  /// \param frequency natural frequency of every joint, rad/s
  /// \param preview whose rotor inertia the drives know
  PositionLaw(const vla_control::RobotDescription& description, double frequency,
              bool command_includes_gravity, vla_control::Controller& preview);

  [[nodiscard]] int joints() const noexcept override { return servo_.model().n(); }
  [[nodiscard]] bool activate(const vla_control::JointState& state,
                              std::int64_t time_ns) noexcept override;
  void update(const vla_control::JointState& state, std::int64_t time_ns, double period,
              vla_control::JointTorques& out) noexcept override;
  [[nodiscard]] LawReport report() noexcept override { return report_; }

 private:
  PositionServo servo_;
  vla_control::Controller& preview_;
  vla_control::JointVector q_reference_;
  LawReport report_;
};

}  // namespace vla_sim
