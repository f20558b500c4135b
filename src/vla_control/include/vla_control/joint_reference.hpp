// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "vla_control/chunk_blend.hpp"
#include "vla_control/seamless_reference.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// C2 curve of joint positions through the knots of one chunk, ending at rest in the last one: what
/// ChunkSpline is to poses. Quintic polynomials between knots; velocities and accelerations at them
/// are those of the parabola through three neighbours. RT-safe.
class JointSpline {
 public:
  /// Lays the knots' times; their positions are then set, and differentiate() called.
  /// \param count 1 to kMaxSteps
  void begin(std::int64_t start_ns, double step_dt, int count) noexcept;
  void set(int knot, const JointVector& q) noexcept {
    knots_[static_cast<std::size_t>(knot)].q = q;
  }
  /// \param brake_duration s over which the curve's own time slows down around the last knot;
  /// 0 = the knots themselves come to rest there
  void differentiate(double brake_duration) noexcept;

  [[nodiscard]] JointReferenceSample sample(std::int64_t time_ns) const noexcept;
  [[nodiscard]] const JointReferenceSample& knot(int i) const noexcept {
    return knots_[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] int count() const noexcept { return count_; }
  [[nodiscard]] double step_dt() const noexcept { return step_dt_; }  ///< s
  [[nodiscard]] std::int64_t start_ns() const noexcept { return start_ns_; }
  [[nodiscard]] std::int64_t end_ns() const noexcept { return end_ns_; }    ///< last knot
  [[nodiscard]] std::int64_t rest_ns() const noexcept { return rest_ns_; }  ///< at rest from here

 private:
  [[nodiscard]] JointReferenceSample sample_path(double t) const noexcept;  // without run-out

  std::int64_t start_ns_ = 0, end_ns_ = 0, rest_ns_ = 0;
  double step_dt_ = 1.0;
  double duration_ = 0.0;        // s, first to last knot
  double brake_duration_ = 0.0;  // s
  int count_ = 1;
  std::array<JointReferenceSample, kMaxSteps> knots_;
};

/// How a running joint reference goes over into a new chunk: the difference fades, C2. RT-safe.
class JointBlend {
 public:
  /// s; see BasicOffsetFade.
  struct Times {
    double velocity = 0.15, offset = 0.15;
  };
  void begin(const JointReferenceSample& from, const JointReferenceSample& at,
             const Times& times) noexcept;
  [[nodiscard]] JointReferenceSample apply(const JointReferenceSample& to, double t) const noexcept;
  [[nodiscard]] double duration() const noexcept { return fade_.duration(); }  ///< s
  [[nodiscard]] bool keeps() const noexcept { return fade_.keeps(); }

 private:
  BasicOffsetFade<JointVector> fade_;
};

/// Motion that brakes given joints to rest without a jump. RT-safe.
class JointSegment {
 public:
  void hold(const JointVector& q, std::int64_t time_ns) noexcept;
  void brake(const JointReferenceSample& from, std::int64_t time_ns,
             const Braking& braking) noexcept;
  [[nodiscard]] JointReferenceSample sample(std::int64_t time_ns) const noexcept;
  [[nodiscard]] std::int64_t rest_ns() const noexcept { return profile_.rest_ns(); }

 private:
  BrakeProfile profile_;
  JointReferenceSample start_;
};

struct JointSpace {
  using Sample = JointReferenceSample;
  using Place = JointVector;
  using Spline = JointSpline;
  using Blend = JointBlend;
  using Segment = JointSegment;
};
/// The reference of the joint-impedance law.
using JointReference = SeamlessReference<JointSpace>;

}  // namespace vla_control
