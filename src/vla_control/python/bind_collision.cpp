// SPDX-License-Identifier: Apache-2.0
#include "bindings.hpp"
#include "vla_control/collision_monitor.hpp"
#include "vla_control/collision_thread.hpp"

namespace vla_control::python {
namespace {

Obstacle obstacle_of(const std::string& name, nb::handle position, nb::handle size,
                     nb::handle quat_xyzw) {
  const auto read = [](nb::handle value, std::size_t n, const char* what) {
    const Array array = as_array(value);
    if (array.ndim() != 1 || array.shape(0) != n) {
      throw std::invalid_argument(std::string(what) + " of an obstacle needs " + std::to_string(n) +
                                  " values");
    }
    return array;
  };
  Obstacle out;
  out.name = name;
  out.position = Vector3::Map(read(position, 3, "position").data());
  if (!quat_xyzw.is_none()) {
    out.quat_xyzw = Eigen::Vector4d::Map(read(quat_xyzw, 4, "quat_xyzw").data());
  }
  if (!size.is_none()) out.size = Vector3(Vector3::Map(read(size, 3, "size").data()));
  return out;
}

}  // namespace

void bind_collision(nb::module_& m) {
  nb::class_<Obstacle>(m, "Obstacle",
                       "A box in the base frame; without a size the half space below the x-y plane "
                       "of its pose.")
      .def(
          "__init__",
          [](Obstacle* self, const std::string& name, nb::object position, nb::object size,
             nb::object quat_xyzw) {
            new (self) Obstacle(obstacle_of(name, position, size, quat_xyzw));
          },
          nb::arg("name"), nb::arg("position"), nb::arg("size") = nb::none(),
          nb::arg("quat_xyzw") = nb::none())
      .def_ro("name", &Obstacle::name);
  nb::class_<PairDistance>(m, "PairDistance", "A pair of bodies within the horizon.")
      .def_ro("pair", &PairDistance::pair)
      .def_ro("distance", &PairDistance::distance)
      .def_ro("point_first", &PairDistance::point_first, nb::rv_policy::copy)
      .def_ro("point_second", &PairDistance::point_second, nb::rv_policy::copy)
      .def_prop_ro("row", [](const PairDistance& self) { return to_vector(self.row); });
  nb::class_<CollisionMonitor>(
      m, "CollisionMonitor",
      "Distances of an arm to itself and to its surroundings. One object, one thread.")
      .def(
          "__init__",
          [](CollisionMonitor* self, const RobotDescription& description, nb::object home,
             const std::vector<Obstacle>& obstacles,
             const std::vector<std::pair<std::string, std::string>>& ignored_pairs,
             const std::vector<std::string>& package_folders, double margin, double horizon) {
            CollisionConfig config;
            config.home = as_joint_vector(home, "home");
            config.obstacles = obstacles;
            config.ignored_pairs = ignored_pairs;
            config.package_folders = package_folders;
            config.margin = margin;
            config.horizon = horizon;
            new (self) CollisionMonitor(description, config);
          },
          nb::arg("description"), nb::arg("home"), nb::kw_only(),
          nb::arg("obstacles") = std::vector<Obstacle>{},
          nb::arg("ignored_pairs") = std::vector<std::pair<std::string, std::string>>{},
          nb::arg("package_folders") = std::vector<std::string>{}, nb::arg("margin") = 0.005,
          nb::arg("horizon") = 0.2)
      .def_prop_ro("pairs",
                   [](const CollisionMonitor& self) {
                     std::vector<std::pair<std::string, std::string>> out;
                     for (const CollisionPair& pair : self.pairs()) {
                       out.emplace_back(pair.first, pair.second);
                     }
                     return out;
                   })
      .def_prop_ro("largest_excess", &CollisionMonitor::largest_excess)
      .def(
          "compute",
          [](CollisionMonitor& self, nb::object q) {
            return self.compute(as_joint_vector(q, "q"));
          },
          nb::arg("q"), "Pairs within the horizon, the nearest first.");
  nb::class_<CollisionThread>(m, "CollisionThread",
                              "Computes distances for a running controller in its own thread, "
                              "which the monitor belongs to from then on.")
      .def(nb::init<Controller&, CollisionMonitor&, double>(), nb::arg("controller"),
           nb::arg("monitor"), nb::arg("rate") = 200.0, nb::keep_alive<1, 2>(),
           nb::keep_alive<1, 3>())
      .def_prop_ro("computed", &CollisionThread::computed)
      .def_prop_ro("handed_over_ns", &CollisionThread::handed_over_ns)
      .def_prop_ro("longest", &CollisionThread::longest);
}

}  // namespace vla_control::python
