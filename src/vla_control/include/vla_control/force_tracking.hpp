// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "vla_control/law_config.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Wrenches of one chunk, clamped to the configured range.
struct ForceSchedule {
  std::int64_t start_ns = 0;
  double step_dt = 0.05;                    ///< s
  int steps = 0;                            ///< 0 = the chunk asks for no force
  bool clamped = false;                     ///< it asks for more along a chosen axis
  std::array<Vector6, kMaxSteps> wrench{};  ///< N, Nm that the tool exerts, base axes
};

/// Force tracking along chosen base axes, position tracking along the others. RT-safe.
///
/// Along a chosen axis the spring's force gives way to the wrench asked for, interpolated between
/// the chunk's steps, plus a clamped integral of what the observed wrench misses of it. Damping and
/// the feed-forward of the reference's motion stay on every axis: without contact the tool moves at
/// the speed at which the damping holds the force. Both ways the change is faded. A chunk that has
/// run out asks for no force any more.
class ForceTracking {
 public:
  void configure(const ForceConfig& config) noexcept;
  [[nodiscard]] bool on() const noexcept { return on_; }
  void reset() noexcept;
  void follow(const ForceSchedule& schedule) noexcept;
  void release() noexcept { schedule_.steps = 0; }
  /// Whether the chunk in force asks for more than it may.
  [[nodiscard]] bool clamped() const noexcept { return schedule_.steps > 0 && schedule_.clamped; }
  /// \param exerted observed wrench of the tool on its surroundings, base axes
  void update(std::int64_t now_ns, const Vector6& exerted, double period) noexcept;
  /// Trades the spring's part of `drive` for the force, along the chosen axes.
  void apply(const Vector6& spring, Vector6& drive) const noexcept;

 private:
  [[nodiscard]] Vector6 wanted(std::int64_t now_ns) const noexcept;

  ForceConfig config_;
  bool on_ = false;
  Vector6 chosen_ = Vector6::Zero();  // 1 along a chosen axis, otherwise 0
  Vector6 most_ = Vector6::Zero();    // N, Nm; bounds the integral
  ForceSchedule schedule_;
  double fade_ = 0.0;  // 0 = position, 1 = force
  Vector6 target_ = Vector6::Zero();
  Vector6 integral_ = Vector6::Zero();
};

}  // namespace vla_control
