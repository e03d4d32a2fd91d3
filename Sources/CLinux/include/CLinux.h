#pragma once

/*
 * What glibc declares only with _GNU_SOURCE, which Swift's Glibc module is built without.
 */

/* SEEK_DATA of <unistd.h>: the next offset that is in no hole of a file. */
extern const int clinux_seek_data;

/* F_OFD_SETLK of <fcntl.h>: locks that belong to an open file and not to a process. */
extern const int clinux_f_ofd_setlk;

/* The number of processors in this process's affinity mask, as containers set it; 0 if unknown. */
int clinux_available_processor_count(void);

/* sync_file_range of <fcntl.h>: lets the kernel begin to write all that is dirty of a file, and does
 * not wait for it. A hint: nothing is on disk for sure before an fsync. */
void clinux_start_writeback(int fd);
