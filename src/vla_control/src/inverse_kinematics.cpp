// SPDX-License-Identifier: Apache-2.0
#include <Eigen/Cholesky>
#include <algorithm>
#include <stdexcept>
#include <string>

#include "so3.hpp"
#include "vla_control/robot_model.hpp"

namespace vla_control {

RobotModel::InverseKinematics RobotModel::inverse_kinematics(const Pose& pose_tool_in_base,
                                                             const JointVector& q_seed) const {
  constexpr int kIterations = 300;
  constexpr double kPositionTolerance = 1e-5;
  constexpr double kRotationTolerance = 1e-4;
  constexpr double kDamping = 1e-3;
  constexpr double kMaxStep = 0.2;
  if (q_seed.size() != n() || !q_seed.allFinite() || !pose_tool_in_base.position.allFinite() ||
      !pose_tool_in_base.rotation.allFinite()) {
    throw std::invalid_argument("inverse_kinematics needs a finite pose and a finite q_seed of " +
                                std::to_string(n()) + " values");
  }
  InverseKinematics result;
  result.q = q_seed.cwiseMax(position_lower()).cwiseMin(position_upper());
  for (int iteration = 0; iteration < kIterations; ++iteration) {
    const Pose pose = forward_kinematics(result.q);
    Vector6 error;
    error.head<3>() = pose_tool_in_base.position - pose.position;
    error.tail<3>() = so3::log(pose_tool_in_base.rotation * pose.rotation.transpose());
    if (error.head<3>().norm() < kPositionTolerance &&
        error.tail<3>().norm() < kRotationTolerance) {
      result.converged = true;
      return result;
    }
    const Jacobian J = jacobian(result.q);
    // The damping falls with the error, which keeps convergence fast near the solution.
    Matrix6 A = J * J.transpose();
    A.diagonal().array() += kDamping * std::min(1.0, error.squaredNorm()) + 1e-9;
    const Vector6 wrench = A.ldlt().solve(error);
    JointVector step = JointVector::Zero(n());
    step.noalias() += J.transpose().lazyProduct(wrench);
    const double largest = step.cwiseAbs().maxCoeff();
    if (largest > kMaxStep) step *= kMaxStep / largest;
    result.q = (result.q + step).cwiseMax(position_lower()).cwiseMin(position_upper());
  }
  return result;
}

}  // namespace vla_control
