// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "vla_controllers/cartesian_controller_parameters.hpp"
#include "vla_controllers/controller_topics.hpp"

namespace vla_controllers {

/// The thread that computes distances for a controller whose barrier between bodies is on. It lives
/// as long as this object and computes while the controller has cycles.
class CollisionWatch {
 public:
  /// \return nothing where the barrier is off
  /// \throws std::invalid_argument naming what is wrong with the parameters or the URDF's geometry
  [[nodiscard]] static std::unique_ptr<CollisionWatch> start(
      const cartesian_controller::Params& params, const std::shared_ptr<ControllerCore>& core);
  ~CollisionWatch();

 private:
  struct Impl;
  explicit CollisionWatch(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vla_controllers
