// SPDX-License-Identifier: Apache-2.0
#include "vla_control/collision_thread.hpp"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <stdexcept>
#include <string>

namespace vla_control {

using Clock = std::chrono::steady_clock;

namespace {
constexpr int kNiceness = -10;
}

CollisionThread::CollisionThread(Controller& controller, CollisionMonitor& monitor, double rate)
    : controller_(controller), monitor_(monitor) {
  if (!(rate >= 20.0 && rate <= 1000.0)) {
    throw std::invalid_argument("rate " + std::to_string(rate) + " is outside [20, 1000] Hz");
  }
  period_ = std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 / rate));
  thread_ = std::thread(&CollisionThread::run, this);
}

CollisionThread::~CollisionThread() {
  stop_.store(true);
  thread_.join();
}

void CollisionThread::run() noexcept {
  (void)pthread_setname_np(pthread_self(), "vla_distances");
  // Of this thread alone, on Linux, and where it is allowed: while it waits, the arm may stop.
  (void)setpriority(PRIO_PROCESS, 0, kNiceness);
  JointSample sample;
  Distances distances;
  Clock::time_point next = Clock::now();
  while (!stop_.load()) {
    const Clock::time_point begin = Clock::now();
    // Without a newer sample the distances in force grow old, as they should.
    const bool handed_over = controller_.measured(sample) && monitor_.compute(sample, distances) &&
                             controller_.push_distances(distances);
    const Clock::time_point end = Clock::now();
    if (handed_over) {
      handed_over_ns_.store(std::chrono::nanoseconds(end.time_since_epoch()).count());
      computed_.fetch_add(1);
    }
    longest_.store(std::max(longest_.load(), std::chrono::duration<double>(end - begin).count()));
    next = std::max(next + period_, end);
    std::this_thread::sleep_until(next);
  }
}

}  // namespace vla_control
