// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "vla_control/types.hpp"

namespace vla_control {

/// Stiffness matrices of one chunk, checked.
struct StiffnessSchedule {
  std::int64_t start_ns = 0;
  double step_dt = 0.05;                    ///< s
  int steps = 0;                            ///< 0 = the chunk leaves the stiffness as it is
  std::array<Matrix6, kMaxSteps> matrix{};  ///< N/m, N, Nm/rad; base axes
};

/// Stiffness in force while chunks bring their own. RT-safe.
///
/// Between two steps it is a convex combination of theirs, along a smoothstep; a new chunk, or the
/// configured stiffness after the last, takes over from what was in force then along another one.
/// Positive definite matrices within bounds of their eigenvalues form a convex cone, so that every
/// matrix on the way is one, within the same bounds.
///
/// A spring that stiffens while it is stretched gives energy to the arm. The EnergyTank counts it,
/// as all that the controller gives, where it reaches the arm.
class ChunkStiffness {
 public:
  /// \param ramp s, over which one takes over from another
  void configure(double ramp) noexcept { ramp_ = ramp; }
  void reset() noexcept;
  /// Goes over to the stiffness of a chunk, or without steps back to the configured one.
  void follow(const StiffnessSchedule& schedule) noexcept;
  /// Goes back to the configured stiffness.
  void release() noexcept;
  /// Whether `at` returns anything but `configured`.
  [[nodiscard]] bool active() const noexcept { return steps_ > 0 || phase_ < 1.0; }
  /// One cycle. \param configured in base axes \param period s since the call before
  [[nodiscard]] const Matrix6& advance(std::int64_t now_ns, double period,
                                       const Matrix6& configured) noexcept;

 private:
  [[nodiscard]] Matrix6 wanted(std::int64_t now_ns) const noexcept;

  double ramp_ = 0.2;
  double phase_ = 1.0;  // 0 to 1
  int steps_ = 0;       // of the schedule being followed; 0 = the configured stiffness
  StiffnessSchedule schedule_;
  Matrix6 from_ = Matrix6::Identity(), now_ = Matrix6::Identity();
};

}  // namespace vla_control
