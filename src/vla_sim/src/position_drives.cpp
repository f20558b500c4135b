// SPDX-License-Identifier: Apache-2.0
#include "vla_sim/position_drives.hpp"

#include <cmath>
#include <stdexcept>
#include <string>

namespace vla_sim {

using vla_control::JointVector;

PositionServo::PositionServo(const vla_control::RobotDescription& description, double frequency,
                             bool command_includes_gravity,
                             const std::vector<double>& rotor_inertia)
    : model_(description), frequency_(frequency), includes_gravity_(command_includes_gravity) {
  if (!(frequency > 0.0) || !std::isfinite(frequency)) {
    throw std::invalid_argument("frequency " + std::to_string(frequency) + " must be positive");
  }
  const auto n = static_cast<Eigen::Index>(rotor_inertia.size());
  if (n != model_.n()) {
    throw std::invalid_argument("rotor_inertia has " + std::to_string(n) + " values for " +
                                std::to_string(model_.n()) + " joints");
  }
  rotor_inertia_ = JointVector::Map(rotor_inertia.data(), n);
}

bool PositionServo::compute(const vla_control::JointState& state, const JointVector& q,
                            const JointVector& dq, JointVector& tau) noexcept {
  model_.compute(state.q, state.dq, includes_gravity_, dynamics_);
  dynamics_.mass_matrix.diagonal() += rotor_inertia_;
  const JointVector acceleration =
      frequency_ * frequency_ * (q - state.q) + 2.0 * frequency_ * (dq - state.dq);
  const JointVector limit = model_.effort_limit();
  const JointVector wanted = dynamics_.mass_matrix * acceleration + dynamics_.bias;
  tau = wanted.cwiseMax(-limit).cwiseMin(limit);
  return (tau - wanted).cwiseAbs().maxCoeff() > 0.0;
}

PositionDrives::PositionDrives(vla_control::Controller& controller, double frequency, int divider,
                               bool command_includes_gravity)
    : controller_(controller),
      servo_(controller.description(), frequency, command_includes_gravity,
             controller.config().rotor_inertia),
      divider_(divider) {
  if (controller.config().output != vla_control::OutputKind::kMotion) {
    throw std::invalid_argument("position drives need a controller with motion output");
  }
  if (divider < 1 || divider > 1000) {
    throw std::invalid_argument("divider " + std::to_string(divider) + " is outside 1..1000");
  }
}

bool PositionDrives::activate(const vla_control::JointState& state, std::int64_t time_ns) noexcept {
  command_ = {state.q, JointVector::Zero(state.q.size())};
  from_ = state.q;
  cycle_ = 0;
  report_ = {};
  return controller_.activate(state, time_ns);
}

void PositionDrives::update(const vla_control::JointState& state, std::int64_t time_ns,
                            double period, vla_control::JointTorques& out) noexcept {
  if (cycle_ == 0) {
    from_ = command_.q;
    controller_.update(state, time_ns, period * divider_, command_);
    report_.reference = controller_.state().reference;
  }
  const double share = static_cast<double>(cycle_ + 1) / divider_;
  const JointVector q = from_ + share * (command_.q - from_);
  const JointVector dq = (command_.q - from_) / (period * divider_);
  cycle_ = (cycle_ + 1) % divider_;
  report_.torque_saturated = servo_.compute(state, q, dq, out.tau);
}

}  // namespace vla_sim
