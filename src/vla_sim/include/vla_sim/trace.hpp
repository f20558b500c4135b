// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "vla_control/robot_model.hpp"
#include "vla_sim/law.hpp"
#include "vla_sim/plant.hpp"

namespace vla_sim {

/// One row of numbers per cycle. Poses and twists are of the tool in the base frame, rotations are
/// matrices by rows; the torque is the command of the cycle, the force is what the watched body
/// exerts on the robot at the end of the cycle, in world axes.
class Trace {
 public:
  /// \param watched_body index of the MuJoCo body whose contact force is recorded
  /// \throws std::invalid_argument for an unknown name in the description
  Trace(const vla_control::RobotDescription& description, int watched_body);

  /// Makes room, so that record() does not allocate.
  void reserve(std::uint64_t rows);
  void clear() noexcept { values_.clear(); }
  /// \param state measured at the beginning of the cycle
  void record(std::int64_t time_ns, const vla_control::JointState& state,
              const vla_control::JointTorques& torques, const LawReport& report,
              const std::array<double, 3>& force);

  [[nodiscard]] int watched_body() const noexcept { return watched_body_; }
  /// Names of the groups of columns and how many each has, in order.
  [[nodiscard]] std::vector<std::pair<std::string, int>> columns() const;
  [[nodiscard]] std::uint64_t width() const noexcept;
  [[nodiscard]] const std::vector<double>& values() const noexcept { return values_; }

 private:
  vla_control::RobotModel model_;
  int watched_body_;
  std::vector<double> values_;
};

}  // namespace vla_sim
