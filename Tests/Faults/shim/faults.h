// What the parts of the preloaded shim share. See faults.c for the variables that control it.
#ifndef VMCKPT_FAULTS_H
#define VMCKPT_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// The kinds of calls, in the order of the report's counters and of KINDS in harness/shim.py.
enum fault_kind {
  kind_read,
  kind_pread,
  kind_write,
  kind_pwrite,
  kind_fsync,
  kind_fdatasync,
  kind_ftruncate,
  kind_rename,
  kind_unlink,
  kind_open,
  kind_mmap,
  kind_fallocate,
  kind_lock,
  kind_thread,
  kind_malloc,
  kind_pipe,
  kind_spawn,
  kind_socket,   // made, bound, connected, taken
  kind_message,  // sent or received by a call for sockets
  kind_io,       // all up to lock but mmap, counted together: for kills
  kind_count
};

// What a call is to do. `fault_fail` has set errno.
enum fault_action { fault_none, fault_fail, fault_short, fault_zero, fault_kill_after };

// Counts a call of `kind` and says what is to become of it. Does not return where the process is
// to be killed before the call.
enum fault_action fault_next(enum fault_kind kind);

// Ends the process as `kill -9` does.
void fault_kill(void);

// Whether main has begun.
bool fault_is_armed(void);

// Whether `path`, relative to `directory`, or what `descriptor` is open on, is in the work folder.
bool fault_is_path_watched(int directory, const char *path);
bool fault_is_descriptor_watched(int descriptor);

// Whether fsync and fdatasync do nothing, and whether locks of open file descriptions do nothing.
bool fault_has_no_sync(void);
bool fault_has_no_lock(void);

// The recorder: every change of a watched file, with its data, in the order in which it was made.
// `record_begin` takes the lock that keeps call and record together.
enum record_type {
  record_write = 1,
  record_truncate = 2,
  record_sync = 3,
  record_create = 4,
  record_rename = 5,
  record_link = 6,
  record_unlink = 7,
  record_mark = 8,  // written by the driver only
  record_punch = 9
};

void record_open_log(const char *path);
void record_begin(void);
void record_end(void);
bool record_is_on(void);
void record_descriptor(enum record_type type, int descriptor, uint64_t offset, uint64_t length,
                       const void *data);
void record_names(enum record_type type, int descriptor, int directory, const char *path,
                  int other_directory, const char *other_path);

#endif
