// SPDX-License-Identifier: Apache-2.0
#include "vla_control/chunk_smoothing.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "so3.hpp"

namespace vla_control {
namespace {

constexpr std::size_t kFewest = 6;
/// Frequency at which half of a motion is left at full smoothing. Hz
constexpr double kCutoff = 1.8;
constexpr double kLeastLambda = 1e-3;
constexpr double kMostLambda = 1e5;
constexpr int kHalvings = 24;
constexpr int kReweightings = 6;
constexpr int kRotationIterations = 3;
/// Sum of the squares of the fourth difference's coefficients: its gain for white noise.
constexpr double kFourthDifferenceGain = 70.0;
/// Median of the chi-squared distribution with three degrees of freedom.
constexpr double kMedianChiSquared3 = 2.366;
/// Weight of the newest chunk in the average of the noise.
constexpr double kNewest = 0.3;

using Rows = std::array<Vector3, kMaxSteps>;
using Weights = std::array<double, kMaxSteps>;

/// Symmetric positive definite matrix with three diagonals on either side, factored in place as
/// L D L^T. `band[i][k]` is the element (i, i - k).
class BandedSystem {
 public:
  /// W + lambda D3^T D3.
  BandedSystem(std::size_t size, const Weights& weights, double lambda) noexcept : size_(size) {
    constexpr std::array<double, 4> stencil{-1.0, 3.0, -3.0, 1.0};
    for (std::size_t i = 0; i < size; ++i) band_[i] = {weights[i], 0.0, 0.0, 0.0};
    for (std::size_t row = 0; row + 3 < size; ++row) {
      for (std::size_t a = 0; a < 4; ++a) {
        for (std::size_t b = 0; b <= a; ++b) {
          band_[row + a][a - b] += lambda * stencil[a] * stencil[b];
        }
      }
    }
    factor();
  }

  void solve(Rows& b) const noexcept {
    for (std::size_t i = 0; i < size_; ++i) {
      for (std::size_t k = 1; k <= std::min<std::size_t>(3, i); ++k) b[i] -= band_[i][k] * b[i - k];
    }
    for (std::size_t i = 0; i < size_; ++i) b[i] /= band_[i][0];
    for (std::size_t i = size_; i-- > 0;) {
      for (std::size_t k = 1; k <= 3 && i + k < size_; ++k) b[i] -= band_[i + k][k] * b[i + k];
    }
  }

 private:
  void factor() noexcept {
    for (std::size_t i = 0; i < size_; ++i) {
      const std::size_t reach = std::min<std::size_t>(3, i);
      for (std::size_t k = reach; k >= 1; --k) {
        const std::size_t j = i - k;
        double value = band_[i][k];
        for (std::size_t m = k + 1; m <= reach && m - k <= 3; ++m) {
          // L(i, i-m) D(i-m) L(j, i-m)
          value -= band_[i][m] * band_[i - m][0] * band_[j][m - k];
        }
        band_[i][k] = value / band_[j][0];
      }
      for (std::size_t k = 1; k <= reach; ++k) {
        band_[i][0] -= band_[i][k] * band_[i][k] * band_[i - k][0];
      }
    }
  }

  std::size_t size_;
  std::array<std::array<double, 4>, kMaxSteps> band_;
};

/// What is to be smoothed: steps between neighbours, and how far each waypoint has been moved.
struct Path {
  std::size_t size = 0;
  Rows steps;  // size - 1
  Rows moved;  // size
};

/// Minimises sum w |moved + out|^2 + lambda sum |D^2 (steps + D out)|^2 over `out`.
void solve(const Path& path, const Weights& weights, double lambda, Rows& out) noexcept {
  for (std::size_t i = 0; i < path.size; ++i) out[i] = -weights[i] * path.moved[i];
  for (std::size_t row = 0; row + 3 < path.size; ++row) {
    const Vector3 third =
        lambda * (path.steps[row + 2] - 2.0 * path.steps[row + 1] + path.steps[row]);
    out[row] += third;
    out[row + 1] -= 3.0 * third;
    out[row + 2] += 3.0 * third;
    out[row + 3] -= third;
  }
  BandedSystem(path.size, weights, lambda).solve(out);
}

/// Variance of white noise per axis that explains the median fourth difference.
double estimated_noise(const Path& path) noexcept {
  std::array<double, kMaxSteps> squares{};
  const std::size_t count = path.size - 4;
  for (std::size_t i = 0; i < count; ++i) {
    squares[i] =
        (path.steps[i + 3] - 3.0 * path.steps[i + 2] + 3.0 * path.steps[i + 1] - path.steps[i])
            .squaredNorm();
  }
  const auto middle = squares.begin() + static_cast<std::ptrdiff_t>(count / 2);
  std::nth_element(squares.begin(), middle, squares.begin() + static_cast<std::ptrdiff_t>(count));
  return *middle / (kMedianChiSquared3 * kFourthDifferenceGain);
}

double mean_square(const Rows& rows, std::size_t size) noexcept {
  double sum = 0.0;
  for (std::size_t i = 0; i < size; ++i) sum += rows[i].squaredNorm();
  return sum / (3.0 * static_cast<double>(size));
}

double largest(const Rows& rows, std::size_t size) noexcept {
  double most = 0.0;
  for (std::size_t i = 0; i < size; ++i) most = std::max(most, rows[i].norm());
  return most;
}

/// First solution for a path that has not been moved: finds lambda and the weights.
/// \param average of the noise; this path is counted \return lambda, 0 = leave the path as it is
double find(const Path& path, double step_dt, double limit, double& average, Weights& weights,
            Rows& out) noexcept {
  weights.fill(1.0);
  const double seen = estimated_noise(path);
  average = average < 0.0 ? seen : average + kNewest * (seen - average);
  const double noise = std::max(seen, average);
  const double turn = std::min(0.5 * std::numbers::pi, std::numbers::pi * kCutoff * step_dt);
  double lambda = std::clamp(std::pow(2.0 * std::sin(turn), -6.0), kLeastLambda, kMostLambda);
  bool found = false;
  for (int i = 0; i < kHalvings && !found; ++i) {
    solve(path, weights, lambda, out);
    found = mean_square(out, path.size) <= noise;
    if (!found) lambda *= 0.5;
  }
  if (!found) return 0.0;
  for (int i = 0; i < kReweightings && largest(out, path.size) > limit; ++i) {
    for (std::size_t k = 0; k < path.size; ++k) {
      const double ratio = out[k].norm() / limit;
      if (ratio > 1.0) weights[k] *= 2.0 * ratio * ratio;
    }
    solve(path, weights, lambda, out);
  }
  return lambda;
}

/// Factor that brings the farthest of `moves` back to the limit.
double scale_to(const Rows& moves, std::size_t size, double limit) noexcept {
  const double most = largest(moves, size);
  return most > limit ? limit / most : 1.0;
}

void smooth_positions(std::span<Pose> poses, double step_dt, double limit, double& noise) noexcept {
  Path path;
  path.size = poses.size();
  for (std::size_t i = 0; i + 1 < poses.size(); ++i) {
    path.steps[i] = poses[i + 1].position - poses[i].position;
  }
  for (std::size_t i = 0; i < poses.size(); ++i) path.moved[i].setZero();
  Weights weights;
  Rows move;
  if (find(path, step_dt, limit, noise, weights, move) <= 0.0) return;
  const double scale = scale_to(move, path.size, limit);
  for (std::size_t i = 0; i < poses.size(); ++i) poses[i].position += scale * move[i];
}

void smooth_rotations(std::span<Pose> poses, double step_dt, double limit, double& noise) noexcept {
  Path path;
  path.size = poses.size();
  std::array<Matrix3, kMaxSteps> rotations;
  for (std::size_t i = 0; i < poses.size(); ++i) {
    rotations[i] = poses[i].rotation;
    path.moved[i].setZero();
  }
  Weights weights;
  Rows move;
  double lambda = 0.0;
  for (int iteration = 0; iteration < kRotationIterations; ++iteration) {
    for (std::size_t i = 0; i + 1 < poses.size(); ++i) {
      path.steps[i] = so3::log(rotations[i + 1] * rotations[i].transpose());
    }
    if (iteration == 0) {
      lambda = find(path, step_dt, limit, noise, weights, move);
      if (lambda <= 0.0) return;
    } else {
      solve(path, weights, lambda, move);
    }
    for (std::size_t i = 0; i < poses.size(); ++i) {
      const Matrix3 turned = so3::exp(move[i]) * rotations[i];
      rotations[i] = turned;
      path.moved[i] = so3::log(turned * poses[i].rotation.transpose());
    }
  }
  const double scale = scale_to(path.moved, path.size, limit);
  for (std::size_t i = 0; i < poses.size(); ++i) {
    const Vector3 turn = scale * path.moved[i];
    const Matrix3 smoothed = so3::exp(turn) * poses[i].rotation;
    poses[i].rotation = smoothed;
  }
}

}  // namespace

void smooth_waypoints(std::span<Pose> poses, double step_dt, const SmoothingLimits& limits,
                      WaypointNoise& noise) noexcept {
  if (poses.size() < kFewest || poses.size() > static_cast<std::size_t>(kMaxSteps)) return;
  if (limits.deviation > 0.0) smooth_positions(poses, step_dt, limits.deviation, noise.position);
  if (limits.rotation_deviation > 0.0) {
    smooth_rotations(poses, step_dt, limits.rotation_deviation, noise.rotation);
  }
}

}  // namespace vla_control
