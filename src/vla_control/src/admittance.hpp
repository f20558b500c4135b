// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Eigenvalues>

#include "vla_control/config.hpp"
#include "vla_control/force_tracking.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Gives way to a measured wrench: M a + D v + K x = F, with x from reference to tool. RT-safe.
///
/// x lives on the group: a translation of the tool point and a rotation about it, both in base
/// axes, so that neither a moment nor a turning reference swings the tool point. D is critical, or
/// more, for K in series with the contact stiffness that was declared; see least_mass() for what a
/// late drive makes of that.
class Admittance {
 public:
  explicit Admittance(const ControllerConfig& config) noexcept;

  void reset() noexcept;
  /// One cycle.
  /// \param felt N, Nm of the surroundings on the tool, base axes; \param axes those of the
  /// stiffness, in the base; \param force what a chunk wants of the tool instead of the spring
  void update(const Vector6& felt, const TaskGains& gains, const Matrix3& axes,
              ForceTracking& force, std::int64_t now_ns, double period) noexcept;
  /// N, Nm that the tool is to exert: of the spring, or what a chunk wants; base axes.
  [[nodiscard]] const Vector6& exerted() const noexcept { return exerted_; }
  /// Stands where it is.
  void freeze() noexcept { velocity_.setZero(); }

  /// Where the tool shall be, for a reference.
  [[nodiscard]] Pose apply(const Pose& reference) const noexcept;
  /// The reference under which the tool is at `tool`.
  [[nodiscard]] Pose reference_of(const Pose& tool) const noexcept;
  /// m and rotation vector, base axes.
  [[nodiscard]] Vector6 offset() const noexcept;

 private:
  [[nodiscard]] Matrix6 damping_for(const TaskGains& gains) noexcept;
  void bound() noexcept;

  AdmittanceConfig config_;
  Vector6 mass_;
  Vector6 contact_stiffness_;
  Vector3 lower_, upper_;  // m, workspace
  Vector3 position_ = Vector3::Zero();
  Matrix3 rotation_ = Matrix3::Identity();
  Vector6 velocity_ = Vector6::Zero();
  Vector6 exerted_ = Vector6::Zero();
  Eigen::SelfAdjointEigenSolver<Matrix6> eigen_;
};

/// Least virtual mass (kg, or kg m^2) with which contact with surroundings of `stiffness` (N/m, or
/// Nm/rad) has a phase margin of 45 degrees when all of the loop is `delay` late.
///
/// With D = 2 sqrt(m k) and a soft spring the loop gain is k e^(-s T) / (m s^2 + D s). It is one at
/// w = sqrt(sqrt(5) - 2) w_0, w_0 = sqrt(k / m), where its phase is atan(2 w_0 / w) above -180
/// degrees without the delay, which takes w T of it. A stiffer spring only adds to the margin.
[[nodiscard]] double least_mass(double stiffness, double delay) noexcept;

}  // namespace vla_control
