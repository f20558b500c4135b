// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "vla_control/config.hpp"
#include "vla_control/types.hpp"

/// What the checks of a configuration share. All throw std::invalid_argument, naming the field, its
/// value and the valid range.
namespace vla_control::checks {

/// Throws unless `low` <= value <= `high`.
void require(const std::string& name, double value, double low, double high);

/// "name[i]".
[[nodiscard]] std::string element(const std::string& name, std::size_t i);

template <typename List>
void require_each(const std::string& name, const List& values, double low, double high) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    require(element(name, i), values[i], low, high);
  }
}

/// Fills an empty per-joint list, then checks its length and range.
void complete(const std::string& name, std::vector<double>& values, const JointVector& fallback,
              double low, double high);

/// Checks and completes what law_config.hpp declares.
void complete_law(ControllerConfig& config, const RobotModel& model);

/// The same of tracking_config.hpp.
void complete_motion(ControllerConfig& config, const RobotModel& model);

}  // namespace vla_control::checks
