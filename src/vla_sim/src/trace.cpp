// SPDX-License-Identifier: Apache-2.0
#include "vla_sim/trace.hpp"

#include <algorithm>

namespace vla_sim {
namespace {

template <typename Values>
void append(std::vector<double>& out, const Values& values) {
  // By rows, whatever the storage order.
  for (Eigen::Index i = 0; i < values.rows(); ++i) {
    for (Eigen::Index k = 0; k < values.cols(); ++k) out.push_back(values(i, k));
  }
}

}  // namespace

Trace::Trace(const vla_control::RobotDescription& description, int watched_body)
    : model_(description), watched_body_(watched_body) {}

std::vector<std::pair<std::string, int>> Trace::columns() const {
  const int n = model_.n();
  return {{"time", 1},
          {"q", n},
          {"dq", n},
          {"tau", n},
          {"position", 3},
          {"rotation", 9},
          {"reference_position", 3},
          {"reference_rotation", 9},
          {"reference_twist", 6},
          {"reference_acceleration", 6},
          {"force", 3},
          {"torque_saturated", 1},
          {"torque_rate_saturated", 1}};
}

std::uint64_t Trace::width() const noexcept {
  return 42U + 3U * static_cast<std::uint64_t>(model_.n());
}

void Trace::reserve(std::uint64_t rows) {
  const std::uint64_t needed = values_.size() + rows * width();
  // Doubled, so that a run in many short pieces does not copy its past again and again.
  if (needed > values_.capacity()) values_.reserve(std::max(needed, 2 * values_.size()));
}

void Trace::record(std::int64_t time_ns, const vla_control::JointState& state,
                   const vla_control::JointTorques& torques, const LawReport& report,
                   const std::array<double, 3>& force) {
  const vla_control::Pose pose = model_.forward_kinematics(state.q);
  const vla_control::ReferenceSample& reference = report.reference;
  values_.push_back(static_cast<double>(time_ns) * 1e-9);
  append(values_, state.q);
  append(values_, state.dq);
  append(values_, torques.tau);
  append(values_, pose.position);
  append(values_, pose.rotation);
  append(values_, reference.pose.position);
  append(values_, reference.pose.rotation);
  append(values_, reference.linear_velocity);
  append(values_, reference.angular_velocity);
  append(values_, reference.linear_acceleration);
  append(values_, reference.angular_acceleration);
  values_.insert(values_.end(), force.begin(), force.end());
  values_.push_back(report.torque_saturated ? 1.0 : 0.0);
  values_.push_back(report.torque_rate_saturated ? 1.0 : 0.0);
}

}  // namespace vla_sim
