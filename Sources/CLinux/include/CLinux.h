#pragma once

#include <stdint.h>
#include <sys/types.h>

/*
 * What glibc declares only with _GNU_SOURCE, which Swift's Glibc module is built without.
 */

/* SEEK_DATA of <unistd.h>: the next offset that is in no hole of a file. */
extern const int clinux_seek_data;

/* SEEK_HOLE of <unistd.h>: the next offset that is in a hole of a file, or its end. */
extern const int clinux_seek_hole;

/* F_OFD_SETLK of <fcntl.h>: locks that belong to an open file and not to a process. */
extern const int clinux_f_ofd_setlk;

/* F_OFD_GETLK of <fcntl.h>: whether such a lock could be had. */
extern const int clinux_f_ofd_getlk;

/* O_TMPFILE of <fcntl.h>: a file without a name. */
extern const int clinux_o_tmpfile;

/* POSIX_SPAWN_SETSID of <spawn.h>: the new process begins a session of its own. */
extern const int clinux_posix_spawn_setsid;

/* pipe2(2) with O_CLOEXEC: no other process that is started meanwhile gets the ends. */
int clinux_pipe(int ends[2]);

/* memmem(3): where `wanted` is first in `bytes`; NULL: nowhere. */
const void *clinux_find(const void *bytes, size_t byte_count, const void *wanted, size_t wanted_byte_count);

/* memfd_create(2) with MFD_CLOEXEC of <sys/mman.h>: an empty file in memory. Its descriptor, or -1 and errno. */
int clinux_memory_file(const char *name);

/* fallocate(2) with FALLOC_FL_PUNCH_HOLE: bytes of a file become a hole. 0, or -1 and errno. */
int clinux_punch_hole(int fd, uint64_t offset, uint64_t byte_count);

/* fallocate(2) with FALLOC_FL_KEEP_SIZE: the file system keeps so many bytes for a file, whose size does not
   change. 0, or -1 and errno. */
int clinux_reserve(int fd, uint64_t byte_count);

/* The number of processors in this process's affinity mask, as containers set it; 0 if unknown. */
int clinux_available_processor_count(void);

/* sendmsg(2) with a descriptor in SCM_RIGHTS, whose macros Swift cannot use; none when fd is -1.
   Without SIGPIPE. Bytes sent, or -1 and errno. */
ssize_t clinux_send_with_fd(int socket, const void *bytes, size_t byte_count, int fd);

/* recvmsg(2) with the descriptors in SCM_RIGHTS, which are close-on-exec here: at most `capacity`, and their
   number in `*count`. With `peeks` the message stays where it is, and the descriptors are duplicates. Does
   not wait. Bytes received, or -1 and errno. */
ssize_t clinux_receive_with_fds(int socket, void *bytes, size_t byte_count, int peeks, int *fds,
                                int capacity, int *count);

/* The process at the other end of a connected Unix socket, by SO_PEERCRED; 0 if unknown. */
pid_t clinux_peer_pid(int socket);

/* renameat2 of <stdio.h> with RENAME_NOREPLACE: renames unless there is a file of the new name. */
int clinux_rename_noreplace(const char *from, const char *to);

/* sync_file_range of <fcntl.h>: lets the kernel begin to write all that is dirty of a file, and does
 * not wait for it. A hint: nothing is on disk for sure before an fsync. */
void clinux_start_writeback(int fd);

/* F_SETPIPE_SZ of <fcntl.h>: lets a pipe hold 256 KiB, so that the processes at its ends wait for each
 * other less often. Does nothing if `fd` is not a pipe, or the user's pipes hold too much already. */
void clinux_widen_pipe(int fd);

/* statx of <sys/stat.h> with STATX_ATTR_MOUNT_ROOT: 1 when something is mounted at this very path, 0
 * when not, when there is no such file, or when the kernel does not say. Does not follow links. */
int clinux_is_mount_root(const char *path);

/* statfs of <sys/vfs.h>, which Swift's Glibc module leaves out: 1 when `path` is in /proc. */
int clinux_is_in_proc(const char *path);

/* The same: the type of the file system that `path` is in; -1 when that cannot be found out. */
int64_t clinux_file_system_type(const char *path);

/* The same, of an open file; -1 when that cannot be found out. */
int64_t clinux_open_file_system_type(int fd);

/*
 * Mapped files that others may cut or damage. Where a page of such a mapping cannot be read, the kernel sends
 * SIGBUS, whose default is the end of the process. A mapping that is guarded gets a page of zeros there instead,
 * and is known to be broken from then on: what was read of it is worth nothing. SIGBUS for any other reason does
 * what it did before.
 */

/* How many mappings can be guarded at once. */
extern const int clinux_guard_capacity;

/* Guards `byte_count` bytes at `base`, both whole pages. The guard's number; -1 when there are too many. */
int clinux_guard_mapping(void *base, size_t byte_count);

/* Whether a page of the mapping could not be read. */
int clinux_is_mapping_broken(int guard);

/* Ends the guard. Before the mapping is undone, and when no thread reads it any more. */
void clinux_unguard_mapping(int guard);

/* The arguments of this process as glibc was started with them, and one of them: without /proc, which
 * Swift's CommandLine reads. */
int clinux_argument_count(void);
const char *clinux_argument(int index);

/*
 * userfaultfd (Linux, Documentation/admin-guide/mm/userfaultfd.rst): a system call without a function in
 * glibc, and ioctls whose numbers are macros that compute. Each gives 0, or -1 and errno.
 */

/* A new one, close-on-exec and non-blocking, by the system call or else by /dev/userfaultfd, for kernels
   from 6.1 on where the call is refused. Its descriptor, or -1 and errno. */
int clinux_userfaultfd(void);

/* UFFD_FEATURE_EVENT_REMOVE: madvise(2) that drops pages is an event. */
extern const uint64_t clinux_uffd_feature_remove;

/* UFFDIO_API: has to be the first. */
int clinux_uffd_begin(int fd, uint64_t features);

/* UFFDIO_REGISTER for missing pages, and UFFDIO_UNREGISTER. */
int clinux_uffd_register(int fd, uint64_t address, uint64_t byte_count);
int clinux_uffd_unregister(int fd, uint64_t address, uint64_t byte_count);

/* UFFDIO_COPY, UFFDIO_ZEROPAGE and UFFDIO_POISON: put pages where there are none, and wake who waits for
   them. `*done`: the bytes that were done before an error, or the error as a negative number. */
int clinux_uffd_copy(int fd, uint64_t address, const void *from, uint64_t byte_count, int64_t *done);
int clinux_uffd_zero(int fd, uint64_t address, uint64_t byte_count, int64_t *done);
int clinux_uffd_poison(int fd, uint64_t address, uint64_t byte_count, int64_t *done);

/* UFFDIO_WAKE: who waits for these pages looks again. */
int clinux_uffd_wake(int fd, uint64_t address, uint64_t byte_count);

/* mount(2) of a FUSE file system whose requests are read from `fd`, which is /dev/fuse; and umount2(2), which
   lets who has files open go on with `lazy`. 0, or -1 and errno. */
int clinux_mount_fuse(const char *directory, int fd, uint32_t user, uint32_t group, int allow_other);
int clinux_unmount(const char *directory, int lazy);

/* mallopt(3), which Glibc's Swift module lacks: all threads allocate from one arena. Each arena keeps what its
   threads have freed. */
void clinux_use_one_arena(void);

/* syslog(3), whose arguments vary: a warning in the system's log. */
void clinux_log_warning(const char *message);
