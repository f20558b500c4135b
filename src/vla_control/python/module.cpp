// SPDX-License-Identifier: Apache-2.0
#include "bindings.hpp"
#include "vla_control/distance_barrier.hpp"

NB_MODULE(_core, m) {
  // Objects that live in globals of Python modules outlive this one; that is no leak.
  nanobind::set_leak_warnings(false);
  m.doc() =
      "Compliant controller core. SI units, radians, int64 nanoseconds, poses as 4x4 matrices of "
      "the "
      "tool frame in the base frame, quaternions xyzw.";
  m.attr("MAX_JOINTS") = vla_control::kMaxJoints;
  m.attr("MAX_STEPS") = vla_control::kMaxSteps;
  m.attr("MAX_DISTANCES") = vla_control::kMaxDistances;
  vla_control::python::bind_law(m);
  vla_control::python::bind_tracking(m);
  vla_control::python::bind_types(m);
  vla_control::python::bind_controller(m);
  vla_control::python::bind_pieces(m);
#ifdef VLA_CONTROL_COLLISION
  vla_control::python::bind_collision(m);
#endif
}
