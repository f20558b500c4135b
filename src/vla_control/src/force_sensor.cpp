// SPDX-License-Identifier: Apache-2.0
#include "force_sensor.hpp"

#include <cmath>
#include <stdexcept>
#include <string>

namespace vla_control {
namespace {

Pose relative(const Pose& of, const Pose& in) {
  return {in.rotation.transpose() * (of.position - in.position),
          in.rotation.transpose() * of.rotation};
}

/// Where the sensor is in the tool's frame, at some posture.
Pose sensor_in_tool(const RobotDescription& description, const RobotDescription& of_sensor,
                    double posture) {
  const RobotModel tool(description), sensor(of_sensor);
  const JointVector q = JointVector::Constant(tool.n(), posture);
  return relative(sensor.forward_kinematics(q), tool.forward_kinematics(q));
}

}  // namespace

ForceSensor::ForceSensor(const RobotDescription& description, const ControllerConfig& config)
    : config_(config.admittance) {
  RobotDescription of_sensor = description;
  of_sensor.tool_frame = config_.sensor_frame;
  const std::string field = "admittance.sensor_frame '" + config_.sensor_frame + "': ";
  try {
    pose_sensor_in_tool_ = sensor_in_tool(description, of_sensor, 0.0);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(field + error.what());
  }
  const Pose elsewhere = sensor_in_tool(description, of_sensor, 0.4);
  if (!elsewhere.position.isApprox(pose_sensor_in_tool_.position, 1e-6) ||
      !elsewhere.rotation.isApprox(pose_sensor_in_tool_.rotation, 1e-6)) {
    throw std::invalid_argument(field +
                                "a controlled joint moves it against the tool frame; choose a "
                                "frame on the tool's side of the last joint");
  }
  tare_.configure(config.sensing.tare_s);
}

Vector6 ForceSensor::to_tool(const Vector6& sensed, const Pose& tool) const noexcept {
  const Matrix3 R = tool.rotation * pose_sensor_in_tool_.rotation;
  const Vector3 arm = tool.rotation * pose_sensor_in_tool_.position;
  Vector6 out;
  out.head<3>().noalias() = R * sensed.head<3>();
  out.tail<3>().noalias() = R * sensed.tail<3>();
  out.tail<3>() += arm.cross(Vector3(out.head<3>()));
  return out;
}

Vector6 ForceSensor::to_sensor(const Vector6& wrench, const Pose& tool) const noexcept {
  const Matrix3 R = tool.rotation * pose_sensor_in_tool_.rotation;
  const Vector3 arm = tool.rotation * pose_sensor_in_tool_.position;
  const Vector3 moment = wrench.tail<3>() - arm.cross(Vector3(wrench.head<3>()));
  Vector6 out;
  out.head<3>().noalias() = R.transpose() * wrench.head<3>();
  out.tail<3>().noalias() = R.transpose() * moment;
  return out;
}

bool ForceSensor::reset(const std::optional<Vector6>& reported, const Pose& pose_tool_in_base,
                        const Payload& payload, const Vector3& gravity_in_base) noexcept {
  filtered_.setZero();
  silent_ = stuck_ = 0.0;
  if (!reported.has_value() || !reported->allFinite()) return false;
  last_ = *reported;
  offset_ = last_ - to_sensor(payload_weight(payload, pose_tool_in_base, gravity_in_base),
                              pose_tool_in_base);
  tare_.begin();
  untouched_ = true;
  return true;
}

void ForceSensor::tare() noexcept {
  untouched_ = false;
  tare_.begin();
}

bool ForceSensor::update(const std::optional<Vector6>& reported, const Pose& pose_tool_in_base,
                         const Payload& payload, const Vector3& gravity_in_base, bool standing,
                         double period) noexcept {
  if (untouched_ && !standing) {
    untouched_ = false;
    tare_.cancel();
  }
  if (!reported.has_value() || !reported->allFinite()) {
    silent_ += period;
    tare_.update(last_, false, period);
    return false;
  }
  silent_ = 0.0;
  stuck_ = *reported == last_ ? stuck_ + period : 0.0;
  last_ = *reported;
  const Vector6 weight = payload_weight(payload, pose_tool_in_base, gravity_in_base);
  const bool tared = tare_.update(last_ - to_sensor(weight, pose_tool_in_base), standing, period);
  if (tared) offset_ = tare_.wrench();
  const Vector6 felt = to_tool(last_ - offset_, pose_tool_in_base) - weight;
  filtered_ += (1.0 - std::exp(-period / config_.filter_s)) * (felt - filtered_);
  return tared;
}

bool ForceSensor::alive() const noexcept {
  return silent_ <= config_.timeout_s && (config_.stale_s <= 0.0 || stuck_ <= config_.stale_s);
}

}  // namespace vla_control
