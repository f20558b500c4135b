// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "vla_control/config.hpp"
#include "vla_control/distance_barrier.hpp"
#include "vla_control/robot_model.hpp"
#include "vla_control/types.hpp"

namespace vla_control {

/// Who has the arm. Numbers as OWNER_* of vla_msgs/ControlOwner.
enum class Owner : std::uint8_t {
  kNone = 0,
  kPolicy = 1,
  kRecovery = 2,  ///< goes back from rest
  kOperator = 3,
};

/// Follows chunks of tool poses with a compliant arm, and never moves without a fresh, owned
/// command.
///
/// Threads: update(), activate() and deactivate() belong to one thread (the loop). push_chunk() may
/// be called from any one thread at a time, heartbeat() from any one thread, state() from any one
/// thread, and so may set_payload() and set_gains(); measured() and push_distances() belong to one
/// thread, that of a CollisionMonitor; stop(), revoke(), reset(), tare() and
/// gripper_command() from any thread. All of them are
/// wait-free. Requests take effect in the next update().
///
/// Ownership: (boot_id, grant) is compared lexicographically. A newer pair, by heartbeat or by an
/// accepted chunk, comes into force and revokes chunks of an older one; older ones are OLD_GRANT.
/// Where a heartbeat of the same boot says that a policy or an operator follows, the reference is
/// handed over: it slows down gently until the new owner's first chunk, and for a while what comes
/// is taken up gently, too. In every other case it brakes at once, also when what is handed over is
/// lost: with the heartbeat, by a revocation, by a fault.
///
/// Loss of the heartbeat (when watched): the chunk in force is revoked and the arm brakes to a
/// hold; chunks are OLD_GRANT until a heartbeat arrives, then chunks observed since are followed
/// again.
///
/// After activation, reset or a revocation, only chunks whose stamp is not older than it count.
class Controller {
 public:
  /// Configures; the only place that allocates.
  /// \throws std::invalid_argument naming the value and the valid range or choices.
  Controller(const RobotDescription& description, const ControllerConfig& config);
  ~Controller();
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  /// Resets every internal state and holds the arm where it is. RT-safe.
  /// \return false, staying inactive, for what activation_refusal() then tells: a joint state that
  /// is not finite or of the wrong size, or a measured torque that the model does not explain.
  [[nodiscard]] bool activate(const JointState& state, std::int64_t time_ns) noexcept;
  /// Of the last activate(); thread of the loop.
  [[nodiscard]] ActivationRefusal activation_refusal() const noexcept;
  /// Back to INACTIVE: update then returns zero torque. RT-safe.
  void deactivate() noexcept;

  /// Offers a chunk; it is taken up by the next update. Validates against the time of the last
  /// update. Wait-free, does not allocate.
  [[nodiscard]] RejectReason push_chunk(const Chunk& chunk) noexcept;
  /// A sign of life of the supervisor, with what it has granted and to whom. `time_ns`: when it was
  /// received.
  void heartbeat(std::uint64_t boot_id, std::uint64_t grant, std::int64_t time_ns,
                 Owner owner = Owner::kNone) noexcept;
  /// Brakes and goes to FAULT_STOP_REQUESTED.
  void stop() noexcept;
  /// Leaves FAULT to HOLDING without a jump of the torque. A stop() not yet taken up wins.
  void reset() noexcept;
  /// Drops the chunk in force and brakes to a hold (a pause).
  void revoke() noexcept;
  /// Takes what the resting arm feels for payload and bias, and carries it from then on. Waits
  /// until arm and reference have stood still for long enough; ControllerState::tares counts.
  void tare() noexcept;
  /// Replaces the payload, also what a tare has found; the change is ramped.
  /// \return false, changing nothing, if it is no rigid body (is_physical)
  [[nodiscard]] bool set_payload(const Payload& payload) noexcept;
  /// Changes stiffness (axes as configured) and damping ratio; the change is ramped.
  /// \return false, changing nothing, if they are out of range (is_valid)
  [[nodiscard]] bool set_gains(const TaskGains& gains) noexcept;

  /// Joints measured since the call before, for a CollisionMonitor. \return false if there are
  /// none, or no barrier between bodies is configured
  [[nodiscard]] bool measured(JointSample& out) noexcept;
  /// Distances of the arm to itself and its surroundings, for the barrier between bodies.
  /// \return false, changing nothing, if they are of another size or not finite (is_valid)
  [[nodiscard]] bool push_distances(const Distances& distances) noexcept;

  /// One cycle. RT-safe: no allocation, no lock, no throw.
  /// \param state measured joint state; `time_ns` controller clock; `period` s since the cycle
  /// before
  /// \param out torques, always finite and within the limits
  /// Zero if the configuration asks for motion output.
  void update(const JointState& state, std::int64_t time_ns, double period,
              JointTorques& out) noexcept;
  /// The same with motion output: joint positions and velocities within their limits, continuous
  /// whatever happens. While inactive, the last command; before there was one, and if the
  /// configuration asks for torques, the measured joints.
  void update(const JointState& state, std::int64_t time_ns, double period,
              JointMotion& out) noexcept;

  /// Gripper setpoint in force.
  [[nodiscard]] GripperCommand gripper_command() const noexcept;
  /// Snapshot of the last update. `*_saturated` tell about the time since the call before.
  [[nodiscard]] ControllerState state() noexcept;

  [[nodiscard]] const RobotModel& model() const noexcept;
  [[nodiscard]] const ControllerConfig& config() const noexcept;  ///< with all defaults filled in
  [[nodiscard]] const RobotDescription& description() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vla_control
