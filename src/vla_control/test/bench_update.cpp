// SPDX-License-Identifier: Apache-2.0
/// Times one cycle of the controller while it tracks, with every piece switched on, beside the
/// rigid-body part alone, and prints one JSON object. `take_up` is a cycle that takes up a chunk.
/// Usage: bench_update [cycles] [joints] [law, as TaskLawKind]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "chain.hpp"

namespace {

using Clock = std::chrono::steady_clock;

double percentile(std::vector<double>& values, double fraction) {
  const auto at = static_cast<std::ptrdiff_t>(fraction * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

}  // namespace

int main(int argc, char** argv) {
  using namespace vla_control;
  const int cycles = argc > 1 ? std::max(1000, std::atoi(argv[1])) : 200'000;
  const int joints = argc > 2 ? std::clamp(std::atoi(argv[2]), 1, kMaxJoints) : 7;
  ControllerConfig config;
  testing::switch_everything_on(config, joints);
  config.command_includes_gravity = true;
  config.effort_state = EffortState::kNone;
  config.heartbeat_timeout_s = 0.0;
  config.task_law = static_cast<TaskLawKind>(argc > 3 ? std::clamp(std::atoi(argv[3]), 0, 2) : 0);
  Controller controller(testing::make_chain(joints), config);
  const JointState state = testing::bent(joints);
  const Pose start = controller.model().forward_kinematics(state.q);
  std::int64_t now = 1'000'000'000;
  if (!controller.activate(state, now)) return 1;

  std::vector<double> update_us, model_us, take_up_us;
  update_us.reserve(static_cast<std::size_t>(cycles));
  model_us.reserve(static_cast<std::size_t>(cycles));
  JointTorques torques;
  Dynamics dynamics;
  JointState jittered = state;
  const RobotModel model(testing::make_chain(joints));
  for (int i = 0; i < cycles; ++i) {
    now += 1'000'000;
    if (i % 400 == 0) (void)controller.push_chunk(testing::make_chunk(start, now, 0));
    if (i % 10 == 0) (void)controller.push_distances(testing::make_distances(state, now, 0.05));
    jittered.q[0] = state.q[0] + 1e-4 * (i % 7);
    const auto t0 = Clock::now();
    controller.update(jittered, now, 1e-3, torques);
    const auto t1 = Clock::now();
    model.compute(jittered.q, jittered.dq, true, dynamics);
    const auto t2 = Clock::now();
    update_us.push_back(std::chrono::duration<double, std::micro>(t1 - t0).count());
    if (i % 400 == 0) take_up_us.push_back(update_us.back());
    model_us.push_back(std::chrono::duration<double, std::micro>(t2 - t1).count());
  }
  const double update_p50 = percentile(update_us, 0.5);
  const double model_p50 = percentile(model_us, 0.5);
  std::printf(
      "{\"figures\": {\"update_p50_us\": %.3f, \"update_p99_us\": %.3f, \"model_p50_us\": %.3f, "
      "\"take_up_p50_us\": %.3f, "
      "\"update_over_model\": %.3f}, \"settings\": {\"cycles\": %d, \"joints\": %d}}\n",
      update_p50, percentile(update_us, 0.99), model_p50, percentile(take_up_us, 0.5),
      update_p50 / model_p50, cycles, joints);
  return 0;
}
