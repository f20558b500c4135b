// SPDX-License-Identifier: Apache-2.0
#include "vla_sim/loop.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace vla_sim {

using Clock = std::chrono::steady_clock;

Loop::Loop(Plant& plant, vla_control::Controller& controller)
    : Loop(plant, std::make_unique<ControllerLaw>(controller)) {}

Loop::Loop(Plant& plant, std::unique_ptr<Law> law) : Loop(plant, *law) {
  owned_law_ = std::move(law);
}

Loop::Loop(Plant& plant, Law& law)
    : plant_(plant), law_(law), period_ns_(std::llround(plant.period() * 1e9)) {
  if (period_ns_ <= 0) throw std::invalid_argument("the timestep must be positive");
  plant_.measure(state_);
  if (state_.q.size() != law_.joints()) {
    throw std::invalid_argument("the plant has " + std::to_string(state_.q.size()) +
                                " arm joints, the law " + std::to_string(law_.joints()));
  }
  torques_.tau.setZero(state_.q.size());
  publish();
}

Loop::~Loop() { stop_realtime(); }

void Loop::reset(std::int64_t time_ns) {
  require_stopped("reset");
  time_ns_ = time_ns;
  cycles_ = 0;
  until_watch_ = 0;
  plant_.reset();
  plant_.measure(state_);
  torques_.tau.setZero(state_.q.size());
  if (!law_.activate(state_, time_ns_)) {
    throw std::runtime_error("the law refused the joint state at activation");
  }
  publish();
}

void Loop::advance(std::uint64_t cycles) {
  require_stopped("advance");
  if (trace_ != nullptr) trace_->reserve(cycles);
  for (std::uint64_t i = 0; i < cycles; ++i) cycle();
  publish();
}

void Loop::set_trace(Trace* trace) {
  require_stopped("set_trace");
  trace_ = trace;
}

void Loop::set_monitor(vla_control::CollisionMonitor& monitor, vla_control::Controller& controller,
                       double period_s) {
  require_stopped("set_monitor");
  if (!(period_s > 0.0 && period_s <= 1.0)) {
    throw std::invalid_argument("period_s " + std::to_string(period_s) + " is outside (0, 1]");
  }
  monitor_ = &monitor;
  monitored_ = &controller;
  watch_cycles_ = static_cast<std::uint64_t>(
      std::llround(std::max(period_s * 1e9 / static_cast<double>(period_ns_), 1.0)));
  until_watch_ = 0;
}

void Loop::start_realtime(double speed) {
  require_stopped("start_realtime");
  if (trace_ != nullptr) throw std::logic_error("a trace can only be recorded in lockstep");
  if (!(speed > 0.0) || !std::isfinite(speed)) {
    throw std::invalid_argument("speed " + std::to_string(speed) + " must be positive");
  }
  stop_.store(false);
  overruns_.store(0);
  realtime_factor_.store(speed);
  running_.store(true);
  thread_ = std::thread(&Loop::run, this, speed);
}

void Loop::stop_realtime() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
  running_.store(false);
}

Snapshot Loop::snapshot() const {
  const std::lock_guard<std::mutex> lock(snapshot_mutex_);
  return snapshot_;
}

void Loop::refresh() {
  require_stopped("refresh");
  publish();
}

void Loop::set_clock(std::int64_t time_ns, std::uint64_t cycles) {
  require_stopped("set_clock");
  time_ns_ = time_ns;
  cycles_ = cycles;
  publish();
}

void Loop::cycle() noexcept {
  plant_.measure(state_);
  watch();
  law_.update(state_, time_ns_, static_cast<double>(period_ns_) * 1e-9, torques_);
  plant_.step(torques_, law_.gripper_command());
  if (trace_ != nullptr) {
    trace_->record(time_ns_, state_, torques_, law_.report(),
                   plant_.contact_force(trace_->watched_body()));
  }
  time_ns_ += period_ns_;
  ++cycles_;
}

void Loop::watch() noexcept {
  if (monitor_ == nullptr) return;
  if (until_watch_ == 0) {
    until_watch_ = watch_cycles_;
    // Distances that could not be computed are not handed over: those in force grow old.
    if (monitor_->compute({time_ns_, state_.q}, distances_)) {
      (void)monitored_->push_distances(distances_);
    }
  }
  --until_watch_;
}

void Loop::publish() {
  const mjModel& model = plant_.model();
  const mjData& data = plant_.data();
  const std::lock_guard<std::mutex> lock(snapshot_mutex_);
  snapshot_.time_ns = time_ns_;
  snapshot_.cycles = cycles_;
  snapshot_.episode_time = static_cast<double>(cycles_) * static_cast<double>(period_ns_) * 1e-9;
  snapshot_.qpos.assign(data.qpos, data.qpos + model.nq);
  snapshot_.qvel.assign(data.qvel, data.qvel + model.nv);
  snapshot_.gripper_opening = plant_.gripper_opening();
  snapshot_.events = plant_.memory().events;
}

void Loop::run(double speed) noexcept {
  const auto period = std::chrono::duration_cast<Clock::duration>(
      std::chrono::nanoseconds(static_cast<std::int64_t>(static_cast<double>(period_ns_) / speed)));
  auto deadline = Clock::now();
  auto window_start = deadline;
  std::uint64_t window_cycles = 0;
  while (!stop_.load()) {
    cycle();
    publish();
    ++window_cycles;
    deadline += period;
    const auto now = Clock::now();
    if (now - window_start >= std::chrono::seconds(1)) {
      const double wall = std::chrono::duration<double>(now - window_start).count();
      realtime_factor_.store(static_cast<double>(window_cycles) * static_cast<double>(period_ns_) *
                             1e-9 / wall);
      window_start = now;
      window_cycles = 0;
    }
    if (now - deadline > period) {
      // The time lost is not caught up: the simulated clock falls behind instead.
      overruns_.fetch_add(1);
      deadline = now;
    } else {
      std::this_thread::sleep_until(deadline);
    }
  }
}

void Loop::require_stopped(const char* what) const {
  if (running_.load()) {
    throw std::logic_error(std::string(what) + " is not possible while running in real time");
  }
}

}  // namespace vla_sim
