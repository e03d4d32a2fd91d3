// The functions of libc that the shim replaces. Each counts its call, fails or shortens it where it
// is told to, makes the system call itself otherwise, and records what it changed.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "faults.h"

// The old names and the 64-bit ones are the same functions on 64-bit machines.
#define SAME(name, of) extern __typeof__(of) name __attribute__((alias(#of)))

// What a call on `descriptor` is to do; nothing but its work if that is none of the test's files.
static enum fault_action next_on(enum fault_kind kind, int descriptor) {
  if (!fault_is_armed()) return fault_none;
  int saved = errno;
  bool watched = fault_is_descriptor_watched(descriptor);
  errno = saved;
  return watched ? fault_next(kind) : fault_none;
}

static enum fault_action next_at(enum fault_kind kind, int directory, const char *path) {
  if (!fault_is_armed() || !path) return fault_none;
  int saved = errno;
  bool watched = fault_is_path_watched(directory, path);
  errno = saved;
  return watched ? fault_next(kind) : fault_none;
}

static size_t shortened(enum fault_action action, size_t count) {
  return action == fault_short && count > 1 ? count / 2 : count;
}

static bool records(int descriptor) {
  return record_is_on() && descriptor > 2 && fault_is_descriptor_watched(descriptor);
}

static void finish(enum fault_action action) {
  if (action == fault_kill_after) fault_kill();
}

// Reading ----------------------------------------------------------------------------------------

ssize_t read(int descriptor, void *buffer, size_t count) {
  enum fault_action action = next_on(kind_read, descriptor);
  if (action == fault_fail) return -1;
  ssize_t result = syscall(SYS_read, descriptor, buffer, shortened(action, count));
  finish(action);
  return result;
}

ssize_t pread(int descriptor, void *buffer, size_t count, off_t offset) {
  enum fault_action action = next_on(kind_pread, descriptor);
  if (action == fault_fail) return -1;
  ssize_t result = syscall(SYS_pread64, descriptor, buffer, shortened(action, count), offset);
  finish(action);
  return result;
}
SAME(pread64, pread);

// Writing ----------------------------------------------------------------------------------------

ssize_t write(int descriptor, const void *buffer, size_t count) {
  enum fault_action action = next_on(kind_write, descriptor);
  if (action == fault_fail) return -1;
  if (action == fault_zero) return 0;
  bool recorded = records(descriptor);
  record_begin();
  off_t offset = recorded ? syscall(SYS_lseek, descriptor, 0, SEEK_CUR) : 0;
  ssize_t result = syscall(SYS_write, descriptor, buffer, shortened(action, count));
  if (recorded && result > 0)
    record_descriptor(record_write, descriptor, (uint64_t)offset, (uint64_t)result, buffer);
  record_end();
  finish(action);
  return result;
}

ssize_t pwrite(int descriptor, const void *buffer, size_t count, off_t offset) {
  enum fault_action action = next_on(kind_pwrite, descriptor);
  if (action == fault_fail) return -1;
  if (action == fault_zero) return 0;
  bool recorded = records(descriptor);
  record_begin();
  ssize_t result = syscall(SYS_pwrite64, descriptor, buffer, shortened(action, count), offset);
  if (recorded && result > 0)
    record_descriptor(record_write, descriptor, (uint64_t)offset, (uint64_t)result, buffer);
  record_end();
  finish(action);
  return result;
}
SAME(pwrite64, pwrite);

ssize_t writev(int descriptor, const struct iovec *pieces, int count) {
  ssize_t total = 0;
  for (int index = 0; index < count; index++) {
    ssize_t result = write(descriptor, pieces[index].iov_base, pieces[index].iov_len);
    if (result < 0) return total ? total : -1;
    total += result;
    if ((size_t)result < pieces[index].iov_len) break;
  }
  return total;
}

static int sync_by(long number, enum fault_kind kind, int descriptor) {
  enum fault_action action = next_on(kind, descriptor);
  if (action == fault_fail) return -1;
  if (fault_has_no_sync()) return 0;
  bool recorded = records(descriptor);
  record_begin();
  int result = (int)syscall(number, descriptor);
  if (recorded && result == 0) record_descriptor(record_sync, descriptor, 0, 0, NULL);
  record_end();
  finish(action);
  return result;
}

int fsync(int descriptor) { return sync_by(SYS_fsync, kind_fsync, descriptor); }
int fdatasync(int descriptor) { return sync_by(SYS_fdatasync, kind_fdatasync, descriptor); }

int ftruncate(int descriptor, off_t size) {
  enum fault_action action = next_on(kind_ftruncate, descriptor);
  if (action == fault_fail) return -1;
  bool recorded = records(descriptor);
  record_begin();
  int result = (int)syscall(SYS_ftruncate, descriptor, size);
  if (recorded && result == 0)
    record_descriptor(record_truncate, descriptor, (uint64_t)size, 0, NULL);
  record_end();
  finish(action);
  return result;
}
SAME(ftruncate64, ftruncate);

int fallocate(int descriptor, int mode, off_t offset, off_t length) {
  enum fault_action action = next_on(kind_fallocate, descriptor);
  if (action == fault_fail) return -1;
  bool recorded = records(descriptor) && (mode & FALLOC_FL_PUNCH_HOLE);
  record_begin();
  int result = (int)syscall(SYS_fallocate, descriptor, mode, offset, length);
  if (recorded && result == 0)
    record_descriptor(record_punch, descriptor, (uint64_t)offset, (uint64_t)length, NULL);
  record_end();
  finish(action);
  return result;
}
SAME(fallocate64, fallocate);

int posix_fallocate(int descriptor, off_t offset, off_t length) {
  enum fault_action action = next_on(kind_fallocate, descriptor);
  if (action == fault_fail) return errno;
  int result = syscall(SYS_fallocate, descriptor, 0, offset, length) == 0 ? 0 : errno;
  finish(action);
  return result;
}
SAME(posix_fallocate64, posix_fallocate);

// Names ------------------------------------------------------------------------------------------

static int open_by(int directory, const char *path, int flags, mode_t mode) {
  enum fault_action action = next_at(kind_open, directory, path);
  if (action == fault_fail) return -1;
  bool recorded = record_is_on() && (flags & (O_CREAT | O_TRUNC)) &&
                  (flags & O_TMPFILE) != O_TMPFILE && fault_is_path_watched(directory, path);
  record_begin();
  struct stat status;
  bool existed = recorded && fstatat(directory, path, &status, 0) == 0;
  int result = (int)syscall(SYS_openat, directory, path, flags, mode);
  if (recorded && result >= 0) {
    if (!existed) record_names(record_create, result, directory, path, AT_FDCWD, NULL);
    if (existed && (flags & O_TRUNC)) record_descriptor(record_truncate, result, 0, 0, NULL);
  }
  record_end();
  finish(action);
  return result;
}

#define MODE_ARGUMENT(flags)                       \
  mode_t mode = 0;                                 \
  if ((flags) & (O_CREAT | __O_TMPFILE)) {         \
    va_list list;                                  \
    va_start(list, flags);                         \
    mode = va_arg(list, mode_t);                   \
    va_end(list);                                  \
  }

int open(const char *path, int flags, ...) {
  MODE_ARGUMENT(flags)
  return open_by(AT_FDCWD, path, flags, mode);
}
SAME(open64, open);

int openat(int directory, const char *path, int flags, ...) {
  MODE_ARGUMENT(flags)
  return open_by(directory, path, flags, mode);
}
SAME(openat64, openat);

int __open_2(const char *path, int flags) { return open_by(AT_FDCWD, path, flags, 0); }
SAME(__open64_2, __open_2);
int creat(const char *path, mode_t mode) {
  return open_by(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

FILE *fopen64(const char *path, const char *mode) {
  static FILE *(*real)(const char *, const char *);
  if (!real) real = dlsym(RTLD_NEXT, "fopen64");
  return next_at(kind_open, AT_FDCWD, path) == fault_fail ? NULL : real(path, mode);
}
SAME(fopen, fopen64);

static int rename_by(int from_directory, const char *from, int directory, const char *path,
                     unsigned flags) {
  enum fault_action action = next_at(kind_rename, directory, path);
  if (action == fault_fail) return -1;
  bool recorded = record_is_on() && fault_is_path_watched(directory, path);
  record_begin();
  int result = (int)syscall(SYS_renameat2, from_directory, from, directory, path, flags);
  if (recorded && result == 0)
    record_names(record_rename, -1, from_directory, from, directory, path);
  record_end();
  finish(action);
  return result;
}

int rename(const char *from, const char *path) {
  return rename_by(AT_FDCWD, from, AT_FDCWD, path, 0);
}
int renameat(int from_directory, const char *from, int directory, const char *path) {
  return rename_by(from_directory, from, directory, path, 0);
}
int renameat2(int from_directory, const char *from, int directory, const char *path,
              unsigned flags) {
  return rename_by(from_directory, from, directory, path, flags);
}

int linkat(int from_directory, const char *from, int directory, const char *path, int flags) {
  enum fault_action action = next_at(kind_rename, directory, path);
  if (action == fault_fail) return -1;
  bool recorded = record_is_on() && fault_is_path_watched(directory, path);
  record_begin();
  int result = (int)syscall(SYS_linkat, from_directory, from, directory, path, flags);
  if (recorded && result == 0)
    record_names(record_link, -1, from_directory, from, directory, path);
  record_end();
  finish(action);
  return result;
}
int link(const char *from, const char *path) { return linkat(AT_FDCWD, from, AT_FDCWD, path, 0); }

int unlinkat(int directory, const char *path, int flags) {
  enum fault_action action = next_at(kind_unlink, directory, path);
  if (action == fault_fail) return -1;
  bool recorded = record_is_on() && fault_is_path_watched(directory, path);
  record_begin();
  int result = (int)syscall(SYS_unlinkat, directory, path, flags);
  if (recorded && result == 0) record_names(record_unlink, -1, directory, path, AT_FDCWD, NULL);
  record_end();
  finish(action);
  return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

// Locks, memory, threads -------------------------------------------------------------------------

int fcntl(int descriptor, int command, ...) {
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  enum fault_action action = fault_none;
  bool is_own = command == F_OFD_SETLK || command == F_OFD_SETLKW;
  if (is_own || command == F_SETLK || command == F_SETLKW) {
    // That a lock cannot be given back is not something that happens.
    if (((struct flock *)argument)->l_type != F_UNLCK) action = next_on(kind_lock, descriptor);
    if (action == fault_fail) return -1;
    if (is_own && fault_has_no_lock() && fault_is_descriptor_watched(descriptor)) return 0;
  }
  int result = (int)syscall(SYS_fcntl, descriptor, command, argument);
  finish(action);
  return result;
}
SAME(fcntl64, fcntl);

void *mmap(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
  if (fault_next(kind_mmap) == fault_fail) return MAP_FAILED;
  return (void *)syscall(SYS_mmap, address, length, protection, flags, descriptor, offset);
}
SAME(mmap64, mmap);

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument) {
  static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  if (!real) real = dlsym(RTLD_NEXT, "pthread_create");
  if (fault_next(kind_thread) == fault_fail) return errno;
  return real(thread, attributes, start, argument);
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t count) {
  return fault_next(kind_malloc) == fault_fail ? NULL : __libc_malloc(count);
}
void *calloc(size_t count, size_t size) {
  return fault_next(kind_malloc) == fault_fail ? NULL : __libc_calloc(count, size);
}
void *realloc(void *block, size_t count) {
  return fault_next(kind_malloc) == fault_fail ? NULL : __libc_realloc(block, count);
}
void *aligned_alloc(size_t alignment, size_t count) {
  return fault_next(kind_malloc) == fault_fail ? NULL : __libc_memalign(alignment, count);
}
SAME(memalign, aligned_alloc);
int posix_memalign(void **block, size_t alignment, size_t count) {
  if (fault_next(kind_malloc) == fault_fail) return ENOMEM;
  void *made = __libc_memalign(alignment, count);
  if (!made) return ENOMEM;
  *block = made;
  return 0;
}

// Pipes, processes, sockets ----------------------------------------------------------------------

int pipe2(int ends[2], int flags) {
  if (fault_next(kind_pipe) == fault_fail) return -1;
  return (int)syscall(SYS_pipe2, ends, flags);
}
int pipe(int ends[2]) { return pipe2(ends, 0); }

typedef int spawner(pid_t *, const char *, const posix_spawn_file_actions_t *,
                    const posix_spawnattr_t *, char *const *, char *const *);

int posix_spawn(pid_t *child, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const *arguments,
                char *const *environment) {
  static spawner *real;
  if (!real) real = (spawner *)dlsym(RTLD_NEXT, "posix_spawn");
  if (fault_next(kind_spawn) == fault_fail) return errno;
  return real(child, path, actions, attributes, arguments, environment);
}

int posix_spawnp(pid_t *child, const char *path, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const *arguments,
                 char *const *environment) {
  static spawner *real;
  if (!real) real = (spawner *)dlsym(RTLD_NEXT, "posix_spawnp");
  if (fault_next(kind_spawn) == fault_fail) return errno;
  return real(child, path, actions, attributes, arguments, environment);
}

int socket(int domain, int type, int protocol) {
  if (fault_next(kind_socket) == fault_fail) return -1;
  return (int)syscall(SYS_socket, domain, type, protocol);
}

int socketpair(int domain, int type, int protocol, int ends[2]) {
  if (fault_next(kind_socket) == fault_fail) return -1;
  return (int)syscall(SYS_socketpair, domain, type, protocol, ends);
}

int bind(int descriptor, const struct sockaddr *address, socklen_t length) {
  if (fault_next(kind_socket) == fault_fail) return -1;
  return (int)syscall(SYS_bind, descriptor, address, length);
}

int listen(int descriptor, int backlog) {
  if (fault_next(kind_socket) == fault_fail) return -1;
  return (int)syscall(SYS_listen, descriptor, backlog);
}

int connect(int descriptor, const struct sockaddr *address, socklen_t length) {
  if (fault_next(kind_socket) == fault_fail) return -1;
  return (int)syscall(SYS_connect, descriptor, address, length);
}

int accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags) {
  if (fault_next(kind_socket) == fault_fail) return -1;
  return (int)syscall(SYS_accept4, descriptor, address, length, flags);
}
int accept(int descriptor, struct sockaddr *address, socklen_t *length) {
  return accept4(descriptor, address, length, 0);
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags) {
  if (fault_next(kind_message) == fault_fail) return -1;
  return syscall(SYS_sendmsg, descriptor, message, flags);
}

ssize_t recvmsg(int descriptor, struct msghdr *message, int flags) {
  if (fault_next(kind_message) == fault_fail) return -1;
  return syscall(SYS_recvmsg, descriptor, message, flags);
}

ssize_t send(int descriptor, const void *buffer, size_t count, int flags) {
  if (fault_next(kind_message) == fault_fail) return -1;
  return syscall(SYS_sendto, descriptor, buffer, count, flags, NULL, 0);
}

ssize_t recv(int descriptor, void *buffer, size_t count, int flags) {
  if (fault_next(kind_message) == fault_fail) return -1;
  return syscall(SYS_recvfrom, descriptor, buffer, count, flags, NULL, NULL);
}
