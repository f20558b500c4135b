// SPDX-License-Identifier: Apache-2.0
#include "vla_controllers/command_output.hpp"

#include <algorithm>
#include <stdexcept>

#include "hardware_interface/types/hardware_interface_type_values.hpp"

namespace vla_controllers {
namespace {

using hardware_interface::HW_IF_EFFORT;
using hardware_interface::HW_IF_POSITION;

bool has(const std::vector<std::string>& kinds, const char* kind) {
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

}  // namespace

vla_control::OutputKind output_of(const std::vector<std::string>& kinds) {
  if (!has(kinds, HW_IF_EFFORT)) return vla_control::OutputKind::kMotion;
  if (kinds.size() == 1) return vla_control::OutputKind::kTorque;
  throw std::invalid_argument(
      "command_interfaces names effort beside others; choose [effort], [position], [velocity] or "
      "[position, velocity]");
}

void CommandOutput::configure(const std::vector<std::string>& kinds, Eigen::Index joints) {
  kinds_ = kinds;
  efforts_ = output_of(kinds) == vla_control::OutputKind::kTorque;
  torques_.tau.setZero(joints);
  motion_.q = motion_.dq = torques_.tau;
}

void CommandOutput::update(vla_control::Controller& core, const vla_control::JointState& joints,
                           std::int64_t time_ns, double period) noexcept {
  if (efforts_) {
    core.update(joints, time_ns, period, torques_);
  } else {
    core.update(joints, time_ns, period, motion_);
  }
}

void CommandOutput::rest(vla_control::Controller& core,
                         const vla_control::JointState& joints) noexcept {
  update(core, joints, 0, 0.0);
  if (efforts_ && core.config().command_includes_gravity.value_or(false) && joints.q.allFinite()) {
    torques_.tau = core.model().gravity(joints.q);
  }
}

bool CommandOutput::write(
    std::vector<hardware_interface::LoanedCommandInterface>& interfaces) const noexcept {
  bool taken = true;
  std::size_t at = 0;
  for (const std::string& kind : kinds_) {
    const vla_control::JointVector& values =
        efforts_ ? torques_.tau : (kind == HW_IF_POSITION ? motion_.q : motion_.dq);
    for (Eigen::Index i = 0; i < values.size(); ++i) {
      taken = interfaces[at++].set_value(values[i]) && taken;
    }
  }
  return taken;
}

}  // namespace vla_controllers
