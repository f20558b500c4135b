// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "vla_control/controller.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_sim/law.hpp"

namespace vla_sim {

/// Torque of a stiff joint position loop: critically damped, of one natural frequency for every
/// joint, within the effort limits of the URDF.
class PositionServo {
 public:
  /// \param frequency natural frequency, rad/s
  /// \param rotor_inertia of each joint, kg m^2; drives know their rotors
  /// \throws std::invalid_argument unless the frequency is positive and finite and there is one
  ///   inertia per joint
  PositionServo(const vla_control::RobotDescription& description, double frequency,
                bool command_includes_gravity, const std::vector<double>& rotor_inertia);

  /// \return true if an effort limit was active
  bool compute(const vla_control::JointState& state, const vla_control::JointVector& q,
               const vla_control::JointVector& dq, vla_control::JointVector& tau) noexcept;
  [[nodiscard]] const vla_control::RobotModel& model() const noexcept { return model_; }

 private:
  vla_control::RobotModel model_;
  double frequency_;
  bool includes_gravity_;
  vla_control::JointVector rotor_inertia_;
  vla_control::Dynamics dynamics_;
};

/// An arm that is told positions, as a UR of the CB3 series: the controller, with motion output,
/// commands once per `divider` cycles; in between the drives interpolate and close their own loop.
class PositionDrives final : public Law {
 public:
  /// Drives know the rotor inertia that the controller is configured with.
  /// \param frequency of the drives' loop, rad/s
  /// \throws std::invalid_argument if the controller's output is torque or the divider not positive
  PositionDrives(vla_control::Controller& controller, double frequency, int divider,
                 bool command_includes_gravity);

  [[nodiscard]] int joints() const noexcept override { return servo_.model().n(); }
  [[nodiscard]] bool activate(const vla_control::JointState& state,
                              std::int64_t time_ns) noexcept override;
  void update(const vla_control::JointState& state, std::int64_t time_ns, double period,
              vla_control::JointTorques& out) noexcept override;
  [[nodiscard]] vla_control::GripperCommand gripper_command() const noexcept override {
    return controller_.gripper_command();
  }
  [[nodiscard]] LawReport report() noexcept override { return report_; }

 private:
  vla_control::Controller& controller_;
  PositionServo servo_;
  int divider_;
  int cycle_ = 0;
  vla_control::JointMotion command_;
  vla_control::JointVector from_;  // rad, where the interpolation begins
  LawReport report_;
};

}  // namespace vla_sim
