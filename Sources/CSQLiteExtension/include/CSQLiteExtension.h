#pragma once

/*
 * SQLite for Swift in a loadable extension. sqlite3ext.h reaches SQLite through a table of function
 * pointers, with macros that Swift cannot see; every function here calls one entry of that table.
 * Swift must call no sqlite3_… function directly: that would link the extension to a libsqlite3,
 * which need not be the host's.
 */

#include <sqlite3ext.h>
#include <stdint.h>
#include <stdlib.h>

extern const sqlite3_api_routines *sqlite3_api;

/* Keeps the host's table. Returns SQLITE_OK, or SQLITE_ERROR when the host is too old. */
int vmx_initialize(const sqlite3_api_routines *api);

/* The first place of a pattern in some bytes, or NULL: memmem, which glibc declares only with
 * _GNU_SOURCE, which Swift's Glibc module is built without. */
const void *vmx_find(const void *bytes, size_t count, const void *pattern, size_t pattern_count);

/* What goes over every byte of a guest's memory is in C, which has vectors of bytes whose comparison
 * is a mask of bits. */

/* How many bytes differ. */
long vmx_count_different(const void *a, const void *b, size_t count);

/* Which of `count` characters are printable ASCII or a tab, as bits, the first one lowest, in as many
 * words as it takes; the last word is filled up with zeros. A character is one byte, or a unit of
 * UTF-16, little-endian. */
void vmx_printable_bytes(const void *bytes, size_t count, uint64_t *bits);
void vmx_printable_units(const void *bytes, size_t count, uint64_t *bits);

/* SQLite's part of a table and of a cursor, followed by the Swift object (Unmanaged). */
typedef struct {
  sqlite3_vtab base;
  void *object;
} vmx_table;
typedef struct {
  sqlite3_vtab_cursor base;
  void *object;
} vmx_cursor;

static inline int vmx_create_module(sqlite3 *database, const char *name,
                                    const sqlite3_module *module, void *context,
                                    void (*destroy)(void *)) {
  return sqlite3_api->create_module_v2(database, name, module, context, destroy);
}
static inline int vmx_declare_vtab(sqlite3 *database, const char *sql) {
  return sqlite3_api->declare_vtab(database, sql);
}
/* Not in the views and triggers of a store: sqlite3_vtab_config is variadic. */
static inline int vmx_make_direct_only(sqlite3 *database) {
  return sqlite3_api->vtab_config(database, SQLITE_VTAB_DIRECTONLY);
}

/* SQLITE_STATIC and SQLITE_TRANSIENT are casts, which Swift cannot see. */
static inline void vmx_result_blob(sqlite3_context *context, const void *bytes, long long count) {
  sqlite3_api->result_blob64(context, bytes, (sqlite3_uint64)count, SQLITE_TRANSIENT);
}
static inline void vmx_result_text(sqlite3_context *context, const char *text, long long count) {
  sqlite3_api->result_text64(
      context, text, (sqlite3_uint64)count, SQLITE_TRANSIENT, SQLITE_UTF8);
}
/* Takes over memory of vmx_malloc. */
static inline void vmx_result_owned_blob(sqlite3_context *context, void *bytes, long long count) {
  sqlite3_api->result_blob64(context, bytes, (sqlite3_uint64)count, sqlite3_api->free);
}
static inline void vmx_result_int64(sqlite3_context *context, sqlite3_int64 value) {
  sqlite3_api->result_int64(context, value);
}
static inline void vmx_result_null(sqlite3_context *context) {
  sqlite3_api->result_null(context);
}
static inline void vmx_result_error(sqlite3_context *context, const char *message, int code) {
  sqlite3_api->result_error(context, message, -1);
  /* Sets a message only where there is none. */
  sqlite3_api->result_error_code(context, code);
}

static inline int vmx_value_type(sqlite3_value *value) { return sqlite3_api->value_type(value); }
/* As of a comparison with a number: a text such as '19' is an integer. */
static inline int vmx_value_numeric_type(sqlite3_value *value) {
  return sqlite3_api->value_numeric_type(value);
}
static inline sqlite3_int64 vmx_value_int64(sqlite3_value *value) {
  return sqlite3_api->value_int64(value);
}
static inline double vmx_value_double(sqlite3_value *value) {
  return sqlite3_api->value_double(value);
}
/* The bytes of a BLOB, or of a text in UTF-8; valid while the value is. */
static inline const void *vmx_value_bytes(sqlite3_value *value, int *count) {
  const void *bytes = sqlite3_api->value_type(value) == SQLITE_BLOB
                          ? sqlite3_api->value_blob(value)
                          : (const void *)sqlite3_api->value_text(value);
  *count = sqlite3_api->value_bytes(value);
  return bytes;
}

static inline void *vmx_malloc(long long count) {
  return sqlite3_api->malloc64((sqlite3_uint64)count);
}
static inline void vmx_free(void *memory) { sqlite3_api->free(memory); }
static inline char *vmx_copy_string(const char *text) { return sqlite3_api->mprintf("%s", text); }

static inline void *vmx_user_data(sqlite3_context *context) {
  return sqlite3_api->user_data(context);
}
static inline int vmx_create_function(
    sqlite3 *database, const char *name, int argument_count, int flags, void *context,
    void (*function)(sqlite3_context *, int, sqlite3_value **), void (*destroy)(void *)) {
  return sqlite3_api->create_function_v2(
      database, name, argument_count, SQLITE_UTF8 | flags, context, function, 0, 0, destroy);
}
/* The longest string or BLOB that the connection allows. */
static inline sqlite3_int64 vmx_total_changes(sqlite3 *database) {
  return sqlite3_api->total_changes(database);
}
static inline int vmx_length_limit(sqlite3 *database) {
  return sqlite3_api->limit(database, SQLITE_LIMIT_LENGTH, -1);
}

static inline int vmx_prepare(sqlite3 *database, const char *sql, int flags,
                              sqlite3_stmt **statement) {
  return sqlite3_api->prepare_v3(database, sql, -1, (unsigned)flags, statement, 0);
}
static inline int vmx_step(sqlite3_stmt *statement) { return sqlite3_api->step(statement); }
static inline int vmx_reset(sqlite3_stmt *statement) { return sqlite3_api->reset(statement); }
static inline int vmx_finalize(sqlite3_stmt *statement) {
  return sqlite3_api->finalize(statement);
}
static inline const char *vmx_error_message(sqlite3 *database) {
  return sqlite3_api->errmsg(database);
}
static inline int vmx_bind_int64(sqlite3_stmt *statement, int index, sqlite3_int64 value) {
  return sqlite3_api->bind_int64(statement, index, value);
}
static inline int vmx_bind_text(sqlite3_stmt *statement, int index, const char *text,
                                long long count) {
  return sqlite3_api->bind_text64(
      statement, index, text, (sqlite3_uint64)count, SQLITE_TRANSIENT, SQLITE_UTF8);
}
static inline int vmx_bind_blob(sqlite3_stmt *statement, int index, const void *bytes,
                                long long count) {
  return sqlite3_api->bind_blob64(
      statement, index, bytes, (sqlite3_uint64)count, SQLITE_TRANSIENT);
}
static inline int vmx_column_type(sqlite3_stmt *statement, int column) {
  return sqlite3_api->column_type(statement, column);
}
static inline sqlite3_int64 vmx_column_int64(sqlite3_stmt *statement, int column) {
  return sqlite3_api->column_int64(statement, column);
}
/* The bytes of a BLOB or text; valid until the statement steps. */
static inline const void *vmx_column_bytes(sqlite3_stmt *statement, int column, int *count) {
  const void *bytes = sqlite3_api->column_blob(statement, column);
  *count = sqlite3_api->column_bytes(statement, column);
  return bytes;
}
