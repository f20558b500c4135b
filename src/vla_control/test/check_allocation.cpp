// SPDX-License-Identifier: Apache-2.0
/// Proves that the real-time interface allocates nothing. Exits with 1 when a count is not what it
/// must be.
#include <array>
#include <cstdio>
#include <cstdlib>

#include "allocation_counter.hpp"
#include "tour.hpp"

namespace vla_control {
namespace {

using testing::allocations_of;

int check(const char* what, bool good, long value) {
  std::printf("%-4s %s (%ld)\n", good ? "ok" : "BAD", what, value);
  return good ? 0 : 1;
}

struct Kind {
  bool gravity;
  TaskLawKind law;
};
constexpr std::array<Kind, 4> kTours{{{true, TaskLawKind::kImpedance},
                                      {false, TaskLawKind::kImpedance},
                                      {true, TaskLawKind::kOperationalSpace},
                                      {true, TaskLawKind::kJointImpedance}}};

int check_all() {
  int failures = 0;
  for (const int joints : {6, 7, kMaxJoints}) {
    for (const auto [gravity, law] : kTours) {
      // Bent into a singularity the chain of six cannot follow poses joint by joint.
      if (law == TaskLawKind::kJointImpedance && joints == 6) continue;
      testing::Tour tour(joints, gravity, gravity, OutputKind::kTorque, law);
      const long found = allocations_of([&] { tour.run(); });
      failures += check("the whole tour allocates nothing", found == 0, found);
      failures += check("it has seen every phase", tour.saw_every_phase(), joints);
      failures += check("gains and payload were taken", tour.settings_taken(), joints);
      failures += check("it has followed chunks of every mode, one slowed down",
                        tour.accepted_every_mode(), joints);
      failures += check("it has followed chunks", tour.accepted() >= 5, tour.accepted());
    }
  }
  for (const int joints : {7, kMaxJoints}) {
    testing::Tour tour(joints, true, true, OutputKind::kMotion);
    const long found = allocations_of([&] { tour.run(); });
    failures += check("with motion output, too", found == 0, found);
    failures += check("it has seen every phase", tour.saw_every_phase(), joints);
    failures += check("it has followed chunks", tour.accepted() >= 4, tour.accepted());
  }
  // Positive controls: an allocation here, one within the shared library, one by Eigen.
  const RobotDescription description = testing::make_chain(7);
  const RobotModel model(description);
  ControllerConfig config;
  config.command_includes_gravity = true;
  config.effort_state = EffortState::kNone;
  const long here = allocations_of([] { ::free(std::malloc(10)); });
  failures += check("an allocation of this program is counted", here == 2, here);
  const long library = allocations_of([&] { (void)validated(config, model); });
  failures += check("an allocation within the library is counted", library > 0, library);
  const long eigen = allocations_of([] {
    volatile double x = Eigen::VectorXd::Zero(20).eval()[3];
    (void)x;
  });
  failures += check("an allocation of Eigen is counted", eigen > 0, eigen);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace vla_control

int main() { return vla_control::check_all(); }
