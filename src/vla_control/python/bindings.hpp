// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/eigen/dense.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>

#include "vla_control/types.hpp"

namespace vla_control::python {

namespace nb = nanobind;

/// A float64 array of any shape, made from anything numpy understands.
using Array = nb::ndarray<const double, nb::c_contig, nb::device::cpu>;

[[nodiscard]] inline Array as_array(nb::handle value) {
  const nb::module_ numpy = nb::module_::import_("numpy");
  return nb::cast<Array>(
      numpy.attr("ascontiguousarray")(value, nb::arg("dtype") = numpy.attr("float64")));
}

/// \throws std::invalid_argument unless `value` is a vector of at most kMaxJoints values. The count
/// itself is the callee's to check.
[[nodiscard]] inline JointVector as_joint_vector(nb::handle value, const char* name) {
  const Array array = as_array(value);
  if (array.ndim() != 1 || array.shape(0) > static_cast<std::size_t>(kMaxJoints)) {
    throw std::invalid_argument(std::string(name) + " must be a vector of at most " +
                                std::to_string(kMaxJoints) + " values");
  }
  return JointVector::Map(array.data(), static_cast<Eigen::Index>(array.shape(0)));
}

[[nodiscard]] inline JointVector as_joint_vector(nb::handle value, const char* name, int n) {
  const JointVector out = as_joint_vector(value, name);
  if (out.size() != n) {
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(out.size()) +
                                " values; needs " + std::to_string(n));
  }
  return out;
}

/// N, Nm from anything numpy understands.
[[nodiscard]] inline Vector6 as_wrench(nb::handle value, const char* name) {
  const Array array = as_array(value);
  if (array.ndim() != 1 || array.shape(0) != 6) {
    throw std::invalid_argument(std::string(name) + " must be a vector of 6 values");
  }
  return Vector6::Map(array.data());
}

/// Pose of a 4x4 homogeneous matrix, taken as it is.
[[nodiscard]] inline Pose as_pose(nb::handle value, const char* name) {
  const Array array = as_array(value);
  if (array.ndim() != 2 || array.shape(0) != 4 || array.shape(1) != 4) {
    throw std::invalid_argument(std::string(name) + " must be a 4x4 homogeneous matrix");
  }
  using RowMajor4 = Eigen::Matrix<double, 4, 4, Eigen::RowMajor>;
  const RowMajor4 T = RowMajor4::Map(array.data());
  return {T.topRightCorner<3, 1>(), T.topLeftCorner<3, 3>()};
}

[[nodiscard]] inline Eigen::Matrix4d to_matrix(const Pose& pose) {
  Eigen::Matrix4d T = Eigen::Matrix4d::Identity();
  T.topLeftCorner<3, 3>() = pose.rotation;
  T.topRightCorner<3, 1>() = pose.position;
  return T;
}

[[nodiscard]] inline Eigen::VectorXd to_vector(const JointVector& v) { return v; }

void bind_types(nb::module_& m);
void bind_law(nb::module_& m);
void bind_tracking(nb::module_& m);
void bind_controller(nb::module_& m);
void bind_pieces(nb::module_& m);
void bind_collision(nb::module_& m);

}  // namespace vla_control::python
