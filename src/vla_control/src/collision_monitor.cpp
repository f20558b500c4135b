// SPDX-License-Identifier: Apache-2.0
#include "vla_control/collision_monitor.hpp"

// The other file, beside robot_model.cpp, that includes pinocchio; and the only one with coal.
#include <coal/distance.h>

#include <algorithm>
#include <cmath>
#include <pinocchio/algorithm/jacobian.hpp>
#include <pinocchio/algorithm/joint-configuration.hpp>
#include <pinocchio/algorithm/model.hpp>
#include <pinocchio/parsers/urdf.hpp>
#include <pinocchio/parsers/utils.hpp>
#include <set>
#include <sstream>
#include <stdexcept>

#include "collision_body.hpp"

namespace vla_control {
namespace {

/// A vertex that a hull of fewer points misses by less is left to the radius. m
constexpr double kFineEnough = 5e-4;

/// Nearer than this, several points of a pair are looked for, by tilting by this angle; points
/// nearer to each other than this are one. m, rad, m
constexpr double kManifold = 0.05;
constexpr double kTilt = 5e-3;
constexpr double kSamePoint = 5e-3;

/// The body around the vertices of a mesh: the vertices that stand out most, one by one, until the
/// others are near enough to their hull or there are as many as there may be.
CollisionBody body_around(const std::vector<Vector3>& vertices) {
  std::vector<Vector3> kept;
  for (int axis = 0; axis < 3; ++axis) {
    const auto less = [axis](const Vector3& a, const Vector3& b) { return a[axis] < b[axis]; };
    const auto [low, high] = std::minmax_element(vertices.begin(), vertices.end(), less);
    kept.push_back(*low);
    kept.push_back(*high);
  }
  // A vertex as a tiny ball: coal has no points.
  constexpr double kBall = 1e-4;
  const CollisionBody ball{std::make_shared<coal::Sphere>(kBall), -kBall};
  while (true) {
    const CollisionBody hull{std::make_shared<PointHull>(kept), 0.0};
    double reach = 0.0;
    Vector3 farthest = kept.front();
    for (const Vector3& vertex : vertices) {
      const coal::Transform3s at(Matrix3::Identity(), vertex);
      const double distance = distance_between(ball, at, hull, coal::Transform3s()).distance;
      if (distance <= reach) continue;
      reach = distance;
      farthest = vertex;
    }
    if (reach < kFineEnough || kept.size() == PointHull::kMostPoints) {
      return {hull.core, reach + 1e-6};  // the distances are exact to so much
    }
    kept.push_back(farthest);
  }
}

CollisionBody body_of(const pinocchio::GeometryObject& object) {
  const auto* mesh = dynamic_cast<const coal::BVHModelBase*>(object.geometry.get());
  if (mesh == nullptr) {
    object.geometry->computeLocalAABB();
    return {object.geometry, 0.0};
  }
  return body_around({mesh->vertices->begin(), mesh->vertices->begin() + mesh->num_vertices});
}

CollisionBody body_of(const Obstacle& obstacle) {
  if (!obstacle.size.has_value()) {
    return {std::make_shared<coal::Halfspace>(Vector3::UnitZ(), 0.0), 0.0};
  }
  const auto box = std::make_shared<coal::Box>(*obstacle.size);
  box->computeLocalAABB();
  return {box, 0.0};
}

void check(const Obstacle& obstacle) {
  const double norm = obstacle.quat_xyzw.norm();
  const bool sized =
      !obstacle.size.has_value() || (obstacle.size->allFinite() && obstacle.size->minCoeff() > 0.0);
  if (obstacle.position.allFinite() && std::abs(norm - 1.0) < 1e-3 && sized) return;
  throw std::invalid_argument("obstacle '" + obstacle.name +
                              "' needs a finite position, a unit quaternion and edges above 0 m");
}

std::string named(const CollisionPair& pair) {
  return "'" + pair.first + "' and '" + pair.second + "'";
}

}  // namespace

struct CollisionMonitor::Impl {
  struct Placed {
    std::string name;
    CollisionBody body;
    pinocchio::JointIndex joint = 0;  // that moves it; 0 = none
    pinocchio::SE3 T_joint_body;
    coal::Transform3s T_world_body;
    Vector3 center = Vector3::Zero();  // of a ball around it, world
    double reach = 0.0;                // radius of that ball, m; infinite for a half space
  };
  struct Pair {
    std::size_t first, second;
  };
  struct Column {
    pinocchio::JointIndex joint;
    int q, v;
    bool continuous;  // pinocchio stores cosine and sine of an unlimited joint
  };

  Impl(const RobotDescription& description, const CollisionConfig& config)
      : horizon(config.horizon) {
    const RobotModel checked(description);  // names what is wrong with the description
    if (!(config.horizon > 0.0 && config.horizon <= 10.0) ||
        !(config.margin >= 0.0 && config.margin < config.horizon)) {
      throw std::invalid_argument("horizon " + std::to_string(config.horizon) +
                                  " must be within (0, 10] m and margin " +
                                  std::to_string(config.margin) + " within [0, horizon)");
    }
    add_links(description, config);
    const auto base = model.getFrameId(description.base_frame);
    T_base_world = model.frames[base].placement.inverse();
    for (const Obstacle& obstacle : config.obstacles) add_obstacle(obstacle);
    for (const std::string& name : description.joint_names) {
      const auto id = model.getJointId(name);
      const auto& joint = model.joints[id];
      columns.push_back({id, joint.idx_q(), joint.idx_v(), joint.nq() == 2});
    }
    q_scratch = pinocchio::neutral(model);
    add_pairs(config);
    check_home(config);
  }

  void add_links(const RobotDescription& description, const CollisionConfig& config) {
    pinocchio::Model full;
    pinocchio::urdf::buildModelFromXML(description.urdf_xml, full);
    pinocchio::GeometryModel geometry;
    const std::vector<std::string> folders =
        config.package_folders.empty() ? pinocchio::rosPaths() : config.package_folders;
    try {
      std::istringstream xml(description.urdf_xml);
      pinocchio::urdf::buildGeom(full, xml, pinocchio::COLLISION, geometry, folders);
    } catch (const std::exception& error) {
      throw std::invalid_argument(std::string("the collision geometry cannot be read: ") +
                                  error.what());
    }
    std::vector<pinocchio::JointIndex> locked;
    Eigen::VectorXd q = pinocchio::neutral(full);
    const auto& names = description.joint_names;
    for (pinocchio::JointIndex i = 1; i < static_cast<std::size_t>(full.njoints); ++i) {
      if (std::count(names.begin(), names.end(), full.names[i]) == 0) locked.push_back(i);
    }
    for (const auto& [name, position] : description.locked_joints) {
      q[full.joints[full.getJointId(name)].idx_q()] = position;
    }
    pinocchio::GeometryModel reduced;
    pinocchio::buildReducedModel(full, geometry, locked, q, model, reduced);
    data = pinocchio::Data(model);
    for (const pinocchio::GeometryObject& object : reduced.geometryObjects) {
      Placed placed;
      placed.name = model.frames[object.parentFrame].name;
      placed.body = body_of(object);
      placed.joint = object.parentJoint;
      placed.T_joint_body = object.placement;
      excess = std::max(excess, placed.body.radius);
      add(std::move(placed));
    }
    if (bodies.empty()) {
      throw std::invalid_argument("the URDF has no collision geometry to watch");
    }
  }

  void add_obstacle(const Obstacle& obstacle) {
    check(obstacle);
    Placed placed;
    placed.name = obstacle.name;
    placed.body = body_of(obstacle);
    const Eigen::Quaterniond turn(Eigen::Vector4d(obstacle.quat_xyzw.normalized()));
    placed.T_joint_body =
        T_base_world.inverse() * pinocchio::SE3(turn.toRotationMatrix(), obstacle.position);
    for (const Placed& other : bodies) {
      if (other.name != obstacle.name) continue;
      throw std::invalid_argument("obstacle '" + obstacle.name +
                                  "' has the name of a link or of "
                                  "another obstacle");
    }
    add(std::move(placed));
  }

  void add(Placed placed) {
    const bool endless = placed.body.core->getNodeType() == coal::GEOM_HALFSPACE;
    placed.reach = endless ? std::numeric_limits<double>::infinity()
                           : placed.body.core->aabb_radius + placed.body.radius;
    bodies.push_back(std::move(placed));
  }

  /// Bodies of the same joint, or of two joints of which one carries the other, touch by design.
  [[nodiscard]] bool neighbours(const Placed& a, const Placed& b) const {
    return a.joint == b.joint || model.parents[a.joint] == b.joint ||
           model.parents[b.joint] == a.joint;
  }

  void add_pairs(const CollisionConfig& config) {
    std::set<std::pair<std::string, std::string>> ignored;
    for (const auto& [a, b] : config.ignored_pairs) {
      for (const std::string& name : {a, b}) check_name(name);
      ignored.insert({a, b});
      ignored.insert({b, a});
    }
    const std::size_t links = bodies.size() - config.obstacles.size();
    for (std::size_t i = 0; i < links; ++i) {
      for (std::size_t j = i + 1; j < bodies.size(); ++j) {
        const bool obstacle = j >= links;
        // What is fixed to the base cannot move towards an obstacle.
        if (obstacle ? bodies[i].joint == 0 : neighbours(bodies[i], bodies[j])) continue;
        if (ignored.count({bodies[i].name, bodies[j].name}) != 0) continue;
        pairs.push_back({i, j});
        pair_names.push_back({bodies[i].name, bodies[j].name});
      }
    }
    nearest.reserve(5 * pairs.size());
  }

  void check_name(const std::string& name) const {
    std::set<std::string> valid;
    for (const Placed& body : bodies) valid.insert(body.name);
    if (valid.count(name) != 0) return;
    std::string text =
        "ignored_pairs: '" + name + "' is no link with collision geometry and no obstacle; valid:";
    for (const std::string& one : valid) text += " " + one;
    throw std::invalid_argument(text);
  }

  void check_home(const CollisionConfig& config) {
    compute(config.home);
    if (nearest.empty() || nearest.front().distance >= config.margin) return;
    const PairDistance& worst = nearest.front();
    std::ostringstream text;
    text << named(pair_names[worst.pair]) << " are " << worst.distance
         << " m apart at home, nearer than the margin of " << config.margin
         << " m; if they may touch, add them to the ignored pairs";
    throw std::invalid_argument(text.str());
  }

  void place(const JointVector& q) {
    if (q.size() != static_cast<Eigen::Index>(columns.size()) || !q.allFinite()) {
      throw std::invalid_argument("distances need " + std::to_string(columns.size()) +
                                  " finite joint positions, not " + std::to_string(q.size()));
    }
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const Column& at = columns[i];
      const double value = q[static_cast<Eigen::Index>(i)];
      if (at.continuous) {
        q_scratch[at.q] = std::cos(value);
        q_scratch[at.q + 1] = std::sin(value);
      } else {
        q_scratch[at.q] = value;
      }
    }
    pinocchio::computeJointJacobians(model, data, q_scratch);
    for (Placed& body : bodies) {
      const pinocchio::SE3 T = data.oMi[body.joint] * body.T_joint_body;
      body.T_world_body = coal::Transform3s(T.rotation(), T.translation());
      body.center = body.T_world_body.transform(body.body.core->aabb_center);
    }
  }

  void compute(const JointVector& q) {
    place(q);
    nearest.clear();
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const Placed& a = bodies[pairs[i].first];
      const Placed& b = bodies[pairs[i].second];
      if ((a.center - b.center).norm() - a.reach - b.reach > horizon) continue;
      const BodyDistance found = distance_between(a.body, a.T_world_body, b.body, b.T_world_body);
      if (!std::isfinite(found.distance) || !found.normal.allFinite()) {
        throw std::runtime_error("no distance between " + named(pair_names[i]));
      }
      if (found.distance > horizon) continue;
      add_distance(i, found);
      if (found.distance < kManifold) add_manifold(i, found);
    }
    const auto nearer = [](const PairDistance& a, const PairDistance& b) {
      return a.distance < b.distance;
    };
    std::stable_sort(nearest.begin(), nearest.end(), nearer);
  }

  void add_distance(std::size_t pair, const BodyDistance& found) {
    const Placed& a = bodies[pairs[pair].first];
    const Placed& b = bodies[pairs[pair].second];
    PairDistance out;
    out.pair = pair;
    out.distance = found.distance;
    out.point_first = T_base_world.act(found.point_first);
    out.point_second = T_base_world.act(found.point_second);
    out.row = velocity_row(b.joint, found.point_second, found.normal) -
              velocity_row(a.joint, found.point_first, found.normal);
    nearest.push_back(std::move(out));
  }

  /// Where two faces are nearly parallel, one pair of points says nothing of the others: the body
  /// would tip over it. The first body is tilted a little each way, and what is nearest then is
  /// added where it is another point (as MuJoCo's multiccd does).
  void add_manifold(std::size_t pair, const BodyDistance& found) {
    const Placed& a = bodies[pairs[pair].first];
    const Placed& b = bodies[pairs[pair].second];
    const Vector3 across = found.normal.unitOrthogonal();
    const Vector3& pivot = found.point_first;
    const std::size_t begin = nearest.size() - 1;
    for (const Vector3& axis : {across, Vector3(found.normal.cross(across))}) {
      for (const double angle : {kTilt, -kTilt}) {
        const Matrix3 turn = Eigen::AngleAxisd(angle, axis).toRotationMatrix();
        const coal::Transform3s T_a(turn * a.T_world_body.getRotation(),
                                    pivot + turn * (a.T_world_body.getTranslation() - pivot));
        BodyDistance tilted = distance_between(a.body, T_a, b.body, b.T_world_body);
        if (!std::isfinite(tilted.distance) || !tilted.normal.allFinite()) continue;
        tilted.point_first = pivot + turn.transpose() * (tilted.point_first - pivot);
        tilted.distance = tilted.normal.dot(tilted.point_second - tilted.point_first);
        const Vector3 point = T_base_world.act(tilted.point_first);
        bool known = false;
        for (std::size_t i = begin; i < nearest.size(); ++i) {
          known = known || (nearest[i].point_first - point).norm() < kSamePoint;
        }
        if (!known) add_distance(pair, tilted);
      }
    }
  }

  /// Where there is not room for all, every pair counts before further points of one.
  void order_by_pair() {
    std::vector<bool> seen(pairs.size());
    std::vector<std::size_t> further;
    order.clear();
    for (std::size_t i = 0; i < nearest.size(); ++i) {
      (seen[nearest[i].pair] ? further : order).push_back(i);
      seen[nearest[i].pair] = true;
    }
    order.insert(order.end(), further.begin(), further.end());
  }

  /// How fast a point that moves with a joint moves along a direction, per joint velocity.
  [[nodiscard]] JointVector velocity_row(pinocchio::JointIndex joint, const Vector3& point,
                                         const Vector3& direction) const {
    JointVector row = JointVector::Zero(static_cast<Eigen::Index>(columns.size()));
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const auto& chain = model.supports[joint];
      if (std::find(chain.begin(), chain.end(), columns[i].joint) == chain.end()) continue;
      const auto J = data.J.col(columns[i].v);  // world axes, at the world's origin
      const Vector3 velocity = J.head<3>() + Vector3(J.tail<3>()).cross(point);
      row[static_cast<Eigen::Index>(i)] = direction.dot(velocity);
    }
    return row;
  }

  double horizon;
  double excess = 0.0;
  pinocchio::Model model;
  pinocchio::Data data;
  pinocchio::SE3 T_base_world;
  std::vector<Column> columns;
  Eigen::VectorXd q_scratch;
  std::vector<Placed> bodies;  // links, then obstacles
  std::vector<Pair> pairs;
  std::vector<CollisionPair> pair_names;
  std::vector<PairDistance> nearest;
  std::vector<std::size_t> order;  // in which they are handed over
};

CollisionMonitor::CollisionMonitor(const RobotDescription& description,
                                   const CollisionConfig& config)
    : impl_(std::make_unique<Impl>(description, config)) {}
CollisionMonitor::~CollisionMonitor() = default;
CollisionMonitor::CollisionMonitor(CollisionMonitor&&) noexcept = default;
CollisionMonitor& CollisionMonitor::operator=(CollisionMonitor&&) noexcept = default;

const std::vector<CollisionPair>& CollisionMonitor::pairs() const noexcept {
  return impl_->pair_names;
}

double CollisionMonitor::largest_excess() const noexcept { return impl_->excess; }

const std::vector<PairDistance>& CollisionMonitor::compute(const JointVector& q) {
  impl_->compute(q);
  return impl_->nearest;
}

bool CollisionMonitor::compute(const JointSample& sample, Distances& out) noexcept {
  try {
    impl_->compute(sample.q);
    impl_->order_by_pair();
  } catch (...) {
    return false;  // the controller sees that nothing fresh comes
  }
  out.time_ns = sample.time_ns;
  out.q = sample.q;
  out.count = std::min(static_cast<int>(impl_->nearest.size()), kMaxDistances);
  for (int i = 0; i < out.count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const PairDistance& one = impl_->nearest[impl_->order[at]];
    out.nearest[at].distance = one.distance;
    out.nearest[at].row = one.row;
  }
  return true;
}

}  // namespace vla_control
