// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "vla_control/config.hpp"
#include "vla_control/payload.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/sensing.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// From what a force sensor reports to the wrench of the surroundings at the tool point. RT-safe.
///
/// The sensor's offset is constant in its own frame; the weight of what hangs on it, the payload,
/// is not. Hence a tare finds the offset, and the payload must be known for the tool to be turned.
class ForceSensor {
 public:
  /// \throws std::invalid_argument for a frame that the URDF lacks or that moves against the tool
  ForceSensor(const RobotDescription& description, const ControllerConfig& config);

  /// Takes what the sensor reports for its offset, and begins a tare, which an arm that moves
  /// before it is complete ends: it must not be taken up again in contact.
  /// \return false if it reports nothing finite
  [[nodiscard]] bool reset(const std::optional<Vector6>& reported, const Pose& pose_tool_in_base,
                           const Payload& payload, const Vector3& gravity_in_base) noexcept;
  void tare() noexcept;

  /// One cycle. \param standing whether the arm does; a tare waits for it
  /// \return true if a tare is complete
  bool update(const std::optional<Vector6>& reported, const Pose& pose_tool_in_base,
              const Payload& payload, const Vector3& gravity_in_base, bool standing,
              double period) noexcept;

  /// False once the sensor has been silent, not finite or stuck for too long.
  [[nodiscard]] bool alive() const noexcept;
  /// N, Nm of the surroundings on the tool, at the tool point, base axes; filtered.
  [[nodiscard]] const Vector6& wrench() const noexcept { return filtered_; }

 private:
  [[nodiscard]] Vector6 to_tool(const Vector6& sensed, const Pose& tool) const noexcept;
  [[nodiscard]] Vector6 to_sensor(const Vector6& wrench, const Pose& tool) const noexcept;

  AdmittanceConfig config_;
  Pose pose_sensor_in_tool_;
  Tare tare_;
  bool untouched_ = false;            // since the activation the arm has stood
  Vector6 offset_ = Vector6::Zero();  // sensor frame
  Vector6 last_ = Vector6::Zero();    // as reported
  Vector6 filtered_ = Vector6::Zero();
  double silent_ = 0.0;  // s
  double stuck_ = 0.0;   // s
};

}  // namespace vla_control
