// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vla_control/distance_barrier.hpp"
#include "vla_control/robot_model.hpp"

namespace vla_control {

/// Something that stands still near the arm: a box, or, without a size, the half space below the
/// x-y plane of its pose.
struct Obstacle {
  std::string name;
  Vector3 position = Vector3::Zero();                           ///< m, centre, in the base frame
  Eigen::Vector4d quat_xyzw = Eigen::Vector4d(0., 0., 0., 1.);  ///< in the base frame
  std::optional<Vector3> size;                                  ///< m, edges
};

/// What a CollisionMonitor watches.
struct CollisionConfig {
  /// Folders that hold the packages of `package://` meshes; empty = those of AMENT_PREFIX_PATH and
  /// ROS_PACKAGE_PATH.
  std::vector<std::string> package_folders;
  std::vector<Obstacle> obstacles;
  /// Pairs of links, or of a link and an obstacle, that may touch: fingers and the table.
  std::vector<std::pair<std::string, std::string>> ignored_pairs;
  JointVector home;       ///< rad, a posture in which nothing may touch
  double margin = 0.005;  ///< m that pairs are apart at home, at least
  double horizon = 0.20;  ///< m, farther pairs are left out
};

/// Two links, or a link and an obstacle.
struct CollisionPair {
  std::string first, second;
};

/// A pair within the horizon.
struct PairDistance {
  std::size_t pair = 0;                    ///< index into CollisionMonitor::pairs()
  double distance = 0.0;                   ///< m; negative = they overlap
  Vector3 point_first = Vector3::Zero();   ///< m, nearest point of the first, base frame
  Vector3 point_second = Vector3::Zero();  ///< m, of the second
  JointVector row;                         ///< d(distance)/dq, m/rad
};

/// Distances of an arm to itself and to its surroundings, with coal. Outside the loop: it
/// allocates. One object, one thread.
///
/// Bodies are the collision geometry of the URDF, gripper included, with joints that are not
/// controlled locked as in RobotDescription. A mesh stands for its convex hull, by at most 32 of
/// its vertices and a radius that reaches all others: the body contains the mesh. Links of the same
/// joint and of neighbouring joints are no pair.
class CollisionMonitor {
 public:
  /// \throws std::invalid_argument naming what is wrong and the valid choices; also when a pair is
  ///     nearer than the margin at home, naming the pair.
  CollisionMonitor(const RobotDescription& description, const CollisionConfig& config);
  ~CollisionMonitor();
  CollisionMonitor(CollisionMonitor&&) noexcept;
  CollisionMonitor& operator=(CollisionMonitor&&) noexcept;

  [[nodiscard]] const std::vector<CollisionPair>& pairs() const noexcept;
  /// Of the bodies that are meshes: largest distance in m by which a body exceeds its hull.
  [[nodiscard]] double largest_excess() const noexcept;
  /// Pairs within the horizon, the nearest first. A pair of links with several bodies counts once
  /// per pair of bodies, and one that is near once per pair of points that is nearest when one body
  /// is tilted a little: the corners of a face over another.
  /// \throws std::invalid_argument if `q` has the wrong size or is not finite
  [[nodiscard]] const std::vector<PairDistance>& compute(const JointVector& q);
  /// The nearest of them, for Controller::push_distances(). \return false, leaving `out` as it
  /// is, if they could not be computed
  [[nodiscard]] bool compute(const JointSample& sample, Distances& out) noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vla_control
