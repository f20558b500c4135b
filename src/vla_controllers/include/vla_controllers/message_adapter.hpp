// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "builtin_interfaces/msg/time.hpp"
#include "vla_control/types.hpp"
#include "vla_msgs/msg/action_chunk.hpp"
#include "vla_msgs/msg/controller_state.hpp"

/// All conversions between messages and types of the core. Nothing is repaired or judged here: the
/// core checks every value of a chunk.
namespace vla_controllers {

[[nodiscard]] std::int64_t to_ns(const builtin_interfaces::msg::Time& time) noexcept;
[[nodiscard]] builtin_interfaces::msg::Time to_time(std::int64_t ns) noexcept;

/// A chunk as it was received. \param stamp_ns its stamp on the controller's clock
[[nodiscard]] vla_control::Chunk to_chunk(const vla_msgs::msg::ActionChunk& message,
                                          std::int64_t stamp_ns);

/// Names that every state message carries.
struct StateNames {
  std::string base_frame;
  std::string tool_frame;
  std::vector<std::string> joints;
};

/// A state as a message. \param stamp_ns ROS time of its control cycle
[[nodiscard]] vla_msgs::msg::ControllerState to_message(const vla_control::ControllerState& state,
                                                        std::int64_t stamp_ns,
                                                        const StateNames& names);

}  // namespace vla_controllers
