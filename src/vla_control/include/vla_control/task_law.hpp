// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include "vla_control/chunk_stiffness.hpp"
#include "vla_control/config.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Inertia of the arm as felt at the tool, and the damping designed for it.
struct OperationalSpace {
  Matrix6 inertia = Matrix6::Zero();  ///< Lambda, bounded at singularities; kg, kg m, kg m^2
  Matrix6 damping = Matrix6::Zero();  ///< D; Ns/m, Ns, Nms/rad
  /// What the control rate leaves of the stiffness; the stiffness itself unless `softened`.
  Matrix6 stiffness = Matrix6::Zero();
  bool softened = false;
  bool valid = false;  ///< false when the mass matrix was not positive definite

  /// M^-1 b.
  [[nodiscard]] JointVector solve_mass(const JointVector& b) const noexcept;
  /// Lambda J M^-1 tau: the tool wrench that a joint torque amounts to.
  [[nodiscard]] Vector6 wrench_of(const JointVector& tau) const noexcept;
  /// J M^-1 tau: how the tool accelerates under a joint torque.
  [[nodiscard]] Vector6 acceleration_of(const JointVector& tau) const noexcept;
  /// M^-1 J^T Lambda v: the joint velocity of least kinetic energy that moves the tool with `twist`
  /// (less of it where Lambda is bounded).
  [[nodiscard]] JointVector joint_velocity_of(const Vector6& twist) const noexcept;

  Eigen::LLT<JointMatrix> mass_cholesky;  ///< M = L L^T
  JointVector inverse_pivots;             ///< of L, so that no solution has to divide
  Jacobian whitened_jacobian;             ///< J L^-T
};

/// Designs Lambda and D from the mass matrix, the Jacobian and a stiffness K. RT-safe.
///
/// Generalised eigenproblem of Albu-Schaeffer et al., "Cartesian impedance control of redundant
/// robots", ICRA 2003: with K = Q^T K0 Q and Lambda = Q^T Q, D = 2 Q^T diag(zeta sqrt(K0)) Q. It is
/// solved in coordinates where K is the identity (K = L L^T, S = L^T Lambda^-1 L = V diag(s) V^T),
/// where s is the squared natural frequency of a mode, which falls to zero at a singularity: below
/// min_frequency^2 it is raised smoothly, so that Lambda <= K / min_frequency^2 (a damped inverse
/// with a singularity-dependent factor). A mode beyond the largest frequency that the control rate
/// can damp gets less stiffness, and the damping for that.
class DampingDesign {
 public:
  /// \param stiffness symmetric positive definite, base axes
  /// \param rate of control, Hz
  void configure(const Matrix6& stiffness, double damping_ratio, double min_frequency,
                 double rate) noexcept;
  void set_gains(const Matrix6& stiffness, double damping_ratio) noexcept;
  void compute(const Dynamics& dynamics, OperationalSpace& out) noexcept;
  /// As compute(), but without a damping and for less: towards a singularity the squared
  /// frequencies of all modes are raised, not only those that fall.
  void compute_inertia(const Dynamics& dynamics, OperationalSpace& out) noexcept;

 private:
  /// S; false if the mass matrix is not positive definite.
  [[nodiscard]] bool squared_frequencies(const Dynamics& dynamics, OperationalSpace& out,
                                         Matrix6& S) const noexcept;

  Matrix6 stiffness_ = Matrix6::Identity();
  Matrix6 stiffness_factor_ = Matrix6::Identity();
  double rate_ = 1000.0;                 // Hz
  double most_squared_frequency_ = 1e5;  // (rad/s)^2
  double damping_ratio_ = 1.0;
  double least_squared_frequency_ = 9.0;  // (rad/s)^2
  Eigen::SelfAdjointEigenSolver<Matrix6> eigen_;
};

/// The law from pose error to tool wrench, base axes, e clipped:
/// impedance          F = K e + D (v_r - J dq) + Lambda a_r,
/// operational space  F = Lambda (W^2 e + 2 zeta W (v_r - J dq) + a_r), W the frequencies asked for
/// (Khatib, "A unified approach for motion and force control of robot manipulators", 1987); with
/// a_r - dJ/dt dq for a_r where that is asked for. Under joint impedance there is no wrench here,
/// but the inertia, the error and the gains; see JointLaw.
class TaskLaw {
 public:
  void configure(const ControllerConfig& config);
  /// Takes other gains at once; for activation. RT-safe.
  void reset(const TaskGains& gains) noexcept;
  /// Ends a ramp and what a chunk has brought; for activation. RT-safe.
  void reset() noexcept { reset(to_); }
  /// Ramps to other gains, from those in force. Damping follows stiffness on the way. RT-safe.
  void approach(const TaskGains& gains) noexcept;
  /// One cycle of that ramp, and of the chunks' stiffness. RT-safe.
  void advance(std::int64_t now_ns, double period) noexcept;
  /// Stiffness that chunks bring; see ChunkStiffness.
  [[nodiscard]] ChunkStiffness& chunk_stiffness() noexcept { return chunk_stiffness_; }

  struct Output {
    Vector6 error = Vector6::Zero();    ///< m, rad; clipped
    Vector6 spring = Vector6::Zero();   ///< N, Nm; of the error alone
    Vector6 drive = Vector6::Zero();    ///< N, Nm; all but the damping of the tool's own motion
    Vector6 damping = Vector6::Zero();  ///< N, Nm; - D J dq: it only takes energy
    Vector6 twist = Vector6::Zero();    ///< measured, m/s and rad/s
    bool clipped = false;               ///< the error clip was active

    [[nodiscard]] Vector6 wrench() const noexcept { return drive + damping; }
  };
  /// RT-safe.
  void compute(const Dynamics& dynamics, const JointVector& dq, const ReferenceSample& reference,
               Output& out) noexcept;

  /// Wrench that velocity and acceleration of the reference add to the drive. RT-safe.
  [[nodiscard]] Vector6 drive_of(const Vector6& velocity,
                                 const Vector6& acceleration) const noexcept;

  /// Reference pose at which a resting law exerts `wrench`, for a hand-over without a jump.
  /// RT-safe.
  [[nodiscard]] Pose reference_exerting(const Vector6& wrench, const Dynamics& dynamics,
                                        const Vector6& twist) const noexcept;

  /// Of the last compute().
  [[nodiscard]] const OperationalSpace& space() const noexcept { return space_; }
  /// Of the last compute(), base axes.
  [[nodiscard]] const Matrix6& stiffness() const noexcept { return stiffness_; }
  [[nodiscard]] const TaskGains& gains() const noexcept { return gains_; }

 private:
  [[nodiscard]] Vector6 acceleration_for(const Dynamics& dynamics,
                                         const ReferenceSample& reference) const noexcept;

  TaskLawKind kind_ = TaskLawKind::kImpedance;
  StiffnessFrame frame_ = StiffnessFrame::kBase;
  TaskGains gains_, from_, to_;
  double ramp_duration_ = 0.2;  // s
  double ramp_phase_ = 1.0;     // 0 to 1
  ChunkStiffness chunk_stiffness_;
  std::int64_t now_ns_ = 0;
  double period_ = 0.0;  // s
  Matrix6 stiffness_ = Matrix6::Identity();
  Vector6 frequency_ = Vector6::Ones();  // rad/s
  bool jacobian_rate_ = false;
  double max_position_error_ = 0.1;
  double max_rotation_error_ = 0.7;
  DampingDesign design_;
  OperationalSpace space_;
};

/// Range of a joint's stiffness. Nm/rad
inline constexpr double kLeastJointStiffness = 0.1;
inline constexpr double kMostJointStiffness = 5000.0;

/// Range of the eigenvalues of a stiffness' blocks, N/m and Nm/rad.
struct StiffnessRange {
  double least_translational = 1.0, most_translational = 10000.0;
  double least_rotational = 0.1, most_rotational = 1000.0;
};
/// Whether a stiffness is finite, symmetric and positive definite, with the eigenvalues of its
/// translational and rotational blocks in range.
[[nodiscard]] bool is_valid_stiffness(const Matrix6& stiffness,
                                      const StiffnessRange& range) noexcept;

/// Whether the gains may be used: stiffness symmetric, its translational eigenvalues within
/// [1, 10000] N/m and the rotational ones within [0.1, 1000] Nm/rad, the whole positive definite;
/// damping ratio within [0.1, 3]; stiffness of the joints, if any, within [0.1, 5000] Nm/rad.
[[nodiscard]] bool is_valid(const TaskGains& gains) noexcept;

/// Stiffness and damping ratio that a configuration asks for.
[[nodiscard]] TaskGains task_gains(const ControllerConfig& config);

/// Pose error (position, rotation vector) from `measured` to `reference`, base axes.
[[nodiscard]] Vector6 pose_error(const Pose& reference, const Pose& measured) noexcept;

}  // namespace vla_control
