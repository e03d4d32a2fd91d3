// Logs what a process changes in watched files, for the replayer of power losses (powerloss.py).
//
// A record is six 64-bit numbers (type, inode, offset, length, bytes of the first and of the second
// path), the two paths, and for a write its data. Each is appended by one call, so that processes
// that run after one another, and the driver's own marks, share a log.
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "faults.h"

static int log_descriptor = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void record_open_log(const char *path) {
  int opened = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT, 0600);
  if (opened < 0) return;
  // Out of the way of low descriptors, whose numbers the program may care about.
  log_descriptor = (int)syscall(SYS_fcntl, opened, F_DUPFD_CLOEXEC, 500);
  syscall(SYS_close, opened);
}

bool record_is_on(void) { return log_descriptor >= 0 && fault_is_armed(); }

void record_begin(void) {
  if (log_descriptor >= 0) pthread_mutex_lock(&mutex);
}

void record_end(void) {
  if (log_descriptor >= 0) pthread_mutex_unlock(&mutex);
}

static void append(enum record_type type, uint64_t inode, uint64_t offset, uint64_t length,
                   const char *path, const char *other_path, const void *data) {
  uint64_t head[6] = {type, inode, offset, length, strlen(path), strlen(other_path)};
  struct iovec pieces[4] = {{head, sizeof head},
                            {(void *)path, strlen(path)},
                            {(void *)other_path, strlen(other_path)},
                            {(void *)data, data ? length : 0}};
  (void)!syscall(SYS_writev, log_descriptor, pieces, 4);
}

static uint64_t inode_of(int descriptor) {
  struct stat status;
  return fstat(descriptor, &status) == 0 ? status.st_ino : 0;
}

void record_descriptor(enum record_type type, int descriptor, uint64_t offset, uint64_t length,
                       const void *data) {
  append(type, inode_of(descriptor), offset, length, "", "", data);
}

// Writes the absolute form of `path` to `buffer`.
static void make_absolute(char *buffer, int directory, const char *path) {
  buffer[0] = 0;
  if (path[0] == '/') {
    strncat(buffer, path, PATH_MAX - 1);
    return;
  }
  long count = 0;
  if (directory == AT_FDCWD) {
    if (getcwd(buffer, PATH_MAX)) count = (long)strlen(buffer);
  } else {
    char link[] = "/proc/self/fd/0000000000";
    char *digit = link + sizeof link - 2;
    for (int value = directory; digit > link + 13; value /= 10) *digit-- = (char)('0' + value % 10);
    // Leading zeros are not names there.
    char name[32] = "/proc/self/fd/";
    const char *number = link + 14;
    while (*number == '0' && number[1]) number++;
    strcat(name, number);
    count = syscall(SYS_readlinkat, AT_FDCWD, name, buffer, PATH_MAX - 1);
    if (count < 0) count = 0;
  }
  buffer[count] = 0;
  if ((size_t)count + strlen(path) + 2 < PATH_MAX) {
    strcat(buffer, "/");
    strcat(buffer, path);
  }
}

void record_names(enum record_type type, int descriptor, int directory, const char *path,
                  int other_directory, const char *other_path) {
  char first[PATH_MAX], second[PATH_MAX];
  make_absolute(first, directory, path);
  second[0] = 0;
  if (other_path) make_absolute(second, other_directory, other_path);
  uint64_t inode = 0;
  struct stat status;
  if (descriptor >= 0) {
    inode = inode_of(descriptor);
  } else if (stat(other_path ? second : first, &status) == 0) {
    inode = status.st_ino;
  }
  append(type, inode, 0, 0, first, second, NULL);
}
