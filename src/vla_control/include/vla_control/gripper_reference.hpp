// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "vla_control/types.hpp"

namespace vla_control {

/// Gripper setpoints of one chunk, clamped to the configured range.
struct GripperSchedule {
  std::int64_t start_ns = 0;
  double step_dt = 0.05;                      ///< s
  int steps = 0;                              ///< 0 = the chunk leaves the gripper as it is
  std::array<double, kMaxSteps> opening{};    ///< m
  std::array<double, kMaxSteps> max_force{};  ///< N
};

/// Gripper setpoint in force: the latest step not after now, in the same time base as the poses;
/// the last one is kept. RT-safe.
class GripperReference {
 public:
  void reset() noexcept;                                  ///< nothing commanded
  void follow(const GripperSchedule& schedule) noexcept;  ///< replaces the schedule, if not empty
  void revoke() noexcept { schedule_.steps = 0; }         ///< keeps the present command
  /// Leaves the gripper as it is until the next schedule.
  void release() noexcept;
  GripperCommand update(std::int64_t now_ns) noexcept;

 private:
  GripperSchedule schedule_;
  GripperCommand command_;
};

}  // namespace vla_control
