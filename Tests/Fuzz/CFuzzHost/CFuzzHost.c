#include "CFuzzHost.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In Swift; its last argument is SQLite's routine table. */
int vmckpt_fuzz_extension_init(sqlite3 *, char **, const void *);

static void fail(const char *what, sqlite3 *database) {
  fprintf(stderr, "==fuzz== %s: %s\n", what, database ? sqlite3_errmsg(database) : "");
  abort();
}

int fuzz_load_extension(void) {
  return sqlite3_auto_extension((void (*)(void))vmckpt_fuzz_extension_init);
}

void *fuzz_open(const uint8_t *image, size_t count) {
  sqlite3 *database = 0;
  if (sqlite3_open_v2(":memory:", &database, SQLITE_OPEN_READWRITE, 0) != SQLITE_OK)
    fail("cannot open a database", database);
  if (!image) return database;
  unsigned char *copy = sqlite3_malloc64(count ? count : 1);
  if (!copy) fail("no memory for a database", 0);
  memcpy(copy, image, count);
  int flags = SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE;
  if (sqlite3_deserialize(database, "main", copy, count, count, flags) != SQLITE_OK) {
    sqlite3_close(database);
    return 0;
  }
  return database;
}

uint8_t *fuzz_image(void *database, size_t *count) {
  sqlite3_int64 byte_count = 0;
  uint8_t *image = sqlite3_serialize(database, "main", &byte_count, 0);
  *count = (size_t)byte_count;
  return image;
}

void fuzz_free(void *memory) { sqlite3_free(memory); }

void fuzz_close(void *database) {
  if (sqlite3_close(database) != SQLITE_OK) fail("a statement was left open", database);
}

typedef struct {
  size_t steps_left;
  int has_interrupted;
} fuzz_budget;

enum { instructions_per_step = 1000 };

static int spend(void *context) {
  fuzz_budget *budget = context;
  if (budget->steps_left) {
    budget->steps_left--;
    return 0;
  }
  budget->has_interrupted = 1;
  return 1;
}

static void bind(sqlite3_stmt *statement, const fuzz_value *values, size_t count) {
  for (int index = 1; index <= (int)count; index++) {
    const fuzz_value *value = &values[index - 1];
    switch (value->type) {
      case SQLITE_INTEGER: sqlite3_bind_int64(statement, index, value->integer); break;
      case SQLITE_FLOAT: sqlite3_bind_double(statement, index, value->real); break;
      case SQLITE_TEXT:
        sqlite3_bind_text64(statement, index, (const char *)value->bytes, value->byte_count,
                            SQLITE_TRANSIENT, SQLITE_UTF8);
        break;
      case SQLITE_BLOB:
        sqlite3_bind_blob64(statement, index, value->bytes, value->byte_count, SQLITE_TRANSIENT);
        break;
      default: sqlite3_bind_null(statement, index);
    }
  }
}

/* Reads all bytes of the row, so that a result that lies about its length is found. */
static unsigned read_row(sqlite3_stmt *statement) {
  unsigned sum = 0;
  for (int column = 0; column < sqlite3_column_count(statement); column++) {
    const unsigned char *bytes = sqlite3_column_blob(statement, column);
    int count = sqlite3_column_bytes(statement, column);
    for (int index = 0; index < count; index++) sum += bytes[index];
  }
  return sum;
}

int fuzz_execute(void *context, const char *sql, const fuzz_value *values, size_t value_count,
                 size_t row_limit, size_t instruction_limit) {
  sqlite3 *database = context;
  int code = SQLITE_OK;
  static volatile unsigned sink;
  while (*sql) {
    fuzz_budget budget = {instruction_limit / instructions_per_step, 0};
    sqlite3_progress_handler(database, instructions_per_step, spend, &budget);
    sqlite3_stmt *statement = 0;
    code = sqlite3_prepare_v2(database, sql, -1, &statement, &sql);
    if (code == SQLITE_OK && statement) {
      bind(statement, values, value_count);
      size_t rows = 0;
      while ((code = sqlite3_step(statement)) == SQLITE_ROW && rows < row_limit) {
        sink += read_row(statement);
        rows++;
      }
      if (budget.has_interrupted && (code == SQLITE_ROW || code == SQLITE_DONE))
        fail("an interrupt was overlooked", database);
    }
    sqlite3_finalize(statement);
    sqlite3_progress_handler(database, 0, 0, 0);
    if (code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE) break;
  }
  return code;
}
