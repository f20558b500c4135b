// SPDX-License-Identifier: Apache-2.0
#include "vla_control/barrier.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace vla_control {
namespace {

/// Lag with which the dampers bring the speed to the allowed one: short, but of several cycles, so
/// that they are stable for a joint whose effective inertia is a small part of the diagonal. s
constexpr double kLag = 0.02;
constexpr double kLagCycles = 10.0;
/// The reaction time allowed for, over the lag. Close to the limit the allowed speed is the
/// distance over the reaction time; with the lag that is a system of second order, which does not
/// overshoot from a ratio of four on.
constexpr double kReactionOverLag = 4.0;

/// Bounds the tool's mass where the arm cannot move it. kg
constexpr double kMostMass = 30.0;

/// Mass of the tool along one axis, free to move along all others; large at a singularity.
double mass_along(const OperationalSpace& space, Eigen::Index axis) noexcept {
  return std::min(1.0 / space.whitened_jacobian.row(axis).squaredNorm(), kMostMass);
}

/// Factor on an outward push at `distance` from the limit.
double faded(double distance, double stretch) noexcept {
  return std::clamp(distance / stretch, 0.0, 1.0);
}

/// Damping force that brings `speed` to what is allowed in [lower, upper]; opposes `speed`.
double damping_force(double position, double speed, double lower, double upper, double braking,
                     double reaction, double inertia) noexcept {
  const double distance = speed > 0.0 ? upper - position : position - lower;
  const double excess = std::abs(speed) - braking_speed(distance, braking, reaction);
  if (excess <= 0.0) return 0.0;
  return -std::copysign(inertia * barrier_gain(reaction) * excess, speed);
}

}  // namespace

double barrier_reaction(double rate) noexcept {
  return kReactionOverLag * std::max(kLag, kLagCycles / rate);
}

double barrier_gain(double reaction) noexcept { return kReactionOverLag / reaction; }

double braking_speed(double distance, double braking, double reaction) noexcept {
  const double lag = braking * reaction;
  return std::sqrt(lag * lag + 2.0 * braking * std::max(distance, 0.0)) - lag;
}

void JointBarrier::configure(const ControllerConfig& config, const RobotModel& model) {
  braking_ = config.barrier.joint_braking;
  fade_ = config.barrier.joint_fade;
  reaction_ = barrier_reaction(config.rate);
  lower_ = model.position_lower().array() + config.barrier.joint_margin;
  upper_ = model.position_upper().array() - config.barrier.joint_margin;
  for (Eigen::Index i = 0; on() && i < lower_.size(); ++i) {
    if (upper_[i] - lower_[i] > 2.0 * fade_) continue;
    throw std::invalid_argument("barrier.joint_margin and barrier.joint_fade leave joint '" +
                                model.joint_names()[static_cast<std::size_t>(i)] +
                                "' no room between its limits " +
                                std::to_string(model.position_lower()[i]) + " and " +
                                std::to_string(model.position_upper()[i]));
  }
}

bool JointBarrier::fade(const JointVector& q, JointVector& tau) const noexcept {
  bool active = false;
  for (Eigen::Index i = 0; i < tau.size(); ++i) {
    const double distance = tau[i] > 0.0 ? upper_[i] - q[i] : q[i] - lower_[i];
    if (distance >= fade_) continue;
    tau[i] *= faded(distance, fade_);
    active = true;
  }
  return active;
}

bool JointBarrier::damp(const JointVector& q, const JointVector& dq, const JointMatrix& mass_matrix,
                        JointVector& tau) const noexcept {
  bool active = false;
  for (Eigen::Index i = 0; i < tau.size(); ++i) {
    const double force =
        damping_force(q[i], dq[i], lower_[i], upper_[i], braking_, reaction_, mass_matrix(i, i));
    tau[i] += force;
    active = active || force != 0.0;
  }
  return active;
}

void WorkspaceBarrier::configure(const ControllerConfig& config) noexcept {
  braking_ = config.barrier.workspace_braking;
  fade_ = config.barrier.workspace_fade;
  reaction_ = barrier_reaction(config.rate);
  lower_ = Vector3::Map(config.workspace_min.data());
  upper_ = Vector3::Map(config.workspace_max.data());
}

bool WorkspaceBarrier::fade(const Vector3& position, const Vector6& acceleration,
                            const OperationalSpace& space, Vector6& counter) const noexcept {
  bool active = false;
  for (Eigen::Index i = 0; i < 3; ++i) {
    const double distance =
        acceleration[i] > 0.0 ? upper_[i] - position[i] : position[i] - lower_[i];
    if (distance >= fade_) continue;
    counter[i] -= (1.0 - faded(distance, fade_)) * mass_along(space, i) * acceleration[i];
    active = true;
  }
  return active;
}

bool WorkspaceBarrier::damp(const Vector3& position, const Vector6& twist,
                            const OperationalSpace& space, Vector6& wrench) const noexcept {
  bool active = false;
  for (Eigen::Index i = 0; i < 3; ++i) {
    const double force = damping_force(position[i], twist[i], lower_[i], upper_[i], braking_,
                                       reaction_, mass_along(space, i));
    wrench[i] += force;
    active = active || force != 0.0;
  }
  return active;
}

}  // namespace vla_control
