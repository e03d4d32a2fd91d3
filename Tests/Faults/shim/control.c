// Decides which call fails, and how. Read from the environment before main begins:
//
//   VMFAULTS_REPORT    a file of at least 256 bytes: 64-bit counters of calls by kind, then how many
//                      faults were made. It is mapped, so that it is right after a kill as well
//   VMFAULTS_ROOT      the work folder: calls on other files do not count
//   VMFAULTS_KIND      the number of a kind (enum fault_kind)
//   VMFAULTS_NTH       which call of that kind, from 1
//   VMFAULTS_FROM      1: all calls from that one on
//   VMFAULTS_ERROR     the number of an errno, or short, zero, kill-before, kill-after, stop
//                      (by SIGSTOP before the call, which is done when the process goes on)
//   VMFAULTS_RECORD    the log of the recorder (recorder.c)
//   VMFAULTS_NO_SYNC   1: fsync and fdatasync do nothing, and say that they did
//   VMFAULTS_NO_LOCK   1: locks of open file descriptions do nothing, and say that they did
//   VMFAULTS_SLEEP     a number: sleeps are that many times shorter, and clocks believe them
//   VMFAULTS_COMMAND   the first argument of the program that is meant; others leave the environment
//                      to their children, and do as they always do
//   VMFAULTS_FIRST     a file that is not there yet: only the first such program is meant, and makes it
//
// The shim takes all of them and LD_PRELOAD out of the environment: children run without it. Only
// calls after main has begun count, which `__libc_start_main` below sees, so that what loaders and
// constructors do is left alone. Calls by libc of its own functions cannot be seen.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"

static atomic_bool is_armed;
static int target_kind = -1;
static unsigned long target_call;
static bool is_from;
static int error_number;
static enum fault_action action = fault_fail;
static bool kills_before, stops;
static bool no_sync, no_lock;
static char root[PATH_MAX];
static size_t root_length;
static long sleep_divisor = 1;
static _Atomic long skipped_nanoseconds;

// Counters until the report is mapped, so that there is always something to count in.
static _Atomic uint64_t own_counters[kind_count + 1];
static _Atomic uint64_t *counters = own_counters;

// Whether this program is the one that VMFAULTS_COMMAND and VMFAULTS_FIRST mean.
static bool is_first(void) {
  const char *text = getenv("VMFAULTS_FIRST");
  if (!text) return true;
  long descriptor = syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) return false;
  syscall(SYS_close, descriptor);
  return true;
}

static bool is_meant(int count, char **arguments) {
  const char *text = getenv("VMFAULTS_COMMAND");
  return !text || (count > 1 && !strcmp(arguments[1], text));
}

static void read_settings(void) {
  const char *text = getenv("VMFAULTS_REPORT");
  if (text) {
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, text, O_RDWR, 0);
    if (descriptor >= 0) {
      long address = syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
      if (address > 0 || address < -4095) counters = (_Atomic uint64_t *)address;
      syscall(SYS_close, descriptor);
    }
  }
  if ((text = getenv("VMFAULTS_ROOT"))) {
    strncpy(root, text, sizeof root - 1);
    root_length = strlen(root);
  }
  if ((text = getenv("VMFAULTS_NTH"))) target_call = strtoul(text, NULL, 10);
  if ((text = getenv("VMFAULTS_KIND"))) target_kind = atoi(text);
  is_from = getenv("VMFAULTS_FROM") != NULL;
  no_sync = getenv("VMFAULTS_NO_SYNC") != NULL;
  no_lock = getenv("VMFAULTS_NO_LOCK") != NULL;
  if ((text = getenv("VMFAULTS_SLEEP"))) sleep_divisor = atol(text);
  if ((text = getenv("VMFAULTS_ERROR"))) {
    error_number = atoi(text);
    if (!strcmp(text, "short")) action = fault_short;
    if (!strcmp(text, "zero")) action = fault_zero;
    if (!strcmp(text, "kill-after")) action = fault_kill_after;
    kills_before = !strcmp(text, "kill-before");
    stops = !strcmp(text, "stop");
  }
  if ((text = getenv("VMFAULTS_RECORD"))) record_open_log(text);
}

static void leave_environment(void) {
  static const char *names[] = {"REPORT", "ROOT", "KIND", "NTH", "FROM", "ERROR",
                                "RECORD", "NO_SYNC", "NO_LOCK", "SLEEP", "COMMAND", "FIRST"};
  for (size_t index = 0; index < sizeof names / sizeof *names; index++) {
    char name[32] = "VMFAULTS_";
    unsetenv(strcat(name, names[index]));
  }
  unsetenv("LD_PRELOAD");
}

static int (*real_main)(int, char **, char **);

static int armed_main(int count, char **arguments, char **environment) {
  atomic_store(&is_armed, true);
  return real_main(count, arguments, environment);
}

int __libc_start_main(int (*main)(int, char **, char **), int count, char **arguments,
                      void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
                      void *stack_end) {
  int (*start)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
               void (*)(void), void *) = dlsym(RTLD_NEXT, "__libc_start_main");
  if (!is_meant(count, arguments))
    return start(main, count, arguments, init, fini, rtld_fini, stack_end);
  bool arms = is_first();
  if (arms) read_settings();
  leave_environment();
  real_main = main;
  return start(arms ? armed_main : main, count, arguments, init, fini, rtld_fini, stack_end);
}

bool fault_is_armed(void) { return atomic_load_explicit(&is_armed, memory_order_relaxed); }
bool fault_has_no_sync(void) { return no_sync; }
bool fault_has_no_lock(void) { return no_lock; }

void fault_kill(void) {
  syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
  for (;;) syscall(SYS_pause);
}

static enum fault_action decide(enum fault_kind kind) {
  uint64_t number = atomic_fetch_add(&counters[kind], 1) + 1;
  if ((int)kind != target_kind) return fault_none;
  if (is_from ? number < target_call : number != target_call) return fault_none;
  atomic_fetch_add(&counters[kind_count], 1);
  if (kills_before) fault_kill();
  if (stops) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP);
    return fault_none;
  }
  if (action == fault_fail) errno = error_number;
  return action;
}

enum fault_action fault_next(enum fault_kind kind) {
  if (!fault_is_armed()) return fault_none;
  enum fault_action chosen = decide(kind);
  if (kind == kind_mmap || kind > kind_lock) return chosen;
  enum fault_action of_all = decide(kind_io);
  return chosen != fault_none ? chosen : of_all;
}

static bool is_below_root(const char *path) {
  return root_length && !strncmp(path, root, root_length) &&
         (path[root_length] == '/' || path[root_length] == 0);
}

bool fault_is_descriptor_watched(int descriptor) {
  // The pipes or files that RAM comes and goes through. Errors are written to 2, which stays.
  if (descriptor == 0 || descriptor == 1) return true;
  if (descriptor < 3) return false;
  char name[40] = "/proc/self/fd/", digits[16];
  int count = 0;
  for (int value = descriptor; value; value /= 10) digits[count++] = (char)('0' + value % 10);
  char *end = name + strlen(name);
  while (count) *end++ = digits[--count];
  *end = 0;
  char path[PATH_MAX];
  long length = syscall(SYS_readlinkat, AT_FDCWD, name, path, sizeof path - 1);
  if (length < 0) return false;
  path[length] = 0;
  return is_below_root(path);
}

bool fault_is_path_watched(int directory, const char *path) {
  if (path[0] == '/') return is_below_root(path);
  if (directory >= 0) return fault_is_descriptor_watched(directory);
  char here[PATH_MAX];
  return syscall(SYS_getcwd, here, sizeof here) > 0 && is_below_root(here);
}

// Sleeps and clocks ------------------------------------------------------------------------------

static int sleep_for(long nanoseconds) {
  long part = nanoseconds / sleep_divisor;
  struct timespec time = {part / 1000000000, part % 1000000000};
  int result = (int)syscall(SYS_nanosleep, &time, NULL);
  atomic_fetch_add(&skipped_nanoseconds, nanoseconds - part);
  return result;
}

int usleep(useconds_t microseconds) { return sleep_for((long)microseconds * 1000); }

int nanosleep(const struct timespec *wanted, struct timespec *rest) {
  if (rest) *rest = (struct timespec){0, 0};
  return sleep_for(wanted->tv_sec * 1000000000 + wanted->tv_nsec);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, time);
  if (sleep_divisor > 1 && result == 0) {
    long sum = time->tv_nsec + atomic_load(&skipped_nanoseconds) % 1000000000;
    time->tv_sec += atomic_load(&skipped_nanoseconds) / 1000000000 + sum / 1000000000;
    time->tv_nsec = sum % 1000000000;
  }
  return result;
}
