// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_control/mailbox.hpp"

namespace vla_controllers {

/// Maps between ROS time and the clock of the control loop, which is the sum of its periods.
///
/// The loop reports where its clock stands, one other thread maps. Stamps are mapped by their age
/// at reception, so that a ROS clock that is slewed or stepped later does not move what has been
/// received. All times are ns; steady time is that of std::chrono::steady_clock.
class ClockMap {
 public:
  /// \param period_ns nominal period of the loop
  /// \param jump_ns step of ROS time against the loop's clock that counts as a jump
  ClockMap(std::int64_t period_ns, std::int64_t jump_ns) noexcept
      : period_ns_(period_ns), jump_ns_(jump_ns) {}

  /// A cycle of the loop. Thread of the loop, RT-safe.
  /// \param activation counts activations: the clock may have started anew with one
  void cycle(std::int64_t control_ns, std::int64_t steady_ns, std::uint64_t activation) noexcept;

  /// Takes the present time; the following are for the one mapping thread and refer to it.
  /// \return false if ROS time has jumped against the loop's clock since the call before
  [[nodiscard]] bool observe(std::int64_t ros_ns, std::int64_t steady_ns) noexcept;
  [[nodiscard]] std::int64_t control_now() const noexcept { return control_now_; }
  [[nodiscard]] std::int64_t to_control(std::int64_t ros_ns) const noexcept;
  [[nodiscard]] std::int64_t to_ros(std::int64_t control_ns) const noexcept;

 private:
  struct Cycle {
    std::int64_t control_ns = 0;
    std::int64_t steady_ns = 0;
    std::uint64_t activation = 0;
  };

  std::int64_t period_ns_;
  std::int64_t jump_ns_;
  vla_control::Mailbox<Cycle> cycles_;
  // Mapping thread.
  std::int64_t control_now_ = 0;
  std::int64_t offset_ns_ = 0;    // ROS time minus the loop's
  std::uint64_t activation_ = 0;  // of that offset; 0 = none yet
};

}  // namespace vla_controllers
