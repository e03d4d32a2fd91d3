#include "ccurl.h"

typedef int (*setopt_function)(void *, int, ...);

int ccurl_set_long(void *setopt, void *handle, int option, long value) {
  return ((setopt_function)setopt)(handle, option, value);
}

int ccurl_set_offset(void *setopt, void *handle, int option, int64_t value) {
  return ((setopt_function)setopt)(handle, option, value);
}

int ccurl_set_pointer(void *setopt, void *handle, int option, const void *value) {
  return ((setopt_function)setopt)(handle, option, value);
}
