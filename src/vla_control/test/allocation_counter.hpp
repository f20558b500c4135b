// SPDX-License-Identifier: Apache-2.0
/// Counts allocations: malloc and its relatives are replaced, for the shared libraries of the
/// program too. To be included by one source file of a program.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdlib>

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* pointer, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* pointer);
}

namespace vla_control::testing {

// Of the thread under test: others, such as those of DDS, may allocate meanwhile.
inline thread_local bool counting = false;
inline thread_local long allocations = 0;

inline void count_allocation() noexcept {
  if (counting) ++allocations;
}

/// Calls of malloc and its relatives, free among them, that `action` makes in this thread.
template <typename Action>
long allocations_of(const Action& action) {
  allocations = 0;
  counting = true;
  action();
  counting = false;
  return allocations;
}

}  // namespace vla_control::testing

// operator new and Eigen's aligned allocation end up in these.
extern "C" {
void* malloc(std::size_t size) noexcept {
  vla_control::testing::count_allocation();
  return __libc_malloc(size);
}
void* calloc(std::size_t number, std::size_t size) noexcept {
  vla_control::testing::count_allocation();
  return __libc_calloc(number, size);
}
void* realloc(void* pointer, std::size_t size) noexcept {
  vla_control::testing::count_allocation();
  return __libc_realloc(pointer, size);
}
void* memalign(std::size_t alignment, std::size_t size) noexcept {
  vla_control::testing::count_allocation();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  vla_control::testing::count_allocation();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t size) noexcept {
  vla_control::testing::count_allocation();
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
void free(void* pointer) noexcept {
  if (pointer != nullptr) vla_control::testing::count_allocation();
  __libc_free(pointer);
}
}
