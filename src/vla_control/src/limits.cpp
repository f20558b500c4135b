// SPDX-License-Identifier: Apache-2.0
#include "vla_control/limits.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

namespace vla_control {
namespace {

/// Joint speed below which no direction of motion is assumed: the noise of a resting joint. rad/s
constexpr double kRestingSpeed = 0.01;
/// Torque differences below this are not reported as limiting. Nm
constexpr double kReported = 1e-9;
/// Damping rate times period, of all joints together: stable below one with a cycle of delay.
constexpr double kDampedPerCycle = 0.5;

}  // namespace

void TorqueLimiter::reset(const JointVector& tau) noexcept {
  previous_ = tau.cwiseMax(-settings_.torque).cwiseMin(settings_.torque);
}

JointVector TorqueLimiter::damping(const JointVector& dq, const JointMatrix& mass_matrix,
                                   double period) const noexcept {
  const Eigen::Index n = dq.size();
  JointVector damping = JointVector::Zero(n);
  const auto fast = (dq.cwiseAbs().array() > settings_.velocity.array()).count();
  if (fast == 0) return damping;
  const Eigen::LLT<JointMatrix> factors(mass_matrix);
  if (factors.info() != Eigen::Success) return damping;
  const JointMatrix inverse = factors.solve(JointMatrix::Identity(n, n));
  for (Eigen::Index i = 0; i < n; ++i) {
    // The eigenvalues of D M^-1 add up to its trace.
    const double most = kDampedPerCycle / (static_cast<double>(fast) * inverse(i, i) * period);
    damping[i] = std::min(settings_.velocity_damping, most);
  }
  return damping;
}

TorqueLimiter::Activity TorqueLimiter::apply(const JointVector& dq, const JointMatrix& mass_matrix,
                                             double period, JointVector& tau) noexcept {
  Activity activity;
  const JointVector overspeed_damping = damping(dq, mass_matrix, period);
  for (Eigen::Index i = 0; i < tau.size(); ++i) {
    double wanted = tau[i];
    const double overspeed = std::abs(dq[i]) - settings_.velocity[i];
    if (overspeed > 0.0) {
      wanted -= std::copysign(overspeed_damping[i] * overspeed, dq[i]);
    }
    const double clamped = std::clamp(wanted, -settings_.torque[i], settings_.torque[i]);
    activity.torque = activity.torque || std::abs(clamped - wanted) > kReported;

    const double change = clamped - previous_[i];
    const bool braking = std::abs(dq[i]) > kRestingSpeed && change * dq[i] < 0.0;
    const double most = (braking ? settings_.braking_rate[i] : settings_.rate[i]) * period;
    const double limited = std::clamp(change, -most, most);
    activity.rate = activity.rate || std::abs(limited - change) > kReported;
    tau[i] = previous_[i] + limited;
  }
  previous_ = tau;
  return activity;
}

}  // namespace vla_control
