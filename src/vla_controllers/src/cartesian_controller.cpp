// SPDX-License-Identifier: Apache-2.0
#include "vla_controllers/cartesian_controller.hpp"

#include <chrono>
#include <cmath>
#include <exception>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "hardware_interface/types/hardware_interface_type_values.hpp"
#include "pluginlib/class_list_macros.hpp"
#include "vla_controllers/configuration.hpp"

namespace vla_controllers {
namespace {

using controller_interface::CallbackReturn;
using controller_interface::interface_configuration_type;
using controller_interface::InterfaceConfiguration;
using controller_interface::return_type;

constexpr std::chrono::milliseconds kGainsPeriod{50};
constexpr double kRateTolerance = 0.01;  // of the declared control rate
constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
constexpr const char* kRequired =
    "; required are joints, base_frame, tool_frame, control_rate [Hz], command_interfaces "
    "([effort], "
    "[position], [velocity] or [position, velocity]), command_includes_gravity (true: efforts must "
    "contain gravity, as in a simulation; false: the robot adds it itself, as Franka and UR do, or "
    "takes no efforts) and effort_state (total, gravity_free, current or none)";

std::int64_t steady_now() noexcept {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<std::string> names_of(const std::vector<std::string>& joints,
                                  const std::vector<std::string>& kinds) {
  std::vector<std::string> names;
  for (const std::string& kind : kinds) {
    for (const std::string& joint : joints) names.push_back(joint + "/" + kind);
  }
  return names;
}

}  // namespace

// Parameters are declared at configuration, where it can be told what is missing.
CallbackReturn CartesianController::on_init() { return CallbackReturn::SUCCESS; }

std::vector<std::string> CartesianController::command_names() const {
  return names_of(params_.joints, params_.command_interfaces);
}

std::vector<std::string> CartesianController::state_names() const {
  std::vector<std::string> kinds{hardware_interface::HW_IF_POSITION,
                                 hardware_interface::HW_IF_VELOCITY};
  if (measures_torque(params_)) kinds.emplace_back(hardware_interface::HW_IF_EFFORT);
  std::vector<std::string> names = names_of(params_.joints, kinds);
  for (const std::string& name : force_sensor_interfaces(params_)) names.push_back(name);
  return names;
}

InterfaceConfiguration CartesianController::command_interface_configuration() const {
  return {interface_configuration_type::INDIVIDUAL, command_names()};
}

InterfaceConfiguration CartesianController::state_interface_configuration() const {
  return {interface_configuration_type::INDIVIDUAL, state_names()};
}

void CartesianController::create_core() {
  if (!parameters_) {
    try {
      parameters_ = std::make_shared<cartesian_controller::ParamListener>(get_node());
    } catch (const std::exception& error) {
      throw std::invalid_argument(error.what() + std::string(kRequired));
    }
  }
  params_ = parameters_->get_params();
  const double rate = get_update_rate();
  if (std::abs(rate - params_.control_rate) > kRateTolerance * params_.control_rate) {
    std::ostringstream text;
    text << "control_rate is declared as " << params_.control_rate
         << " Hz, but the controller manager runs this controller at " << rate
         << " Hz; set update_rate of the controller manager to what the hardware takes";
    throw std::invalid_argument(text.str());
  }
  core_ = std::make_shared<ControllerCore>(robot_description(params_, get_robot_description()),
                                           controller_config(params_),
                                           static_cast<std::int64_t>(params_.clock_jump * 1e9));
}

void CartesianController::watch_gains() {
  const auto watch = [parameters = parameters_, core = core_, logger = get_node()->get_logger(),
                      params = std::make_shared<cartesian_controller::Params>(params_)] {
    if (!parameters->is_old(*params)) return;
    *params = parameters->get_params();
    if (!core->controller.set_gains(gains(*params))) {
      RCLCPP_WARN(logger, "the gains are out of range and stay as they are");
    }
  };
  gains_timer_ = get_node()->create_wall_timer(kGainsPeriod, watch);
}

CallbackReturn CartesianController::on_configure(const rclcpp_lifecycle::State&) {
  release();
  try {
    create_core();
    topics_ = std::make_unique<ControllerTopics>(get_node(), core_, params_.state_rate);
    // Not at activation, which is a cycle of the loop: no thread is started or joined there, and
    // none inherits the loop's priority.
    collision_watch_ = CollisionWatch::start(params_, core_);
    watch_gains();
  } catch (const std::exception& error) {
    RCLCPP_ERROR(get_node()->get_logger(), "not configured: %s", error.what());
    release();
    return CallbackReturn::FAILURE;
  }
  for (const std::string& line : notices(params_)) {
    RCLCPP_WARN(get_node()->get_logger(), "%s", line.c_str());
  }
  joints_.q.setZero(core_->controller.model().n());
  joints_.dq = joints_.q;
  output_.configure(params_.command_interfaces, joints_.q.size());
  if (measures_torque(params_)) joints_.effort = joints_.q;
  joints_.wrench.reset();
  if (!params_.force_sensor.name.empty()) joints_.wrench = vla_control::Vector6::Zero();
  wrench_sign_ = params_.force_sensor.reports == "tool_on_environment" ? -1.0 : 1.0;
  return CallbackReturn::SUCCESS;
}

bool CartesianController::interfaces_are_as_asked() const {
  const auto agree = [](const auto& interfaces, const std::vector<std::string>& names) {
    if (interfaces.size() != names.size()) return false;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (interfaces[i].get_name() != names[i]) return false;
    }
    return true;
  };
  return agree(command_interfaces_, command_names()) && agree(state_interfaces_, state_names());
}

CallbackReturn CartesianController::on_activate(const rclcpp_lifecycle::State&) {
  if (!interfaces_are_as_asked()) {
    RCLCPP_ERROR(get_node()->get_logger(),
                 "not activated: the interfaces are not those asked for, in their order");
    return CallbackReturn::FAILURE;
  }
  read_joints();
  control_ns_ = steady_now();
  if (!core_->controller.activate(joints_, control_ns_)) {
    const std::string reason(to_string(core_->controller.activation_refusal()));
    RCLCPP_ERROR(get_node()->get_logger(), "not activated: %s", reason.c_str());
    return CallbackReturn::FAILURE;
  }
  core_->clocks.cycle(control_ns_, control_ns_, ++activations_);
  core_->active = true;
  return CallbackReturn::SUCCESS;
}

CallbackReturn CartesianController::on_deactivate(const rclcpp_lifecycle::State&) {
  core_->active = false;
  core_->controller.deactivate();
  output_.rest(core_->controller, joints_);
  if (!output_.write(command_interfaces_)) {
    RCLCPP_WARN(get_node()->get_logger(), "the last command was not taken by the hardware");
  }
  return CallbackReturn::SUCCESS;
}

CallbackReturn CartesianController::on_cleanup(const rclcpp_lifecycle::State&) {
  release();
  return CallbackReturn::SUCCESS;
}

CallbackReturn CartesianController::on_error(const rclcpp_lifecycle::State&) {
  release();
  return CallbackReturn::SUCCESS;
}

void CartesianController::release() {
  gains_timer_.reset();
  collision_watch_.reset();
  topics_.reset();
  if (core_) core_->active = false;
  core_.reset();
}

void CartesianController::read_joints() noexcept {
  const Eigen::Index n = joints_.q.size();
  const auto value = [this](Eigen::Index i) {
    return state_interfaces_[static_cast<std::size_t>(i)].get_optional().value_or(kMissing);
  };
  for (Eigen::Index i = 0; i < n; ++i) {
    joints_.q[i] = value(i);
    joints_.dq[i] = value(n + i);
  }
  for (Eigen::Index i = 0; i < joints_.effort.size(); ++i) joints_.effort[i] = value(2 * n + i);
  if (!joints_.wrench.has_value()) return;
  const Eigen::Index begin = 2 * n + joints_.effort.size();
  for (Eigen::Index i = 0; i < 6; ++i) (*joints_.wrench)[i] = wrench_sign_ * value(begin + i);
}

return_type CartesianController::update(const rclcpp::Time&, const rclcpp::Duration& period) {
  control_ns_ += period.nanoseconds();
  read_joints();
  output_.update(core_->controller, joints_, control_ns_,
                 static_cast<double>(period.nanoseconds()) * 1e-9);
  core_->clocks.cycle(control_ns_, steady_now(), activations_);
  // A command that is not taken leaves the one before, which the next cycle replaces.
  (void)output_.write(command_interfaces_);
  return return_type::OK;
}

}  // namespace vla_controllers

PLUGINLIB_EXPORT_CLASS(vla_controllers::CartesianController,
                       controller_interface::ControllerInterface)
