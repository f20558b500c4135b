// SPDX-License-Identifier: Apache-2.0
/// Proves that update() of the plugin allocates nothing: malloc and its relatives are replaced by
/// ones that count in the thread under test, for shared libraries too.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>

#include "rig.hpp"
#include "vla_controllers/message_adapter.hpp"

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* pointer, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* pointer);
}

namespace {

thread_local bool counting = false;
thread_local long allocations = 0;

void count() noexcept {
  if (counting) ++allocations;
}

}  // namespace

// operator new and Eigen's aligned allocation end up in these.
extern "C" {
void* malloc(std::size_t size) {
  count();
  return __libc_malloc(size);
}
void* calloc(std::size_t number, std::size_t size) {
  count();
  return __libc_calloc(number, size);
}
void* realloc(void* pointer, std::size_t size) {
  count();
  return __libc_realloc(pointer, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  count();
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
void free(void* pointer) {
  if (pointer != nullptr) count();
  __libc_free(pointer);
}
}

namespace {

using vla_controllers::testing::fr3_parameters;
using vla_controllers::testing::kMilli;
using vla_controllers::testing::Rig;

/// Allocations in `cycles` updates.
long allocations_in(Rig& rig, int cycles) {
  allocations = 0;
  for (int i = 0; i < cycles; ++i) {
    counting = true;
    (void)rig.controller->update(rclcpp::Time(rig.ros_ns),
                                 rclcpp::Duration::from_nanoseconds(kMilli));
    counting = false;
  }
  return allocations;
}

TEST(Allocation, IsCountedInTheLibraryToo) {
  const vla_msgs::msg::ActionChunk message = [] {
    vla_msgs::msg::ActionChunk chunk;
    chunk.poses.resize(3);
    return chunk;
  }();
  allocations = 0;
  counting = true;
  const vla_control::Chunk chunk = vla_controllers::to_chunk(message, 0);
  counting = false;
  EXPECT_EQ(chunk.waypoints.size(), 3U);
  EXPECT_GE(allocations, 1);
}

TEST(Allocation, NoneInUpdate) {
  rclcpp::init(0, nullptr);
  {
    Rig rig(fr3_parameters());
    ASSERT_TRUE(rig.configure());
    ASSERT_TRUE(rig.activate());
    ASSERT_TRUE(rig.connect());
    EXPECT_EQ(allocations_in(rig, 100), 0) << "while holding";
    ASSERT_TRUE(rig.send(rig.motion(0.05, 1.5, 1)));
    EXPECT_EQ(allocations_in(rig, 500), 0) << "while tracking";
    ASSERT_TRUE(rig.call("stop"));
    EXPECT_EQ(allocations_in(rig, 500), 0) << "in FAULT";
  }
  rclcpp::shutdown();
}

}  // namespace
