// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>

#include "vla_sim/audit.hpp"
#include "vla_sim/comparison_laws.hpp"
#include "vla_sim/loop.hpp"
#include "vla_sim/plant.hpp"

namespace nb = nanobind;
using nb::literals::operator""_a;
using vla_sim::Audit;
using vla_sim::AuditLimits;
using vla_sim::Law;
using vla_sim::Loop;
using vla_sim::ObjectEvents;
using vla_sim::PeerConfig;
using vla_sim::PeerLaw;
using vla_sim::Plant;
using vla_sim::PlantConfig;
using vla_sim::PlantLayout;
using vla_sim::PlantMemory;
using vla_sim::PositionDrives;
using vla_sim::PositionLaw;
using vla_sim::Snapshot;
using vla_sim::Trace;

namespace {

/// Hands a vector to numpy as an array of its own.
nb::ndarray<nb::numpy, double, nb::ndim<1>> to_numpy(const std::vector<double>& values) {
  auto* copy = new std::vector<double>(values);
  const nb::capsule owner(copy,
                          [](void* p) noexcept { delete static_cast<std::vector<double>*>(p); });
  return nb::ndarray<nb::numpy, double, nb::ndim<1>>(copy->data(), {copy->size()}, owner);
}

/// A 4x4 homogeneous matrix as a pose; it is not checked.
vla_control::Pose to_pose(const nb::ndarray<const double, nb::shape<4, 4>, nb::c_contig>& matrix) {
  vla_control::Pose pose;
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < 3; ++k) pose.rotation(i, k) = matrix(i, k);
    pose.position[i] = matrix(i, 3);
  }
  return pose;
}

void bind_comparison(nb::module_& m) {
  nb::class_<Law>(m, "Law");

  nb::class_<PeerConfig>(m, "PeerConfig")
      .def(nb::init<>())
      .def_rw("translational_stiffness", &PeerConfig::translational_stiffness)
      .def_rw("rotational_stiffness", &PeerConfig::rotational_stiffness)
      .def_rw("position_error_clip", &PeerConfig::position_error_clip)
      .def_rw("rotation_error_clip", &PeerConfig::rotation_error_clip)
      .def_rw("nullspace_stiffness", &PeerConfig::nullspace_stiffness)
      .def_rw("nullspace_torque_limit", &PeerConfig::nullspace_torque_limit)
      .def_rw("target_smoothing", &PeerConfig::target_smoothing)
      .def_rw("torque_step_limit", &PeerConfig::torque_step_limit)
      .def_rw("command_includes_gravity", &PeerConfig::command_includes_gravity);

  nb::class_<PeerLaw, Law>(m, "PeerLaw")
      .def(nb::init<const vla_control::RobotDescription&, const PeerConfig&,
                    vla_control::Controller*>(),
           "description"_a, "config"_a, "preview"_a.none(), nb::keep_alive<1, 4>())
      .def(
          "set_target",
          [](PeerLaw& self, const nb::ndarray<const double, nb::shape<4, 4>, nb::c_contig>& pose) {
            self.set_target(to_pose(pose));
          },
          "pose"_a);

  nb::class_<PositionLaw, Law>(m, "PositionLaw")
      .def(nb::init<const vla_control::RobotDescription&, double, bool, vla_control::Controller&>(),
           "description"_a, "frequency"_a, "command_includes_gravity"_a, "preview"_a,
           nb::keep_alive<1, 5>());

  nb::class_<PositionDrives, Law>(m, "PositionDrives")
      .def(nb::init<vla_control::Controller&, double, int, bool>(), "controller"_a, "frequency"_a,
           "divider"_a, "command_includes_gravity"_a, nb::keep_alive<1, 2>());

  nb::class_<Trace>(m, "Trace")
      .def(nb::init<const vla_control::RobotDescription&, int>(), "description"_a, "watched_body"_a)
      .def("clear", &Trace::clear)
      .def_prop_ro("columns", &Trace::columns)
      .def_prop_ro(
          "values", [](const Trace& self) { return to_numpy(self.values()); }, nb::rv_policy::move);
}

void bind_audit(nb::module_& m) {
  nb::class_<AuditLimits>(m, "AuditLimits")
      .def(nb::init<>())
      .def_rw("torque", &AuditLimits::torque)
      .def_rw("torque_rate", &AuditLimits::torque_rate)
      .def_rw("braking_torque_rate", &AuditLimits::braking_torque_rate)
      .def_rw("force", &AuditLimits::force)
      .def_rw("moment", &AuditLimits::moment)
      .def_rw("energy", &AuditLimits::energy)
      .def_rw("power", &AuditLimits::power)
      .def_rw("rest_s", &AuditLimits::rest_s)
      .def_rw("workspace_min", &AuditLimits::workspace_min)
      .def_rw("workspace_max", &AuditLimits::workspace_max)
      .def_rw("workspace_beyond", &AuditLimits::workspace_beyond)
      .def_rw("velocity", &AuditLimits::velocity);

  nb::class_<Audit, Law>(m, "Audit")
      .def(
          "__init__",
          [](Audit* self, vla_control::Controller& controller, std::uintptr_t model,
             std::uintptr_t data, const PlantLayout& layout, const AuditLimits& limits,
             int tool_body, int load_body) {
            new (self) Audit(controller, reinterpret_cast<const mjModel*>(model),
                             reinterpret_cast<mjData*>(data), layout, limits, tool_body, load_body);
          },
          "controller"_a, "model_address"_a, "data_address"_a, "layout"_a, "limits"_a,
          "tool_body"_a, "load_body"_a, nb::keep_alive<1, 2>(),
          "The caller keeps model and data alive.")
      .def("stop", &Audit::stop)
      .def("reset", &Audit::reset)
      .def("deactivate", &Audit::deactivate)
      .def("reactivate", &Audit::reactivate)
      .def("beat", &Audit::beat, "boot_id"_a, "grant"_a)
      .def("silence", &Audit::silence)
      .def("spoil", &Audit::spoil, "index"_a, "value"_a, "cycles"_a)
      .def("freeze", &Audit::freeze, "cycles"_a)
      .def_prop_ro("failures",
                   [](const Audit& self) {
                     nb::dict out;
                     const auto found = self.failures();
                     const auto names = Audit::check_names();
                     for (std::size_t i = 0; i < found.size(); ++i) {
                       out[names[i].c_str()] = nb::make_tuple(found[i].first, found[i].second);
                     }
                     return out;
                   })
      .def_prop_ro("figures", [](const Audit& self) {
        nb::dict out;
        for (const auto& [name, value] : self.figures()) out[name.c_str()] = value;
        return out;
      });
}

}  // namespace

NB_MODULE(_core, m) {
  m.doc() = "Plant and loop of the simulation: steps MuJoCo and the controller without the GIL.";
  // The type of the controller that Loop takes is bound there.
  nb::module_::import_("vla_control");

  nb::class_<PlantLayout>(m, "PlantLayout")
      .def(nb::init<>())
      .def_rw("arm_qpos", &PlantLayout::arm_qpos)
      .def_rw("arm_dof", &PlantLayout::arm_dof)
      .def_rw("arm_actuator", &PlantLayout::arm_actuator)
      .def_rw("finger_qpos", &PlantLayout::finger_qpos)
      .def_rw("finger_dof", &PlantLayout::finger_dof)
      .def_rw("finger_actuator", &PlantLayout::finger_actuator)
      .def_rw("finger_body", &PlantLayout::finger_body)
      .def_rw("force_sensor", &PlantLayout::force_sensor)
      .def_rw("object_body", &PlantLayout::object_body);

  nb::class_<PlantConfig>(m, "PlantConfig")
      .def(nb::init<>())
      .def_rw("max_opening", &PlantConfig::max_opening)
      .def_rw("gripper_default_force", &PlantConfig::gripper_default_force)
      .def_rw("gripper_speed", &PlantConfig::gripper_speed)
      .def_rw("gripper_stiffness", &PlantConfig::gripper_stiffness)
      .def_rw("gripper_damping", &PlantConfig::gripper_damping)
      .def_rw("lifted_height", &PlantConfig::lifted_height)
      .def_rw("delay_cycles", &PlantConfig::delay_cycles)
      .def_rw("substeps", &PlantConfig::substeps);

  nb::class_<ObjectEvents>(m, "ObjectEvents")
      .def_ro("first_touched", &ObjectEvents::first_touched)
      .def_ro("first_lifted", &ObjectEvents::first_lifted)
      .def_ro("finger_contact", &ObjectEvents::finger_contact)
      .def_ro("peak_force", &ObjectEvents::peak_force);

  nb::class_<PlantMemory>(m, "PlantMemory")
      .def_ro("delayed_torque", &PlantMemory::delayed_torque)
      .def_ro("gripper_setpoint", &PlantMemory::gripper_setpoint)
      .def_ro("gripper_command", &PlantMemory::gripper_command)
      .def_ro("gripper_force", &PlantMemory::gripper_force)
      .def_ro("events", &PlantMemory::events);

  nb::class_<Plant>(m, "Plant")
      .def(
          "__init__",
          [](Plant* self, std::uintptr_t model, std::uintptr_t data, const PlantLayout& layout,
             const PlantConfig& config) {
            new (self) Plant(reinterpret_cast<const mjModel*>(model),
                             reinterpret_cast<mjData*>(data), layout, config);
          },
          "model_address"_a, "data_address"_a, "layout"_a, "config"_a,
          "The caller keeps model and data alive.")
      .def_prop_ro("gripper_opening", &Plant::gripper_opening)
      .def_prop_ro("memory", [](const Plant& self) { return PlantMemory(self.memory()); })
      .def("set_memory", &Plant::set_memory, "memory"_a);

  nb::class_<Snapshot>(m, "Snapshot")
      .def_ro("time_ns", &Snapshot::time_ns)
      .def_ro("episode_time", &Snapshot::episode_time)
      .def_ro("cycles", &Snapshot::cycles)
      .def_ro("gripper_opening", &Snapshot::gripper_opening)
      .def_ro("events", &Snapshot::events)
      .def_prop_ro(
          "qpos", [](const Snapshot& self) { return to_numpy(self.qpos); }, nb::rv_policy::move)
      .def_prop_ro(
          "qvel", [](const Snapshot& self) { return to_numpy(self.qvel); }, nb::rv_policy::move);

  bind_comparison(m);
  bind_audit(m);

  nb::class_<Loop>(m, "Loop")
      .def(nb::init<Plant&, vla_control::Controller&>(), "plant"_a, "controller"_a,
           nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>())
      .def(nb::init<Plant&, Law&>(), "plant"_a, "law"_a, nb::keep_alive<1, 2>(),
           nb::keep_alive<1, 3>())
      .def("set_trace", &Loop::set_trace, "trace"_a.none(), nb::keep_alive<1, 2>())
      .def("set_monitor", &Loop::set_monitor, "monitor"_a, "controller"_a, "period_s"_a,
           nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>())
      .def("reset", &Loop::reset, "time_ns"_a)
      .def("advance", &Loop::advance, "cycles"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("start_realtime", &Loop::start_realtime, "speed"_a = 1.0)
      .def("stop_realtime", &Loop::stop_realtime, nb::call_guard<nb::gil_scoped_release>())
      .def("refresh", &Loop::refresh)
      .def("set_clock", &Loop::set_clock, "time_ns"_a, "cycles"_a)
      .def("snapshot", &Loop::snapshot)
      .def_prop_ro("running", &Loop::running)
      .def_prop_ro("realtime_factor", &Loop::realtime_factor)
      .def_prop_ro("overruns", &Loop::overruns);
}
