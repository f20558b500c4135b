// SPDX-License-Identifier: Apache-2.0
/// Hammers the hand-overs from many threads. Built with ThreadSanitizer (check_handover_sanitized)
/// it proves them free of data races; built without, it finds torn or reordered values. With --race
/// and with --two-readers it commits a race on purpose, which ThreadSanitizer must report.
#include <cstdio>
#include <string_view>
#include <thread>
#include <vector>

#include "chain.hpp"
#include "vla_control/mailbox.hpp"

namespace vla_control {
namespace {

struct Words {
  std::array<std::uint64_t, 64> words{};
};

/// Values arrive whole, in order, and the last one always arrives.
bool mailbox_hands_over_whole_values() {
  constexpr std::uint64_t kCount = 200'000;
  Mailbox<Words> mailbox;
  std::atomic<bool> good{true};
  std::thread writer([&] {
    for (std::uint64_t i = 1; i <= kCount; ++i) {
      mailbox.writable().words.fill(i);
      mailbox.publish();
    }
  });
  std::uint64_t last = 0;
  while (last < kCount) {
    if (!mailbox.refresh()) {
      std::this_thread::yield();
      continue;
    }
    const Words& payload = mailbox.value();
    for (const std::uint64_t word : payload.words) {
      if (word != payload.words[0]) good = false;
    }
    if (payload.words[0] <= last) good = false;
    last = payload.words[0];
  }
  writer.join();
  return good && !mailbox.refresh();
}

/// One thread per role of the controller, all at once; torques stay finite, both pushers get
/// through and one of two pushers at the same time is told BUSY.
bool controller_survives_all_threads() {
  ControllerConfig config;
  config.command_includes_gravity = true;
  config.effort_state = EffortState::kNone;
  config.heartbeat_timeout_s = 1.0;
  config.barrier.distance_braking = 4.0;
  Controller controller(testing::make_chain(7), config);
  const JointState joints = testing::bent(7);
  const Pose start = controller.model().forward_kinematics(joints.q);
  constexpr std::int64_t kStart = 1'000'000'000;
  if (!controller.activate(joints, kStart)) return false;
  std::atomic<bool> running{true};
  std::atomic<std::int64_t> now{kStart};
  std::atomic<long> accepted{0}, busy{0}, monitored{0};

  const auto push = [&] {
    Chunk chunk = testing::make_chunk(start, 0, 0);
    while (running) {
      chunk.stamp_ns = now;
      chunk.boot_id = 1;
      const RejectReason reason = controller.push_chunk(chunk);
      if (reason == RejectReason::kNone) ++accepted;
      if (reason == RejectReason::kBusy) ++busy;
    }
  };
  std::vector<std::thread> threads;
  threads.emplace_back(push);
  threads.emplace_back(push);
  threads.emplace_back([&] {
    while (running) {
      controller.heartbeat(1, 0, now);
      std::this_thread::yield();
    }
  });
  threads.emplace_back([&] {
    while (running) {
      const ControllerState state = controller.state();
      if (state.q.size() != 7) running = false;
    }
  });
  threads.emplace_back([&] {
    JointSample sample;
    while (running) {
      if (controller.measured(sample)) {
        const Distances distances = testing::make_distances(joints, sample.time_ns, 0.004);
        if (!controller.push_distances(distances)) running = false;
        ++monitored;
      }
      std::this_thread::yield();
    }
  });
  threads.emplace_back([&] {
    Payload payload;
    TaskGains gains;
    for (int i = 0; running; ++i) {
      payload.mass = 0.1 * (i % 10);
      gains.stiffness.diagonal().setConstant(100.0 + i % 100);
      if (!controller.set_payload(payload) || !controller.set_gains(gains)) running = false;
      std::this_thread::yield();
    }
  });
  threads.emplace_back([&] {
    for (int i = 0; running; ++i) {
      if (i % 50 == 0) controller.revoke();
      if (i % 200 == 0) controller.stop();
      controller.reset();
      (void)controller.gripper_command();
      if (i % 10 == 0) controller.tare();
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });

  bool good = true;
  JointTorques torques;
  // At least 3000 cycles, then until everything that must happen has happened.
  for (int i = 0; i < 300'000 && (i < 3000 || accepted == 0 || busy == 0 || monitored < 100); ++i) {
    now += 1'000'000;
    controller.update(joints, now, 1e-3, torques);
    good = good && torques.tau.size() == 7 && torques.tau.allFinite();
    if (i % 1000 == 999) good = good && controller.activate(joints, now);
  }
  good = good && running && accepted > 0 && busy > 0 && monitored >= 100;
  running = false;
  for (std::thread& thread : threads) thread.join();
  std::printf("accepted %ld, busy %ld\n", accepted.load(), busy.load());
  return good;
}

/// What a mailbox must not be: the flag comes without what was written before it.
bool hands_over_without_order() {
  Words slot;
  std::atomic<bool> full{false};
  std::thread writer([&] {
    slot.words.fill(1);
    full.store(true, std::memory_order_relaxed);
  });
  while (!full.load(std::memory_order_relaxed)) std::this_thread::yield();
  const bool whole = slot.words.front() == slot.words.back();
  writer.join();
  return whole;
}

/// Breaks the contract of state(), which is for one thread at a time.
bool state_has_two_readers() {
  ControllerConfig config;
  config.command_includes_gravity = true;
  config.effort_state = EffortState::kNone;
  Controller controller(testing::make_chain(7), config);
  std::thread other([&] { (void)controller.state(); });
  const bool whole = controller.state().cycles == 0;
  other.join();
  return whole;
}

}  // namespace
}  // namespace vla_control

int main(int argc, char** argv) {
  const std::string_view race = argc > 1 ? argv[1] : "";
  if (race == "--race") return vla_control::hands_over_without_order() ? 0 : 1;
  if (race == "--two-readers") return vla_control::state_has_two_readers() ? 0 : 1;
  const bool mailbox = vla_control::mailbox_hands_over_whole_values();
  const bool controller = vla_control::controller_survives_all_threads();
  std::printf("mailbox %s, controller %s\n", mailbox ? "ok" : "BAD", controller ? "ok" : "BAD");
  return mailbox && controller ? 0 : 1;
}
