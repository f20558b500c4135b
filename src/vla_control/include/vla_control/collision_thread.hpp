// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "vla_control/collision_monitor.hpp"
#include "vla_control/controller.hpp"

namespace vla_control {

/// Computes distances for a running controller in a thread of its own, "vla_distances", from the
/// joints that the loop has measured last.
class CollisionThread {
 public:
  /// Both must outlive the thread; the monitor is its own from now on.
  /// \param rate Hz, 20 to 1000
  /// \throws std::invalid_argument for another rate
  CollisionThread(Controller& controller, CollisionMonitor& monitor, double rate);
  ~CollisionThread();
  CollisionThread(const CollisionThread&) = delete;
  CollisionThread& operator=(const CollisionThread&) = delete;

  /// Distances handed over so far.
  [[nodiscard]] std::uint64_t computed() const noexcept { return computed_.load(); }
  /// When that was last, ns of the steady clock; 0 = never.
  [[nodiscard]] std::int64_t handed_over_ns() const noexcept { return handed_over_ns_.load(); }
  /// Longest time one computation took, s.
  [[nodiscard]] double longest() const noexcept { return longest_.load(); }

 private:
  void run() noexcept;

  Controller& controller_;
  CollisionMonitor& monitor_;
  std::chrono::nanoseconds period_;
  std::atomic<std::uint64_t> computed_{0};
  std::atomic<std::int64_t> handed_over_ns_{0};
  std::atomic<double> longest_{0.0};
  std::atomic<bool> stop_{false};
  std::thread thread_;  // last: it uses all others
};

}  // namespace vla_control
