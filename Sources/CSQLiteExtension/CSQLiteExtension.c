#define _GNU_SOURCE
#include "CSQLiteExtension.h"

#include <string.h>

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

long vmx_count_different(const void *a, const void *b, size_t count) {
  const unsigned char *left = a, *right = b;
  long different = 0;
  for (size_t index = 0; index < count; index++) different += left[index] != right[index];
  return different;
}
