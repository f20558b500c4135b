// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <limits>
#include <memory>

#include "chain.hpp"

namespace vla_control::testing {

/// Drives one controller through every phase, fault and hand-over.
class Tour {
 public:
  /// \param everything switches every optional piece on; \param output torques, or joint motion
  /// that gives way to a force sensor
  Tour(int joints, bool gravity, bool everything, OutputKind output = OutputKind::kTorque,
       TaskLawKind law = TaskLawKind::kImpedance)
      : state_(bent(joints)), moving_(output == OutputKind::kMotion) {
    ControllerConfig config;
    config.task_law = law;
    if (everything) {
      switch_everything_on(config, joints);
      config.force.axes[2] = true;
    }
    config.command_includes_gravity = gravity;
    config.effort_state = EffortState::kNone;
    config.heartbeat_timeout_s = 0.1;
    config.nullspace_posture.assign(static_cast<std::size_t>(joints), 0.1);
    config.chunk.accept_joint_positions = config.chunk.accept_twists = true;
    config.chunk.accept_stiffness = true;
    config.chunk.smoothing_deviation = config.chunk.smoothing_rotation_deviation = 0.01;
    config.chunk.max_slowdown = 10.0;
    config.max_linear_velocity = 0.2;
    // The chain of six is bent into a singularity, where a prediction refuses everything.
    config.chunk.joint_velocity_share = joints > 6 ? 0.9 : 0.0;
    config.output = output;
    if (moving_) {
      config.tracking.max_acceleration.assign(static_cast<std::size_t>(joints), 20.0);
      config.tracking.max_jerk.assign(static_cast<std::size_t>(joints), 5000.0);
      config.tracking.velocity_feedback = 1.0;
      config.admittance.sensor_frame = "tool";
      config.admittance.inertia = 1.0;
      config.admittance.max_force = 1000.0;
      state_.wrench = Vector6::Zero();
    }
    controller_ = std::make_unique<Controller>(make_chain(joints), config);
    start_ = controller_->model().forward_kinematics(state_.q);
    chunk_ = make_chunk(start_, 0, 0);
    if (law == TaskLawKind::kImpedance && !moving_) {
      Matrix6 stiffness = Matrix6::Zero();
      stiffness.diagonal() << Vector3::Constant(800.0), Vector3::Constant(40.0);
      for (std::size_t i = 0; i < chunk_.waypoints.size(); ++i) {
        chunk_.stiffness.insert(chunk_.stiffness.end(), stiffness.data(), stiffness.data() + 36);
      }
    }
    if (everything) chunk_.wrenches.assign(chunk_.waypoints.size(), Vector6::Constant(5.0));
    // Down: up is out of reach of a chain that is all but stretched.
    for (Waypoint& waypoint : chunk_.waypoints) {
      waypoint.position.z() = 2.0 * start_.position.z() - waypoint.position.z();
    }
    joints_ = twists_ = chunk_;
    joints_.stiffness.clear();  // back to the configured one
    joints_.mode = ChunkMode::kJointPosition;
    joints_.waypoints.clear();
    joints_.joint_names = controller_->model().joint_names();
    for (int i = 0; i < 16; ++i) {
      for (const double q : state_.q) joints_.joint_values.push_back(q + 0.001 * i);
    }
    twists_.mode = ChunkMode::kTwist;
    twists_.waypoints.clear();
    twists_.twists.assign(16, Vector6::Constant(0.01));
    twist_ = twists_;
    twist_.twists.resize(1);
    twist_.step_dt = 0.1;
    fast_ = chunk_;
    for (std::size_t i = 0; i < 16; ++i) {
      fast_.waypoints[i].position.z() -= 0.012 * static_cast<double>(std::min(i, 15 - i));
    }
    accepted_modes_.fill(false);
    bad_ = state_;
    bad_.q[0] = std::numeric_limits<double>::quiet_NaN();
    torques_.tau.setZero(joints);
    seen_phases_.fill(false);
  }

  void run() noexcept {
    if (!controller_->activate(state_, now_)) return;
    beat(10);
    settings_taken_ = change_settings();
    push(joints_);
    beat(50);
    push(chunk_);  // in the middle of a blend
    beat(300);
    push(twists_);
    beat(200);
    ++grant_;  // handed over gently
    beat(50);
    push(twist_);
    beat(150);  // and braked at its end
    push(fast_);
    beat(5);
    slowed_ = controller_->state().chunk_slowdown > 1.0;
    beat(500);
    chunk_.step_dt = std::numeric_limits<double>::quiet_NaN();
    push(chunk_);
    chunk_.step_dt = 0.05;
    beat(700);  // runs out
    push(chunk_);
    beat(100);
    controller_->revoke();
    beat(300);
    push(chunk_);
    beat(100);
    silence(400);  // loses the heartbeat
    beat(10);
    push(chunk_);
    beat(20);
    for (int i = 0; i < 3; ++i) cycle(bad_, 1'000'000);
    beat(20);
    controller_->stop();
    beat(1500);
    controller_->reset();
    beat(50);
    for (int i = 0; i < 30; ++i) cycle(bad_, 1'000'000);
    beat(50);
    controller_->reset();
    beat(20);
    cycle(state_, -5'000'000'000);
    beat(1500);
    controller_->reset();
    beat(20);
    controller_->deactivate();
    beat(3);
  }

  [[nodiscard]] bool settings_taken() const { return settings_taken_; }
  [[nodiscard]] bool saw_every_phase() const {
    for (const bool seen : seen_phases_) {
      if (!seen) return false;
    }
    return true;
  }
  [[nodiscard]] bool accepted_every_mode() const {
    return slowed_ && accepted_modes_[0] && accepted_modes_[1] && accepted_modes_[2];
  }
  [[nodiscard]] int accepted() const { return accepted_; }
  [[nodiscard]] const Controller& controller() const { return *controller_; }

 private:
  [[nodiscard]] bool change_settings() noexcept {
    Payload payload;
    payload.mass = 0.4;
    payload.center_of_mass = Vector3(0.0, 0.02, 0.05);
    payload.inertia.diagonal().setConstant(1e-3);
    TaskGains gains;
    gains.stiffness.diagonal() << 400.0, 500.0, 600.0, 20.0, 30.0, 40.0;
    gains.stiffness(0, 1) = gains.stiffness(1, 0) = 50.0;
    const bool taken = controller_->set_payload(payload) && controller_->set_gains(gains);
    payload.mass = -1.0;
    gains.stiffness(0, 1) = 1e6;
    controller_->tare();
    return taken && !controller_->set_payload(payload) && !controller_->set_gains(gains);
  }
  void cycle(const JointState& state, std::int64_t step_ns) noexcept {
    now_ += step_ns;
    if (++cycles_ % 10 == 0 && controller_->measured(sample_)) {
      distances_ = make_distances(state_, now_, moving_ ? 0.1 : 0.004);
      (void)controller_->push_distances(distances_);
    }
    if (moving_) {
      state_.wrench = Vector6::Constant(1e-8 * static_cast<double>(now_ % 7'000'000));
      controller_->update(state, now_, 1e-3, motion_);
      if (controller_->activation_refusal() == ActivationRefusal::kNone) state_.q = motion_.q;
    } else {
      controller_->update(state, now_, 1e-3, torques_);
    }
    const ControllerState snapshot = controller_->state();
    seen_phases_[static_cast<std::size_t>(snapshot.phase)] = true;
    (void)controller_->gripper_command();
  }
  void silence(int cycles) noexcept {
    for (int i = 0; i < cycles; ++i) {
      // Follows the reference roughly, so that rest and motion both occur.
      state_.dq.setConstant(i < cycles / 2 ? 0.05 : 0.0);
      cycle(state_, 1'000'000);
    }
  }
  void beat(int cycles) noexcept {
    for (int i = 0; i < cycles; ++i) {
      controller_->heartbeat(3, grant_, now_, Owner::kOperator);
      state_.dq.setConstant(i < cycles / 2 ? 0.05 : 0.0);
      cycle(state_, 1'000'000);
    }
  }
  void push(Chunk& chunk) noexcept {
    chunk.boot_id = 3;
    chunk.grant = grant_;
    chunk.stamp_ns = now_;
    chunk.sequence = ++sequence_;
    if (controller_->push_chunk(chunk) != RejectReason::kNone) return;
    ++accepted_;
    accepted_modes_[static_cast<std::size_t>(chunk.mode)] = true;
  }

  std::unique_ptr<Controller> controller_;
  JointState state_, bad_;
  bool moving_;
  JointTorques torques_;
  JointMotion motion_;
  JointSample sample_;
  Distances distances_;
  long cycles_ = 9;
  Pose start_;
  Chunk chunk_, joints_, twists_, twist_, fast_;
  std::uint64_t grant_ = 1;
  std::uint64_t sequence_ = 0;
  std::int64_t now_ = 1'000'000'000;
  int accepted_ = 0;
  bool settings_taken_ = false;
  bool slowed_ = false;
  std::array<bool, 5> seen_phases_;
  std::array<bool, 3> accepted_modes_;
};

}  // namespace vla_control::testing
