#define _GNU_SOURCE
#include "CLinux.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

enum { capacity = 64 };

const int clinux_guard_capacity = capacity;

/* Free while `end` is 0. `start` is written before `end`, for the handler, which takes no lock. */
static struct {
  _Atomic uintptr_t start, end;
  _Atomic int is_broken;
} guards[capacity];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t page_byte_count;
static struct sigaction previous;

/* Calls nothing but what signal-safety(7) allows, and mmap, which is a system call and no more. */
static void handle(int number, siginfo_t *info, void *context) {
  (void)context;
  uintptr_t address = (uintptr_t)info->si_addr;
  /* Greater than 0: the kernel's own, with an address; not another process's kill(). */
  for (int index = 0; info->si_code > 0 && index < capacity; index++) {
    uintptr_t end = atomic_load(&guards[index].end);
    if (address < atomic_load(&guards[index].start) || address >= end) continue;
    void *page = (void *)(address & ~(page_byte_count - 1));
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (mmap(page, page_byte_count, PROT_READ, flags, -1, 0) == MAP_FAILED) break;
    atomic_store(&guards[index].is_broken, 1);
    return;
  }
  /* What would have happened, as the access is made again; a signal that was sent is sent again. */
  sigaction(number, &previous, 0);
  if (info->si_code <= 0) raise(number);
}

int clinux_guard_mapping(void *base, size_t byte_count) {
  int found = -1;
  pthread_mutex_lock(&lock);
  /* Not once and for all: the handler gives way to what was there before, and the program may have set another. */
  struct sigaction now;
  int is_installed = sigaction(SIGBUS, 0, &now) == 0;
  if (is_installed && !(now.sa_flags & SA_SIGINFO && now.sa_sigaction == handle)) {
    page_byte_count = (uintptr_t)sysconf(_SC_PAGESIZE);
    previous = now;
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&action.sa_mask);
    is_installed = sigaction(SIGBUS, &action, 0) == 0;
  }
  for (int index = 0; is_installed && found < 0 && index < capacity; index++) {
    if (atomic_load(&guards[index].end) != 0) continue;
    found = index;
    atomic_store(&guards[index].is_broken, 0);
    atomic_store(&guards[index].start, (uintptr_t)base);
    atomic_store(&guards[index].end, (uintptr_t)base + byte_count);
  }
  pthread_mutex_unlock(&lock);
  return found;
}

int clinux_is_mapping_broken(int guard) { return atomic_load(&guards[guard].is_broken); }

void clinux_unguard_mapping(int guard) { atomic_store(&guards[guard].end, 0); }
