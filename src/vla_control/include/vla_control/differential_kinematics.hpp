// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Eigenvalues>

#include "vla_control/config.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// From a motion of the tool to one of the joints, by damped least squares. RT-safe.
///
/// dq = J# v + (I - J# J) dq_0, with J# = J^T (J J^T + damping)^-1. Only what is close to a
/// singularity is damped (Maciejewski and Klein, "Numerical filtering for the operation of robotic
/// manipulators through kinematically singular configurations", 1988): along each direction of the
/// tool whose singular value s is below a least one s_0, s^2 is raised smoothly, by
/// s_0^2 (1 - s^2/s_0^2)^2. Rotations are weighed as their motion at a lever of 0.25 m.
class DifferentialKinematics {
 public:
  void configure(const ControllerConfig& config) noexcept;

  /// \param jacobian of the joints' present place; \param twist m/s, rad/s of the tool
  /// \param q rad; \param posture rad, approached by what does not move the tool
  /// \return rad/s; not finite if the Jacobian or the twist is not
  [[nodiscard]] JointVector joint_velocity(const Jacobian& jacobian, const Vector6& twist,
                                           const JointVector& q,
                                           const JointVector& posture) noexcept;

 private:
  double posture_speed_ = 0.3;  // rad/s
  Eigen::SelfAdjointEigenSolver<Matrix6> eigen_;
};

}  // namespace vla_control
