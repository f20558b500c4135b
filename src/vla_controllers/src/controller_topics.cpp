// SPDX-License-Identifier: Apache-2.0
#include "vla_controllers/controller_topics.hpp"

#include <chrono>
#include <string>
#include <utility>

namespace vla_controllers {
namespace {

using std_srvs::srv::Trigger;
using vla_control::Phase;
using vla_control::RejectReason;
using vla_msgs::msg::ActionChunk;
using vla_msgs::msg::ControllerState;
using vla_msgs::msg::ControlOwner;

constexpr int kWarningPeriod = 1000;  // ms between repeated warnings

std::int64_t steady_now() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

rclcpp::QoS reliable() { return rclcpp::QoS(rclcpp::KeepLast(100)).reliable(); }

}  // namespace

/// What the callbacks need, kept alive by each of them: one may still run when the controller is
/// cleaned up.
class ControllerTopics::Callbacks {
 public:
  Callbacks(rclcpp_lifecycle::LifecycleNode& node, std::shared_ptr<ControllerCore> core)
      : core_(std::move(core)), clock_(node.get_clock()), logger_(node.get_logger()) {
    const vla_control::RobotDescription& description = core_->controller.description();
    names_ = {description.base_frame, description.tool_frame, description.joint_names};
    // Not the node's own method: that publishes only while the node is active, but it is of
    // interest also that the controller is inactive.
    publisher_ = rclcpp::create_publisher<ControllerState>(node, "~/state", reliable());
  }

  void on_chunk(const ActionChunk& message) {
    take_time();
    const std::int64_t stamp_ns = core_->clocks.to_control(to_ns(message.header.stamp));
    const RejectReason reason = core_->controller.push_chunk(to_chunk(message, stamp_ns));
    if (reason == RejectReason::kNone) return;
    RCLCPP_WARN_THROTTLE(logger_, *clock_, kWarningPeriod, "chunk %lu rejected: %s",
                         static_cast<unsigned long>(message.sequence),
                         std::string(to_string(reason)).c_str());
  }

  void on_owner(const ControlOwner& message) {
    take_time();
    // A number that is no owner's is nobody who follows.
    core_->controller.heartbeat(message.boot_id, message.grant, core_->clocks.control_now(),
                                static_cast<vla_control::Owner>(message.owner));
  }

  void on_stop(Trigger::Response& response) {
    core_->controller.stop();
    respond(response, "stopped; only a reset releases");
  }

  void on_reset(Trigger::Response& response) {
    core_->controller.reset();
    respond(response, "released");
  }

  void on_tare(Trigger::Response& response) {
    const vla_control::ControllerConfig& config = core_->controller.config();
    if (config.output == vla_control::OutputKind::kMotion && !config.admittance.on()) {
      response.success = false;
      response.message = "position tracking without a force sensor has nothing to tare";
      return;
    }
    core_->controller.tare();
    respond(response, "taken as soon as the arm has stood still");
  }

  void publish_state() {
    take_time();
    const vla_control::ControllerState state = core_->controller.state();
    // Each cycle is told once; a controller without cycles tells that it has none.
    if (state.phase != Phase::kInactive && state.time_ns == told_ns_) return;
    told_ns_ = state.time_ns;
    publisher_->publish(to_message(state, core_->clocks.to_ros(state.time_ns), names_));
  }

 private:
  void take_time() {
    const bool steady = core_->clocks.observe(clock_->now().nanoseconds(), steady_now());
    if (steady || !core_->active) return;
    core_->controller.revoke();
    RCLCPP_WARN(logger_, "ROS time has jumped; the arm brakes to a hold");
  }

  /// An inactive controller forgets requests when it is activated.
  void respond(Trigger::Response& response, const std::string& text) {
    response.success = core_->active;
    response.message = response.success ? text : "the controller is not active";
  }

  std::shared_ptr<ControllerCore> core_;
  rclcpp::Clock::SharedPtr clock_;
  rclcpp::Logger logger_;
  StateNames names_;
  rclcpp::Publisher<ControllerState>::SharedPtr publisher_;
  std::int64_t told_ns_ = 0;
};

ControllerTopics::ControllerTopics(const std::shared_ptr<rclcpp_lifecycle::LifecycleNode>& node,
                                   const std::shared_ptr<ControllerCore>& core, double state_rate) {
  group_ = node->create_callback_group(rclcpp::CallbackGroupType::MutuallyExclusive);
  rclcpp::SubscriptionOptions options;
  options.callback_group = group_;
  const auto callbacks = std::make_shared<Callbacks>(*node, core);

  const auto serve = [&](const std::string& name, void (Callbacks::*method)(Trigger::Response&)) {
    entities_.push_back(node->create_service<Trigger>(
        name,
        [callbacks, method](const Trigger::Request::SharedPtr&,
                            const Trigger::Response::SharedPtr& response) {
          ((*callbacks).*method)(*response);
        },
        rclcpp::ServicesQoS(), group_));
  };
  serve("~/stop", &Callbacks::on_stop);
  serve("~/reset", &Callbacks::on_reset);
  serve("~/tare", &Callbacks::on_tare);
  entities_.push_back(node->create_subscription<ActionChunk>(
      "~/action_chunk", reliable(),
      [callbacks](const ActionChunk& message) { callbacks->on_chunk(message); }, options));
  entities_.push_back(node->create_subscription<ControlOwner>(
      "control_owner", reliable(),
      [callbacks](const ControlOwner& message) { callbacks->on_owner(message); }, options));
  entities_.push_back(node->create_wall_timer(
      std::chrono::duration<double>(1.0 / state_rate), [callbacks] { callbacks->publish_state(); },
      group_));
}

}  // namespace vla_controllers
