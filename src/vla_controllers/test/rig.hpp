// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <rcl/time.h>

#include <Eigen/Cholesky>
#include <chrono>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "controller_interface/controller_interface.hpp"
#include "pluginlib/class_loader.hpp"
#include "rclcpp/rclcpp.hpp"
#include "std_srvs/srv/trigger.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_msgs/msg/action_chunk.hpp"
#include "vla_msgs/msg/control_owner.hpp"
#include "vla_msgs/msg/controller_state.hpp"

namespace vla_controllers::testing {

using controller_interface::ControllerInterface;
using vla_control::JointVector;
using vla_control::Pose;
using vla_control::Vector3;

inline constexpr std::int64_t kMilli = 1'000'000;
inline constexpr std::int64_t kStart = 1'700'000'000'000 * kMilli;  // ROS time
inline constexpr double kRate = 1000.0;

/// The URDF of an arm of this repository.
inline std::string urdf(const std::string& arm) {
  std::ifstream file(std::string(REPOSITORY) + "/urdf/urdf/" + arm + ".urdf");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::string fr3_urdf() { return urdf("fr3"); }

inline vla_control::RobotDescription fr3() {
  vla_control::RobotDescription description;
  description.urdf_xml = fr3_urdf();
  for (int i = 1; i <= 7; ++i) description.joint_names.push_back("fr3_joint" + std::to_string(i));
  description.base_frame = "fr3_link0";
  description.tool_frame = "fr3_link8";
  return description;
}

/// Where it begins, rad.
inline std::vector<double> fr3_home() { return {0.0, -0.13, 0.0, -2.38, 0.0, 2.25, 0.785}; }

/// Parameters of which some are replaced or, with an empty value, left out.
inline std::vector<rclcpp::Parameter> changed(std::vector<rclcpp::Parameter> parameters,
                                              const std::vector<rclcpp::Parameter>& changes) {
  for (const rclcpp::Parameter& change : changes) {
    std::erase_if(parameters,
                  [&](const auto& other) { return other.get_name() == change.get_name(); });
    if (change.get_type() != rclcpp::ParameterType::PARAMETER_NOT_SET) parameters.push_back(change);
  }
  return parameters;
}

/// Parameters with which an FR3 is configured, some of them changed().
inline std::vector<rclcpp::Parameter> fr3_parameters(
    const std::vector<rclcpp::Parameter>& changes = {}) {
  return changed(
      {
          {"joints", fr3().joint_names},
          {"base_frame", "fr3_link0"},
          {"tool_frame", "fr3_link8"},
          {"command_includes_gravity", false},
          {"effort_state", "total"},
          {"control_rate", kRate},
          {"command_interfaces", std::vector<std::string>{"effort"}},
          {"heartbeat_timeout", 0.0},
      },
      changes);
}

/// What keeps an FR3 off itself and off a table whose top is at `table` (m).
inline std::vector<rclcpp::Parameter> watch_parameters(
    double table, const std::vector<rclcpp::Parameter>& changes = {}) {
  std::vector<rclcpp::Parameter> all{
      {"barrier.distance_braking", 4.0},
      {"collision.home", fr3_home()},
      // The cylinders of this URDF overlap at the joints.
      {"collision.may_touch",
       std::vector<std::string>{"fr3_link0", "fr3_link2", "fr3_link2", "fr3_link4", "fr3_link4",
                                "fr3_link6", "fr3_link4", "fr3_link7"}},
      {"obstacles", std::vector<std::string>{"table"}},
      {"obstacle.table.position", std::vector<double>{0.0, 0.0, table}},
  };
  return changed(std::move(all), changes);
}

/// An FR3 that takes positions and velocities instead, with or without a force sensor.
inline std::vector<rclcpp::Parameter> tracking_parameters(
    bool force_sensor, const std::vector<rclcpp::Parameter>& changes = {}) {
  std::vector<rclcpp::Parameter> all{
      {"command_interfaces", std::vector<std::string>{"position", "velocity"}},
      {"effort_state", "none"},
      {"tracking.max_acceleration", std::vector<double>(7, 10.0)},
      {"tracking.max_jerk", std::vector<double>(7, 5000.0)},
  };
  if (force_sensor) {
    all.emplace_back("force_sensor.name", "wrist");
    all.emplace_back("force_sensor.frame", "fr3_link8");
    all.emplace_back("force_sensor.reports", "environment_on_tool");
  }
  all.insert(all.end(), changes.begin(), changes.end());
  return fr3_parameters(all);
}

/// The controller, loaded as a plugin, between a simulated arm and topics. ROS time, control and
/// arm advance in lockstep. The drives of the arm carry gravity if `drive_carries_gravity`.
class Rig {
 public:
  explicit Rig(const std::vector<rclcpp::Parameter>& parameters, std::string urdf_xml = fr3_urdf(),
               unsigned int rate = 1000, const std::string& file = "")
      : model(fr3()),
        loader_("controller_interface", "controller_interface::ControllerInterface"),
        controller(loader_.createSharedInstance("vla_controllers/CartesianController")),
        node(std::make_shared<rclcpp::Node>("tester")) {
    q = JointVector::Map(fr3_home().data(), 7);
    dq.setZero(7);
    tau.setZero(7);
    controller_interface::ControllerInterfaceParams params;
    params.controller_name = "controller";
    params.robot_description = std::move(urdf_xml);
    params.update_rate = rate;
    params.controller_manager_update_rate = rate;
    params.node_options = controller->define_custom_node_options();
    params.node_options.parameter_overrides(parameters);
    if (!file.empty()) params.node_options.arguments({"--ros-args", "--params-file", file});
    initialised = controller->init(params) == controller_interface::return_type::OK;
    if (!initialised) return;
    clock_ = controller->get_node()->get_clock();
    const std::lock_guard<std::mutex> lock(clock_->get_clock_mutex());
    if (rcl_enable_ros_time_override(clock_->get_clock_handle()) != RCL_RET_OK) initialised = false;
    set_time();
    executor_.add_node(controller->get_node()->get_node_base_interface());
    executor_.add_node(node);
    chunks = node->create_publisher<vla_msgs::msg::ActionChunk>("controller/action_chunk", 10);
    owners = node->create_publisher<vla_msgs::msg::ControlOwner>("control_owner", 10);
    states_ = node->create_subscription<vla_msgs::msg::ControllerState>(
        "controller/state", 100, [this](const vla_msgs::msg::ControllerState& message) {
          state = message;
          ++states_received;
        });
  }

  /// Configures; true if the controller is then inactive.
  bool configure() {
    return controller->configure().id() == lifecycle_msgs::msg::State::PRIMARY_STATE_INACTIVE;
  }

  /// Lends the interfaces and activates; true if the controller is then active.
  bool activate() {
    namespace hw = hardware_interface;
    const auto description = [](const std::string& name) {
      const auto slash = name.find('/');
      hw::InterfaceInfo info;
      info.name = name.substr(slash + 1);
      return hw::InterfaceDescription(name.substr(0, slash), info);
    };
    state_handles_.clear();
    command_handles_.clear();
    std::vector<hw::LoanedStateInterface> states;
    std::vector<hw::LoanedCommandInterface> commands;
    for (const auto& name : controller->state_interface_configuration().names) {
      state_handles_.push_back(std::make_shared<hw::StateInterface>(description(name)));
      states.emplace_back(state_handles_.back(), nullptr);
    }
    for (const auto& name : controller->command_interface_configuration().names) {
      command_handles_.push_back(std::make_shared<hw::CommandInterface>(description(name)));
      commands.emplace_back(command_handles_.back(), nullptr);
    }
    write_state();
    controller->assign_interfaces(std::move(commands), std::move(states));
    return controller->get_node()->activate().id() ==
           lifecycle_msgs::msg::State::PRIMARY_STATE_ACTIVE;
  }

  bool deactivate() {
    const bool inactive = controller->get_node()->deactivate().id() ==
                          lifecycle_msgs::msg::State::PRIMARY_STATE_INACTIVE;
    read_command();
    controller->release_interfaces();
    return inactive;
  }

  /// One period of the loop and the arm.
  void step(std::int64_t period_ns = kMilli) {
    ros_ns += period_ns;
    {
      const std::lock_guard<std::mutex> lock(clock_->get_clock_mutex());
      set_time();
    }
    write_state();
    (void)controller->update(rclcpp::Time(ros_ns), rclcpp::Duration::from_nanoseconds(period_ns));
    read_command();
    const double dt = static_cast<double>(kMilli) * 1e-9;
    if (q_command.size() > 0) {
      // Drives that are told positions are there at the end of the period, unless they are blocked.
      const JointVector before = q;
      if (!blocked) q = q_command;
      dq = (q - before) / dt;
      return;
    }
    JointVector drive = tau - model.coriolis(q, dq);
    if (!drive_carries_gravity) drive -= model.gravity(q);
    drive += model.jacobian(q).topRows<3>().transpose() * pull;
    const JointVector ddq = Eigen::MatrixXd(model.mass_matrix(q)).llt().solve(drive);
    dq += dt * ddq;
    q += dt * dq;
  }

  void run(double seconds) {
    for (int i = 0; i < static_cast<int>(seconds * kRate); ++i) {
      step();
      if (paced) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (i % 20 == 0) executor_.spin_some();
      if (heartbeat && i % 20 == 0) owners->publish(*heartbeat);
    }
  }

  /// Steps in about real time until the predicate holds; false if it does not within 10 s.
  template <typename Predicate>
  bool until(Predicate predicate) {
    for (int i = 0; i < 10'000; ++i) {
      executor_.spin_some();
      if (predicate()) return true;
      if (stepping) step();
      if (heartbeat && i % 20 == 0) owners->publish(*heartbeat);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }

  /// Waits until publishers and subscribers have found each other.
  bool connect() {
    stepping = false;
    const bool found = until([this] {
      return chunks->get_subscription_count() > 0 && owners->get_subscription_count() > 0 &&
             states_->get_publisher_count() > 0;
    });
    stepping = true;
    return found;
  }

  bool call(const std::string& service) {
    const auto client = node->create_client<std_srvs::srv::Trigger>("controller/" + service);
    if (!until([&] { return client->service_is_ready(); })) return false;
    auto response = client->async_send_request(std::make_shared<std_srvs::srv::Trigger::Request>());
    const auto ready = [&] {
      return response.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    };
    return until(ready) && response.future.get()->success;
  }

  /// A motion of the tool along y with a smooth profile, observed now.
  vla_msgs::msg::ActionChunk motion(double distance, double duration, std::uint64_t sequence) {
    return motion(Vector3(0.0, distance, 0.0), duration, sequence);
  }
  vla_msgs::msg::ActionChunk motion(const Vector3& way, double duration, std::uint64_t sequence) {
    constexpr int kSteps = 30;
    vla_msgs::msg::ActionChunk chunk;
    chunk.header.stamp.sec = static_cast<std::int32_t>(ros_ns / 1'000'000'000);
    chunk.header.stamp.nanosec = static_cast<std::uint32_t>(ros_ns % 1'000'000'000);
    chunk.header.frame_id = "fr3_link0";
    chunk.tool_frame = "fr3_link8";
    chunk.boot_id = 1;
    chunk.grant = 1;
    chunk.sequence = sequence;
    chunk.step_dt = duration / (kSteps - 1);
    const Pose start = model.forward_kinematics(q);
    const Eigen::Quaterniond quat(start.rotation);
    for (int i = 0; i < kSteps; ++i) {
      const double s = static_cast<double>(i) / (kSteps - 1);
      geometry_msgs::msg::Pose pose;
      const Vector3 at = start.position + s * s * s * (10.0 - 15.0 * s + 6.0 * s * s) * way;
      pose.position.x = at.x();
      pose.position.y = at.y();
      pose.position.z = at.z();
      pose.orientation.x = quat.x();
      pose.orientation.y = quat.y();
      pose.orientation.z = quat.z();
      pose.orientation.w = quat.w();
      chunk.poses.push_back(pose);
    }
    return chunk;
  }

  /// Publishes a chunk and waits until the controller has judged it; true if it was accepted.
  bool send(const vla_msgs::msg::ActionChunk& chunk) {
    const auto accepted = state.chunks_accepted;
    const auto judged = state.chunks_accepted + state.chunks_rejected;
    chunks->publish(chunk);
    const bool heard =
        until([&] { return state.chunks_accepted + state.chunks_rejected > judged; });
    return heard && state.chunks_accepted > accepted;
  }

  [[nodiscard]] Vector3 tool() const { return model.forward_kinematics(q).position; }

  vla_control::RobotModel model;

 private:
  pluginlib::ClassLoader<ControllerInterface> loader_;

 public:
  std::shared_ptr<ControllerInterface> controller;
  rclcpp::Node::SharedPtr node;
  bool initialised = false;
  bool stepping = true;  // whether until() lets time go by
  bool paced = false;    // whether run() takes as long as the time that goes by, as until() does
  bool drive_carries_gravity = true;
  std::int64_t ros_ns = kStart;
  JointVector q, dq, tau;
  JointVector q_command;  // rad; empty where efforts are commanded
  bool blocked = false;
  Vector3 pull = Vector3::Zero();  // N, at the tool of an arm that takes torques
  vla_control::Vector6 wrench = vla_control::Vector6::Zero();  // that a force sensor reports
  JointVector effort_offset = JointVector::Zero(7);            // of the measured torque, Nm
  vla_msgs::msg::ControllerState state;
  int states_received = 0;
  std::shared_ptr<vla_msgs::msg::ControlOwner> heartbeat;  // published while time goes by
  rclcpp::Publisher<vla_msgs::msg::ActionChunk>::SharedPtr chunks;
  rclcpp::Publisher<vla_msgs::msg::ControlOwner>::SharedPtr owners;

 private:
  void set_time() {
    if (rcl_set_ros_time_override(clock_->get_clock_handle(), ros_ns) != RCL_RET_OK) {
      throw std::runtime_error("the clock cannot be set");
    }
  }

  void write_state() {
    JointVector effort = tau + effort_offset;
    if (drive_carries_gravity) effort += model.gravity(q);
    Eigen::Index felt = 0;
    for (std::size_t i = 0; i < state_handles_.size(); ++i) {
      const auto joint = static_cast<Eigen::Index>(i % 7);
      const bool of_joint = state_handles_[i]->get_prefix_name().starts_with("fr3");
      const double value = i < 7 ? q[joint] : (i < 14 ? dq[joint] : effort[joint]);
      (void)state_handles_[i]->set_value(of_joint ? value : wrench[felt++]);
    }
  }

  void read_command() {
    JointVector commanded = JointVector::Zero(7);
    for (Eigen::Index i = 0; i < 7; ++i) {
      commanded[i] = command_handles_[static_cast<std::size_t>(i)]->get_optional().value_or(0.0);
    }
    const bool positions = command_handles_.front()->get_interface_name() == "position";
    (positions ? q_command : tau) = commanded;
  }

  rclcpp::Clock::SharedPtr clock_;
  rclcpp::executors::SingleThreadedExecutor executor_;
  rclcpp::Subscription<vla_msgs::msg::ControllerState>::SharedPtr states_;
  std::vector<hardware_interface::StateInterface::SharedPtr> state_handles_;
  std::vector<hardware_interface::CommandInterface::SharedPtr> command_handles_;
};

}  // namespace vla_controllers::testing
