// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "rclcpp/rclcpp.hpp"
#include "rclcpp_lifecycle/lifecycle_node.hpp"
#include "std_srvs/srv/trigger.hpp"
#include "vla_control/controller.hpp"
#include "vla_controllers/clock_map.hpp"
#include "vla_controllers/message_adapter.hpp"
#include "vla_msgs/msg/action_chunk.hpp"
#include "vla_msgs/msg/control_owner.hpp"
#include "vla_msgs/msg/controller_state.hpp"

namespace vla_controllers {

/// What the loop of a controller and its topics share.
struct ControllerCore {
  /// \param jump_ns step of ROS time that counts as a jump
  ControllerCore(const vla_control::RobotDescription& description,
                 const vla_control::ControllerConfig& config, std::int64_t jump_ns)
      : controller(description, config),
        clocks(static_cast<std::int64_t>(1e9 / config.rate), jump_ns) {}

  vla_control::Controller controller;
  ClockMap clocks;
  std::atomic<bool> active{false};
};

/// Topics and services of one configured controller, the same as those of the simulated one:
/// ~/action_chunk and control_owner in, ~/state out, ~/stop, ~/reset and ~/tare.
///
/// All callbacks are in one mutually exclusive group: whatever the executor, one thread at a time
/// offers chunks, takes heartbeats and reads the state, as the wait-free hand-overs demand.
class ControllerTopics {
 public:
  /// \param state_rate Hz of ~/state
  ControllerTopics(const std::shared_ptr<rclcpp_lifecycle::LifecycleNode>& node,
                   const std::shared_ptr<ControllerCore>& core, double state_rate);

 private:
  class Callbacks;

  rclcpp::CallbackGroup::SharedPtr group_;
  std::vector<std::shared_ptr<void>> entities_;  // live as long as this object
};

}  // namespace vla_controllers
