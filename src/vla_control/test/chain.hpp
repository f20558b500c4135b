// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <sstream>
#include <string>

#include "vla_control/controller.hpp"

/// A chain of revolute joints with alternating axes, for programs that need some arm.
namespace vla_control::testing {

inline RobotDescription make_chain(int joints) {
  RobotDescription description;
  std::ostringstream urdf;
  urdf << "<robot name='chain'><link name='base'/>";
  std::string parent = "base";
  for (int i = 1; i <= joints; ++i) {
    const std::string link = "link" + std::to_string(i);
    const std::string joint = "joint" + std::to_string(i);
    urdf << "<link name='" << link << "'><inertial><origin xyz='0.01 0 0.1'/><mass value='"
         << 4.0 - 0.3 * i << "'/><inertia ixx='0.03' iyy='0.025' izz='0.01' ixy='0' ixz='0' "
         << "iyz='0'/></inertial></link><joint name='" << joint
         << "' type='revolute'><parent link='" << parent << "'/><child link='" << link
         << "'/><origin xyz='0.02 0 0.18'/><axis xyz='" << (i % 2 == 1 ? "0 0 1" : "0 1 0")
         << "'/><limit lower='-2.9' upper='2.9' velocity='2.5' effort='80'/></joint>";
    parent = link;
    description.joint_names.push_back(joint);
  }
  urdf << "<link name='tool'/><joint name='tool_joint' type='fixed'><parent link='" << parent
       << "'/><child link='tool'/><origin xyz='0 0 0.1'/></joint></robot>";
  description.urdf_xml = urdf.str();
  description.base_frame = "base";
  description.tool_frame = "tool";
  return description;
}

inline JointState bent(int joints) {
  JointState state;
  state.q.resize(joints);
  for (int i = 0; i < joints; ++i) state.q[i] = 0.5 * std::sin(1.0 + 1.7 * i) - 0.3;
  state.dq.setZero(joints);
  return state;
}

/// Every optional piece of the controller, so that programs see its longest way.
inline void switch_everything_on(ControllerConfig& config, int joints) {
  const auto n = static_cast<std::size_t>(joints);
  config.friction.coulomb.assign(n, 0.2);
  config.friction.viscous.assign(n, 0.5);
  config.rotor_inertia.assign(n, 0.1);
  config.jacobian_rate_feed_forward = true;
  config.payload.mass = 0.5;
  config.payload.center_of_mass = Vector3(0.0, 0.0, 0.05);
  config.payload.inertia.diagonal().setConstant(1e-3);
  config.integral.gain = 2.0;
  config.stiffness_frame = StiffnessFrame::kTool;
  config.wrench_limits = {50.0, 10.0};
  config.barrier.joint_braking = 10.0;
  config.barrier.workspace_braking = 5.0;
  config.barrier.distance_braking = 4.0;
  config.energy_tank = {2.0, 1.0};
}

/// As many distances as there may be, 2 mm apart.
inline Distances make_distances(const JointState& state, std::int64_t time_ns, double least) {
  Distances out;
  out.time_ns = time_ns;
  out.q = state.q;
  out.count = kMaxDistances;
  for (int i = 0; i < kMaxDistances; ++i) {
    Distance& one = out.nearest[static_cast<std::size_t>(i)];
    one.distance = least + 0.002 * i;
    one.row = JointVector::NullaryExpr(state.q.size(), [i](Eigen::Index joint) {
      return 0.3 * std::sin(1.0 + i + 2.3 * static_cast<double>(joint));
    });
  }
  return out;
}

/// A slow motion in z from `start`, observed at `stamp_ns`.
inline Chunk make_chunk(const Pose& start, std::int64_t stamp_ns, std::uint64_t sequence) {
  Chunk chunk;
  chunk.stamp_ns = stamp_ns;
  chunk.base_frame = "base";
  chunk.tool_frame = "tool";
  chunk.sequence = sequence;
  const Eigen::Quaterniond quat(start.rotation);
  for (int i = 0; i < 16; ++i) {
    Waypoint waypoint;
    waypoint.position = start.position + Vector3(0.0, 0.0, 0.002 * i);
    waypoint.quat_xyzw = quat.coeffs();
    chunk.waypoints.push_back(waypoint);
    chunk.gripper_opening.push_back(0.005 * i);
    chunk.gripper_max_force.push_back(20.0);
  }
  return chunk;
}

}  // namespace vla_control::testing
