// SPDX-License-Identifier: Apache-2.0
#include "vla_control/chunk_stiffness.hpp"

#include <algorithm>

namespace vla_control {
namespace {

double smoothstep(double s) noexcept { return s * s * (3.0 - 2.0 * s); }

}  // namespace

void ChunkStiffness::reset() noexcept {
  steps_ = 0;
  phase_ = 1.0;
}

void ChunkStiffness::follow(const StiffnessSchedule& schedule) noexcept {
  if (schedule.steps == 0) {
    release();
    return;
  }
  steps_ = schedule.steps;
  phase_ = 0.0;
  from_ = now_;
  // Only the steps that are filled: the rest may be as long ago as it likes.
  schedule_.start_ns = schedule.start_ns;
  schedule_.step_dt = schedule.step_dt;
  std::copy_n(schedule.matrix.begin(), schedule.steps, schedule_.matrix.begin());
}

void ChunkStiffness::release() noexcept {
  if (steps_ == 0) return;
  steps_ = 0;
  phase_ = 0.0;
  from_ = now_;
}

Matrix6 ChunkStiffness::wanted(std::int64_t now_ns) const noexcept {
  const double at = static_cast<double>(now_ns - schedule_.start_ns) * 1e-9 / schedule_.step_dt;
  const double step = std::clamp(at, 0.0, static_cast<double>(steps_ - 1));
  const auto before = static_cast<std::size_t>(step);
  const auto after = std::min(before + 1, static_cast<std::size_t>(steps_ - 1));
  const double share = smoothstep(step - static_cast<double>(before));
  return (1.0 - share) * schedule_.matrix[before] + share * schedule_.matrix[after];
}

const Matrix6& ChunkStiffness::advance(std::int64_t now_ns, double period,
                                       const Matrix6& configured) noexcept {
  if (!active()) {
    now_ = configured;
    return now_;
  }
  phase_ = std::min(1.0, phase_ + period / ramp_);
  const double share = smoothstep(phase_);
  now_ = steps_ > 0 ? wanted(now_ns) : configured;
  now_ = (1.0 - share) * from_ + share * now_;
  return now_;
}

}  // namespace vla_control
