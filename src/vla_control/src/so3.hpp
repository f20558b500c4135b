// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "vla_control/types.hpp"

/// Exponential, logarithm and right Jacobian of SO(3) with first derivatives in time.
///
/// R(t) = exp(phi(t)) has the body angular velocity J_r(phi) phi'. See Chirikjian, "Stochastic
/// Models, Information Theory, and Lie Groups", vol. 2, ch. 10. All functions are RT-safe and
/// smooth through phi = 0; the right Jacobian's inverse exists for |phi| < 2 pi.
namespace vla_control::so3 {

/// Coefficients of the series in x = |phi|^2, and their derivatives by x.
struct Coefficients {
  double sinc;     ///< sin(theta) / theta
  double cosc;     ///< (1 - cos(theta)) / theta^2
  double sinc3;    ///< (theta - sin(theta)) / theta^3
  double d_cosc;   ///< d cosc / dx
  double d_sinc3;  ///< d sinc3 / dx
};

inline Coefficients coefficients(double x) noexcept {
  Coefficients c;
  if (x < 1e-2) {
    // Taylor series: the closed forms of the derivatives cancel badly below |phi| of about 0.1.
    c.sinc = 1.0 - x / 6.0 * (1.0 - x / 20.0 * (1.0 - x / 42.0 * (1.0 - x / 72.0)));
    c.cosc = 0.5 - x / 24.0 * (1.0 - x / 30.0 * (1.0 - x / 56.0 * (1.0 - x / 90.0)));
    c.sinc3 = 1.0 / 6.0 - x / 120.0 * (1.0 - x / 42.0 * (1.0 - x / 72.0 * (1.0 - x / 110.0)));
    c.d_cosc = -1.0 / 24.0 + x / 360.0 * (1.0 - 3.0 * x / 112.0 * (1.0 - 2.0 * x / 135.0));
    c.d_sinc3 = -1.0 / 120.0 + x / 2520.0 * (1.0 - x / 48.0 * (1.0 - 2.0 * x / 165.0));
    return c;
  }
  const double theta = std::sqrt(x);
  const double sine = std::sin(theta);
  const double cosine = std::cos(theta);
  c.sinc = sine / theta;
  c.cosc = (1.0 - cosine) / x;
  c.sinc3 = (1.0 - c.sinc) / x;
  c.d_cosc = (0.5 * c.sinc - c.cosc) / x;
  c.d_sinc3 = (-0.5 * (cosine - c.sinc) / x - c.sinc3) / x;
  return c;
}

inline Matrix3 skew(const Vector3& v) noexcept {
  Matrix3 S;
  S << 0.0, -v.z(), v.y(), v.z(), 0.0, -v.x(), -v.y(), v.x(), 0.0;
  return S;
}

inline Matrix3 exp(const Vector3& phi) noexcept {
  const Coefficients c = coefficients(phi.squaredNorm());
  const Matrix3 S = skew(phi);
  Matrix3 R = Matrix3::Identity() + c.sinc * S;
  R.noalias() += c.cosc * (S * S);
  return R;
}

/// Rotation vector of norm at most pi. Through the quaternion, which stays accurate near pi.
inline Vector3 log(const Matrix3& R) noexcept {
  Eigen::Quaterniond quat(R);
  if (quat.w() < 0.0) quat.coeffs() = -quat.coeffs();
  const double norm = quat.vec().norm();
  if (norm < 1e-9) return 2.0 * quat.vec();
  return (2.0 * std::atan2(norm, quat.w()) / norm) * quat.vec();
}

/// J_r(phi) u.
inline Vector3 right_jacobian(const Vector3& phi, const Vector3& u) noexcept {
  const Coefficients c = coefficients(phi.squaredNorm());
  const Vector3 cross = phi.cross(u);
  return u - c.cosc * cross + c.sinc3 * phi.cross(cross);
}

/// J_r(phi)^-1 u.
inline Vector3 right_jacobian_inverse(const Vector3& phi, const Vector3& u) noexcept {
  const double x = phi.squaredNorm();
  const Coefficients c = coefficients(x);
  // 1/x - (1 + cos)/(2 theta sin) = (1 - sinc / (2 cosc)) / x
  const double k =
      x < 1e-2 ? 1.0 / 12.0 + x / 720.0 * (1.0 + x / 42.0) : (1.0 - 0.5 * c.sinc / c.cosc) / x;
  const Vector3 cross = phi.cross(u);
  return u + 0.5 * cross + k * phi.cross(cross);
}

/// (d/dt J_r(phi)) phi', for phi moving at dphi = phi'.
inline Vector3 right_jacobian_rate(const Vector3& phi, const Vector3& dphi) noexcept {
  const Coefficients c = coefficients(phi.squaredNorm());
  const double dx = 2.0 * phi.dot(dphi);
  const Vector3 cross = phi.cross(dphi);
  return -c.d_cosc * dx * cross + c.d_sinc3 * dx * phi.cross(cross) + c.sinc3 * dphi.cross(cross);
}

}  // namespace vla_control::so3
