#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * The public structures of zlib, libbz2, liblzma and libzstd, which are loaded when they are first needed:
 * building needs none of their headers. Their sizes and members are part of the libraries' ABIs.
 *
 * Sources: zlib.h 1.2.13, bzlib.h 1.0.8, lzma/base.h 5.4.1, zstd.h 1.5.4.
 */

/* z_stream */
struct cdec_zlib_stream {
  const uint8_t *next_in;
  unsigned avail_in;
  unsigned long total_in;
  uint8_t *next_out;
  unsigned avail_out;
  unsigned long total_out;
  const char *msg;
  void *state;
  void *zalloc;
  void *zfree;
  void *opaque;
  int data_type;
  unsigned long adler;
  unsigned long reserved;
};

/* bz_stream */
struct cdec_bzip2_stream {
  const char *next_in;
  unsigned avail_in;
  unsigned total_in_lo32;
  unsigned total_in_hi32;
  char *next_out;
  unsigned avail_out;
  unsigned total_out_lo32;
  unsigned total_out_hi32;
  void *state;
  void *bzalloc;
  void *bzfree;
  void *opaque;
};

/* lzma_stream */
struct cdec_lzma_stream {
  const uint8_t *next_in;
  size_t avail_in;
  uint64_t total_in;
  uint8_t *next_out;
  size_t avail_out;
  uint64_t total_out;
  const void *allocator;
  void *internal;
  void *reserved_ptr[4];
  uint64_t seek_pos;
  uint64_t reserved_int2;
  size_t reserved_int3;
  size_t reserved_int4;
  int reserved_enum1;
  int reserved_enum2;
};

/* ZSTD_inBuffer and ZSTD_outBuffer */
struct cdec_zstd_input {
  const void *src;
  size_t size;
  size_t pos;
};
struct cdec_zstd_output {
  void *dst;
  size_t size;
  size_t pos;
};
