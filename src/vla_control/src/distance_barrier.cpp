// SPDX-License-Identifier: Apache-2.0
#include "vla_control/distance_barrier.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "vla_control/barrier.hpp"

namespace vla_control {
namespace {

/// Rows that move the pair less than this per rad say nothing. m/rad
constexpr double kLeastRow = 1e-4;
/// Bounds the inertia along a row. kg
constexpr double kMostMass = 100.0;
/// Share of the limits of torque or acceleration that braking counts on; the rest is for gravity
/// and the law, or for what else the command does.
constexpr double kBrakingShare = 0.5;
/// Over this time a commanded velocity comes to the margin at last. s
constexpr double kCommandReaction = 0.08;
/// Rows are looked at from this fraction of the allowed speed on: weak joints may allow less.
constexpr double kWatched = 4.0;
/// Sweeps over the rows. Two rows of a hand before a table need two.
constexpr int kSweeps = 4;

}  // namespace

bool is_valid(const Distances& distances, Eigen::Index joints) noexcept {
  if (distances.count < 0 || distances.count > kMaxDistances) return false;
  if (distances.q.size() != joints || !distances.q.allFinite()) return false;
  for (int i = 0; i < distances.count; ++i) {
    const Distance& one = distances.nearest[static_cast<std::size_t>(i)];
    if (!std::isfinite(one.distance) || one.row.size() != joints || !one.row.allFinite()) {
      return false;
    }
  }
  return true;
}

void DistanceBarrier::configure(const ControllerConfig& config) {
  braking_ = config.barrier.distance_braking;
  margin_ = config.barrier.distance_margin;
  fade_ = config.barrier.distance_fade;
  reaction_ = barrier_reaction(config.rate);
  const auto n = static_cast<Eigen::Index>(config.torque_limit.size());
  braking_torque_ = kBrakingShare * JointVector::Map(config.torque_limit.data(), n);
  if (config.output == OutputKind::kMotion) {
    acceleration_ = kBrakingShare * JointVector::Map(config.tracking.max_acceleration.data(), n);
  }
  reset();
}

void DistanceBarrier::reset() noexcept {
  distances_.count = 0;
  near_count_ = 0;
  smallest_ = std::numeric_limits<double>::infinity();
}

void DistanceBarrier::advance(const JointVector& q, const JointVector& dq,
                              const OperationalSpace& space, double shrink) noexcept {
  smallest_ = std::numeric_limits<double>::infinity();
  near_count_ = 0;
  if (!space.valid) return;
  for (int i = 0; i < distances_.count; ++i) {
    const Distance& one = distances_.nearest[static_cast<std::size_t>(i)];
    const double distance = one.distance + one.row.dot(q - distances_.q);
    smallest_ = std::min(smallest_, distance);
    const double room = distance - margin_;
    const double closing = -one.row.dot(dq);
    const double allowed = shrink * braking_speed(room, braking_, reaction_);
    const bool acts = room < fade_ || kWatched * closing > allowed;
    if (!acts || one.row.squaredNorm() < kLeastRow * kLeastRow) continue;
    Near& near = near_[static_cast<std::size_t>(near_count_++)];
    near.row = one.row;
    near.answer = space.solve_mass(one.row);
    near.inertia = std::min(1.0 / one.row.dot(near.answer), kMostMass);
    near.room = room;
    near.closing = closing;
    // No faster than the joints' torques can brake: braking b takes row^T inertia b.
    const double strength =
        (braking_torque_.array() / (near.inertia * near.row.array().abs()).max(1e-9)).minCoeff();
    near.allowed =
        strength < braking_ ? shrink * braking_speed(room, strength, reaction_) : allowed;
  }
}

void DistanceBarrier::advance(const JointVector& q, double shrink) noexcept {
  smallest_ = std::numeric_limits<double>::infinity();
  near_count_ = 0;
  for (int i = 0; i < distances_.count; ++i) {
    const Distance& one = distances_.nearest[static_cast<std::size_t>(i)];
    const double distance = one.distance + one.row.dot(q - distances_.q);
    smallest_ = std::min(smallest_, distance);
    const double square = one.row.squaredNorm();
    if (square < kLeastRow * kLeastRow) continue;
    Near& near = near_[static_cast<std::size_t>(near_count_++)];
    near.row = one.row;
    near.room = distance - margin_;
    // A change of the velocity along the row is as fast as its slowest joint.
    const double strength =
        square * (acceleration_.array() / one.row.array().abs().max(1e-9)).minCoeff();
    near.allowed =
        shrink * braking_speed(near.room, std::min(braking_, strength), kCommandReaction);
  }
}

bool DistanceBarrier::slow(JointVector& dq) noexcept {
  bool active = false;
  for (int i = 0; i < near_count_; ++i) near_[static_cast<std::size_t>(i)].force = 0.0;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (int i = 0; i < near_count_; ++i) {
      Near& near = near_[static_cast<std::size_t>(i)];
      const double excess = -near.row.dot(dq) - near.allowed;
      const double push = std::max(near.force + excess, 0.0);
      dq += (push - near.force) / near.row.squaredNorm() * near.row;
      near.force = push;
      active = active || push > 0.0;
    }
  }
  return active;
}

bool DistanceBarrier::apply(JointVector& tau, const OperationalSpace& space) noexcept {
  if (near_count_ == 0) return false;
  JointVector acceleration = space.solve_mass(tau);
  for (int i = 0; i < near_count_; ++i) {
    Near& near = near_[static_cast<std::size_t>(i)];
    // The speed may approach the allowed one no faster than the damper's lag, whatever drives it;
    // and of what drives it a share may stay that is nothing at the margin.
    const double share = std::clamp(near.room / fade_, 0.0, 1.0);
    const double driven = std::min(near.row.dot(acceleration), 0.0);
    const double approach = -barrier_gain(reaction_) * (near.allowed - near.closing);
    near.least = std::max(approach, share * driven);
    near.force = 0.0;
  }
  bool active = false;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (int i = 0; i < near_count_; ++i) {
      Near& near = near_[static_cast<std::size_t>(i)];
      const double missing = near.least - near.row.dot(acceleration);
      const double force = std::max(near.force + near.inertia * missing, 0.0);
      acceleration += (force - near.force) * near.answer;
      near.force = force;
    }
  }
  for (int i = 0; i < near_count_; ++i) {
    const Near& near = near_[static_cast<std::size_t>(i)];
    active = active || near.force > 0.0;
    tau += near.force * near.row;
  }
  return active;
}

}  // namespace vla_control
