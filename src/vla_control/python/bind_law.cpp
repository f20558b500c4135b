// SPDX-License-Identifier: Apache-2.0
#include "bindings.hpp"
#include "vla_control/barrier.hpp"
#include "vla_control/config.hpp"
#include "vla_control/feed_forward.hpp"
#include "vla_control/task_law.hpp"

namespace vla_control::python {
namespace {

void bind_enums(nb::module_& m) {
  nb::enum_<EffortState>(m, "EffortState", nb::is_arithmetic(),
                         "What a robot reports as measured joint effort.")
      .value("TOTAL", EffortState::kTotal)
      .value("GRAVITY_FREE", EffortState::kGravityFree)
      .value("CURRENT", EffortState::kCurrent)
      .value("NONE", EffortState::kNone);
  nb::enum_<TaskLawKind>(m, "TaskLawKind", nb::is_arithmetic(),
                         "Which law holds the arm to its reference.")
      .value("IMPEDANCE", TaskLawKind::kImpedance)
      .value("OPERATIONAL_SPACE", TaskLawKind::kOperationalSpace)
      .value("JOINT_IMPEDANCE", TaskLawKind::kJointImpedance);
  nb::enum_<StiffnessFrame>(m, "StiffnessFrame", nb::is_arithmetic(), "Axes of the stiffness.")
      .value("BASE", StiffnessFrame::kBase)
      .value("TOOL", StiffnessFrame::kTool);
}

/// A matrix of fixed size (a vector: one column) from anything numpy understands.
template <typename Matrix>
Matrix as_fixed(nb::handle value, const char* name) {
  using RowMajor =
      Eigen::Matrix<double, Matrix::RowsAtCompileTime, Matrix::ColsAtCompileTime,
                    Matrix::ColsAtCompileTime == 1 ? Eigen::ColMajor : Eigen::RowMajor>;
  constexpr auto rows = static_cast<std::size_t>(Matrix::RowsAtCompileTime);
  constexpr auto columns = static_cast<std::size_t>(Matrix::ColsAtCompileTime);
  const Array array = as_array(value);
  const bool fits = columns == 1
                        ? array.ndim() == 1 && array.shape(0) == rows
                        : array.ndim() == 2 && array.shape(0) == rows && array.shape(1) == columns;
  if (!fits) {
    throw std::invalid_argument(std::string(name) + " needs the shape (" + std::to_string(rows) +
                                (columns == 1 ? ",)" : ", " + std::to_string(columns) + ")"));
  }
  return RowMajor::Map(array.data());
}

void bind_payload(nb::module_& m) {
  nb::class_<Payload>(m, "Payload", "A load fixed to the tool that URDF and robot do not know.")
      .def(
          "__init__",
          [](Payload* self, double mass, nb::object center_of_mass, nb::object inertia,
             nb::object bias) {
            Payload payload;
            payload.mass = mass;
            if (!center_of_mass.is_none()) {
              payload.center_of_mass = as_fixed<Vector3>(center_of_mass, "center_of_mass");
            }
            if (!inertia.is_none()) payload.inertia = as_fixed<Matrix3>(inertia, "inertia");
            if (!bias.is_none()) payload.bias = as_fixed<Vector6>(bias, "bias");
            new (self) Payload(payload);
          },
          nb::arg("mass") = 0.0, nb::arg("center_of_mass") = nb::none(),
          nb::arg("inertia") = nb::none(), nb::arg("bias") = nb::none())
      .def_rw("mass", &Payload::mass)
      .def_rw("center_of_mass", &Payload::center_of_mass, nb::rv_policy::copy)
      .def_rw("inertia", &Payload::inertia, nb::rv_policy::copy)
      .def_rw("bias", &Payload::bias, nb::rv_policy::copy);
  nb::class_<TaskGains>(m, "TaskGains", "Gains that may change while the controller runs.")
      .def(
          "__init__",
          [](TaskGains* self, nb::object stiffness, double damping_ratio,
             nb::object joint_stiffness) {
            TaskGains gains{as_fixed<Matrix6>(stiffness, "stiffness"), damping_ratio};
            if (!joint_stiffness.is_none()) {
              gains.joint_stiffness = as_joint_vector(joint_stiffness, "joint_stiffness");
            }
            new (self) TaskGains(gains);
          },
          nb::arg("stiffness"), nb::arg("damping_ratio") = 1.0,
          nb::arg("joint_stiffness") = nb::none(),
          "joint_stiffness: Nm/rad, of the joint-impedance law; None = as it is.")
      .def_prop_ro("joint_stiffness",
                   [](const TaskGains& self) { return to_vector(self.joint_stiffness); })
      .def_rw("stiffness", &TaskGains::stiffness, nb::rv_policy::copy)
      .def_rw("damping_ratio", &TaskGains::damping_ratio);
}

void bind_settings(nb::module_& m) {
  nb::class_<FrictionConfig>(m, "FrictionConfig")
      .def(nb::init<>())
      .def_rw("coulomb", &FrictionConfig::coulomb)
      .def_rw("viscous", &FrictionConfig::viscous)
      .def_rw("smoothing_speed", &FrictionConfig::smoothing_speed);
  nb::class_<IntegralConfig>(m, "IntegralConfig")
      .def(nb::init<>())
      .def_rw("gain", &IntegralConfig::gain)
      .def_rw("leak", &IntegralConfig::leak)
      .def_rw("max_force", &IntegralConfig::max_force)
      .def_rw("max_torque", &IntegralConfig::max_torque)
      .def_rw("dead_position", &IntegralConfig::dead_position)
      .def_rw("dead_rotation", &IntegralConfig::dead_rotation);
  nb::class_<ForceConfig>(m, "ForceConfig")
      .def(nb::init<>())
      .def_rw("axes", &ForceConfig::axes)
      .def_rw("gain", &ForceConfig::gain)
      .def_rw("max_force", &ForceConfig::max_force)
      .def_rw("max_torque", &ForceConfig::max_torque)
      .def_rw("max_integral_force", &ForceConfig::max_integral_force)
      .def_rw("max_integral_torque", &ForceConfig::max_integral_torque)
      .def_rw("fade_s", &ForceConfig::fade_s);
  nb::class_<SensingConfig>(m, "SensingConfig")
      .def(nb::init<>())
      .def_rw("observer_bandwidth", &SensingConfig::observer_bandwidth)
      .def_rw("contact_force", &SensingConfig::contact_force)
      .def_rw("contact_torque", &SensingConfig::contact_torque)
      .def_rw("contact_release", &SensingConfig::contact_release)
      .def_rw("contact_release_s", &SensingConfig::contact_release_s)
      .def_rw("yield_s", &SensingConfig::yield_s)
      .def_rw("lost_fraction", &SensingConfig::lost_fraction)
      .def_rw("lost_s", &SensingConfig::lost_s)
      .def_rw("lost_least_mass", &SensingConfig::lost_least_mass)
      .def_rw("tare_s", &SensingConfig::tare_s);
  nb::class_<WrenchLimits>(m, "WrenchLimits")
      .def(nb::init<>())
      .def_rw("force", &WrenchLimits::force)
      .def_rw("torque", &WrenchLimits::torque);
  nb::class_<BarrierConfig>(m, "BarrierConfig")
      .def(nb::init<>())
      .def_rw("joint_braking", &BarrierConfig::joint_braking)
      .def_rw("joint_margin", &BarrierConfig::joint_margin)
      .def_rw("joint_fade", &BarrierConfig::joint_fade)
      .def_rw("workspace_braking", &BarrierConfig::workspace_braking)
      .def_rw("workspace_fade", &BarrierConfig::workspace_fade)
      .def_rw("distance_braking", &BarrierConfig::distance_braking)
      .def_rw("distance_margin", &BarrierConfig::distance_margin)
      .def_rw("distance_fade", &BarrierConfig::distance_fade)
      .def_rw("distance_stale_s", &BarrierConfig::distance_stale_s);
  nb::class_<EnergyTankConfig>(m, "EnergyTankConfig")
      .def(nb::init<>())
      .def_rw("capacity", &EnergyTankConfig::capacity)
      .def_rw("refill_power", &EnergyTankConfig::refill_power);
}

}  // namespace

void bind_law(nb::module_& m) {
  bind_enums(m);
  bind_payload(m);
  bind_settings(m);
  m.def("braking_speed", &braking_speed, nb::arg("distance"), nb::arg("braking"),
        nb::arg("reaction"), "Largest speed from which braking stops within the distance.");
}

}  // namespace vla_control::python
