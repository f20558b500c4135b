// SPDX-License-Identifier: Apache-2.0
#include "vla_control/gripper_reference.hpp"

#include <algorithm>

namespace vla_control {

void GripperReference::reset() noexcept {
  schedule_.steps = 0;
  command_ = GripperCommand{};
}

void GripperReference::release() noexcept {
  schedule_.steps = 0;
  command_.commanded = false;
}

void GripperReference::follow(const GripperSchedule& schedule) noexcept {
  if (schedule.steps > 0) schedule_ = schedule;
}

GripperCommand GripperReference::update(std::int64_t now_ns) noexcept {
  if (schedule_.steps > 0 && now_ns >= schedule_.start_ns) {
    // Half a nanosecond keeps a step whose time is exactly now from being missed by rounding.
    const double steps =
        (static_cast<double>(now_ns - schedule_.start_ns) + 0.5) * 1e-9 / schedule_.step_dt;
    const int last = schedule_.steps - 1;
    const auto index =
        static_cast<std::size_t>(steps >= last ? last : std::max(0, static_cast<int>(steps)));
    command_ = GripperCommand{schedule_.opening[index], schedule_.max_force[index], true};
  }
  return command_;
}

}  // namespace vla_control
