#pragma once

/*
 * The program that loads the extension, for fuzzing: SQLite's own interface, which the extension
 * must not use, and libFuzzer's.
 */

#include <stddef.h>
#include <stdint.h>

/* libFuzzer has no header for it. */
int LLVMFuzzerRunDriver(int *argument_count, char ***arguments,
                        int (*callback)(const uint8_t *data, size_t count));

/* Gives every database that is opened later the extension's functions. */
int fuzz_load_extension(void);

/* A database in memory that is a copy of these bytes, or NULL. */
void *fuzz_open(const uint8_t *image, size_t count);
/* The database's bytes, to be freed with fuzz_free, or NULL. */
uint8_t *fuzz_image(void *database, size_t *count);
void fuzz_free(void *memory);
/* Closes the database; stops the program when the extension keeps a statement of it. */
void fuzz_close(void *database);

typedef struct {
  int type; /* SQLITE_INTEGER and so on */
  int64_t integer;
  double real;
  const uint8_t *bytes;
  size_t byte_count;
} fuzz_value;

/*
 * Runs the statements of sql with values bound, and reads every column of up to row_limit rows of
 * each. After some instruction_limit instructions of SQLite's machine it is interrupted; stops the
 * program when an interrupt does not end a statement with an error. Returns SQLite's code.
 */
int fuzz_execute(void *database, const char *sql, const fuzz_value *values, size_t value_count,
                 size_t row_limit, size_t instruction_limit);
