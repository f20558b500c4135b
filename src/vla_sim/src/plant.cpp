// SPDX-License-Identifier: Apache-2.0
#include "vla_sim/plant.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace vla_sim {
namespace {

constexpr int kMostDelayCycles = 20;
constexpr int kMostSubsteps = 100;
constexpr double kForceTime = 0.010;  // s, of the filter on the fingers' force

void check_index(int index, mjtSize size, const char* what) {
  if (index < 0 || index >= size) {
    throw std::invalid_argument(std::string(what) + " index " + std::to_string(index) +
                                " is outside 0.." + std::to_string(size - 1));
  }
}

}  // namespace

Plant::Plant(const mjModel* model, mjData* data, PlantLayout layout, const PlantConfig& config)
    : model_(model), data_(data), layout_(std::move(layout)), config_(config) {
  if (model_ == nullptr || data_ == nullptr) {
    throw std::invalid_argument("model and data must not be null");
  }
  const std::size_t n = layout_.arm_qpos.size();
  if (n == 0 || n > vla_control::kMaxJoints || layout_.arm_dof.size() != n ||
      layout_.arm_actuator.size() != n) {
    throw std::invalid_argument("arm_qpos, arm_dof and arm_actuator must have one length in 1.." +
                                std::to_string(vla_control::kMaxJoints));
  }
  for (const int i : layout_.arm_qpos) check_index(i, model_->nq, "arm_qpos");
  for (const int i : layout_.arm_dof) check_index(i, model_->nv, "arm_dof");
  for (const int i : layout_.arm_actuator) check_index(i, model_->nu, "arm_actuator");
  for (const int i : layout_.finger_qpos) check_index(i, model_->nq, "finger_qpos");
  for (const int i : layout_.finger_dof) check_index(i, model_->nv, "finger_dof");
  for (const int i : layout_.finger_actuator) check_index(i, model_->nu, "finger_actuator");
  for (const int i : layout_.finger_body) check_index(i, model_->nbody, "finger_body");
  for (const int i : layout_.object_body) check_index(i, model_->nbody, "object_body");
  for (const int i : layout_.force_sensor) {
    if (i != -1) check_index(i + 2, model_->nsensordata, "force_sensor");
  }

  if (config_.delay_cycles < 0 || config_.delay_cycles > kMostDelayCycles) {
    throw std::invalid_argument("delay_cycles " + std::to_string(config_.delay_cycles) +
                                " is outside 0.." + std::to_string(kMostDelayCycles));
  }
  if (config_.substeps < 1 || config_.substeps > kMostSubsteps) {
    throw std::invalid_argument("substeps " + std::to_string(config_.substeps) + " is outside 1.." +
                                std::to_string(kMostSubsteps));
  }

  const auto bodies = static_cast<std::size_t>(model_->nbody);
  finger_of_body_.assign(bodies, -1);
  object_of_body_.assign(bodies, -1);
  for (int f = 0; f < 2; ++f) {
    finger_of_body_[static_cast<std::size_t>(layout_.finger_body[static_cast<std::size_t>(f)])] = f;
  }
  for (std::size_t o = 0; o < layout_.object_body.size(); ++o) {
    object_of_body_[static_cast<std::size_t>(layout_.object_body[o])] = static_cast<int>(o);
  }
  reset();
}

void Plant::reset() {
  memory_.delayed_torque.assign(
      layout_.arm_qpos.size() * static_cast<std::size_t>(config_.delay_cycles), 0.0);
  memory_.gripper_setpoint = gripper_opening();
  memory_.gripper_command = memory_.gripper_setpoint;
  memory_.gripper_force = config_.gripper_default_force;
  memory_.events.first_touched = -1;
  memory_.events.first_lifted = -1;
  memory_.events.finger_contact.assign(layout_.object_body.size(), 0);
  memory_.events.peak_force = 0.0;
  memory_.finger_force = {};
  memory_.rest_height.clear();
  for (const int body : layout_.object_body) {
    memory_.rest_height.push_back(data_->xpos[3 * body + 2]);
  }
}

void Plant::measure(vla_control::JointState& state) const noexcept {
  const auto n = static_cast<Eigen::Index>(layout_.arm_qpos.size());
  state.q.resize(n);
  state.dq.resize(n);
  for (Eigen::Index i = 0; i < n; ++i) {
    const auto k = static_cast<std::size_t>(i);
    state.q[i] = data_->qpos[layout_.arm_qpos[k]];
    state.dq[i] = data_->qvel[layout_.arm_dof[k]];
  }
  const auto [force, torque] = layout_.force_sensor;
  if (force < 0 || torque < 0) return;
  // MuJoCo reports what the arm exerts on the tool.
  state.wrench.emplace() << -vla_control::Vector3::Map(data_->sensordata + force),
      -vla_control::Vector3::Map(data_->sensordata + torque);
}

void Plant::step(const vla_control::JointTorques& torques,
                 const vla_control::GripperCommand& gripper) noexcept {
  delay(torques);
  for (int i = 0; i < config_.substeps; ++i) {
    drive_gripper(gripper);
    mj_step(model_, data_);
  }
  watch_objects();
  watch_force();
}

void Plant::delay(const vla_control::JointTorques& torques) noexcept {
  const std::size_t n = layout_.arm_actuator.size();
  std::vector<double>& late = memory_.delayed_torque;
  for (std::size_t i = 0; i < n; ++i) {
    const double now = torques.tau[static_cast<Eigen::Index>(i)];
    data_->ctrl[layout_.arm_actuator[i]] = late.empty() ? now : late[i];
  }
  if (late.empty()) return;
  std::rotate(late.begin(), late.begin() + static_cast<std::ptrdiff_t>(n), late.end());
  for (std::size_t i = 0; i < n; ++i) {
    late[late.size() - n + i] = torques.tau[static_cast<Eigen::Index>(i)];
  }
}

double Plant::period() const noexcept {
  return model_->opt.timestep * static_cast<double>(config_.substeps);
}

std::array<double, 3> Plant::contact_force(int body) const noexcept {
  std::array<double, 3> sum{};
  for (int c = 0; c < data_->ncon; ++c) {
    const mjContact& contact = data_->contact[c];
    if (contact.geom[0] < 0 || contact.geom[1] < 0) continue;
    const bool first = model_->geom_bodyid[contact.geom[0]] == body;
    const bool second = model_->geom_bodyid[contact.geom[1]] == body;
    if (first == second) continue;
    std::array<mjtNum, 6> local{};
    std::array<mjtNum, 3> world{};
    mj_contactForce(model_, data_, c, local.data());
    // The contact frame's axes are the rows; its force is that of the first geom on the second.
    mju_mulMatTVec(world.data(), contact.frame, local.data(), 3, 3);
    for (std::size_t k = 0; k < 3; ++k) sum[k] += first ? world[k] : -world[k];
  }
  return sum;
}

double Plant::gripper_opening() const noexcept {
  return data_->qpos[layout_.finger_qpos[0]] + data_->qpos[layout_.finger_qpos[1]];
}

void Plant::set_memory(const PlantMemory& memory) {
  const std::size_t objects = layout_.object_body.size();
  if (memory.delayed_torque.size() != memory_.delayed_torque.size() ||
      memory.rest_height.size() != objects || memory.events.finger_contact.size() != objects) {
    throw std::invalid_argument("the memory is of another plant: its sizes differ");
  }
  memory_ = memory;
}

void Plant::drive_gripper(const vla_control::GripperCommand& gripper) noexcept {
  if (gripper.commanded) {
    memory_.gripper_command = std::clamp(gripper.opening, 0.0, config_.max_opening);
    memory_.gripper_force = gripper.max_force;
  }
  // The setpoint leads the fingers by at most what saturates the force, so that a gripper which has
  // squeezed something opens at once.
  const double travel = config_.gripper_speed * model_->opt.timestep;
  const double lead = 2.0 * memory_.gripper_force / config_.gripper_stiffness + travel;
  const double opening = gripper_opening();
  double& setpoint = memory_.gripper_setpoint;
  setpoint += std::clamp(memory_.gripper_command - setpoint, -travel, travel);
  setpoint = std::clamp(setpoint, opening - lead, opening + lead);
  for (std::size_t f = 0; f < 2; ++f) {
    const double position = data_->qpos[layout_.finger_qpos[f]];
    const double velocity = data_->qvel[layout_.finger_dof[f]];
    const double force = config_.gripper_stiffness * (0.5 * setpoint - position) -
                         config_.gripper_damping * velocity;
    data_->ctrl[layout_.finger_actuator[f]] =
        std::clamp(force, -memory_.gripper_force, memory_.gripper_force);
  }
}

void Plant::watch_objects() noexcept {
  auto& events = memory_.events;
  std::fill(events.finger_contact.begin(), events.finger_contact.end(), std::uint8_t{0});
  for (int c = 0; c < data_->ncon; ++c) {
    const mjContact& contact = data_->contact[c];
    if (contact.geom[0] < 0 || contact.geom[1] < 0) continue;
    const auto a = static_cast<std::size_t>(model_->geom_bodyid[contact.geom[0]]);
    const auto b = static_cast<std::size_t>(model_->geom_bodyid[contact.geom[1]]);
    const int finger = std::max(finger_of_body_[a], finger_of_body_[b]);
    const int object = std::max(object_of_body_[a], object_of_body_[b]);
    if (finger < 0 || object < 0) continue;
    auto& mask = events.finger_contact[static_cast<std::size_t>(object)];
    mask = static_cast<std::uint8_t>(mask | (1U << static_cast<unsigned>(finger)));
    if (events.first_touched < 0) events.first_touched = object;
  }
  if (events.first_lifted >= 0) return;
  for (std::size_t o = 0; o < layout_.object_body.size(); ++o) {
    const double height = data_->xpos[3 * layout_.object_body[o] + 2];
    if (height > memory_.rest_height[o] + config_.lifted_height) {
      events.first_lifted = static_cast<int>(o);
      return;
    }
  }
}

void Plant::watch_force() noexcept {
  // What squeezes an object pushes the fingers apart and cancels in their sum.
  std::array<double, 3> sum{};
  for (int c = 0; c < data_->ncon; ++c) {
    const mjContact& contact = data_->contact[c];
    if (contact.geom[0] < 0 || contact.geom[1] < 0) continue;
    const auto a = static_cast<std::size_t>(model_->geom_bodyid[contact.geom[0]]);
    const auto b = static_cast<std::size_t>(model_->geom_bodyid[contact.geom[1]]);
    const bool first = finger_of_body_[a] >= 0;
    if (first == (finger_of_body_[b] >= 0)) continue;
    std::array<mjtNum, 6> local{};
    std::array<mjtNum, 3> world{};
    mj_contactForce(model_, data_, c, local.data());
    mju_mulMatTVec(world.data(), contact.frame, local.data(), 3, 3);
    for (std::size_t k = 0; k < 3; ++k) sum[k] += first ? -world[k] : world[k];
  }
  std::array<double, 3>& force = memory_.finger_force;
  const double share = std::min(1.0, period() / kForceTime);
  for (std::size_t k = 0; k < 3; ++k) force[k] += share * (sum[k] - force[k]);
  double& peak = memory_.events.peak_force;
  peak = std::max(peak, std::hypot(force[0], force[1], force[2]));
}

}  // namespace vla_sim
