#define _GNU_SOURCE
#include "CLinux.h"

#include <malloc.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <syslog.h>
#include <unistd.h>

const int clinux_seek_data = SEEK_DATA;
const int clinux_seek_hole = SEEK_HOLE;
const int clinux_f_ofd_setlk = F_OFD_SETLK;
const int clinux_f_ofd_getlk = F_OFD_GETLK;

const int clinux_o_tmpfile = O_TMPFILE;
const int clinux_posix_spawn_setsid = POSIX_SPAWN_SETSID;

int clinux_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

const void *clinux_find(const void *bytes, size_t byte_count, const void *wanted, size_t wanted_byte_count) {
  return memmem(bytes, byte_count, wanted, wanted_byte_count);
}

int clinux_memory_file(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

int clinux_punch_hole(int fd, uint64_t offset, uint64_t byte_count) {
  return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                   (off_t)byte_count);
}

int clinux_reserve(int fd, uint64_t byte_count) {
  return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)byte_count);
}

int clinux_available_processor_count(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
}

ssize_t clinux_send_with_fd(int socket, const void *bytes, size_t byte_count, int fd) {
  struct iovec piece = {(void *)bytes, byte_count};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
  if (fd >= 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = control.space;
    message.msg_controllen = sizeof control.space;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL);
}

ssize_t clinux_receive_with_fds(int socket, void *bytes, size_t byte_count, int peeks, int *fds,
                                int capacity, int *count) {
  enum { most = 16 };
  struct iovec piece = {bytes, byte_count};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(most * sizeof(int))];
  } control;
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.space};
  message.msg_controllen = CMSG_SPACE((capacity < most ? capacity : most) * sizeof(int));
  *count = 0;
  int flags = MSG_CMSG_CLOEXEC | MSG_DONTWAIT | (peeks ? MSG_PEEK : 0);
  ssize_t result = recvmsg(socket, &message, flags);
  if (result < 0) return result;
  for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    size_t number = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < number; index++) {
      int fd;
      memcpy(&fd, CMSG_DATA(each) + index * sizeof fd, sizeof fd);
      /* The padding of CMSG_SPACE may have room for one more than was asked for. */
      if (*count < capacity) fds[(*count)++] = fd;
      else close(fd);
    }
  }
  return result;
}

pid_t clinux_peer_pid(int socket) {
  struct ucred peer;
  socklen_t byte_count = sizeof peer;
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &byte_count) == 0 ? peer.pid : 0;
}

int clinux_rename_noreplace(const char *from, const char *to) {
  return renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
}

void clinux_start_writeback(int fd) { (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); }

void clinux_widen_pipe(int fd) {
  enum { byte_count = 256 << 10 };
  if (fcntl(fd, F_GETPIPE_SZ) < byte_count) (void)fcntl(fd, F_SETPIPE_SZ, byte_count);
}

int clinux_is_mount_root(const char *path) {
#ifdef STATX_ATTR_MOUNT_ROOT
  struct statx status;
  if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0, &status) != 0) return 0;
  return (status.stx_attributes & status.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0;
#else
  (void)path;
  return 0;
#endif
}

int clinux_is_in_proc(const char *path) {
  struct statfs status;
  return statfs(path, &status) == 0 && status.f_type == PROC_SUPER_MAGIC;
}

int64_t clinux_file_system_type(const char *path) {
  struct statfs status;
  return statfs(path, &status) == 0 ? (int64_t)status.f_type : -1;
}

int64_t clinux_open_file_system_type(int fd) {
  struct statfs status;
  return fstatfs(fd, &status) == 0 ? (int64_t)status.f_type : -1;
}

static int argument_count;
static char **argument_values;

/* glibc calls the functions of .init_array with main's parameters. */
__attribute__((constructor)) static void keep_arguments(int count, char **values) {
  argument_count = count;
  argument_values = values;
}

int clinux_argument_count(void) { return argument_count; }

const char *clinux_argument(int index) { return argument_values[index]; }

/* Linux 6.6; older headers lack it. */
#ifndef UFFDIO_POISON
struct uffdio_poison {
  struct uffdio_range range;
  __u64 mode;
  __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

const uint64_t clinux_uffd_feature_remove = UFFD_FEATURE_EVENT_REMOVE;

int clinux_userfaultfd(void) {
  int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (fd >= 0) return fd;
  int refusal = errno;
  int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device >= 0) {
    fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    close(device);
  }
  if (fd < 0) errno = refusal;
  return fd;
}

int clinux_uffd_begin(int fd, uint64_t features) {
  struct uffdio_api request = {.api = UFFD_API, .features = features};
  return ioctl(fd, UFFDIO_API, &request);
}

int clinux_uffd_register(int fd, uint64_t address, uint64_t byte_count) {
  struct uffdio_register request = {.range = {address, byte_count},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
  return ioctl(fd, UFFDIO_REGISTER, &request);
}

int clinux_uffd_unregister(int fd, uint64_t address, uint64_t byte_count) {
  struct uffdio_range range = {address, byte_count};
  return ioctl(fd, UFFDIO_UNREGISTER, &range);
}

int clinux_uffd_copy(int fd, uint64_t address, const void *from, uint64_t byte_count,
                     int64_t *done) {
  struct uffdio_copy request = {.dst = address, .src = (uintptr_t)from, .len = byte_count};
  int result = ioctl(fd, UFFDIO_COPY, &request);
  *done = request.copy;
  return result;
}

int clinux_uffd_zero(int fd, uint64_t address, uint64_t byte_count, int64_t *done) {
  struct uffdio_zeropage request = {.range = {address, byte_count}};
  int result = ioctl(fd, UFFDIO_ZEROPAGE, &request);
  *done = request.zeropage;
  return result;
}

int clinux_uffd_poison(int fd, uint64_t address, uint64_t byte_count, int64_t *done) {
  struct uffdio_poison request = {.range = {address, byte_count}};
  int result = ioctl(fd, UFFDIO_POISON, &request);
  *done = request.updated;
  return result;
}

int clinux_uffd_wake(int fd, uint64_t address, uint64_t byte_count) {
  struct uffdio_range range = {address, byte_count};
  return ioctl(fd, UFFDIO_WAKE, &range);
}

int clinux_mount_fuse(const char *directory, int fd, uint32_t user, uint32_t group,
                      int allow_other) {
  char options[160];
  snprintf(options, sizeof options,
           "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s", fd, user, group,
           allow_other ? ",allow_other" : "");
  return mount("vmckpt", directory, "fuse.vmckpt", MS_NODEV | MS_NOSUID, options);
}

int clinux_unmount(const char *directory, int lazy) {
  return umount2(directory, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0));
}

void clinux_log_warning(const char *message) {
  syslog(LOG_DAEMON | LOG_WARNING, "vmckpt: %s", message);
}

void clinux_use_one_arena(void) { mallopt(M_ARENA_MAX, 1); }
