// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <coal/BVH/BVH_model.h>
#include <coal/collision_data.h>
#include <coal/distance.h>
#include <coal/shape/geometric_shapes.h>

#include <cmath>
#include <memory>
#include <vector>

#include "vla_control/types.hpp"

namespace vla_control {

/// A convex core and a radius around it. Two bodies whose cores are apart need no penetration
/// depth, and their distance is smooth.
struct CollisionBody {
  std::shared_ptr<const coal::CollisionGeometry> core;
  double radius = 0.0;  // m
};

/// The convex hull of a few points. coal looks at all of them, so that it needs no faces; beyond 32
/// it would walk from neighbour to neighbour, which there are none of.
class PointHull final : public coal::ConvexBase {
 public:
  static constexpr std::size_t kMostPoints = num_vertices_large_convex_threshold;

  explicit PointHull(const std::vector<Vector3>& hull_points) {
    initialize(std::make_shared<std::vector<coal::Vec3s>>(hull_points.begin(), hull_points.end()),
               static_cast<unsigned int>(hull_points.size()));
    computeLocalAABB();
  }
  PointHull* clone() const override { return new PointHull(*this); }
};

/// Distance between two placed bodies, and the nearest points of their cores in the same frame. m
struct BodyDistance {
  double distance = 0.0;
  Vector3 point_first, point_second;
  Vector3 normal;  // unit, from the first to the second
};

[[nodiscard]] inline BodyDistance distance_between(const CollisionBody& a,
                                                   const coal::Transform3s& T_a,
                                                   const CollisionBody& b,
                                                   const coal::Transform3s& T_b) {
  const coal::DistanceRequest request;
  coal::DistanceResult result;
  coal::distance(a.core.get(), T_a, b.core.get(), T_b, request, result);
  BodyDistance out;
  const Vector3 gap = result.nearest_points[1] - result.nearest_points[0];
  // Where the cores overlap the nearest points lie the other way round.
  const double core = result.min_distance;
  out.normal = std::abs(core) > 1e-7 ? Vector3(gap / core) : Vector3(result.normal);
  out.normal.normalize();
  out.point_first = result.nearest_points[0] + a.radius * out.normal;
  out.point_second = result.nearest_points[1] - b.radius * out.normal;
  out.distance = core - a.radius - b.radius;
  return out;
}

}  // namespace vla_control
