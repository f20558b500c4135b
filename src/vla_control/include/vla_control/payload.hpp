// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vla_control/types.hpp"

namespace vla_control {

/// A load fixed to the tool frame that neither the URDF nor the robot's own gravity compensation
/// knows: its weight is always part of the commanded torque. A load that the robot was told of
/// belongs in the URDF.
struct Payload {
  double mass = 0.0;                         ///< kg
  Vector3 center_of_mass = Vector3::Zero();  ///< m, tool frame
  Matrix3 inertia = Matrix3::Zero();         ///< kg m^2, about the centre of mass, tool axes
  /// Constant wrench (N, Nm; at the tool point, base axes) acting on the arm besides the weight:
  /// what a tare has found and no mass explains.
  Vector6 bias = Vector6::Zero();
};

/// Whether a rigid body can have these values: finite, mass within [0, 100] kg, centre within 2 m,
/// inertia symmetric, with principal moments that are not negative and obey the triangle
/// inequality.
[[nodiscard]] bool is_physical(const Payload& payload) noexcept;

/// Weight of the payload at the tool point, base axes; N, Nm.
[[nodiscard]] Vector6 payload_weight(const Payload& payload, const Pose& pose_tool_in_base,
                                     const Vector3& gravity_in_base) noexcept;

/// A payload that explains `wrench` (at the tool point of a resting arm, base axes), beside a bias
/// for what no payload explains. Its centre of mass is known across the direction of gravity only.
[[nodiscard]] Payload payload_explaining(const Vector6& wrench, const Pose& pose_tool_in_base,
                                         const Vector3& gravity_in_base) noexcept;

/// Both loads as one rigid body, and the sum of their biases.
[[nodiscard]] Payload combined(const Payload& a, const Payload& b) noexcept;

/// Carries the payload in force smoothly to a new one. RT-safe.
///
/// Mass, first moment and inertia about the tool point are interpolated linearly: the inertias of
/// rigid bodies are a convex set, so that every step of the way is one.
class PayloadRamp {
 public:
  void configure(double duration) noexcept { duration_ = duration; }
  void reset(const Payload& payload) noexcept;
  void approach(const Payload& payload) noexcept;
  /// \return true if the payload in force has changed
  bool advance(double period) noexcept;
  [[nodiscard]] const Payload& current() const noexcept { return current_; }
  [[nodiscard]] bool ramping() const noexcept { return phase_ < 1.0; }

 private:
  double duration_ = 0.5;  // s
  double phase_ = 1.0;     // 0 to 1
  Payload from_, to_, current_;
};

}  // namespace vla_control
