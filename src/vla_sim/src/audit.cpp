// SPDX-License-Identifier: Apache-2.0
#include "vla_sim/audit.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace vla_sim {
namespace {

using vla_control::Fault;
using vla_control::JointState;
using vla_control::JointVector;
using vla_control::Phase;

/// Rounding that counts as within a limit.
constexpr double kRelative = 1e-9;
constexpr double kAbsolute = 1e-9;
/// The limiter takes slower joints for resting: no change of their torque is braking. rad/s
constexpr double kRestingSpeed = 0.01;
/// What counts as standing still. rad/s
constexpr double kStandingSpeed = 0.05;
/// How long an arm may swing after it was pushed and the like. s
constexpr double kSwing = 1.0;
/// A weight that the controller does not know of, or only believes in, counts from here on. N
constexpr double kUnknownWeight = 1.0;

bool within(double value, double limit) noexcept {
  // Written so that NaN fails.
  return std::abs(value) <= limit * (1.0 + kRelative) + kAbsolute;
}

void raise_to(double& most, double value) noexcept { most = std::max(most, value); }

/// Whether the phases of two consecutive cycles may follow each other; what needs a request to be
/// left or reached is checked apart.
bool may_follow(Phase before, Phase now) noexcept {
  if (before == now || now == Phase::kFault || now == Phase::kInactive) return true;
  switch (before) {
    case Phase::kInactive:
    case Phase::kFault:
    case Phase::kBraking:
      return now == Phase::kHolding || now == Phase::kTracking || now == Phase::kBraking;
    case Phase::kHolding:
      // A chunk that was taken up may have run out at once.
      return now == Phase::kTracking || now == Phase::kBraking;
    case Phase::kTracking:
      // A brake from rest is over at once.
      return now == Phase::kBraking || now == Phase::kHolding;
  }
  return false;
}

}  // namespace

Audit::Audit(vla_control::Controller& controller, const mjModel* model, mjData* data,
             PlantLayout layout, AuditLimits limits, int tool_body, int load_body)
    : controller_(controller),
      model_(model),
      data_(data),
      layout_(std::move(layout)),
      limits_(std::move(limits)),
      tool_(tool_body),
      load_(load_body) {
  const auto n = static_cast<std::size_t>(joints());
  for (const auto* list :
       {&limits_.torque, &limits_.torque_rate, &limits_.braking_torque_rate, &limits_.velocity}) {
    if (list->size() == n) continue;
    throw std::invalid_argument("a limit has " + std::to_string(list->size()) +
                                " values for an arm with " + std::to_string(n) + " joints");
  }
  if (tool_ < 0 || tool_ >= model_->nbody || load_ < 0 || load_ >= model_->nbody) {
    throw std::invalid_argument("tool_body and load_body must be bodies of the model");
  }
  first_failure_.fill(-1.0);
}

bool Audit::activate(const JointState& state, std::int64_t time_ns) noexcept {
  if (!controller_.activate(state, time_ns)) return false;
  measured_ = state;
  tau_.setZero(joints());
  fresh_ = true;
  known_ = false;
  rise_ = 0.0;
  deactivated_ = reactivate_ = stop_asked_ = reset_asked_ = false;
  state_ = controller_.state();
  phase_ = state_.phase;
  least_tank_ = cycles_ == 0 ? state_.tank_energy : least_tank_;
  return true;
}

void Audit::stop() noexcept {
  stop_asked_ = true;
  reset_asked_ = false;
  controller_.stop();
}

void Audit::reset() noexcept {
  reset_asked_ = reset_asked_ || (phase_ == Phase::kFault && !stop_asked_);
  controller_.reset();
}

void Audit::deactivate() noexcept {
  deactivated_ = true;
  controller_.deactivate();
}

void Audit::beat(std::uint64_t boot_id, std::uint64_t grant) noexcept {
  boot_id_ = boot_id;
  grant_ = grant;
  beating_ = true;
}

void Audit::spoil(int index, double value, std::uint64_t cycles) noexcept {
  spoilt_index_ = index;
  spoilt_value_ = value;
  spoilt_ = cycles;
}

void Audit::update(const JointState& state, std::int64_t time_ns, double period,
                   vla_control::JointTorques& out) noexcept {
  measure_energy(period);
  if (frozen_ > 0) {
    --frozen_;
  } else {
    measured_ = state;
  }
  JointState seen = measured_;
  const bool plausible = spoilt_ == 0;
  if (spoilt_ > 0) {
    --spoilt_;
    const int n = joints();
    (spoilt_index_ < n ? seen.q[spoilt_index_] : seen.dq[spoilt_index_ - n]) = spoilt_value_;
  }
  if (reactivate_ && plausible) (void)activate(state, time_ns);
  // Every kind of owner in turn.
  const auto owner = static_cast<vla_control::Owner>(grant_ % 4);
  if (beating_) controller_.heartbeat(boot_id_, grant_, time_ns, owner);
  controller_.update(seen, time_ns, period, out);
  state_ = controller_.state();

  check_commands(seen, plausible, period, out.tau);
  check_phase();
  speed_ = 0.0;
  for (const double dq : state.dq) raise_to(speed_, std::abs(dq));
  // A weight that is put in, taken out or told of lets the joint hold give way, too.
  disturbed_ = disturbed_ || !plausible || frozen_ > 0 || state_.payload_mass != carried_mass_;
  carried_mass_ = state_.payload_mass;
  check_rest(period);
  check_workspace(period);
  report_motion();
  tau_ = out.tau;
  fresh_ = false;
  ++cycles_;
  time_ += period;
  ++phases_[static_cast<std::size_t>(state_.phase)];
  if (state_.phase == Phase::kFault && phase_ != Phase::kFault) ++faults_;
  phase_ = state_.phase;
}

void Audit::check(Check what, bool holds) noexcept {
  if (holds) return;
  if (failures_[what]++ == 0) first_failure_[what] = time_;
}

void Audit::check_commands(const JointState& measured, bool plausible, double period,
                           const JointVector& tau) noexcept {
  check(kFinite, tau.allFinite());
  const bool active = state_.phase != Phase::kInactive;
  for (Eigen::Index i = 0; i < tau.size(); ++i) {
    const auto joint = static_cast<std::size_t>(i);
    check(kTorque, within(tau[i], limits_.torque[joint]));
    raise_to(most_torque_, std::abs(tau[i]) / limits_.torque[joint]);
    // Switched on and off the torque begins and ends at once.
    if (fresh_ || !active || phase_ == Phase::kInactive) continue;
    const double rate = (tau[i] - tau_[i]) / period;
    const double speed = measured.dq[i];
    const bool braking = plausible && std::abs(speed) > kRestingSpeed && rate * speed < 0.0;
    const double most = (braking ? limits_.braking_torque_rate : limits_.torque_rate)[joint];
    check(kTorqueRate, within(rate, most + kAbsolute / period));
    raise_to(braking ? most_braking_ : most_rate_, std::abs(rate) / most);
  }
  // Without joint states the wrench of the last cycle fades, which was checked there.
  if (!active || state_.phase == Phase::kFault || !plausible) return;
  // The dampers at the workspace's faces are no part of the task law.
  if (state_.barrier_active) {
    ++barrier_cycles_;
    return;
  }
  const double force = state_.wrench_command.head<3>().norm();
  check(kWrench, within(force, limits_.force) &&
                     within(state_.wrench_command.tail<3>().norm(), limits_.moment));
  raise_to(most_force_, force);
}

void Audit::check_phase() noexcept {
  const Phase now = state_.phase;
  check(kPhase, may_follow(phase_, now));
  check(kPhase, (now == Phase::kFault) == (state_.fault != Fault::kNone));
  if (phase_ == Phase::kFault && now != Phase::kFault && now != Phase::kInactive && !fresh_) {
    check(kPhase, reset_asked_);
  }
  if (now != Phase::kFault) reset_asked_ = false;
  check(kPhase, (now == Phase::kInactive) == deactivated_);
  if (stop_asked_) check(kStop, now == Phase::kFault || now == Phase::kInactive);
  stop_asked_ = false;
}

bool Audit::pushed() const noexcept {
  return std::any_of(push_.begin(), push_.end(), [](double f) { return f != 0.0; });
}

void Audit::check_rest(double period) noexcept {
  if (state_.phase != Phase::kFault || phase_ != Phase::kFault || disturbed_ || pushed()) {
    fault_s_ = 0.0;
    return;
  }
  fault_s_ += period;
  if (speed_ <= kStandingSpeed) return;
  raise_to(longest_to_rest_, fault_s_);
  check(kRest, fault_s_ <= limits_.rest_s);
}

void Audit::check_workspace(double period) noexcept {
  double beyond = 0.0;
  for (std::size_t i = 0; i < 3; ++i) {
    const double x = data_->xpos[3 * static_cast<std::size_t>(tool_) + i];
    raise_to(beyond, std::max(x - limits_.workspace_max[i], limits_.workspace_min[i] - x));
  }
  raise_to(most_over_workspace_, beyond);
  const vla_control::Vector3 unknown =
      state_.load_wrench.head<3>() +
      load_mass_ * vla_control::Vector3(vla_control::Vector3::Map(model_->opt.gravity));
  const bool follows = state_.phase != Phase::kFault && state_.phase != Phase::kInactive;
  const bool alone = follows && !disturbed_ && !pushed() && unknown.norm() < kUnknownWeight;
  alone_s_ = alone ? alone_s_ + period : 0.0;
  if (alone_s_ < kSwing) {
    left_beyond_ = beyond;
    return;
  }
  ++alone_cycles_;
  check(kWorkspace, beyond - left_beyond_ <= limits_.workspace_beyond);
  raise_to(most_beyond_alone_, beyond - left_beyond_);
  left_beyond_ = std::min(left_beyond_, beyond);
}

void Audit::measure_energy(double period) noexcept {
  mj_kinematics(model_, data_);
  mj_comPos(model_, data_);
  mj_makeM(model_, data_);
  mj_comVel(model_, data_);
  mj_energyVel(model_, data_);
  const double kinetic = data_->energy[1];
  raise_to(most_kinetic_, kinetic);

  std::array<mjtNum, 6> twist{};  // of the tool point, world axes, angular first
  mj_objectVelocity(model_, data_, mjOBJ_XBODY, tool_, twist.data(), 0);
  const double height = data_->xipos[3 * load_ + 2];
  const double mass = model_->body_mass[load_];

  double outside = 0.0;  // J, in the cycle that has just ended
  for (std::size_t i = 0; i < 3; ++i) {
    const double angular = 0.5 * (twist[i] + tool_twist_[i]);
    const double linear = 0.5 * (twist[3 + i] + tool_twist_[3 + i]);
    const auto row = static_cast<Eigen::Index>(i);
    // Pushed at the tool's centre of mass, carried at the tool point.
    outside += period * (push_[3 + i] * angular + push_[i] * linear);
    outside -= period * (carried_[row] * linear + carried_[3 + row] * angular);
  }
  outside += load_mass_ * model_->opt.gravity[2] * (height - load_height_);
  for (std::size_t f = 0; f < 2; ++f) {
    const double speed = data_->qvel[layout_.finger_dof[f]];
    outside +=
        period * data_->qfrc_actuator[layout_.finger_dof[f]] * 0.5 * (speed + finger_speed_[f]);
    finger_speed_[f] = speed;
  }
  if (known_ && mass == load_mass_) {
    rise_ += kinetic - kinetic_ - outside - limits_.power * period;
    // In FAULT what the hold was given there stays its own.
    if (phase_ != Phase::kFault) rise_ = std::max(rise_, 0.0);
    if (phase_ != Phase::kInactive && limits_.energy > 0.0) {
      check(kEnergy, rise_ <= limits_.energy);
      raise_to(most_rise_, rise_);
    }
  }
  disturbed_ = mass != load_mass_;
  known_ = true;
  kinetic_ = kinetic;
  load_mass_ = mass;
  load_height_ = height;
  std::copy(twist.begin(), twist.end(), tool_twist_.begin());
  carried_.setZero();
  if (state_.phase != Phase::kInactive) carried_ = state_.load_wrench;
  std::copy_n(data_->xfrc_applied + 6 * tool_, 6, push_.begin());
}

void Audit::report_motion() noexcept {
  if (state_.phase == Phase::kInactive) return;
  least_tank_ = std::min(least_tank_, state_.tank_energy);
  for (std::size_t i = 0; i < limits_.velocity.size(); ++i) {
    const auto row = static_cast<Eigen::Index>(i);
    raise_to(most_velocity_, std::abs(data_->qvel[layout_.arm_dof[i]]) / limits_.velocity[i]);
    const double q = data_->qpos[layout_.arm_qpos[i]];
    const vla_control::RobotModel& model = controller_.model();
    raise_to(most_over_joint_,
             std::max(q - model.position_upper()[row], model.position_lower()[row] - q));
  }
}

std::vector<std::string> Audit::check_names() {
  return {"finite", "torque", "torque_rate", "wrench",   "phase",
          "stop",   "rest",   "energy",      "workspace"};
}

std::vector<std::pair<std::uint64_t, double>> Audit::failures() const {
  std::vector<std::pair<std::uint64_t, double>> out;
  for (std::size_t i = 0; i < kChecks; ++i) out.emplace_back(failures_[i], first_failure_[i]);
  return out;
}

std::vector<std::pair<std::string, double>> Audit::figures() const {
  const auto share = [this](std::uint64_t count) {
    return cycles_ == 0 ? 0.0 : static_cast<double>(count) / static_cast<double>(cycles_);
  };
  return {{"cycles", static_cast<double>(cycles_)},
          {"tracking_share", share(phases_[static_cast<std::size_t>(Phase::kTracking)])},
          {"fault_share", share(phases_[static_cast<std::size_t>(Phase::kFault)])},
          {"faults", static_cast<double>(faults_)},
          {"barrier_share", share(barrier_cycles_)},
          {"torque_over_limit_ratio", most_torque_},
          {"torque_rate_over_limit_ratio", most_rate_},
          {"braking_torque_rate_over_limit_ratio", most_braking_},
          {"force_n", most_force_},
          {"energy_rise_j", most_rise_},
          {"kinetic_energy_j", most_kinetic_},
          {"tank_least_j", least_tank_},
          {"rest_s", longest_to_rest_},
          {"joint_velocity_over_limit_ratio", most_velocity_},
          {"joint_beyond_limit_rad", most_over_joint_},
          {"workspace_overshoot_mm", 1e3 * most_over_workspace_},
          {"workspace_overshoot_alone_mm", 1e3 * most_beyond_alone_},
          {"alone_share", share(alone_cycles_)}};
}

}  // namespace vla_sim
