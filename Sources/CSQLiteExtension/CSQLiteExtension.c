#define _GNU_SOURCE
#include "CSQLiteExtension.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

SQLITE_EXTENSION_INIT1

int vmx_initialize(const sqlite3_api_routines *api) {
  /* 3.37 has STRICT tables, without which a store cannot be read; the newest entry of the table
   * that is used here is older than that. */
  if (api->libversion_number() < 3037000) return SQLITE_ERROR;
  SQLITE_EXTENSION_INIT2(api);
  return SQLITE_OK;
}

const void *vmx_find(const void *bytes, size_t count, const void *pattern, size_t pattern_count) {
  return memmem(bytes, count, pattern, pattern_count);
}

/* 16 bytes at once, whatever the processor has for that. */
typedef uint8_t bytes16 __attribute__((vector_size(16)));

static inline bytes16 load16(const unsigned char *bytes) {
  bytes16 vector;
  memcpy(&vector, bytes, sizeof vector);
  return vector;
}

long vmx_count_different(const void *a, const void *b, size_t count) {
  const unsigned char *left = a, *right = b;
  long different = 0;
  size_t index = 0;
  while (count - index >= sizeof(bytes16)) {
    /* A comparison gives 0 or 255, which is -1; a counter of 8 bits holds 255 of them. */
    bytes16 counters = {0};
    for (int round = 0; round < 255 && count - index >= sizeof(bytes16); round++) {
      counters -= (bytes16)(load16(left + index) != load16(right + index));
      index += sizeof(bytes16);
    }
    for (size_t lane = 0; lane < sizeof(bytes16); lane++) different += counters[lane];
  }
  for (; index < count; index++) different += left[index] != right[index];
  return different;
}

static inline int is_printable(unsigned character) {
  return character - 0x20 < 0x5f || character == 0x09;
}

void vmx_printable_bytes(const void *bytes, size_t count, uint64_t *bits) {
  const unsigned char *text = bytes;
  size_t index = 0;
#ifdef __SSE2__
  const __m128i shift = _mm_set1_epi8(0x60), limit = _mm_set1_epi8(-128 + 0x5f);
  const __m128i tab = _mm_set1_epi8(0x09);
  for (; count - index >= 64; index += 64) {
    uint64_t word = 0;
    for (int part = 0; part < 4; part++) {
      __m128i vector = _mm_loadu_si128((const __m128i *)(text + index + 16 * part));
      /* Comparisons have signs: what is printable moves to the smallest numbers. */
      __m128i is = _mm_or_si128(_mm_cmplt_epi8(_mm_add_epi8(vector, shift), limit),
                                _mm_cmpeq_epi8(vector, tab));
      word |= (uint64_t)(uint16_t)_mm_movemask_epi8(is) << (16 * part);
    }
    *bits++ = word;
  }
#endif
  while (index < count) {
    uint64_t word = 0;
    for (int bit = 0; bit < 64 && index < count; bit++, index++)
      word |= (uint64_t)is_printable(text[index]) << bit;
    *bits++ = word;
  }
}

void vmx_printable_units(const void *bytes, size_t count, uint64_t *bits) {
  const unsigned char *text = bytes;
  size_t index = 0;
#ifdef __SSE2__
  const __m128i shift = _mm_set1_epi16(0x7fe0), limit = _mm_set1_epi16(-32768 + 0x5f);
  const __m128i tab = _mm_set1_epi16(0x09);
  for (; count - index >= 64; index += 64) {
    uint64_t word = 0;
    for (int part = 0; part < 4; part++) {
      __m128i is[2];
      for (int half = 0; half < 2; half++) {
        __m128i vector = _mm_loadu_si128(
            (const __m128i *)(text + 2 * (index + 16 * part + 8 * half)));
        is[half] = _mm_or_si128(_mm_cmplt_epi16(_mm_add_epi16(vector, shift), limit),
                                _mm_cmpeq_epi16(vector, tab));
      }
      word |= (uint64_t)(uint16_t)_mm_movemask_epi8(_mm_packs_epi16(is[0], is[1]))
              << (16 * part);
    }
    *bits++ = word;
  }
#endif
  while (index < count) {
    uint64_t word = 0;
    for (int bit = 0; bit < 64 && index < count; bit++, index++)
      word |= (uint64_t)is_printable(text[2 * index] | (unsigned)text[2 * index + 1] << 8) << bit;
    *bits++ = word;
  }
}
