// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Eigenvalues>

#include "vla_control/config.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Joint impedance: tau = K (q_r - q) + D (dq_r - dq) + M ddq_r, a stiffness for each joint and the
/// error clipped. RT-safe.
///
/// Damping by the generalised eigenproblem, as DampingDesign does it for the tool: with
/// K = Q^T K0 Q and M = Q^T Q, D = 2 Q^T diag(zeta sqrt(K0)) Q, solved where K is the identity. A
/// mode too light for the control rate to damp at the configured stiffness gets less of it
/// (largest_frequency), which is reported. The mass matrix changes slowly, and the eigenproblem
/// costs as much as a third of a cycle: it is solved every 10 ms, and the design goes over to the
/// new one linearly, which keeps it positive definite. Changes of the gains count at once.
class JointLaw {
 public:
  void configure(const ControllerConfig& config) noexcept;
  /// The next compute() makes its design at once; for activation.
  void reset() noexcept { designed_ = false; }

  struct Output {
    JointVector spring;     ///< Nm, of the error alone
    JointVector drive;      ///< Nm, all but the damping of the arm's own motion
    JointVector damping;    ///< Nm, - D dq: it only takes energy
    bool clipped = false;   ///< the error clip was active
    bool softened = false;  ///< a mode has less than the stiffness asked for
  };
  /// \param gains in force \param period s since the call before
  void compute(const Dynamics& dynamics, const JointReferenceSample& reference,
               const JointState& joints, const TaskGains& gains, double period,
               Output& out) noexcept;

  /// Torque that velocity and acceleration of the reference add to the drive.
  [[nodiscard]] JointVector drive_of(const Dynamics& dynamics, const JointVector& dq,
                                     const JointVector& ddq) const noexcept;
  /// Joint reference at which a resting law exerts `tau`, for a hand-over without a jump.
  [[nodiscard]] JointVector reference_exerting(const JointVector& tau,
                                               const JointState& joints) const noexcept;
  /// What the tool feels of the joints' stiffness, (J K^-1 J^T)^-1; bounded at a singularity.
  [[nodiscard]] Matrix6 stiffness_at_tool(const Dynamics& dynamics) const noexcept;

 private:
  /// In coordinates where K is the identity: what the rate leaves of it, and D over the ratio.
  struct Design {
    JointMatrix stiffness, damping;
    bool softened = false;
  };
  void design(const JointMatrix& mass_matrix, const TaskGains& gains, Design& out) noexcept;
  void advance(const JointMatrix& mass_matrix, const TaskGains& gains, double period) noexcept;

  double max_error_ = 0.2;  // rad
  double rate_ = 1000.0;    // Hz
  bool designed_ = false;
  double age_ = 0.0;  // s, of the design gone over to
  Design from_, to_, now_;
  JointMatrix stiffness_, damping_;  // of the last compute(); Nm/rad, Nms/rad
  Eigen::SelfAdjointEigenSolver<JointMatrix> eigen_;
};

}  // namespace vla_control
