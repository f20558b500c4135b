// SPDX-License-Identifier: Apache-2.0
/// Proves that the real-time interface makes no system call and takes no lock: it drives the
/// controller through every phase in a process that the kernel kills at the first call, while every
/// lock of the C library is counted. Exits with 1 when something is not as it must be, with 77
/// where the kernel has no filters.
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <mutex>

#include "tour.hpp"

namespace {

// volatile: the child of a fork counts for itself.
volatile bool counting = false;
volatile long locks = 0;

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

void count() noexcept {
  if (counting) locks = locks + 1;
}

}  // namespace

// Found by the dynamic linker before those of the C library, by the shared library, too.
extern "C" {
int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  static auto* real = next<int(pthread_mutex_t*)>("pthread_mutex_lock");
  count();
  return real(mutex);
}
int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  static auto* real = next<int(pthread_mutex_t*)>("pthread_mutex_trylock");
  count();
  return real(mutex);
}
int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  static auto* real = next<int(pthread_rwlock_t*)>("pthread_rwlock_rdlock");
  count();
  return real(lock);
}
int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  static auto* real = next<int(pthread_rwlock_t*)>("pthread_rwlock_wrlock");
  count();
  return real(lock);
}
int pthread_spin_lock(pthread_spinlock_t* lock) noexcept {
  static auto* real = next<int(pthread_spinlock_t*)>("pthread_spin_lock");
  count();
  return real(lock);
}
int sem_wait(sem_t* semaphore) {
  static auto* real = next<int(sem_t*)>("sem_wait");
  count();
  return real(semaphore);
}
}

namespace vla_control {
namespace {

constexpr int kNoFilters = 3;

/// From here on every system call but the end of the process kills it.
bool forbid_system_calls() noexcept {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_exit_group, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  const sock_fprog filter{static_cast<unsigned short>(std::size(program)), program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

struct Outcome {
  bool killed = false;  ///< by the filter
  int code = -1;        ///< otherwise what the action has returned
};

/// Runs `action` in a process of its own that must not call the system.
Outcome confined(const std::function<int()>& action) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (!forbid_system_calls()) _exit(kNoFilters);
    counting = true;
    const int code = action();
    counting = false;
    _exit(locks > 0 ? 2 : code);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return {};
  if (WIFSIGNALED(status)) return {WTERMSIG(status) == SIGSYS, -1};
  return {false, WEXITSTATUS(status)};
}

int check(const char* what, bool good) {
  std::printf("%-4s %s\n", good ? "ok" : "BAD", what);
  return good ? 0 : 1;
}

int check_all() {
  if (confined([] { return 0; }).code == kNoFilters) {
    std::printf("skipped: the kernel has no system call filters\n");
    return 77;
  }
  int failures = 0;
  for (const int joints : {6, 7, kMaxJoints}) {
    for (const bool gravity : {true, false}) {
      testing::Tour tour(joints, gravity, gravity);
      const Outcome toured = confined([&] {
        tour.run();
        const bool whole =
            tour.saw_every_phase() && tour.settings_taken() && tour.accepted_every_mode();
        return whole ? 0 : 1;
      });
      failures += check("the whole tour makes no system call", !toured.killed);
      failures += check("it takes no lock", toured.code != 2);
      failures += check("it is whole", toured.code == 0);
    }
  }
  // Positive controls.
  failures += check("a system call is fatal", confined([] { return getpid() > 0 ? 0 : 1; }).killed);
  std::mutex mutex;
  const Outcome locked = confined([&] {
    const std::lock_guard<std::mutex> lock(mutex);
    return 0;
  });
  failures += check("a free lock is counted", locked.code == 2);
  mutex.lock();
  const Outcome contended = confined([&] {
    mutex.lock();
    return 0;
  });
  mutex.unlock();
  failures += check("a taken lock is fatal", contended.killed);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace vla_control

int main() { return vla_control::check_all(); }
