#pragma once

#include <stdint.h>

/*
 * What glibc declares only with _GNU_SOURCE, which Swift's Glibc module is built without.
 */

/* SEEK_DATA of <unistd.h>: the next offset that is in no hole of a file. */
extern const int clinux_seek_data;

/* F_OFD_SETLK of <fcntl.h>: locks that belong to an open file and not to a process. */
extern const int clinux_f_ofd_setlk;

/* O_TMPFILE of <fcntl.h>: a file without a name. */
extern const int clinux_o_tmpfile;

/* fallocate(2) with FALLOC_FL_PUNCH_HOLE: bytes of a file become a hole. 0, or -1 and errno. */
int clinux_punch_hole(int fd, uint64_t offset, uint64_t byte_count);

/* The number of processors in this process's affinity mask, as containers set it; 0 if unknown. */
int clinux_available_processor_count(void);

/* renameat2 of <stdio.h> with RENAME_NOREPLACE: renames unless there is a file of the new name. */
int clinux_rename_noreplace(const char *from, const char *to);

/* sync_file_range of <fcntl.h>: lets the kernel begin to write all that is dirty of a file, and does
 * not wait for it. A hint: nothing is on disk for sure before an fsync. */
void clinux_start_writeback(int fd);
