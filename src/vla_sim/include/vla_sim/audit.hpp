// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mujoco/mujoco.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "vla_control/controller.hpp"
#include "vla_sim/law.hpp"
#include "vla_sim/plant.hpp"

namespace vla_sim {

/// What must hold of the controller and the plant, stated apart from the controller's own
/// configuration.
struct AuditLimits {
  std::vector<double> torque;               ///< Nm
  std::vector<double> torque_rate;          ///< Nm/s
  std::vector<double> braking_torque_rate;  ///< Nm/s, for changes that oppose a joint's motion
  double force = 0.0;                       ///< N, of the task law's wrench
  double moment = 0.0;                      ///< Nm
  double energy = 0.0;                      ///< J that the plant may gain; 0 = not watched
  double power = 0.0;                       ///< W by which that grows over time
  double rest_s = 0.0;                      ///< s in FAULT after which the arm must stand still
  std::array<double, 3> workspace_min{};    ///< m
  std::array<double, 3> workspace_max{};    ///< m
  double workspace_beyond = 0.0;            ///< m that the tool may go beyond it by itself
  std::vector<double> velocity;             ///< rad/s, reported only
};

/// The controller between joint states that may be spoilt and a watch over all that it commands and
/// over the energy of the plant. Lockstep.
///
/// Energy: over no stretch of time may the plant's kinetic energy, as MuJoCo computes it, grow by
/// more than `energy + power * time` and what came from outside: pushes, the gripper's drives,
/// gravity on what is held, and the work of carrying the payload that the controller was told of.
/// In FAULT the joint hold may give back what it was given there.
///
/// Workspace: an arm that is left to itself, neither pushed nor in FAULT, blind or with a weight
/// that the controller is wrong about, goes no farther beyond the box than it was left.
class Audit final : public Law {
 public:
  /// What is checked in every cycle; `kChecks` of them.
  enum Check {
    kFinite,
    kTorque,
    kTorqueRate,
    kWrench,
    kPhase,
    kStop,
    kRest,
    kEnergy,
    kWorkspace,
    kChecks
  };

  /// \param tool_body body of the tool frame, which is also what is pushed (xfrc_applied)
  /// \param load_body body whose mass is what the gripper holds
  /// \throws std::invalid_argument for limits that are not one per joint
  Audit(vla_control::Controller& controller, const mjModel* model, mjData* data, PlantLayout layout,
        AuditLimits limits, int tool_body, int load_body);

  [[nodiscard]] int joints() const noexcept override { return controller_.model().n(); }
  [[nodiscard]] bool activate(const vla_control::JointState& state,
                              std::int64_t time_ns) noexcept override;
  void update(const vla_control::JointState& state, std::int64_t time_ns, double period,
              vla_control::JointTorques& out) noexcept override;
  [[nodiscard]] vla_control::GripperCommand gripper_command() const noexcept override {
    return controller_.gripper_command();
  }
  [[nodiscard]] LawReport report() noexcept override { return {state_.reference, false, false}; }

  /// Requests to the controller; what must come of them is checked.
  void stop() noexcept;
  void reset() noexcept;
  void deactivate() noexcept;
  /// Activates again at the next good joint state.
  void reactivate() noexcept { reactivate_ = true; }
  /// Sends heartbeats from now on, before every cycle.
  void beat(std::uint64_t boot_id, std::uint64_t grant) noexcept;
  void silence() noexcept { beating_ = false; }
  /// Replaces one value of the measured joint positions (or, from n on, velocities).
  void spoil(int index, double value, std::uint64_t cycles) noexcept;
  /// Repeats the last measurement.
  void freeze(std::uint64_t cycles) noexcept { frozen_ = cycles; }

  /// How often each check has failed, in the order of Check, and the time of its first failure, s
  /// since the first cycle (-1 = never).
  [[nodiscard]] std::vector<std::pair<std::uint64_t, double>> failures() const;
  /// What was seen, by name.
  [[nodiscard]] std::vector<std::pair<std::string, double>> figures() const;
  [[nodiscard]] static std::vector<std::string> check_names();

 private:
  void check(Check what, bool holds) noexcept;
  void measure_energy(double period) noexcept;
  void check_commands(const vla_control::JointState& measured, bool plausible, double period,
                      const vla_control::JointVector& tau) noexcept;
  void check_phase() noexcept;
  void check_rest(double period) noexcept;
  void check_workspace(double period) noexcept;
  [[nodiscard]] bool pushed() const noexcept;
  void report_motion() noexcept;

  vla_control::Controller& controller_;
  const mjModel* model_;
  mjData* data_;
  const PlantLayout layout_;
  const AuditLimits limits_;
  const int tool_, load_;
  vla_control::ControllerState state_;

  // What is done to the controller.
  vla_control::JointState measured_;
  bool beating_ = false, reactivate_ = false;
  std::uint64_t boot_id_ = 0, grant_ = 0;
  std::uint64_t spoilt_ = 0, frozen_ = 0;
  int spoilt_index_ = 0;
  double spoilt_value_ = 0.0;
  bool stop_asked_ = false, reset_asked_ = false, deactivated_ = false;

  // The cycle before.
  vla_control::JointVector tau_;
  bool fresh_ = true;  // no command since activation
  vla_control::Phase phase_ = vla_control::Phase::kInactive;
  double carried_mass_ = 0.0;  // kg, that the controller was told of
  double kinetic_ = 0.0, load_mass_ = 0.0, load_height_ = 0.0;
  std::array<double, 6> tool_twist_{}, push_{};
  std::array<double, 2> finger_speed_{};
  vla_control::Vector6 carried_ = vla_control::Vector6::Zero();
  bool known_ = false;  // the values above are of the cycle before

  double rise_ = 0.0;  // J, of the energy over the least since activation, less power * time
  double fault_s_ = 0.0;
  double alone_s_ = 0.0;      // s that the arm has been left to itself
  double left_beyond_ = 0.0;  // m, how far beyond the workspace it was then, or less since
  bool disturbed_ = false;
  double speed_ = 0.0;  // rad/s, of the fastest joint

  std::uint64_t cycles_ = 0;
  double time_ = 0.0;
  std::array<std::uint64_t, kChecks> failures_{};
  std::array<double, kChecks> first_failure_{};
  std::array<std::uint64_t, 5> phases_{};
  std::uint64_t faults_ = 0;
  double most_rise_ = 0.0, least_tank_ = 0.0, most_kinetic_ = 0.0, longest_to_rest_ = 0.0;
  double most_torque_ = 0.0, most_rate_ = 0.0, most_braking_ = 0.0, most_force_ = 0.0;
  double most_velocity_ = 0.0, most_over_joint_ = 0.0, most_over_workspace_ = 0.0;
  double most_beyond_alone_ = 0.0;
  std::uint64_t barrier_cycles_ = 0, alone_cycles_ = 0;
};

}  // namespace vla_sim
