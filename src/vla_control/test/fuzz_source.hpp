// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace vla_control::testing {

/// Random numbers: plausible ones and every kind of garbage.
class Source {
 public:
  explicit Source(std::uint64_t seed) : engine_(seed) {}

  std::uint64_t bits() { return engine_(); }
  std::uint64_t below(std::uint64_t n) { return engine_() % n; }
  bool chance(double p) { return unit() < p; }
  double unit() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  double within(double low, double high) { return low + (high - low) * unit(); }

  double garbage() {
    using Limits = std::numeric_limits<double>;
    switch (below(12)) {
      case 0:
        return Limits::quiet_NaN();
      case 1:
        return Limits::infinity();
      case 2:
        return -Limits::infinity();
      case 3:
        return Limits::max();
      case 4:
        return Limits::lowest();
      case 5:
        return Limits::denorm_min();
      case 6:
        return -0.0;
      case 7:
        return Limits::min();
      case 8:
        return within(-1e6, 1e6);
      case 9:
        return within(-100.0, 100.0);
      case 10:
        return std::ldexp(within(-1.0, 1.0), static_cast<int>(below(2000)) - 1000);
      default:
        return std::bit_cast<double>(bits());
    }
  }
  std::uint64_t counter() {
    switch (below(4)) {
      case 0:
        return below(4);
      case 1:
        return std::numeric_limits<std::uint64_t>::max() - below(3);
      case 2:
        return below(1000);
      default:
        return bits();
    }
  }
  std::int64_t time() {
    return chance(0.3) ? (chance(0.5) ? std::numeric_limits<std::int64_t>::min()
                                      : std::numeric_limits<std::int64_t>::max())
                       : static_cast<std::int64_t>(bits());
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace vla_control::testing
