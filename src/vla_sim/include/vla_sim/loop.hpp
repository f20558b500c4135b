// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "vla_control/collision_monitor.hpp"
#include "vla_control/controller.hpp"
#include "vla_sim/law.hpp"
#include "vla_sim/plant.hpp"
#include "vla_sim/trace.hpp"

namespace vla_sim {

/// A consistent copy of the plant at the end of one cycle.
struct Snapshot {
  std::int64_t time_ns = 0;   ///< of the controller clock
  double episode_time = 0.0;  ///< s since the last reset
  std::uint64_t cycles = 0;   ///< since the last reset
  std::vector<double> qpos;
  std::vector<double> qvel;
  double gripper_opening = 0.0;  ///< m between the pads
  ObjectEvents events;
};

/// Steps plant and controller, cycle by cycle: measure, control, actuate, integrate.
///
/// In lockstep the caller's thread runs the cycles. In real time a thread runs them by absolute
/// deadlines; a late cycle shifts all later deadlines, which slows the clock but skips nothing.
class Loop {
 public:
  Loop(Plant& plant, vla_control::Controller& controller);
  Loop(Plant& plant, Law& law);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Records every cycle from now on; nullptr = no longer. Lockstep only.
  void set_trace(Trace* trace);
  /// Computes distances for `controller` every `period_s` of simulated time, beginning with the
  /// first cycle of an episode. Lockstep only.
  void set_monitor(vla_control::CollisionMonitor& monitor, vla_control::Controller& controller,
                   double period_s);
  /// Starts an episode: forgets the plant's memory and activates the law where the arm is.
  /// \throws std::logic_error while running in real time, std::runtime_error if the law
  ///     refuses the joint state.
  void reset(std::int64_t time_ns);
  /// Runs cycles in this thread.
  /// \throws std::logic_error while running in real time.
  void advance(std::uint64_t cycles);
  /// Starts the thread; `speed` = simulated seconds per second.
  /// \throws std::logic_error if it runs, std::invalid_argument for a speed that is not positive.
  void start_realtime(double speed);
  /// Stops the thread after the cycle it is in; does nothing if there is none.
  void stop_realtime();

  [[nodiscard]] bool running() const noexcept { return running_.load(); }
  /// Simulated seconds per second over about the last second of running in real time.
  [[nodiscard]] double realtime_factor() const noexcept { return realtime_factor_.load(); }
  /// Cycles that began more than one period late since start_realtime().
  [[nodiscard]] std::uint64_t overruns() const noexcept { return overruns_.load(); }
  /// Copy of the newest complete cycle; from any thread.
  [[nodiscard]] Snapshot snapshot() const;
  /// Publishes the state as it is now, after it was changed from outside.
  void refresh();
  /// Sets the clock and the count of cycles, for restoring a state.
  void set_clock(std::int64_t time_ns, std::uint64_t cycles);

 private:
  void cycle() noexcept;
  void watch() noexcept;
  void publish();
  void run(double speed) noexcept;
  void require_stopped(const char* what) const;

  Loop(Plant& plant, std::unique_ptr<Law> law);

  Plant& plant_;
  std::unique_ptr<Law> owned_law_;
  Law& law_;
  Trace* trace_ = nullptr;
  vla_control::CollisionMonitor* monitor_ = nullptr;
  vla_control::Controller* monitored_ = nullptr;
  vla_control::Distances distances_;
  std::uint64_t watch_cycles_ = 1;  // between two computations
  std::uint64_t until_watch_ = 0;   // cycles
  vla_control::JointState state_;
  vla_control::JointTorques torques_;
  std::int64_t period_ns_;
  std::int64_t time_ns_ = 0;
  std::uint64_t cycles_ = 0;
  std::thread thread_;
  std::atomic<bool> running_{false};
  std::atomic<bool> stop_{false};
  std::atomic<double> realtime_factor_{0.0};
  std::atomic<std::uint64_t> overruns_{0};
  mutable std::mutex snapshot_mutex_;
  Snapshot snapshot_;
};

}  // namespace vla_sim
