// SPDX-License-Identifier: Apache-2.0
#include "vla_control/robot_model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

// pinocchio is included in this file alone: it takes most of the compile time of the package.
#include <pinocchio/algorithm/crba.hpp>
#include <pinocchio/algorithm/frames.hpp>
#include <pinocchio/algorithm/jacobian.hpp>
#include <pinocchio/algorithm/joint-configuration.hpp>
#include <pinocchio/algorithm/kinematics.hpp>
#include <pinocchio/algorithm/model.hpp>
#include <pinocchio/algorithm/rnea.hpp>
#include <pinocchio/parsers/urdf.hpp>

namespace vla_control {
namespace {

template <typename Range, typename Name>
std::string joined(const Range& range, Name name) {
  std::ostringstream text;
  const char* separator = "";
  for (const auto& item : range) {
    text << separator << name(item);
    separator = ", ";
  }
  return text.str();
}

std::string movable_joints(const pinocchio::Model& model) {
  const std::vector<std::string> names(model.names.begin() + 1, model.names.end());
  return joined(names, [](const std::string& name) { return name; });
}

pinocchio::FrameIndex find_frame(const pinocchio::Model& model, const std::string& name,
                                 const char* field) {
  if (!model.existFrame(name)) {
    throw std::invalid_argument(
        std::string(field) + " '" + name + "' is not in the URDF; its frames are: " +
        joined(model.frames, [](const pinocchio::Frame& frame) { return frame.name; }));
  }
  return model.getFrameId(name);
}

// pinocchio 4 splits effort and velocity limits into lower and upper ones, pinocchio 3 has one.
template <typename Model>
Eigen::VectorXd effort_limits(const Model& model) {
  if constexpr (requires { model.upperEffortLimit; }) {
    return model.upperEffortLimit;
  } else {
    return model.effortLimit;
  }
}

template <typename Model>
Eigen::VectorXd velocity_limits(const Model& model) {
  if constexpr (requires { model.upperVelocityLimit; }) {
    return model.upperVelocityLimit;
  } else {
    return model.velocityLimit;
  }
}

/// Index of the joint that moves a frame; the name of the member differs between versions.
template <typename Frame>
pinocchio::JointIndex parent_joint(const Frame& frame) {
  if constexpr (requires { frame.parentJoint; }) {
    return frame.parentJoint;
  } else {
    return frame.parent;
  }
}

double limit_or_infinity(double limit) {
  return std::isfinite(limit) && limit > 0.0 ? limit : std::numeric_limits<double>::infinity();
}

pinocchio::Model parse(const std::string& urdf_xml) {
  pinocchio::Model model;
  try {
    pinocchio::urdf::buildModelFromXML(urdf_xml, model);
  } catch (const std::exception& error) {
    throw std::invalid_argument(std::string("urdf_xml cannot be read: ") + error.what());
  }
  return model;
}

pinocchio::Model reduced_model(const RobotDescription& description) {
  const pinocchio::Model full = parse(description.urdf_xml);
  const auto& names = description.joint_names;
  if (names.empty() || names.size() > static_cast<std::size_t>(kMaxJoints)) {
    throw std::invalid_argument("joint_names has " + std::to_string(names.size()) +
                                " names; 1 to " + std::to_string(kMaxJoints) + " are possible");
  }
  for (const auto& name : names) {
    if (!full.existJointName(name)) {
      throw std::invalid_argument("joint_names: '" + name +
                                  "' is not a movable joint of the URDF; " +
                                  "its joints are: " + movable_joints(full));
    }
    if (full.joints[full.getJointId(name)].nv() != 1) {
      throw std::invalid_argument("joint_names: '" + name +
                                  "' has more than one degree of freedom");
    }
    if (std::count(names.begin(), names.end(), name) != 1) {
      throw std::invalid_argument("joint_names: '" + name + "' is named twice");
    }
  }
  Eigen::VectorXd q = pinocchio::neutral(full);
  for (const auto& [name, position] : description.locked_joints) {
    if (!full.existJointName(name) || std::count(names.begin(), names.end(), name) != 0) {
      throw std::invalid_argument(
          "locked_joints: '" + name +
          "' is not a joint left to lock; joints of the URDF: " + movable_joints(full));
    }
    const auto& joint = full.joints[full.getJointId(name)];
    if (joint.nq() != 1 || !std::isfinite(position)) {
      throw std::invalid_argument("locked_joints: '" + name +
                                  "' needs one finite position (rad or m) of a joint with limits");
    }
    q[joint.idx_q()] = position;
  }
  std::vector<pinocchio::JointIndex> locked;
  for (pinocchio::JointIndex index = 1; index < static_cast<std::size_t>(full.njoints); ++index) {
    if (std::count(names.begin(), names.end(), full.names[index]) == 0) locked.push_back(index);
  }
  find_frame(full, description.base_frame, "base_frame");
  find_frame(full, description.tool_frame, "tool_frame");
  return pinocchio::buildReducedModel(full, locked, q);
}

}  // namespace

struct RobotModel::Impl {
  struct JointIndices {
    int q;
    int v;
    bool continuous;  // pinocchio stores cosine and sine of an unlimited joint
  };

  explicit Impl(const RobotDescription& description)
      : model(reduced_model(description)), names(description.joint_names) {
    model_weightless = model;
    model_weightless.gravity.setZero();
    data = pinocchio::Data(model);
    data_weightless = pinocchio::Data(model_weightless);
    base_id = find_frame(model, description.base_frame, "base_frame");
    tool_id = find_frame(model, description.tool_frame, "tool_frame");
    const auto base_joint = parent_joint(model.frames[base_id]);
    if (base_joint != 0) {
      throw std::invalid_argument("base_frame '" + description.base_frame +
                                  "' is moved by the controlled joint '" + model.names[base_joint] +
                                  "'; it must not move");
    }
    if (parent_joint(model.frames[tool_id]) == 0) {
      throw std::invalid_argument("tool_frame '" + description.tool_frame +
                                  "' is not moved by any of the controlled joints");
    }
    T_base_world = model.frames[base_id].placement.inverse();
    gravity_in_base.noalias() = T_base_world.rotation() * model.gravity.linear();
    tool_joint = parent_joint(model.frames[tool_id]);
    T_joint_tool = model.frames[tool_id].placement;
    unloaded = model.inertias[tool_joint];

    const auto n_joints = static_cast<Eigen::Index>(names.size());
    lower.resize(n_joints);
    upper.resize(n_joints);
    velocity.resize(n_joints);
    effort.resize(n_joints);
    const Eigen::VectorXd efforts = effort_limits(model);
    const Eigen::VectorXd velocities = velocity_limits(model);
    for (Eigen::Index i = 0; i < n_joints; ++i) {
      const auto& joint = model.joints[model.getJointId(names[static_cast<std::size_t>(i)])];
      const JointIndices at{joint.idx_q(), joint.idx_v(), joint.nq() == 2};
      indices.push_back(at);
      const double infinity = std::numeric_limits<double>::infinity();
      lower[i] = at.continuous ? -infinity : model.lowerPositionLimit[at.q];
      upper[i] = at.continuous ? infinity : model.upperPositionLimit[at.q];
      velocity[i] = limit_or_infinity(velocities[at.v]);
      effort[i] = limit_or_infinity(efforts[at.v]);
    }
    q_scratch = pinocchio::neutral(model);
    v_scratch = Eigen::VectorXd::Zero(model.nv);
    a_scratch = v_scratch;
    jacobian_scratch.setZero(6, model.nv);
  }

  void set_q(const JointVector& q) noexcept {
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const JointIndices& at = indices[i];
      const double value = q[static_cast<Eigen::Index>(i)];
      if (at.continuous) {
        q_scratch[at.q] = std::cos(value);
        q_scratch[at.q + 1] = std::sin(value);
      } else {
        q_scratch[at.q] = value;
      }
    }
  }

  /// From the description's joint order to that of pinocchio's velocities.
  void scatter(const JointVector& from, Eigen::VectorXd& to) const noexcept {
    for (std::size_t i = 0; i < indices.size(); ++i) {
      to[indices[i].v] = from[static_cast<Eigen::Index>(i)];
    }
  }

  void set_v(const JointVector& dq) noexcept { scatter(dq, v_scratch); }

  /// From pinocchio's joint order to that of the description.
  void gather(const Eigen::VectorXd& from, JointVector& to) const noexcept {
    to.resize(static_cast<Eigen::Index>(indices.size()));
    for (std::size_t i = 0; i < indices.size(); ++i) {
      to[static_cast<Eigen::Index>(i)] = from[indices[i].v];
    }
  }

  /// Tool pose; needs joint placements computed in `data`.
  Pose tool_pose() noexcept {
    pinocchio::updateFramePlacement(model, data, tool_id);
    const auto& placement = data.oMf[tool_id];
    Pose pose;
    pose.rotation.noalias() = T_base_world.rotation() * placement.rotation();
    pose.position.noalias() = T_base_world.rotation() * placement.translation();
    pose.position += T_base_world.translation();
    return pose;
  }

  /// Tool Jacobian in base axes; needs joint Jacobians computed in `data`.
  void tool_jacobian(Jacobian& out) noexcept {
    jacobian_scratch.setZero();
    pinocchio::getFrameJacobian(model, data, tool_id, pinocchio::LOCAL_WORLD_ALIGNED,
                                jacobian_scratch);
    out.resize(6, static_cast<Eigen::Index>(indices.size()));
    const Matrix3& R = T_base_world.rotation();
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const auto column = static_cast<Eigen::Index>(i);
      out.col(column).head<3>().noalias() = R * jacobian_scratch.col(indices[i].v).head<3>();
      out.col(column).tail<3>().noalias() = R * jacobian_scratch.col(indices[i].v).tail<3>();
    }
  }

  /// Mass matrix with both triangles; crba fills the upper one only.
  void mass_matrix(JointMatrix& out) noexcept {
    const auto n_joints = static_cast<Eigen::Index>(indices.size());
    out.resize(n_joints, n_joints);
    for (Eigen::Index i = 0; i < n_joints; ++i) {
      const int row = indices[static_cast<std::size_t>(i)].v;
      for (Eigen::Index j = 0; j <= i; ++j) {
        const int column = indices[static_cast<std::size_t>(j)].v;
        const double value = data.M(std::min(row, column), std::max(row, column));
        out(i, j) = value;
        out(j, i) = value;
      }
    }
  }

  /// dJ/dt dq of the tool; needs the forward pass of nonLinearEffects in `from`, which has left the
  /// joints' accelerations under zero joint acceleration there, with `gravity` as if it were one.
  void acceleration_bias(const pinocchio::Data& from, const Vector3& gravity,
                         Vector6& out) const noexcept {
    const pinocchio::Motion twist = T_joint_tool.actInv(from.v[tool_joint]);
    const pinocchio::Motion acceleration = T_joint_tool.actInv(from.a_gf[tool_joint]);
    Matrix3 R;
    R.noalias() = T_base_world.rotation() * data.oMf[tool_id].rotation();
    const Vector3 linear = acceleration.linear() + twist.angular().cross(twist.linear());
    out.head<3>().noalias() = R * linear;
    out.head<3>() += gravity;
    out.tail<3>().noalias() = R * acceleration.angular();
  }

  pinocchio::Model model;
  pinocchio::Model model_weightless;
  pinocchio::Data data;
  pinocchio::Data data_weightless;
  pinocchio::FrameIndex base_id = 0;
  pinocchio::FrameIndex tool_id = 0;
  pinocchio::SE3 T_base_world;
  pinocchio::JointIndex tool_joint = 0;
  pinocchio::SE3 T_joint_tool;
  pinocchio::Inertia unloaded;  // of the link behind tool_joint
  Vector3 gravity_in_base;
  std::vector<std::string> names;
  std::vector<JointIndices> indices;
  JointVector lower, upper, velocity, effort;
  Eigen::VectorXd q_scratch, v_scratch, a_scratch;
  Eigen::Matrix<double, 6, Eigen::Dynamic> jacobian_scratch;
};

RobotModel::RobotModel(const RobotDescription& description)
    : impl_(std::make_unique<Impl>(description)) {}
RobotModel::~RobotModel() = default;
RobotModel::RobotModel(RobotModel&&) noexcept = default;
RobotModel& RobotModel::operator=(RobotModel&&) noexcept = default;

int RobotModel::n() const noexcept { return static_cast<int>(impl_->indices.size()); }
const std::vector<std::string>& RobotModel::joint_names() const noexcept { return impl_->names; }
const JointVector& RobotModel::position_lower() const noexcept { return impl_->lower; }
const JointVector& RobotModel::position_upper() const noexcept { return impl_->upper; }
const JointVector& RobotModel::velocity_limit() const noexcept { return impl_->velocity; }
const JointVector& RobotModel::effort_limit() const noexcept { return impl_->effort; }

const Vector3& RobotModel::gravity_in_base() const noexcept { return impl_->gravity_in_base; }

void RobotModel::set_payload(const Payload& payload) noexcept {
  Impl& s = *impl_;
  pinocchio::Inertia inertia = s.unloaded;
  if (payload.mass > 0.0) {
    const pinocchio::Inertia load(payload.mass, payload.center_of_mass, payload.inertia);
    inertia += s.T_joint_tool.act(load);
  }
  s.model.inertias[s.tool_joint] = inertia;
  s.model_weightless.inertias[s.tool_joint] = inertia;
}

void RobotModel::compute(const JointVector& q, const JointVector& dq, bool include_gravity,
                         Dynamics& out) const noexcept {
  Impl& s = *impl_;
  s.set_q(q);
  s.set_v(dq);
  pinocchio::computeJointJacobians(s.model, s.data, s.q_scratch);
  out.pose_tool_in_base = s.tool_pose();
  s.tool_jacobian(out.jacobian);
  pinocchio::crba(s.model, s.data, s.q_scratch, pinocchio::Convention::WORLD);
  s.mass_matrix(out.mass_matrix);
  if (include_gravity) {
    s.gather(pinocchio::nonLinearEffects(s.model, s.data, s.q_scratch, s.v_scratch), out.bias);
    s.acceleration_bias(s.data, s.gravity_in_base, out.acceleration_bias);
  } else {
    s.gather(pinocchio::nonLinearEffects(s.model_weightless, s.data_weightless, s.q_scratch,
                                         s.v_scratch),
             out.bias);
    s.acceleration_bias(s.data_weightless, Vector3::Zero(), out.acceleration_bias);
  }
}

Pose RobotModel::forward_kinematics(const JointVector& q) const noexcept {
  impl_->set_q(q);
  pinocchio::forwardKinematics(impl_->model, impl_->data, impl_->q_scratch);
  return impl_->tool_pose();
}

ReferenceSample RobotModel::tool_motion(const JointReferenceSample& joints) const noexcept {
  Impl& s = *impl_;
  s.set_q(joints.q);
  s.set_v(joints.dq);
  s.scatter(joints.ddq, s.a_scratch);
  pinocchio::forwardKinematics(s.model, s.data, s.q_scratch, s.v_scratch, s.a_scratch);
  ReferenceSample out;
  out.pose = s.tool_pose();
  constexpr auto kAxes = pinocchio::LOCAL_WORLD_ALIGNED;
  const auto velocity = pinocchio::getFrameVelocity(s.model, s.data, s.tool_id, kAxes);
  const auto acceleration =
      pinocchio::getFrameClassicalAcceleration(s.model, s.data, s.tool_id, kAxes);
  const Matrix3& R = s.T_base_world.rotation();
  out.linear_velocity.noalias() = R * velocity.linear();
  out.angular_velocity.noalias() = R * velocity.angular();
  out.linear_acceleration.noalias() = R * acceleration.linear();
  out.angular_acceleration.noalias() = R * acceleration.angular();
  return out;
}

Jacobian RobotModel::jacobian(const JointVector& q) const noexcept {
  impl_->set_q(q);
  pinocchio::computeJointJacobians(impl_->model, impl_->data, impl_->q_scratch);
  Jacobian out;
  impl_->tool_jacobian(out);
  return out;
}

JointMatrix RobotModel::mass_matrix(const JointVector& q) const noexcept {
  impl_->set_q(q);
  pinocchio::crba(impl_->model, impl_->data, impl_->q_scratch, pinocchio::Convention::WORLD);
  JointMatrix out;
  impl_->mass_matrix(out);
  return out;
}

JointVector RobotModel::gravity(const JointVector& q) const noexcept {
  impl_->set_q(q);
  JointVector out;
  impl_->gather(pinocchio::computeGeneralizedGravity(impl_->model, impl_->data, impl_->q_scratch),
                out);
  return out;
}

JointVector RobotModel::coriolis(const JointVector& q, const JointVector& dq) const noexcept {
  impl_->set_q(q);
  impl_->set_v(dq);
  JointVector out;
  impl_->gather(pinocchio::nonLinearEffects(impl_->model_weightless, impl_->data_weightless,
                                            impl_->q_scratch, impl_->v_scratch),
                out);
  return out;
}

}  // namespace vla_control
