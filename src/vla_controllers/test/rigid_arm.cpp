// SPDX-License-Identifier: Apache-2.0
/// Hardware for tests: an arm of rigid bodies without friction, whose drives carry gravity.

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "hardware_interface/system_interface.hpp"
#include "hardware_interface/types/hardware_interface_type_values.hpp"
#include "pluginlib/class_list_macros.hpp"
#include "vla_control/robot_model.hpp"

namespace vla_controllers::testing {

using hardware_interface::CallbackReturn;
using hardware_interface::return_type;
using vla_control::JointVector;

constexpr double kRotorInertia = 0.1;  // kg m^2 at each joint

/// Parameters: base_frame, tool_frame and fault_file. Joints begin at the initial_value of their
/// position. While the file exists, the call that its first word names (read or write) fails.
class RigidArm : public hardware_interface::SystemInterface {
 public:
  CallbackReturn on_init(
      const hardware_interface::HardwareComponentInterfaceParams& params) override {
    const auto result = SystemInterface::on_init(params);
    if (result != CallbackReturn::SUCCESS) return result;
    const hardware_interface::HardwareInfo& info = get_hardware_info();
    vla_control::RobotDescription description;
    description.urdf_xml = info.original_xml;
    description.base_frame = info.hardware_parameters.at("base_frame");
    description.tool_frame = info.hardware_parameters.at("tool_frame");
    fault_file_ = info.hardware_parameters.at("fault_file");
    q_.resize(static_cast<Eigen::Index>(info.joints.size()));
    for (const hardware_interface::ComponentInfo& joint : info.joints) {
      q_[static_cast<Eigen::Index>(description.joint_names.size())] =
          std::stod(joint.state_interfaces.front().initial_value);
      description.joint_names.push_back(joint.name);
    }
    dq_.setZero(q_.size());
    tau_.setZero(q_.size());
    model_ = std::make_unique<vla_control::RobotModel>(description);
    return CallbackReturn::SUCCESS;
  }

  return_type read(const rclcpp::Time&, const rclcpp::Duration& period) override {
    if (fails("read")) return return_type::ERROR;
    constexpr double kStep = 1e-3;
    for (double left = period.seconds(); left > 0.0; left -= kStep) {
      const double dt = std::min(left, kStep);
      const JointVector drive = tau_ - model_->coriolis(q_, dq_);
      Eigen::MatrixXd mass = model_->mass_matrix(q_);
      mass.diagonal().array() += kRotorInertia;
      const JointVector ddq = mass.llt().solve(drive);
      dq_ += dt * ddq;
      q_ += dt * dq_;
    }
    const JointVector effort = tau_ + model_->gravity(q_);
    for (Eigen::Index i = 0; i < q_.size(); ++i) {
      set_state(name(i, hardware_interface::HW_IF_POSITION), q_[i]);
      set_state(name(i, hardware_interface::HW_IF_VELOCITY), dq_[i]);
      set_state(name(i, hardware_interface::HW_IF_EFFORT), effort[i]);
    }
    return return_type::OK;
  }

  return_type write(const rclcpp::Time&, const rclcpp::Duration&) override {
    if (fails("write")) return return_type::ERROR;
    for (Eigen::Index i = 0; i < q_.size(); ++i) {
      const double command = get_command<double>(name(i, hardware_interface::HW_IF_EFFORT));
      if (std::isfinite(command)) tau_[i] = command;  // it is NaN until someone commands
    }
    return return_type::OK;
  }

 private:
  [[nodiscard]] bool fails(const std::string& call) const {
    std::string named;
    std::ifstream(fault_file_) >> named;
    return named == call;
  }
  [[nodiscard]] std::string name(Eigen::Index joint, const char* kind) const {
    return model_->joint_names()[static_cast<std::size_t>(joint)] + "/" + kind;
  }

  std::unique_ptr<vla_control::RobotModel> model_;
  std::string fault_file_;
  JointVector q_, dq_, tau_;
};

}  // namespace vla_controllers::testing

PLUGINLIB_EXPORT_CLASS(vla_controllers::testing::RigidArm, hardware_interface::SystemInterface)
