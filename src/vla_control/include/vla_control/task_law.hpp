// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include "vla_control/config.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Inertia of the arm as felt at the tool, and the damping designed for it.
struct OperationalSpace {
  Matrix6 inertia = Matrix6::Zero();  ///< Lambda, bounded at singularities; kg, kg m, kg m^2
  Matrix6 damping = Matrix6::Zero();  ///< D; Ns/m, Ns, Nms/rad
  bool valid = false;                 ///< false when the mass matrix was not positive definite

  /// M^-1 b.
  [[nodiscard]] JointVector solve_mass(const JointVector& b) const noexcept;
  /// Lambda J M^-1 tau: the tool wrench that a joint torque amounts to.
  [[nodiscard]] Vector6 wrench_of(const JointVector& tau) const noexcept;

  Eigen::LLT<JointMatrix> mass_cholesky;
  Eigen::Matrix<double, Eigen::Dynamic, 6, Eigen::ColMajor, kMaxJoints, 6> whitened_jacobian;
};

/// Designs Lambda and D from the mass matrix, the Jacobian and a stiffness K. RT-safe.
///
/// Generalised eigenproblem of Albu-Schaeffer et al., "Cartesian impedance control of redundant
/// robots", ICRA 2003: with K = Q^T K0 Q and Lambda = Q^T Q, D = 2 Q^T diag(zeta sqrt(K0)) Q. It is
/// solved in coordinates where K is the identity (K = L L^T, S = L^T Lambda^-1 L = V diag(s) V^T),
/// where s is the squared natural frequency of a mode, which falls to zero at a singularity: below
/// min_frequency^2 it is raised smoothly, so that Lambda <= K / min_frequency^2 (a damped inverse
/// with a singularity-dependent factor).
class DampingDesign {
 public:
  /// \param stiffness symmetric positive definite, base axes
  void configure(const Matrix6& stiffness, double damping_ratio, double min_frequency);
  void compute(const Dynamics& dynamics, OperationalSpace& out) noexcept;

 private:
  Matrix6 stiffness_factor_ = Matrix6::Identity();
  double damping_ratio_ = 1.0;
  double least_squared_frequency_ = 9.0;  // (rad/s)^2
  Eigen::SelfAdjointEigenSolver<Matrix6> eigen_;
};

/// Cartesian impedance F = K clip(e) + D (v_r - J dq) + Lambda a_r at the tool point, base axes.
class TaskLaw {
 public:
  void configure(const ControllerConfig& config);

  struct Output {
    Vector6 wrench = Vector6::Zero();  ///< N, Nm
    Vector6 twist = Vector6::Zero();   ///< measured, m/s and rad/s
    JointVector tau;                   ///< J^T F
    bool clipped = false;              ///< the error clip was active
  };
  /// RT-safe.
  void compute(const Dynamics& dynamics, const JointVector& dq, const ReferenceSample& reference,
               Output& out) noexcept;

  /// Reference pose at which a resting law exerts `wrench`, for a hand-over without a jump.
  /// RT-safe.
  [[nodiscard]] Pose reference_exerting(const Vector6& wrench, const Pose& measured,
                                        const Vector6& twist) const noexcept;

  /// Of the last compute().
  [[nodiscard]] const OperationalSpace& space() const noexcept { return space_; }
  [[nodiscard]] const Matrix6& stiffness() const noexcept { return stiffness_; }

 private:
  Matrix6 stiffness_ = Matrix6::Identity();
  double max_position_error_ = 0.1;
  double max_rotation_error_ = 0.7;
  DampingDesign design_;
  OperationalSpace space_;
};

/// Pose error (position, rotation vector) from `measured` to `reference`, base axes.
[[nodiscard]] Vector6 pose_error(const Pose& reference, const Pose& measured) noexcept;

}  // namespace vla_control
