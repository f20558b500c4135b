// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hardware_interface/loaned_command_interface.hpp"
#include "vla_control/controller.hpp"

namespace vla_controllers {

/// What an arm is told, by the command interfaces that were declared: efforts, or positions and
/// velocities, or either of these.
class CommandOutput {
 public:
  /// \param kinds checked by output_of()
  void configure(const std::vector<std::string>& kinds, Eigen::Index joints);

  /// One cycle of the core. RT-safe.
  void update(vla_control::Controller& core, const vla_control::JointState& joints,
              std::int64_t time_ns, double period) noexcept;
  /// What the hardware is left with by a core that was deactivated: the last position, no velocity,
  /// and an effort that carries the arm where the command must.
  void rest(vla_control::Controller& core, const vla_control::JointState& joints) noexcept;
  /// \return false if the hardware has not taken all of it. RT-safe.
  [[nodiscard]] bool write(
      std::vector<hardware_interface::LoanedCommandInterface>& interfaces) const noexcept;

 private:
  std::vector<std::string> kinds_;
  bool efforts_ = true;
  vla_control::JointTorques torques_;
  vla_control::JointMotion motion_;
};

/// What the core has to command for these kinds of interfaces.
/// \throws std::invalid_argument naming the valid choices
[[nodiscard]] vla_control::OutputKind output_of(const std::vector<std::string>& kinds);

}  // namespace vla_controllers
