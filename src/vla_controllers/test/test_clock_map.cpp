// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "vla_controllers/clock_map.hpp"

namespace {

using vla_controllers::ClockMap;

constexpr std::int64_t kMilli = 1'000'000;
constexpr std::int64_t kPeriod = kMilli;
constexpr std::int64_t kJump = 100 * kMilli;
constexpr std::int64_t kRos = 1'700'000'000'000 * kMilli;

TEST(ClockMap, MapsStampsByTheirAge) {
  ClockMap map(kPeriod, kJump);
  map.cycle(5000 * kMilli, 70 * kMilli, 1);
  EXPECT_TRUE(map.observe(kRos, 70 * kMilli));
  EXPECT_EQ(map.control_now(), 5000 * kMilli);
  EXPECT_EQ(map.to_control(kRos - 30 * kMilli), 4970 * kMilli);
  EXPECT_EQ(map.to_ros(4970 * kMilli), kRos - 30 * kMilli);
}

TEST(ClockMap, CarriesTheLoopOnForAPeriodAndNoLonger) {
  ClockMap map(kPeriod, kJump);
  map.cycle(5000 * kMilli, 70 * kMilli, 1);
  EXPECT_TRUE(map.observe(kRos, 70 * kMilli + kPeriod / 2));
  EXPECT_EQ(map.control_now(), 5000 * kMilli + kPeriod / 2);
  EXPECT_TRUE(map.observe(kRos, 900 * kMilli));
  EXPECT_EQ(map.control_now(), 5000 * kMilli + kPeriod);
}

TEST(ClockMap, TellsAJumpOfRosTimeOnce) {
  for (const std::int64_t step : {kJump + kMilli, -kJump - kMilli}) {
    ClockMap map(kPeriod, kJump);
    map.cycle(5000 * kMilli, 0, 1);
    EXPECT_TRUE(map.observe(kRos, 0));
    map.cycle(5020 * kMilli, 20 * kMilli, 1);
    EXPECT_FALSE(map.observe(kRos + 20 * kMilli + step, 20 * kMilli));
    map.cycle(5040 * kMilli, 40 * kMilli, 1);
    EXPECT_TRUE(map.observe(kRos + 40 * kMilli + step, 40 * kMilli));
    // What comes after the jump is mapped in the new time.
    EXPECT_EQ(map.to_control(kRos + 40 * kMilli + step), 5040 * kMilli);
  }
}

TEST(ClockMap, ClocksThatRunTogetherDoNotJump) {
  ClockMap map(kPeriod, kJump);
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t elapsed = i * 20 * kMilli;
    map.cycle(elapsed, elapsed, 1);
    // 100 ppm of slewing, as a time daemon does it.
    EXPECT_TRUE(map.observe(kRos + elapsed + elapsed / 10'000, elapsed));
  }
}

TEST(ClockMap, AnActivationMayStartTheLoopsClockAnew) {
  ClockMap map(kPeriod, kJump);
  map.cycle(5000 * kMilli, 0, 1);
  EXPECT_TRUE(map.observe(kRos, 0));
  map.cycle(9000 * kMilli, kMilli, 2);
  EXPECT_TRUE(map.observe(kRos + kMilli, kMilli));
  EXPECT_EQ(map.to_control(kRos + kMilli), 9000 * kMilli);
}

}  // namespace
