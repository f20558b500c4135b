// SPDX-License-Identifier: Apache-2.0
#include "vla_control/tracking_config.hpp"

#include <limits>
#include <sstream>
#include <stdexcept>

#include "admittance.hpp"
#include "config_checks.hpp"
#include "vla_control/robot_model.hpp"

namespace vla_control::checks {
namespace {

/// The largest speed and acceleration that can be those of a joint. rad/s, rad/s^2
constexpr double kFastest = 100.0;
constexpr double kSteepest = 1e4;

void complete_tracking(ControllerConfig& config, const RobotModel& model) {
  TrackingConfig& tracking = config.tracking;
  if (tracking.max_acceleration.empty()) {
    throw std::invalid_argument(
        "tracking.max_acceleration is not set; motion output needs one value in [0.01, 10000] "
        "rad/s^2 per joint: what the drives follow");
  }
  const JointVector zero = JointVector::Zero(model.n());
  require_each("max_joint_velocity", config.max_joint_velocity, 0.01, kFastest);
  complete("tracking.max_acceleration", tracking.max_acceleration, zero, 0.01, kSteepest);
  if (!tracking.max_jerk.empty()) {
    complete("tracking.max_jerk", tracking.max_jerk, zero, 0.1, 1e7);
  }
  const JointVector deviation = JointVector::Constant(model.n(), TrackingConfig::kDeviation);
  complete("tracking.max_deviation", tracking.max_deviation, deviation, 1e-4, 1.0);
  require("tracking.drive_lag_s", tracking.drive_lag_s, 0.0, 0.5);
  require("tracking.velocity_feedback", tracking.velocity_feedback, 0.0, 0.1 * config.rate);
}

void require_mass(const char* name, double mass, double most, double stiffness, double delay) {
  const double least = least_mass(stiffness, delay);
  if (mass >= least) {
    require(name, mass, least, most);
    return;
  }
  std::ostringstream text;
  text << name << " = " << mass << " is too light for stable contact with surroundings of "
       << stiffness << " (N/m or Nm/rad) when sensor and drives are " << delay
       << " s late; at least " << least << ", at most " << most
       << ", or a softer contact_stiffness (a compliant tool) or faster drives";
  throw std::invalid_argument(text.str());
}

void check_admittance(const ControllerConfig& config) {
  const AdmittanceConfig& admittance = config.admittance;
  require("admittance.contact_stiffness", admittance.contact_stiffness, 1.0, 1e6);
  require("admittance.rotational_contact_stiffness", admittance.rotational_contact_stiffness, 0.01,
          1e5);
  require("admittance.filter_s", admittance.filter_s, 1e-4, 0.2);
  require("admittance.stale_s", admittance.stale_s, 0.0, 10.0);
  require("admittance.timeout_s", admittance.timeout_s, 0.0, 0.1);
  require("admittance.max_velocity", admittance.max_velocity, 0.001, 2.0);
  require("admittance.max_angular_velocity", admittance.max_angular_velocity, 0.01, 10.0);
  require("admittance.max_offset", admittance.max_offset, 0.001, 1.0);
  require("admittance.max_rotation_offset", admittance.max_rotation_offset, 0.01, 2.0);
  require("admittance.max_force", admittance.max_force, 1.0, 1000.0);
  require("admittance.max_torque", admittance.max_torque, 0.1, 200.0);
  // The sensor's filter, the drives, and a cycle and a half of sampling and hold.
  const double delay = admittance.filter_s + config.tracking.drive_lag_s + 1.5 / config.rate;
  require_mass("admittance.mass", admittance.mass, 1000.0, admittance.contact_stiffness, delay);
  require_mass("admittance.inertia", admittance.inertia, 100.0,
               admittance.rotational_contact_stiffness, delay);
}

}  // namespace

void complete_motion(ControllerConfig& config, const RobotModel& model) {
  if (config.output == OutputKind::kTorque) {
    if (config.admittance.on()) {
      throw std::invalid_argument(
          "admittance.sensor_frame is set, but the output is TORQUE; choose MOTION, or leave it "
          "empty: with torques the arm is compliant without a sensor");
    }
    return;
  }
  complete_tracking(config, model);
  if (config.admittance.on()) {
    check_admittance(config);
    return;
  }
  for (const bool axis : config.force.axes) {
    if (!axis) continue;
    throw std::invalid_argument(
        "force.axes is set, but the output is MOTION and admittance.sensor_frame is empty; without "
        "a force sensor no chosen force can be exerted");
  }
}

}  // namespace vla_control::checks
