// SPDX-License-Identifier: Apache-2.0
#include "vla_controllers/collision_watch.hpp"

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#ifdef VLA_CONTROLLERS_COLLISION
#include "vla_control/collision_monitor.hpp"
#include "vla_control/collision_thread.hpp"
#endif

namespace vla_controllers {

using cartesian_controller::Params;

#ifdef VLA_CONTROLLERS_COLLISION
namespace {

using vla_control::CollisionConfig;
using vla_control::Obstacle;

Obstacle obstacle_of(const Params& params, const std::string& name) {
  const auto& at = params.obstacle.obstacles_map.at(name);
  Obstacle out;
  out.name = name;
  out.position = vla_control::Vector3::Map(at.position.data());
  out.quat_xyzw = Eigen::Vector4d::Map(at.quat_xyzw.data());
  if (at.size.empty()) return out;
  if (at.size.size() != 3) {
    throw std::invalid_argument("obstacle." + name + ".size has " + std::to_string(at.size.size()) +
                                " values; needs three edges, or none for a half space");
  }
  out.size = vla_control::Vector3::Map(at.size.data());
  return out;
}

CollisionConfig collision_config(const Params& params) {
  CollisionConfig config;
  const std::vector<std::string>& names = params.collision.may_touch;
  if (names.size() % 2 != 0) {
    throw std::invalid_argument("collision.may_touch has " + std::to_string(names.size()) +
                                " names; needs pairs, one after the other");
  }
  for (std::size_t i = 0; i < names.size(); i += 2) {
    config.ignored_pairs.emplace_back(names[i], names[i + 1]);
  }
  const std::vector<double>& home = params.collision.home;
  if (home.size() != params.joints.size()) {
    throw std::invalid_argument(
        "collision.home has " + std::to_string(home.size()) + " values; needs one for each of " +
        std::to_string(params.joints.size()) + " joints where barrier.distance_braking is set");
  }
  config.home = vla_control::JointVector::Map(home.data(), static_cast<Eigen::Index>(home.size()));
  for (const std::string& name : params.obstacles) {
    config.obstacles.push_back(obstacle_of(params, name));
  }
  config.margin = params.barrier.distance_margin;
  return config;
}

}  // namespace

struct CollisionWatch::Impl {
  Impl(const Params& params, std::shared_ptr<ControllerCore> core_in)
      : core(std::move(core_in)),
        monitor(core->controller.description(), collision_config(params)),
        thread(core->controller, monitor, params.collision.rate) {}

  std::shared_ptr<ControllerCore> core;
  vla_control::CollisionMonitor monitor;
  vla_control::CollisionThread thread;  // last: it uses both
};

std::unique_ptr<CollisionWatch> CollisionWatch::start(const Params& params,
                                                      const std::shared_ptr<ControllerCore>& core) {
  if (params.barrier.distance_braking <= 0.0) return nullptr;
  return std::unique_ptr<CollisionWatch>(new CollisionWatch(std::make_unique<Impl>(params, core)));
}
#else
struct CollisionWatch::Impl {};

std::unique_ptr<CollisionWatch> CollisionWatch::start(const Params& params,
                                                      const std::shared_ptr<ControllerCore>&) {
  if (params.barrier.distance_braking <= 0.0) return nullptr;
  throw std::invalid_argument(
      "barrier.distance_braking needs the collision monitor, which vla_control was built without: "
      "its build warns that pinocchio comes without collision geometry; 0 turns the barrier off");
}
#endif

CollisionWatch::CollisionWatch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CollisionWatch::~CollisionWatch() = default;

}  // namespace vla_controllers
