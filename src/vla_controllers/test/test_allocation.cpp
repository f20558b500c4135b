// SPDX-License-Identifier: Apache-2.0
/// Proves that update() of the plugin allocates nothing.
#include <gtest/gtest.h>

#include "allocation_counter.hpp"
#include "rig.hpp"
#include "vla_controllers/message_adapter.hpp"

namespace {

using vla_control::testing::allocations_of;
using vla_controllers::testing::fr3_parameters;
using vla_controllers::testing::kMilli;
using vla_controllers::testing::Rig;

/// Allocations in `cycles` updates.
long allocations_in(Rig& rig, int cycles) {
  return allocations_of([&] {
    for (int i = 0; i < cycles; ++i) {
      (void)rig.controller->update(rclcpp::Time(rig.ros_ns),
                                   rclcpp::Duration::from_nanoseconds(kMilli));
    }
  });
}

TEST(Allocation, IsCountedInTheLibraryToo) {
  const vla_msgs::msg::ActionChunk message = [] {
    vla_msgs::msg::ActionChunk chunk;
    chunk.poses.resize(3);
    return chunk;
  }();
  vla_control::Chunk chunk;
  const long found = allocations_of([&] { chunk = vla_controllers::to_chunk(message, 0); });
  EXPECT_EQ(chunk.waypoints.size(), 3U);
  EXPECT_GE(found, 1);
}

TEST(Allocation, NoneInUpdate) {
  rclcpp::init(0, nullptr);
  {
    // With distances from the thread beside it, which grow old as these cycles take no time.
    Rig rig(fr3_parameters(vla_controllers::testing::watch_parameters(0.0)));
    ASSERT_TRUE(rig.configure());
    ASSERT_TRUE(rig.activate());
    ASSERT_TRUE(rig.connect());
    rig.paced = true;
    rig.run(0.1);
    EXPECT_EQ(allocations_in(rig, 100), 0) << "while holding";
    rig.run(0.1);
    ASSERT_TRUE(rig.send(rig.motion(0.05, 1.5, 1)));
    EXPECT_EQ(allocations_in(rig, 500), 0) << "while tracking";
    ASSERT_TRUE(rig.call("stop"));
    EXPECT_EQ(allocations_in(rig, 500), 0) << "in FAULT";
  }
  {
    // Positions and velocities, and a force sensor.
    Rig rig(vla_controllers::testing::tracking_parameters(true));
    ASSERT_TRUE(rig.configure());
    ASSERT_TRUE(rig.activate());
    ASSERT_TRUE(rig.connect());
    EXPECT_EQ(allocations_in(rig, 20), 0) << "while holding";
    ASSERT_TRUE(rig.send(rig.motion(0.05, 1.5, 1)));
    EXPECT_EQ(allocations_in(rig, 20), 0) << "while tracking";
  }
  rclcpp::shutdown();
}

}  // namespace
