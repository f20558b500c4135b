// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_control/controller.hpp"
#include "vla_control/types.hpp"

namespace vla_sim {

/// What a law did in its last update.
struct LawReport {
  vla_control::ReferenceSample reference;  ///< what it followed
  bool torque_saturated = false;
  bool torque_rate_saturated = false;
};

/// Whatever turns joint states into torques, cycle by cycle: the controller, or a law it is
/// compared with.
class Law {
 public:
  virtual ~Law() = default;
  [[nodiscard]] virtual int joints() const noexcept = 0;
  /// Starts where the arm is. \return false if the joint state is refused
  [[nodiscard]] virtual bool activate(const vla_control::JointState& state,
                                      std::int64_t time_ns) noexcept = 0;
  virtual void update(const vla_control::JointState& state, std::int64_t time_ns, double period,
                      vla_control::JointTorques& out) noexcept = 0;
  [[nodiscard]] virtual vla_control::GripperCommand gripper_command() const noexcept { return {}; }
  [[nodiscard]] virtual LawReport report() noexcept = 0;
};

/// The controller as a law.
class ControllerLaw final : public Law {
 public:
  explicit ControllerLaw(vla_control::Controller& controller) : controller_(controller) {}
  [[nodiscard]] int joints() const noexcept override { return controller_.model().n(); }
  [[nodiscard]] bool activate(const vla_control::JointState& state,
                              std::int64_t time_ns) noexcept override {
    return controller_.activate(state, time_ns);
  }
  void update(const vla_control::JointState& state, std::int64_t time_ns, double period,
              vla_control::JointTorques& out) noexcept override {
    controller_.update(state, time_ns, period, out);
  }
  [[nodiscard]] vla_control::GripperCommand gripper_command() const noexcept override {
    return controller_.gripper_command();
  }
  [[nodiscard]] LawReport report() noexcept override {
    const vla_control::ControllerState state = controller_.state();
    return {state.reference, state.torque_saturated, state.torque_rate_saturated};
  }

 private:
  vla_control::Controller& controller_;
};

}  // namespace vla_sim
