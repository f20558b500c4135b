// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "chunk_path.hpp"
#include "vla_control/chunk_blend.hpp"
#include "vla_control/chunk_spline.hpp"
#include "vla_control/config.hpp"
#include "vla_control/joint_reference.hpp"
#include "vla_control/robot_model.hpp"

namespace vla_control {

/// Makes the curves of the joint-impedance law and plans how they are taken up, in the thread that
/// pushes chunks. Does not allocate but in its constructor.
///
/// Bounds: those of the tool's reference; max_joint_velocity for each joint, and for its
/// acceleration max_angular_acceleration.
class JointPlanner {
 public:
  JointPlanner(const RobotDescription& description, const ControllerConfig& config);

  /// Where a curve begins: the reference in force then, and the posture to keep.
  struct Origin {
    std::int64_t begin_ns = 0;
    JointReferenceSample from;
    JointVector posture;
  };

  /// Through the joint positions of a chunk, braking along them at the end.
  void follow_rows(const PostureSchedule& rows, std::int64_t start_ns, double step_dt,
                   JointSpline& out) noexcept;
  /// Through the inverse kinematics of a curve of poses, from the origin on: resolved rates of
  /// least kinetic energy, with the posture in their nullspace, corrected to the pose at each knot.
  /// \return false if the joints cannot bring the tool there within their limits
  [[nodiscard]] bool follow_curve(const ChunkSpline& curve, const Origin& origin,
                                  JointSpline& out) noexcept;

  /// How many times slower the curve must become for its own demand; 1 = it is fine.
  [[nodiscard]] double excess(const JointSpline& spline, std::int64_t begin_ns) noexcept;
  /// Whether the jump to the curve is too far for the longest blend.
  [[nodiscard]] bool too_far(const JointSpline& spline, const Origin& origin) noexcept;
  /// Finds the shortest blend within the bounds, as ChunkBlend::plan does; takes up to some
  /// milliseconds. The settings' linear acceleration tells which share of all bounds of
  /// acceleration it may use. \return false if there is none
  [[nodiscard]] bool plan(const JointSpline& spline, const Origin& origin,
                          const ChunkBlend::Settings& settings, JointBlend::Times& times) noexcept;

 private:
  /// Speeds and accelerations over their bounds: of the tool, linear and angular, and of the joint
  /// that is closest to its own.
  struct Demand {
    std::array<double, 3> velocity{}, acceleration{};
    void include(const Demand& other) noexcept;
  };
  [[nodiscard]] Demand demand_of(const JointReferenceSample& joints) noexcept;
  /// J^+ b of least kinetic energy at the pose last computed.
  [[nodiscard]] JointVector resolved(const Vector6& twist) const noexcept;
  /// Brings the tool to `pose`; false if it stays away or a joint leaves its limits.
  [[nodiscard]] bool correct(const Pose& pose, int iterations, JointVector& q) noexcept;

  using Inverse = Eigen::Matrix<double, Eigen::Dynamic, 6, Eigen::ColMajor, kMaxJoints, 6>;

  RobotModel model_;
  ChunkConfig chunk_;
  MotionLimits limits_;
  JointVector fastest_;  // rad/s
  double posture_speed_ = 0.3;
  JointVector standing_;
  Dynamics dynamics_;
  Inverse weighted_;  // M^-1 J^T
  Eigen::LLT<Matrix6> inertia_;
};

}  // namespace vla_control
