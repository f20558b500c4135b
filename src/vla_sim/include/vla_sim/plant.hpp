// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mujoco/mujoco.h>

#include <array>
#include <cstdint>
#include <vector>

#include "vla_control/types.hpp"

/// Torque-driven arm in a MuJoCo scene, stepped together with its controller. No Python, no ROS.
namespace vla_sim {

/// Where the parts of the plant are in the arrays of MuJoCo.
struct PlantLayout {
  std::vector<int> arm_qpos;      ///< per arm joint, index into qpos
  std::vector<int> arm_dof;       ///< per arm joint, index into qvel
  std::vector<int> arm_actuator;  ///< per arm joint, index into ctrl
  std::array<int, 2> finger_qpos{};
  std::array<int, 2> finger_dof{};
  std::array<int, 2> finger_actuator{};
  std::array<int, 2> finger_body{};
  /// Where force and torque of a sensor on the tool begin in sensordata; -1 = it has none.
  std::array<int, 2> force_sensor{-1, -1};
  std::vector<int> object_body;  ///< bodies whose contacts and heights are watched
};

/// Constants of the drives and of the watch over the objects.
struct PlantConfig {
  double max_opening = 0.08;            ///< m between the pads
  double gripper_default_force = 30.0;  ///< N, until a chunk has commanded the gripper
  double gripper_speed = 0.2;           ///< m/s, of the opening
  double gripper_stiffness = 4000.0;    ///< N/m per finger
  double gripper_damping = 40.0;        ///< Ns/m per finger
  double lifted_height = 0.03;          ///< m of rise at which an object counts as lifted
  int delay_cycles = 1;                 ///< torques act so many cycles late, as over a fieldbus
  int substeps = 1;                     ///< steps of the physics per cycle
};

/// What happened to the objects since the last reset.
struct ObjectEvents {
  int first_touched = -1;                    ///< index of the first object a finger touched
  int first_lifted = -1;                     ///< index of the first object that was lifted
  std::vector<std::uint8_t> finger_contact;  ///< per object, bit f: finger f touches it now
  double peak_force = 0.0;  ///< N, largest so far of the force on both fingers, smoothed by 10 ms
};

/// What of the plant is not in mjData.
struct PlantMemory {
  std::vector<double> delayed_torque;  ///< Nm, of the last delay_cycles cycles, oldest first
  double gripper_setpoint = 0.0;       ///< m, moving towards the commanded opening
  double gripper_command = 0.0;        ///< m, last one commanded
  double gripper_force = 0.0;          ///< N, last one commanded
  std::vector<double> rest_height;     ///< m, of each object at the reset
  ObjectEvents events;
  std::array<double, 3> finger_force{};  ///< N in world axes, on both fingers, smoothed by 10 ms
};

/// The plant. Owns neither model nor data; everything runs in the thread of the caller.
class Plant {
 public:
  /// \throws std::invalid_argument for null pointers or indices out of range.
  Plant(const mjModel* model, mjData* data, PlantLayout layout, const PlantConfig& config);

  /// Forgets torques, gripper command and events. The joint state is that of mjData.
  void reset();
  /// Reads the joint state; sizes of `state` are set.
  void measure(vla_control::JointState& state) const noexcept;
  /// Applies torques (after the actuation delay) and the gripper command for one cycle.
  void step(const vla_control::JointTorques& torques,
            const vla_control::GripperCommand& gripper) noexcept;
  /// Distance between the pads, m.
  [[nodiscard]] double gripper_opening() const noexcept;
  /// Duration of a cycle, s.
  [[nodiscard]] double period() const noexcept;
  /// Sum of the contact forces that a body exerts on all others, N in world axes, as solved in the
  /// last step of the physics.
  [[nodiscard]] std::array<double, 3> contact_force(int body) const noexcept;

  [[nodiscard]] const PlantMemory& memory() const noexcept { return memory_; }
  /// \throws std::invalid_argument if the sizes are not those of this plant.
  void set_memory(const PlantMemory& memory);
  [[nodiscard]] const mjModel& model() const noexcept { return *model_; }
  [[nodiscard]] const mjData& data() const noexcept { return *data_; }

 private:
  void delay(const vla_control::JointTorques& torques) noexcept;
  void drive_gripper(const vla_control::GripperCommand& gripper) noexcept;
  void watch_objects() noexcept;
  void watch_force() noexcept;

  const mjModel* model_;
  mjData* data_;
  PlantLayout layout_;
  PlantConfig config_;
  PlantMemory memory_;
  std::vector<int> finger_of_body_;  ///< 0 or 1, -1 = no finger
  std::vector<int> object_of_body_;  ///< index of the object, -1 = none
};

}  // namespace vla_sim
