// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace vla_control {

/// Wait-free hand-over of the latest value from one writer thread to one reader thread.
///
/// A triple buffer: writer and reader each own one slot, the third is exchanged atomically. A value
/// that was not read before the next is published is lost, by intention.
template <typename T>
class Mailbox {
 public:
  /// The writer's slot: fill it in place, then publish(). It holds an old value, not the last one.
  [[nodiscard]] T& writable() noexcept { return slots_[write_]; }

  /// Hands the writer's slot to the reader. Writer thread.
  void publish() noexcept {
    const std::uint8_t given = static_cast<std::uint8_t>(write_ | kFresh);
    write_ = shared_.exchange(given, std::memory_order_acq_rel) & kIndex;
  }

  /// Takes over the newest value if there is one not yet seen. Reader thread.
  [[nodiscard]] bool refresh() noexcept {
    if ((shared_.load(std::memory_order_relaxed) & kFresh) == 0) return false;
    read_ = shared_.exchange(read_, std::memory_order_acq_rel) & kIndex;
    return true;
  }

  /// The value of the last successful refresh(). Reader thread.
  [[nodiscard]] const T& value() const noexcept { return slots_[read_]; }

 private:
  static constexpr std::uint8_t kIndex = 3;
  static constexpr std::uint8_t kFresh = 4;

  std::array<T, 3> slots_{};
  std::uint8_t write_ = 0;
  std::uint8_t read_ = 1;
  std::atomic<std::uint8_t> shared_{2};
};

}  // namespace vla_control
