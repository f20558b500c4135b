// SPDX-License-Identifier: Apache-2.0
#include "vla_control/law_config.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "config_checks.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/task_law.hpp"

namespace vla_control {
namespace {

constexpr double kMostDampingPerCycle = 0.7;
constexpr double kMostPhasePerRatio = 0.5;  // rad per cycle

}  // namespace

double largest_damping_rate(double rate) noexcept { return kMostDampingPerCycle * rate; }

double largest_frequency(double rate, double damping_ratio) noexcept {
  return std::min(0.5 * largest_damping_rate(rate) / damping_ratio,
                  kMostPhasePerRatio * damping_ratio * rate);
}

}  // namespace vla_control

namespace vla_control::checks {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_feed_forward(ControllerConfig& config, const JointVector& zero) {
  complete("friction.coulomb", config.friction.coulomb, zero, 0.0, 1000.0);
  complete("friction.viscous", config.friction.viscous, zero, 0.0, 1000.0);
  require("friction.smoothing_speed", config.friction.smoothing_speed, 1e-4, 1.0);
  complete("rotor_inertia", config.rotor_inertia, zero, 0.0, 100.0);
  if (!is_physical(config.payload)) {
    throw std::invalid_argument(
        "payload is no rigid body: mass must lie in [0, 100] kg, center_of_mass within 2 m, "
        "inertia must be symmetric with principal moments that are not negative and of which no "
        "one exceeds the sum of the others, and all must be finite");
  }
  require("payload_ramp_s", config.payload_ramp_s, 0.01, 10.0);
  require("integral.gain", config.integral.gain, 0.0, 100.0);
  require("integral.leak", config.integral.leak, 0.0, 100.0);
  require("integral.max_force", config.integral.max_force, 0.0, 1000.0);
  require("integral.max_torque", config.integral.max_torque, 0.0, 100.0);
  require("integral.dead_position", config.integral.dead_position, 0.0, 0.1);
  require("integral.dead_rotation", config.integral.dead_rotation, 0.0, 1.0);
}

void check_gains(const ControllerConfig& config) {
  if (config.task_law == TaskLawKind::kJointImpedance && config.output != OutputKind::kTorque) {
    throw std::invalid_argument(
        "task_law JOINT_IMPEDANCE commands torques; it needs output TORQUE");
  }
  if (!config.stiffness_matrix.empty()) {
    if (config.stiffness_matrix.size() != 36) {
      throw std::invalid_argument("stiffness_matrix has " +
                                  std::to_string(config.stiffness_matrix.size()) +
                                  " values; needs 36, the matrix by rows");
    }
    if (!is_valid(task_gains(config))) {
      throw std::invalid_argument(
          "stiffness_matrix must be symmetric and positive definite, with eigenvalues of its "
          "translational block within [1, 10000] N/m and of its rotational one within "
          "[0.1, 1000] Nm/rad");
    }
  }
  require("gain_ramp_s", config.gain_ramp_s, 0.01, 10.0);
  // What the rate cannot damp would be unstable.
  const bool used = config.task_law == TaskLawKind::kOperationalSpace;
  const double damped = largest_frequency(config.rate, config.damping_ratio);
  const double most = used ? std::min(200.0, damped) : 200.0;
  require("translational_frequency", config.translational_frequency, 1.0, most);
  require("rotational_frequency", config.rotational_frequency, 1.0, most);
}

void check_sensing(const SensingConfig& sensing) {
  require("sensing.observer_bandwidth", sensing.observer_bandwidth, 0.1, 1000.0);
  require("sensing.contact_force", sensing.contact_force, 0.1, 1000.0);
  require("sensing.contact_torque", sensing.contact_torque, 0.01, 1000.0);
  require("sensing.contact_release", sensing.contact_release, 0.05, 0.95);
  require("sensing.contact_release_s", sensing.contact_release_s, 0.0, 10.0);
  require("sensing.yield_s", sensing.yield_s, 0.0, 10.0);
  require("sensing.lost_fraction", sensing.lost_fraction, 0.1, 1.0);
  require("sensing.lost_s", sensing.lost_s, 0.0, 10.0);
  require("sensing.lost_least_mass", sensing.lost_least_mass, 0.001, 100.0);
  require("sensing.tare_s", sensing.tare_s, 0.01, 10.0);
}

void check_force(const ForceConfig& force) {
  require("force.gain", force.gain, 0.0, 10.0);
  require("force.max_force", force.max_force, 0.0, 1000.0);
  require("force.max_torque", force.max_torque, 0.0, 100.0);
  require("force.max_integral_force", force.max_integral_force, 0.0, 1000.0);
  require("force.max_integral_torque", force.max_integral_torque, 0.0, 100.0);
  require("force.fade_s", force.fade_s, 0.01, 10.0);
}

void check_effort(ControllerConfig& config, const JointVector& torque_limit) {
  if (config.output == OutputKind::kTorque && !config.effort_state.has_value()) {
    throw std::invalid_argument(
        "effort_state is not set; choose TOTAL if the measured joint effort contains gravity, "
        "GRAVITY_FREE if the robot takes gravity off, CURRENT if it is a motor current, NONE if "
        "it is not measured");
  }
  complete("max_static_residual", config.max_static_residual, 0.1 * torque_limit, 0.01, 1000.0);
}

void check_limits(const ControllerConfig& config) {
  require("wrench_limits.force", config.wrench_limits.force, 0.1, kInfinity);
  require("wrench_limits.torque", config.wrench_limits.torque, 0.01, kInfinity);
  const BarrierConfig& barrier = config.barrier;
  require("barrier.joint_braking", barrier.joint_braking, 0.0, 1000.0);
  require("barrier.joint_margin", barrier.joint_margin, 0.0, 1.0);
  require("barrier.joint_fade", barrier.joint_fade, 0.001, 1.0);
  require("barrier.workspace_braking", barrier.workspace_braking, 0.0, 100.0);
  require("barrier.workspace_fade", barrier.workspace_fade, 0.001, 1.0);
  require("barrier.distance_braking", barrier.distance_braking, 0.0, 100.0);
  require("barrier.distance_margin", barrier.distance_margin, 0.0, 0.2);
  require("barrier.distance_fade", barrier.distance_fade, 0.001, 1.0);
  require("barrier.distance_stale_s", barrier.distance_stale_s, 0.002, 1.0);
  require("energy_tank.capacity", config.energy_tank.capacity, 0.0, 1000.0);
  require("energy_tank.refill_power", config.energy_tank.refill_power, 0.0, 1000.0);
}

}  // namespace

void complete_law(ControllerConfig& config, const RobotModel& model) {
  const JointVector torque_limit = JointVector::Map(config.torque_limit.data(), model.n());
  check_feed_forward(config, JointVector::Zero(model.n()));
  check_gains(config);
  check_sensing(config.sensing);
  check_force(config.force);
  check_effort(config, torque_limit);
  check_limits(config);
}

}  // namespace vla_control::checks
