// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "controller_interface/controller_interface.hpp"
#include "vla_control/types.hpp"
#include "vla_controllers/cartesian_controller_parameters.hpp"
#include "vla_controllers/collision_watch.hpp"
#include "vla_controllers/command_output.hpp"
#include "vla_controllers/controller_topics.hpp"

namespace vla_controllers {

/// ros2_control plugin around vla_control::Controller: claims the efforts of an arm's joints, or
/// their positions and velocities, and follows chunks of tool poses.
///
/// Life: configuration fails, naming the value and the valid choices; activation refuses what the
/// core refuses; update() allocates nothing and takes no lock of its own. After deactivation the
/// last effort that stays in the hardware carries gravity where commands must, and is zero
/// elsewhere; positions stay as they are.
class CartesianController : public controller_interface::ControllerInterface {
 public:
  controller_interface::CallbackReturn on_init() override;
  [[nodiscard]] controller_interface::InterfaceConfiguration command_interface_configuration()
      const override;
  [[nodiscard]] controller_interface::InterfaceConfiguration state_interface_configuration()
      const override;
  controller_interface::CallbackReturn on_configure(const rclcpp_lifecycle::State& state) override;
  controller_interface::CallbackReturn on_activate(const rclcpp_lifecycle::State& state) override;
  controller_interface::CallbackReturn on_deactivate(const rclcpp_lifecycle::State& state) override;
  controller_interface::CallbackReturn on_cleanup(const rclcpp_lifecycle::State& state) override;
  controller_interface::CallbackReturn on_error(const rclcpp_lifecycle::State& state) override;

  /// One cycle, RT-safe. \param period since the cycle before; the controller's clock is their sum
  controller_interface::return_type update(const rclcpp::Time& time,
                                           const rclcpp::Duration& period) override;

 private:
  void create_core();  // throws, naming what is wrong
  void watch_gains();
  void release();
  [[nodiscard]] std::vector<std::string> state_names() const;
  [[nodiscard]] std::vector<std::string> command_names() const;
  [[nodiscard]] bool interfaces_are_as_asked() const;
  void read_joints() noexcept;

  std::shared_ptr<cartesian_controller::ParamListener> parameters_;
  cartesian_controller::Params params_;
  std::shared_ptr<ControllerCore> core_;
  std::unique_ptr<ControllerTopics> topics_;
  std::unique_ptr<CollisionWatch> collision_watch_;
  rclcpp::TimerBase::SharedPtr gains_timer_;

  // Loop.
  vla_control::JointState joints_;
  double wrench_sign_ = 1.0;  // of what the force sensor reports
  CommandOutput output_;
  std::int64_t control_ns_ = 0;
  std::uint64_t activations_ = 0;
};

}  // namespace vla_controllers
