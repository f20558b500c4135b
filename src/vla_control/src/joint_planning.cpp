// SPDX-License-Identifier: Apache-2.0
#include "joint_planning.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "blend_limits.hpp"
#include "so3.hpp"

namespace vla_control {
namespace {

constexpr double kNanoseconds = 1e-9;
/// Time between the knots of an inverse kinematics, if there are enough of them, and between the
/// points at which a curve is checked. s
constexpr double kKnotStep = 0.02;
constexpr double kCheckStep = 0.01;
constexpr int kMostChecks = 120;
/// Of the trace of J M^-1 J^T: bounds the inverse at a singularity.
constexpr double kDamping = 1e-7;
/// Corrections towards a pose: at the beginning, at later knots, and the longest one. rad
constexpr int kFirstCorrections = 40;
constexpr int kCorrections = 6;
constexpr double kLongestCorrection = 0.2;
/// Error that ends the corrections, and the largest one that counts as there. m, rad
constexpr double kConverged = 1e-9;
constexpr double kThere = 1e-3;
/// Rate at which the nullspace approaches the posture, 1/s, and the time before the end over which
/// it stops doing so. s
constexpr double kPostureRate = 1.0;
constexpr double kPostureStop = 0.3;
/// Share of the acceleration bound that a brake at the end of a chunk uses, as ChunkSpline's.
constexpr double kBrakeShare = 0.65;
/// Ratio of one candidate for a blend's time to the one before.
constexpr double kGrowth = 1.15;
/// Parts of a blend's time over which the difference of velocities fades.
constexpr std::array<double, 3> kVelocityShares{1.0, 0.5, 1.0 / 3.0};

double seconds(std::int64_t from_ns, std::int64_t to_ns) noexcept {
  return (static_cast<double>(to_ns) - static_cast<double>(from_ns)) * kNanoseconds;
}

std::int64_t later(std::int64_t time_ns, double t) noexcept {
  return time_ns + std::llround(t / kNanoseconds);
}

/// Shortest smoothstep over a distance, s; its derivatives peak at 1.875 and 5.7736.
double fade_time(double distance, double velocity, double acceleration) noexcept {
  return std::max(1.875 * distance / velocity, std::sqrt(5.7736 * distance / acceleration));
}

}  // namespace

JointPlanner::JointPlanner(const RobotDescription& description, const ControllerConfig& config)
    : model_(description),
      chunk_(config.chunk),
      limits_{config.max_linear_velocity, config.max_linear_acceleration,
              config.max_angular_velocity, config.max_angular_acceleration},
      fastest_(JointVector::Map(config.max_joint_velocity.data(), model_.n())),
      posture_speed_(config.nullspace_speed) {
  // A joint without a limit turns as fast as the tool may.
  fastest_ = fastest_.cwiseMin(1e3);
  standing_.setZero(model_.n());
  model_.compute(standing_, standing_, false, dynamics_);
}

void JointPlanner::Demand::include(const Demand& other) noexcept {
  for (std::size_t i = 0; i < 3; ++i) {
    velocity[i] = std::max(velocity[i], other.velocity[i]);
    acceleration[i] = std::max(acceleration[i], other.acceleration[i]);
  }
}

JointPlanner::Demand JointPlanner::demand_of(const JointReferenceSample& joints) noexcept {
  const ReferenceSample tool = model_.tool_motion(joints);
  Demand out;
  out.velocity = {tool.linear_velocity.norm() / limits_.linear_velocity,
                  tool.angular_velocity.norm() / limits_.angular_velocity,
                  joints.dq.cwiseQuotient(fastest_).cwiseAbs().maxCoeff()};
  out.acceleration = {tool.linear_acceleration.norm() / limits_.linear_acceleration,
                      tool.angular_acceleration.norm() / limits_.angular_acceleration,
                      joints.ddq.cwiseAbs().maxCoeff() / limits_.angular_acceleration};
  return out;
}

JointVector JointPlanner::resolved(const Vector6& twist) const noexcept {
  const Vector6 momentum = inertia_.solve(twist);
  JointVector out = weighted_.lazyProduct(momentum);
  return out;
}

bool JointPlanner::correct(const Pose& pose, int iterations, JointVector& q) noexcept {
  // Joints that are beyond a limit now may come back, but not go farther.
  const JointVector lower = model_.position_lower().cwiseMin(q);
  const JointVector upper = model_.position_upper().cwiseMax(q);
  Vector6 error;
  for (int i = 0; i <= iterations; ++i) {
    model_.compute(q, standing_, false, dynamics_);
    error << pose.position - dynamics_.pose_tool_in_base.position,
        so3::log(pose.rotation * dynamics_.pose_tool_in_base.rotation.transpose());
    const Eigen::LLT<JointMatrix> mass(dynamics_.mass_matrix);
    weighted_ = mass.solve(dynamics_.jacobian.transpose());
    Matrix6 mobility = dynamics_.jacobian.lazyProduct(weighted_);
    mobility.diagonal().array() += kDamping * mobility.trace();
    inertia_.compute(mobility);
    if (i == iterations || error.cwiseAbs().maxCoeff() < kConverged) break;
    JointVector step = resolved(error);
    const double longest = step.cwiseAbs().maxCoeff();
    if (!std::isfinite(longest)) return false;
    if (longest > kLongestCorrection) step *= kLongestCorrection / longest;
    q += step;
  }
  return q.allFinite() && error.cwiseAbs().maxCoeff() < kThere && (q - lower).minCoeff() >= 0.0 &&
         (upper - q).minCoeff() >= 0.0;
}

void JointPlanner::follow_rows(const PostureSchedule& rows, std::int64_t start_ns, double step_dt,
                               JointSpline& out) noexcept {
  out.begin(start_ns, step_dt, rows.steps);
  for (int i = 0; i < rows.steps; ++i) out.set(i, rows.q[static_cast<std::size_t>(i)]);
  double brake = rows.steps > 1 ? BrakeProfile::kShortest : 0.0;
  out.differentiate(brake);
  // The brake may reach back over several knots; the fastest it touches decides.
  for (int i = rows.steps - 1; i >= 0 && rows.steps > 1; --i) {
    if ((rows.steps - 1 - i) * step_dt > 0.5 * brake + step_dt) break;
    const JointReferenceSample& knot = out.knot(i);
    const ReferenceSample tool = model_.tool_motion(knot);
    brake = std::max(
        {brake, 1.5 * tool.linear_velocity.norm() / (kBrakeShare * limits_.linear_acceleration),
         1.5 * tool.angular_velocity.norm() / (kBrakeShare * limits_.angular_acceleration),
         1.5 * knot.dq.cwiseAbs().maxCoeff() / (kBrakeShare * limits_.angular_acceleration)});
  }
  out.differentiate(std::min(brake, 2.0 * step_dt * (rows.steps - 1)));
}

bool JointPlanner::follow_curve(const ChunkSpline& curve, const Origin& origin,
                                JointSpline& out) noexcept {
  const double remaining = seconds(origin.begin_ns, curve.rest_ns());
  JointVector q = origin.from.q;
  if (remaining < 1e-3) {
    out.begin(origin.begin_ns, kKnotStep, 1);
    if (!correct(curve.sample(origin.begin_ns).pose, kFirstCorrections, q)) return false;
    out.set(0, q);
    out.differentiate(0.0);
    return true;
  }
  // One knot before the beginning, so that the derivatives there have neighbours.
  const int intervals =
      std::clamp(static_cast<int>(std::ceil(remaining / kKnotStep)), 4, kMaxSteps - 2);
  const double h = remaining / intervals;
  const int count = intervals + 2;
  out.begin(later(origin.begin_ns, -h), h, count);
  for (int i = 0; i < count; ++i) {
    const double t = h * (i - 1);
    const ReferenceSample wanted = curve.sample(later(origin.begin_ns, t));
    if (!correct(wanted.pose, i == 0 ? kFirstCorrections : kCorrections, q)) return false;
    out.set(i, q);
    Vector6 twist;
    twist << wanted.linear_velocity, wanted.angular_velocity;
    const JointVector pull =
        (kPostureRate * (origin.posture - q)).cwiseMax(-posture_speed_).cwiseMin(posture_speed_);
    const double going = std::clamp((remaining - t) / kPostureStop, 0.0, 1.0);
    const Vector6 dragged = dynamics_.jacobian.lazyProduct(pull);
    const JointVector free = pull - resolved(dragged);
    q += h * (resolved(twist) + going * free);
  }
  out.differentiate(0.0);
  return true;
}

double JointPlanner::excess(const JointSpline& spline, std::int64_t begin_ns) noexcept {
  const double remaining = seconds(begin_ns, spline.rest_ns());
  const int checks = std::clamp(static_cast<int>(remaining / kCheckStep) + 1, 2, kMostChecks);
  Demand most;
  for (int i = 0; i < checks; ++i) {
    const double t = std::max(0.0, remaining) * i / (checks - 1);
    most.include(demand_of(spline.sample(later(begin_ns, t))));
  }
  const double factor = chunk_.max_slowdown > 1.0 ? 1.0 : chunk_.velocity_factor;
  const double share = chunk_.joint_velocity_share > 0.0 ? chunk_.joint_velocity_share : 1.0;
  const double acceleration = *std::max_element(most.acceleration.begin(), most.acceleration.end());
  return std::max({most.velocity[0] / factor, most.velocity[1] / factor, most.velocity[2] / share,
                   std::sqrt(acceleration / chunk_.acceleration_factor)});
}

bool JointPlanner::too_far(const JointSpline& spline, const Origin& origin) noexcept {
  const JointReferenceSample at = spline.sample(origin.begin_ns);
  const Pose to = model_.forward_kinematics(at.q);
  const Pose from = model_.forward_kinematics(origin.from.q);
  const double distance = (to.position - from.position).norm();
  const double angle = so3::log(from.rotation.transpose() * to.rotation).norm();
  double longest =
      std::max(fade_time(distance, limits_.linear_velocity, limits_.linear_acceleration),
               fade_time(angle, limits_.angular_velocity, limits_.angular_acceleration));
  for (Eigen::Index i = 0; i < at.q.size(); ++i) {
    longest = std::max(longest, fade_time(std::abs(at.q[i] - origin.from.q[i]), fastest_[i],
                                          limits_.angular_acceleration));
  }
  return !(longest <= chunk_.max_blend_time);
}

bool JointPlanner::plan(const JointSpline& spline, const Origin& origin,
                        const ChunkBlend::Settings& settings, JointBlend::Times& times) noexcept {
  const JointReferenceSample at = spline.sample(origin.begin_ns);
  const Demand before = demand_of(origin.from);
  const double longest = ChunkBlend::kCatchUp * settings.longest;
  const double most = settings.limits.linear_acceleration / limits_.linear_acceleration;
  const double step = std::max(kCheckStep, longest / (kMostChecks - 1));
  std::array<Demand, kMostChecks> own;  // largest up to each point
  int known = 0;
  JointBlend blend;
  const auto fits = [&]() {
    const double until = settings.held > 0.0 ? settings.held : blend.duration();
    for (int i = 0; i < kMostChecks && i * step < until; ++i) {
      const double t = i * step;
      const JointReferenceSample to = spline.sample(later(origin.begin_ns, t));
      const auto here = static_cast<std::size_t>(i);
      if (i == known) {
        own[here] = demand_of(to);
        if (i > 0) own[here].include(own[here - 1]);
        ++known;
      }
      const Demand blended = demand_of(blend.apply(to, t));
      for (std::size_t k = 0; k < 3; ++k) {
        if (blended.velocity[k] > allowed_peak(1.0, before.velocity[k], own[here].velocity[k]) ||
            blended.acceleration[k] >
                allowed_peak(most, before.acceleration[k], own[here].acceleration[k])) {
          return false;
        }
      }
    }
    return true;
  };
  for (double time = settings.shortest;; time = std::min(kGrowth * time, longest)) {
    for (const double share : kVelocityShares) {
      times = {std::clamp(share * time, settings.shortest, settings.longest),
               settings.held > 0.0 ? OffsetFade::kKept : time};
      blend.begin(origin.from, at, times);
      if (fits()) return true;
    }
    if (time >= longest) return false;
  }
}

}  // namespace vla_control
