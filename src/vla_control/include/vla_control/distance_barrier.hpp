// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "vla_control/config.hpp"
#include "vla_control/task_law.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Most distances that are handed over at a time: the nearest.
inline constexpr int kMaxDistances = 16;

/// How near two bodies are, and how that changes with the joints.
struct Distance {
  double distance = 0.0;  ///< m; negative = they overlap
  JointVector row;        ///< d(distance)/dq, m/rad
};

/// The nearest bodies at one joint position, as a CollisionMonitor finds them outside the loop.
struct Distances {
  std::int64_t time_ns = 0;  ///< when `q` was measured, controller clock
  JointVector q;             ///< rad
  int count = 0;
  std::array<Distance, kMaxDistances> nearest;
};

/// Measured joints and when, for whoever computes distances from them.
struct JointSample {
  std::int64_t time_ns = 0;
  JointVector q;  ///< rad
};

/// Brings the arm to rest before it touches itself or its surroundings, with distances that were
/// computed outside the loop and are advanced with their rows in between: d + row (q - q0).
/// RT-safe.
///
/// With torques it works as the other barriers do: a damper takes off what closes faster than
/// braking_speed(), and a torque that drives two bodies together fades out over the last stretch.
/// Where velocities are commanded, they are kept below that speed, by the least change of joint
/// velocities. Rows that are nearly parallel (a hand and its wrist before a table) share one push:
/// what all rows together need is found by a few sweeps of projected Gauss-Seidel.
class DistanceBarrier {
 public:
  void configure(const ControllerConfig& config);
  [[nodiscard]] bool on() const noexcept { return braking_ > 0.0; }
  void reset() noexcept;
  void take(const Distances& distances) noexcept { distances_ = distances; }
  [[nodiscard]] std::int64_t time_ns() const noexcept { return distances_.time_ns; }

  /// Begins a cycle with torques. `shrink` in [0, 1] scales the allowed closing speeds: 1 = fresh
  /// distances.
  void advance(const JointVector& q, const JointVector& dq, const OperationalSpace& space,
               double shrink) noexcept;
  /// Begins a cycle with velocities; `q`: where the joints are taken to.
  void advance(const JointVector& q, double shrink) noexcept;
  /// Least distance of this cycle, m; infinity when nothing is near.
  [[nodiscard]] double smallest() const noexcept { return smallest_; }
  /// Adds to `tau`, all torques but the bias forces, what fades and damps. \return true if it acts
  bool apply(JointVector& tau, const OperationalSpace& space) noexcept;
  /// Takes off `dq` what closes too fast. \return true if it acts
  bool slow(JointVector& dq) noexcept;

 private:
  struct Near {
    JointVector row;
    JointVector answer;    // M^-1 row^T
    double inertia = 0.0;  // kg, along the row
    double room = 0.0;     // m to the margin
    double closing = 0.0;  // m/s
    double allowed = 0.0;  // m/s
    double least = 0.0;    // m/s^2 along the row, the least it may accelerate with
    double force = 0.0;    // N along the row, of the solution; m/s where velocities are commanded
  };

  double braking_ = 0.0;        // m/s^2
  double margin_ = 0.005;       // m
  double fade_ = 0.01;          // m
  double reaction_ = 0.08;      // s
  JointVector braking_torque_;  // Nm that braking may take
  JointVector acceleration_;    // rad/s^2 that it may take where velocities are commanded
  Distances distances_;
  double smallest_ = 0.0;
  int near_count_ = 0;
  std::array<Near, kMaxDistances> near_;
};

/// Whether the distances may be used by a controller of `joints` joints: of that size, finite.
[[nodiscard]] bool is_valid(const Distances& distances, Eigen::Index joints) noexcept;

}  // namespace vla_control
