// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vla_control/law_config.hpp"
#include "vla_control/payload.hpp"
#include "vla_control/robot_model.hpp"

namespace vla_control {

/// External joint torque from the generalised momentum, without acceleration: a first-order filter
/// of the true one, with the bandwidth as its rate (De Luca, Albu-Schaeffer, Haddadin, Hirzinger,
/// "Collision detection and safe reaction with the DLR-III lightweight manipulator arm", IROS
/// 2006).
///
/// The paper integrates tau + C^T dq - g; here dM/dt dq is differenced instead, which turns
/// p - integral(C^T dq + C dq) into a sum of M times the change of dq over a cycle, at the mass
/// matrix of its middle. It is the same signal, and saves the matrix C. RT-safe.
class MomentumObserver {
 public:
  void configure(double bandwidth) noexcept { bandwidth_ = bandwidth; }
  /// Zero torque, at this state.
  void reset(const Dynamics& dynamics, const JointVector& dq) noexcept;
  /// Goes on from this state with the torque found so far: after a gap in the measurements.
  void resume(const Dynamics& dynamics, const JointVector& dq) noexcept;
  /// \param tau motor torque in force since the call before, less the joints' friction; Nm
  void update(const Dynamics& dynamics, const JointVector& dq, const JointVector& tau,
              double period) noexcept;
  [[nodiscard]] const JointVector& torque() const noexcept { return torque_; }  ///< Nm

 private:
  double bandwidth_ = 50.0;  // 1/s
  JointMatrix mass_;         // of the call before
  JointVector bias_, dq_, torque_;
};

/// Concludes contact and the loss of an object from the external wrench. RT-safe.
///
/// Lost is an object whose weight is missing: the tool is pushed up by what is taken for its
/// weight, and by little else. A push from below by about this weight looks the same.
class ContactMonitor {
 public:
  void configure(const SensingConfig& config) noexcept { config_ = config; }
  void reset() noexcept;
  /// \param wrench of the surroundings on the tool, base axes; \param gravity in base axes
  void update(const Vector6& wrench, double payload_mass, const Vector3& gravity,
              double period) noexcept;
  [[nodiscard]] bool in_contact() const noexcept { return in_contact_; }
  [[nodiscard]] bool object_lost() const noexcept { return object_lost_; }

 private:
  SensingConfig config_;
  bool in_contact_ = false;
  bool object_lost_ = false;
  double below_time_ = 0.0;    // s under the release thresholds
  double missing_time_ = 0.0;  // s without the weight
};

/// Averages the external wrench of a standing arm; begin() starts, motion starts it over. RT-safe.
class Tare {
 public:
  void configure(double duration) noexcept { duration_ = duration; }
  void begin() noexcept;
  void cancel() noexcept { running_ = false; }
  /// \return true once, when the average is complete
  bool update(const Vector6& wrench, bool standing, double period) noexcept;
  [[nodiscard]] Vector6 wrench() const noexcept { return sum_ / time_; }

 private:
  double duration_ = 0.25;  // s
  bool running_ = false;
  double time_ = 0.0;  // s
  Vector6 sum_ = Vector6::Zero();
};

}  // namespace vla_control
