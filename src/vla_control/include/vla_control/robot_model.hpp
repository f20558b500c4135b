// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vla_control/payload.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// What the controller needs to know of an arm.
struct RobotDescription {
  std::string urdf_xml;                         ///< the URDF itself, not a path
  std::vector<std::string> joint_names;         ///< controlled joints, in the order of q and tau
  std::string base_frame;                       ///< any frame the controlled joints do not move
  std::string tool_frame;                       ///< any frame the controlled joints move
  std::map<std::string, double> locked_joints;  ///< position of joints that are not controlled, rad
};

/// Everything the control law needs of the arm at one (q, dq).
struct Dynamics {
  Pose pose_tool_in_base;
  Jacobian jacobian;        ///< base axes, tool point
  JointMatrix mass_matrix;  ///< symmetric, both triangles filled
  JointVector bias;         ///< C(q, dq) dq, plus gravity if asked for; Nm
  /// dJ/dt dq: what the tool accelerates by while the joints do not. m/s^2, rad/s^2; base axes
  Vector6 acceleration_bias = Vector6::Zero();
};

/// Rigid-body model of one arm. All other joints of the URDF (fingers) are locked.
///
/// Copies share nothing. The const methods write to internal scratch memory: one object, one
/// thread.
class RobotModel {
 public:
  /// \throws std::invalid_argument naming the wrong name and listing the valid ones.
  explicit RobotModel(const RobotDescription& description);
  ~RobotModel();
  RobotModel(const RobotModel&) = delete;
  RobotModel& operator=(const RobotModel&) = delete;
  RobotModel(RobotModel&&) noexcept;
  RobotModel& operator=(RobotModel&&) noexcept;

  [[nodiscard]] int n() const noexcept;
  [[nodiscard]] const std::vector<std::string>& joint_names() const noexcept;
  /// Limits of the URDF; a joint without one has infinity.
  [[nodiscard]] const JointVector& position_lower() const noexcept;  ///< rad
  [[nodiscard]] const JointVector& position_upper() const noexcept;  ///< rad
  [[nodiscard]] const JointVector& velocity_limit() const noexcept;  ///< rad/s
  [[nodiscard]] const JointVector& effort_limit() const noexcept;    ///< Nm

  [[nodiscard]] const Vector3& gravity_in_base() const noexcept;  ///< m/s^2, points down

  /// Mass, centre and inertia of a load on the tool become part of the last link; its `bias` does
  /// not. Replaces the payload before. RT-safe.
  void set_payload(const Payload& payload) noexcept;

  /// Kinematics and dynamics at one state. RT-safe. Sizes `out` without allocating.
  void compute(const JointVector& q, const JointVector& dq, bool include_gravity,
               Dynamics& out) const noexcept;

  [[nodiscard]] Pose forward_kinematics(const JointVector& q) const noexcept;  ///< RT-safe
  /// Motion of the tool under a motion of the joints. RT-safe.
  [[nodiscard]] ReferenceSample tool_motion(const JointReferenceSample& joints) const noexcept;
  [[nodiscard]] Jacobian jacobian(const JointVector& q) const noexcept;        ///< RT-safe
  [[nodiscard]] JointMatrix mass_matrix(const JointVector& q) const noexcept;  ///< RT-safe
  [[nodiscard]] JointVector gravity(const JointVector& q) const noexcept;      ///< Nm, RT-safe
  /// C(q, dq) dq, Nm. RT-safe.
  [[nodiscard]] JointVector coriolis(const JointVector& q, const JointVector& dq) const noexcept;

  struct InverseKinematics {
    JointVector q;           ///< rad, within the position limits
    bool converged = false;  ///< 0.01 mm and 0.1 mrad reached
  };
  /// Damped least squares from `q_seed`, kept within the joint limits. Not RT-safe.
  [[nodiscard]] InverseKinematics inverse_kinematics(const Pose& pose_tool_in_base,
                                                     const JointVector& q_seed) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vla_control
