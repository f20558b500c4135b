// SPDX-License-Identifier: Apache-2.0
#include "joint_prediction.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "so3.hpp"

namespace vla_control {
namespace {

constexpr double kNanoseconds = 1e-9;
/// Time between predicted points, and the most of them. s
constexpr double kStep = 0.02;
constexpr int kMostSteps = 160;
/// Of the trace of J M^-1 J^T: bounds the inverse at a singularity.
constexpr double kDamping = 1e-7;
/// Correction per point towards the chunk's pose. m, rad
constexpr double kMostCorrection = 0.02;
constexpr double kMostTurn = 0.1;
/// A tool that stays farther away than this cannot be where the chunk wants it. m, rad
constexpr double kFarAway = 0.02;
constexpr double kFarTurned = 0.1;

Vector3 clipped(const Vector3& v, double most) noexcept {
  const double norm = v.norm();
  const Vector3 out = norm > most ? Vector3(v * (most / norm)) : v;
  return out;
}

}  // namespace

JointPrediction::JointPrediction(const RobotDescription& description,
                                 const ControllerConfig& config)
    : model_(description) {
  allowed_velocity_ = config.chunk.joint_velocity_share *
                      JointVector::Map(config.max_joint_velocity.data(), model_.n());
  standing_.setZero(model_.n());
  model_.compute(standing_, standing_, false, dynamics_);
}

JointDemand JointPrediction::run(const JointVector& q, const ChunkSpline& spline,
                                 std::int64_t from_ns) noexcept {
  using Inverse = Eigen::Matrix<double, Eigen::Dynamic, 6, Eigen::ColMajor, kMaxJoints, 6>;
  JointDemand demand;
  if (q.size() != model_.n()) return demand;
  const double remaining = static_cast<double>(spline.rest_ns() - from_ns) * kNanoseconds;
  const int steps = std::clamp(static_cast<int>(remaining / kStep) + 1, 4, kMostSteps);
  const double dt = std::max(remaining, 4.0 * kStep) / steps;
  // Joints that are beyond a limit now may come back, but not go farther.
  const JointVector lower = model_.position_lower().cwiseMin(q);
  const JointVector upper = model_.position_upper().cwiseMax(q);
  JointVector at = q;
  double distance = 0.0, angle = 0.0;
  double first_distance = 0.0, first_angle = 0.0;
  for (int i = 0; i <= steps; ++i) {
    const ReferenceSample wanted = spline.sample(from_ns + std::llround(i * dt / kNanoseconds));
    model_.compute(at, standing_, false, dynamics_);
    const Vector3 miss = wanted.pose.position - dynamics_.pose_tool_in_base.position;
    const Vector3 turn =
        so3::log(wanted.pose.rotation * dynamics_.pose_tool_in_base.rotation.transpose());
    distance = miss.norm();
    angle = turn.norm();
    if (i == 0) {
      first_distance = distance;
      first_angle = angle;
    }
    const Eigen::LLT<JointMatrix> mass(dynamics_.mass_matrix);
    const Inverse weighted = mass.solve(dynamics_.jacobian.transpose());
    Matrix6 mobility = dynamics_.jacobian * weighted;
    mobility.diagonal().array() += kDamping * mobility.trace();
    const Eigen::LLT<Matrix6> inertia(mobility);
    Vector6 twist;
    twist << wanted.linear_velocity, wanted.angular_velocity;
    const JointVector dq = weighted * inertia.solve(twist);
    if (!dq.allFinite()) {
      demand.reachable = false;
      return demand;
    }
    demand.velocity_ratio =
        std::max(demand.velocity_ratio, (dq.array() / allowed_velocity_.array()).abs().maxCoeff());
    Vector6 correction;
    correction << clipped(miss, kMostCorrection), clipped(turn, kMostTurn);
    const JointVector back = weighted * inertia.solve(correction);
    at += dt * dq + back;
    if (!at.allFinite() || (at - lower).minCoeff() < 0.0 || (upper - at).minCoeff() < 0.0) {
      demand.reachable = false;
      return demand;
    }
  }
  demand.reachable =
      distance <= std::max(kFarAway, first_distance) && angle <= std::max(kFarTurned, first_angle);
  return demand;
}

}  // namespace vla_control
