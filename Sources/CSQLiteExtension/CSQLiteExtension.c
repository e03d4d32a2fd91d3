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

/* XXH32, as the xxHash specification describes it. */
static const uint32_t prime1 = 0x9e3779b1, prime2 = 0x85ebca77, prime3 = 0xc2b2ae3d,
                      prime4 = 0x27d4eb2f, prime5 = 0x165667b1;

static inline uint32_t rotate(uint32_t value, int count) {
  return value << count | value >> (32 - count);
}

static inline uint32_t load_little_endian(const unsigned char *bytes) {
  uint32_t value;
  memcpy(&value, bytes, sizeof value);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  value = __builtin_bswap32(value);
#endif
  return value;
}

static inline uint32_t mix(uint32_t lane, const unsigned char *bytes) {
  return rotate(lane + load_little_endian(bytes) * prime2, 13) * prime1;
}

uint32_t vmx_xxh32(const void *bytes, size_t count) {
  const unsigned char *next = bytes, *end = next + count;
  uint32_t hash = prime5;
  if (count >= 16) {
    uint32_t a = prime1 + prime2, b = prime2, c = 0, d = 0 - prime1;
    for (; end - next >= 16; next += 16) {
      a = mix(a, next);
      b = mix(b, next + 4);
      c = mix(c, next + 8);
      d = mix(d, next + 12);
    }
    hash = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
  }
  hash += (uint32_t)count;
  for (; end - next >= 4; next += 4)
    hash = rotate(hash + load_little_endian(next) * prime3, 17) * prime4;
  for (; next < end; next++) hash = rotate(hash + *next * prime5, 11) * prime1;
  hash = (hash ^ hash >> 15) * prime2;
  hash = (hash ^ hash >> 13) * prime3;
  return hash ^ hash >> 16;
}
