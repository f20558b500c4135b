// SPDX-License-Identifier: Apache-2.0
#include "vla_control/payload.hpp"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "so3.hpp"

namespace vla_control {
namespace {

constexpr double kMostMass = 100.0;      // kg
constexpr double kFarthestCenter = 2.0;  // m
/// Part of the largest moment that rounding may add to it or take from it.
constexpr double kRounding = 1e-6;
/// A tare that finds less is taken for bias: its centre of mass would mean nothing. kg
constexpr double kLeastTaredMass = 0.02;

/// Inertia about the tool point.
Matrix3 about_tool(const Payload& payload) noexcept {
  const Matrix3 S = so3::skew(payload.center_of_mass);
  return payload.inertia - payload.mass * S * S;
}

/// The rigid body of which every part weighs as much as in a and b together, times their weights.
Payload weighted(const Payload& a, double weight_a, const Payload& b, double weight_b) noexcept {
  Payload out;
  out.bias = weight_a * a.bias + weight_b * b.bias;
  out.mass = weight_a * a.mass + weight_b * b.mass;
  if (out.mass <= 0.0) return out;
  out.center_of_mass =
      (weight_a * a.mass * a.center_of_mass + weight_b * b.mass * b.center_of_mass) / out.mass;
  const Matrix3 S = so3::skew(out.center_of_mass);
  out.inertia = weight_a * about_tool(a) + weight_b * about_tool(b) + out.mass * S * S;
  return out;
}

double smoothstep(double s) noexcept { return s * s * s * (10.0 + s * (6.0 * s - 15.0)); }

}  // namespace

bool is_physical(const Payload& payload) noexcept {
  // Written so that NaN fails.
  if (!(payload.mass >= 0.0 && payload.mass <= kMostMass)) return false;
  if (!(payload.center_of_mass.norm() <= kFarthestCenter)) return false;
  if (!payload.inertia.allFinite() || !payload.bias.allFinite()) return false;
  const double size = payload.inertia.cwiseAbs().maxCoeff();
  const double rounding = kRounding * size;
  if (!((payload.inertia - payload.inertia.transpose()).cwiseAbs().maxCoeff() <= rounding)) {
    return false;
  }
  const Eigen::SelfAdjointEigenSolver<Matrix3> eigen(payload.inertia, Eigen::EigenvaluesOnly);
  const Vector3 moments = eigen.eigenvalues();  // ascending
  return moments[0] >= -rounding && moments[0] + moments[1] >= moments[2] - rounding;
}

Vector6 payload_weight(const Payload& payload, const Pose& pose_tool_in_base,
                       const Vector3& gravity_in_base) noexcept {
  Vector6 weight;
  weight.head<3>() = payload.mass * gravity_in_base;
  const Vector3 arm = pose_tool_in_base.rotation * payload.center_of_mass;
  weight.tail<3>() = arm.cross(Vector3(weight.head<3>()));
  return weight;
}

Payload payload_explaining(const Vector6& wrench, const Pose& pose_tool_in_base,
                           const Vector3& gravity_in_base) noexcept {
  Payload out;
  out.bias = wrench;
  const double g = gravity_in_base.norm();
  if (g <= 0.0) return out;
  const Vector3 down = gravity_in_base / g;
  const double weight = down.dot(wrench.head<3>());
  if (weight < kLeastTaredMass * g) return out;
  out.mass = std::min(weight / g, kMostMass);
  // moment = arm x weight; of the arm only the part across gravity shows.
  const Vector3 arm = down.cross(Vector3(wrench.tail<3>())) / weight;
  const double length = std::min(arm.norm(), kFarthestCenter);
  out.center_of_mass.noalias() =
      pose_tool_in_base.rotation.transpose() * (arm.normalized() * length);
  out.bias -= payload_weight(out, pose_tool_in_base, gravity_in_base);
  return out;
}

Payload combined(const Payload& a, const Payload& b) noexcept { return weighted(a, 1.0, b, 1.0); }

void PayloadRamp::reset(const Payload& payload) noexcept {
  from_ = to_ = current_ = payload;
  phase_ = 1.0;
}

void PayloadRamp::approach(const Payload& payload) noexcept {
  from_ = current_;
  to_ = payload;
  phase_ = 0.0;
}

bool PayloadRamp::advance(double period) noexcept {
  if (phase_ >= 1.0) return false;
  phase_ = std::min(1.0, phase_ + period / duration_);
  if (phase_ >= 1.0) {
    current_ = to_;
    return true;
  }
  const double s = smoothstep(phase_);
  current_ = weighted(from_, 1.0 - s, to_, s);
  return true;
}

}  // namespace vla_control
