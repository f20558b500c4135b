// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vla_control/law_config.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Takes out of the reference's motion what only presses the tool into an obstacle.
///
/// The damper D (v_r - v) pushes on while the reference moves and the tool is held up: at 0.2 m/s
/// as hard as the spring itself. When the reference then brakes, Lambda a_r lifts the tool off, and
/// it falls back. In contact only so much of both counts, along the line of the force, as the tool
/// itself moves there; the spring alone then says how hard it presses. What is carried along moves
/// with the tool, and what pulled at it before the reference moved pulls on: neither is an
/// obstacle. RT-safe.
class ContactYield {
 public:
  /// What to take out of the reference, linear then angular (zero), base axes.
  struct Motion {
    Vector6 velocity = Vector6::Zero();      ///< m/s
    Vector6 acceleration = Vector6::Zero();  ///< m/s^2
  };

  /// Sets in over `sensing.yield_s`, once the force differs from the one at rest by as much as ends
  /// a contact.
  void configure(const SensingConfig& config) noexcept;
  void reset() noexcept;
  [[nodiscard]] bool on() const noexcept { return fade_ > 0.0; }

  /// \param velocity of the tool, m/s; \param force of the surroundings on the tool, N; base axes
  /// \param at_rest whether the reference stands still
  [[nodiscard]] Motion update(const ReferenceSample& reference, bool at_rest,
                              const Vector3& velocity, const Vector3& force, bool in_contact,
                              double period) noexcept;

 private:
  double fade_ = 0.0;                   // s; 0 = off
  double least_force_ = 0.0;            // N, of an obstacle
  double share_ = 0.0;                  // 0 = out of contact, 1 = in contact
  double blocked_ = 0.0;                // 0 = the tool moves along, 1 = it is held up
  Vector3 towards_ = Vector3::Zero();   // what the tool touches; unit
  Vector3 velocity_ = Vector3::Zero();  // of the tool, filtered, m/s
  Vector3 resting_ = Vector3::Zero();   // force while the reference stands still, filtered, N
};

}  // namespace vla_control
