// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "vla_control/config.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/task_law.hpp"
#include "vla_controllers/cartesian_controller_parameters.hpp"

/// What the parameters of CartesianController mean to the core.
namespace vla_controllers {

/// \throws std::invalid_argument if the lists of locked joints do not agree or there is no URDF
[[nodiscard]] vla_control::RobotDescription robot_description(
    const cartesian_controller::Params& params, const std::string& urdf_xml);

[[nodiscard]] vla_control::ControllerConfig controller_config(
    const cartesian_controller::Params& params);

/// The gains, which may change while the controller runs.
[[nodiscard]] vla_control::TaskGains gains(const cartesian_controller::Params& params);

/// Whether the effort state interfaces are claimed: where they are torques.
[[nodiscard]] bool measures_torque(const cartesian_controller::Params& params);

/// State interfaces of the force sensor, in the order of a wrench; none where none is claimed.
[[nodiscard]] std::vector<std::string> force_sensor_interfaces(
    const cartesian_controller::Params& params);

/// What whoever starts the arm has to know, one line each: limits that are raised beyond their
/// defaults, that distances are not watched, and that an arm is not compliant.
[[nodiscard]] std::vector<std::string> notices(const cartesian_controller::Params& params);

}  // namespace vla_controllers
