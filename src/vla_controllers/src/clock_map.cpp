// SPDX-License-Identifier: Apache-2.0
#include "vla_controllers/clock_map.hpp"

#include <algorithm>

namespace vla_controllers {

void ClockMap::cycle(std::int64_t control_ns, std::int64_t steady_ns,
                     std::uint64_t activation) noexcept {
  cycles_.writable() = {control_ns, steady_ns, activation};
  cycles_.publish();
}

bool ClockMap::observe(std::int64_t ros_ns, std::int64_t steady_ns) noexcept {
  (void)cycles_.refresh();
  const Cycle& last = cycles_.value();
  // Within a period the loop's clock is carried on; a loop that is late or paused stands still.
  control_now_ =
      last.control_ns + std::clamp<std::int64_t>(steady_ns - last.steady_ns, 0, period_ns_);
  const std::int64_t before = offset_ns_;
  offset_ns_ = ros_ns - control_now_;
  const bool comparable = activation_ != 0 && activation_ == last.activation;
  activation_ = last.activation;
  const std::int64_t step = offset_ns_ - before;
  return !comparable || (step <= jump_ns_ && step >= -jump_ns_);
}

std::int64_t ClockMap::to_control(std::int64_t ros_ns) const noexcept {
  return ros_ns - offset_ns_;
}

std::int64_t ClockMap::to_ros(std::int64_t control_ns) const noexcept {
  return control_ns + offset_ns_;
}

}  // namespace vla_controllers
