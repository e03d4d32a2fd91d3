/// A library that is loaded before libc's and lets single calls of a program fail.
package final class FaultLibrary {
  private let directory: TemporaryDirectory
  private let log: String

  /// Compiles it, with the C compiler that Swift itself needs.
  package init() throws {
    directory = try TemporaryDirectory()
    log = directory.file("log")
    try writeFile(directory.file("faults.c"), Self.source)
    let outcome = try run([
      "/usr/bin/env", "clang", "-shared", "-fPIC", "-o", directory.file("faults.so"),
      directory.file("faults.c"),
    ])
    guard outcome.succeeded else { throw TestSetupError("cannot compile: \(outcome)") }
  }

  /// What an environment needs for it.
  ///
  /// - Parameters:
  ///   - directorySyncError: What `fsync` of a directory gives; 0: nothing fails.
  ///   - directoryPart: A directory's sync fails only if this is in its path.
  ///   - emptyWrites: The part of a file's path to which `write` and `pwrite` write nothing, and say so.
  ///   - spawnFailure: Which of the functions that start another process fails, for want of descriptors;
  ///     `fcntl` only where it duplicates one.
  ///   - notesFileSyncs: Whether ``fileSyncCount`` counts.
  ///   - killsAtStoreSync: Whether the program is killed when it syncs a database whose journal counts.
  ///   - failingStoreCall: Which of the calls fails, with EIO, that change or sync a store's file or journal, counted
  ///     from 1, and notes them all: see ``storeCalls``. 0: none fails; `nil`: none is noted.
  ///   - forbidsUnlocking: Whether `munlockall` fails with EPERM, as in a container of systemd-nspawn.
  ///   - stopsAtStoreOffset: Where in a store's file the program stops, as by SIGSTOP, before it first writes that far
  ///     or farther.
  ///   - freeBlockCount: How many blocks of 4096 bytes `statvfs` says are free; `nil`: those that are.
  package func environment(
    directorySyncError: Int32 = 0,
    directoryPart: String = "",
    emptyWrites: String = "",
    spawnFailure: String = "",
    notesFileSyncs: Bool = false,
    killsAtStoreSync: Bool = false,
    failingStoreCall: Int? = nil,
    forbidsUnlocking: Bool = false,
    stopsAtStoreOffset: Int? = nil,
    freeBlockCount: UInt64? = nil
  ) -> [String: String] {
    [
      "LD_PRELOAD": directory.file("faults.so"), "FAULT_LOG": log,
      "FAULT_DIRECTORY_SYNC": "\(directorySyncError)", "FAULT_DIRECTORY_PART": directoryPart,
      "FAULT_EMPTY_WRITES": emptyWrites, "FAULT_SPAWN": spawnFailure,
      "FAULT_NOTE_SYNCS": notesFileSyncs ? "1" : "",
      "FAULT_KILL_AT_STORE_SYNC": killsAtStoreSync ? "1" : "",
      "FAULT_STORE_CALL": failingStoreCall.map { "\($0)" } ?? "",
      "FAULT_NO_UNLOCKING": forbidsUnlocking ? "1" : "",
      "FAULT_STOP_AT_STORE_OFFSET": stopsAtStoreOffset.map { "\($0)" } ?? "",
      "FAULT_FREE_BLOCKS": freeBlockCount.map { "\($0)" } ?? "",
    ]
  }

  /// `sync PATH` of each directory, `rename FROM TO` and `spawn failure FUNCTION`, in order.
  package var calls: [String] {
    (try? readFile(log)).map {
      String(decoding: $0, as: UTF8.self).split(separator: "\n").map(String.init)
    } ?? []
  }

  /// How many calls of `fsync` and `fdatasync` were noted, of files and of directories.
  package var fileSyncCount: Int { calls.count { $0 == "file sync" } }

  /// A call that changed or synced a store's file or its journal.
  package struct StoreCall: Sendable {
    /// `store` or `journal`.
    package var file: String
    /// `write`, `cut` or `sync`.
    package var kind: String
    /// Where it wrote, or where it cut the file.
    package var offset: Int
    package var hasFailed: Bool
  }

  /// Those that were noted, in order.
  package var storeCalls: [StoreCall] {
    calls.compactMap { line in
      let words = line.split(separator: " ")
      guard words.count == 5, words[0] == "call" else { return nil }
      return StoreCall(
        file: String(words[1]),
        kind: String(words[2]),
        offset: Int(words[3]) ?? 0,
        hasFailed: words[4] == "fails"
      )
    }
  }

  /// Forgets what was noted.
  package func forgetCalls() throws { try writeFile(log, "") }

  private static let source = #"""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <signal.h>
    #include <spawn.h>
    #include <stdarg.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/stat.h>
    #include <sys/statvfs.h>
    #include <unistd.h>

    static const char *setting(const char *name) {
      const char *value = getenv(name);
      return value ? value : "";
    }

    static void note(const char *text) {
      int fd = open(setting("FAULT_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      if (fd < 0) return;
      dprintf(fd, "%s\n", text);
      close(fd);
    }

    static void path_of(int fd, char *path, size_t size) {
      char link[64];
      snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
      ssize_t count = readlink(link, path, size - 1);
      path[count > 0 ? count : 0] = 0;
    }

    static void note_sync(void) {
      if (*setting("FAULT_NOTE_SYNCS")) note("file sync");
    }

    static void kill_at_store_sync(int fd) {
      char path[4096];
      if (!*setting("FAULT_KILL_AT_STORE_SYNC")) return;
      path_of(fd, path, sizeof path - 8);
      size_t length = strlen(path);
      if (length < 3 || strcmp(path + length - 3, ".db")) return;
      strcat(path, "-journal");
      char first = 0;
      int journal = open(path, O_RDONLY | O_CLOEXEC);
      if (journal < 0) return;
      if (pread(journal, &first, 1, 0) == 1 && first) kill(getpid(), SIGKILL);
      close(journal);
    }

    static int ends_with(const char *text, const char *end) {
      size_t length = strlen(text), part = strlen(end);
      return length >= part && !strcmp(text + length - part, end);
    }

    /* Whether this call is the one that fails. */
    static int store_call(const char *kind, int fd, long long offset) {
      static int last;
      char path[4096], line[100];
      if (!*setting("FAULT_STORE_CALL")) return 0;
      path_of(fd, path, sizeof path);
      const char *file = ends_with(path, ".db") ? "store" : ends_with(path, ".db-journal") ? "journal" : 0;
      if (!file) return 0;
      int number = __atomic_add_fetch(&last, 1, __ATOMIC_SEQ_CST);
      int fails = number == atoi(setting("FAULT_STORE_CALL"));
      snprintf(line, sizeof line, "call %s %s %lld %s", file, kind, offset, fails ? "fails" : "works");
      note(line);
      if (fails) errno = EIO;
      return fails;
    }

    int ftruncate(int fd, off_t size) {
      int (*real)(int, off_t) = dlsym(RTLD_NEXT, "ftruncate");
      return store_call("cut", fd, size) ? -1 : real(fd, size);
    }

    int ftruncate64(int fd, off64_t size) {
      int (*real)(int, off64_t) = dlsym(RTLD_NEXT, "ftruncate64");
      return store_call("cut", fd, size) ? -1 : real(fd, size);
    }

    int fdatasync(int fd) {
      int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
      if (store_call("sync", fd, 0)) return -1;
      note_sync();
      kill_at_store_sync(fd);
      return real(fd);
    }

    int fsync(int fd) {
      if (store_call("sync", fd, 0)) return -1;
      note_sync();
      int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
      struct stat status;
      char path[4096], line[4200];
      if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        path_of(fd, path, sizeof path);
        snprintf(line, sizeof line, "sync %s", path);
        note(line);
        int code = atoi(setting("FAULT_DIRECTORY_SYNC"));
        if (code && strstr(path, setting("FAULT_DIRECTORY_PART"))) {
          errno = code;
          return -1;
        }
      }
      return real(fd);
    }

    int rename(const char *from, const char *to) {
      int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
      char line[9000];
      snprintf(line, sizeof line, "rename %s %s", from, to);
      note(line);
      return real(from, to);
    }

    static void stop_at_store_offset(int fd, long long offset) {
      static int stopped;
      char path[4096];
      const char *text = setting("FAULT_STOP_AT_STORE_OFFSET");
      if (!*text || offset < atoll(text) || __atomic_load_n(&stopped, __ATOMIC_SEQ_CST)) return;
      path_of(fd, path, sizeof path);
      if (ends_with(path, ".db") && !__atomic_exchange_n(&stopped, 1, __ATOMIC_SEQ_CST)) raise(SIGSTOP);
    }

    static int is_empty(int fd, size_t count) {
      char path[4096];
      const char *part = setting("FAULT_EMPTY_WRITES");
      if (!*part || !count) return 0;
      path_of(fd, path, sizeof path);
      if (!strstr(path, part)) return 0;
      /* What an older call has left. */
      errno = EINTR;
      return 1;
    }

    ssize_t write(int fd, const void *bytes, size_t count) {
      ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
      return is_empty(fd, count) ? 0 : real(fd, bytes, count);
    }

    ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
      ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
      if (store_call("write", fd, offset)) return -1;
      stop_at_store_offset(fd, offset);
      return is_empty(fd, count) ? 0 : real(fd, bytes, count, offset);
    }

    ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
      ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
      if (store_call("write", fd, offset)) return -1;
      stop_at_store_offset(fd, offset);
      return is_empty(fd, count) ? 0 : real(fd, bytes, count, offset);
    }

    int munlockall(void) {
      int (*real)(void) = dlsym(RTLD_NEXT, "munlockall");
      if (!*setting("FAULT_NO_UNLOCKING")) return real();
      errno = EPERM;
      return -1;
    }

    static int spawn_fails(const char *function) {
      char line[100];
      if (strcmp(setting("FAULT_SPAWN"), function)) return 0;
      snprintf(line, sizeof line, "spawn failure %s", function);
      note(line);
      return 1;
    }

    static int any_fcntl(const char *name, int fd, int command, void *argument) {
      int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
      /* SQLite and others duplicate descriptors to lower numbers. */
      if (command == F_DUPFD_CLOEXEC && (long)argument >= 10 && spawn_fails("fcntl")) {
        errno = EMFILE;
        return -1;
      }
      return real(fd, command, argument);
    }

    int fcntl(int fd, int command, ...) {
      va_list list;
      va_start(list, command);
      void *argument = va_arg(list, void *);
      va_end(list);
      return any_fcntl("fcntl", fd, command, argument);
    }

    int fcntl64(int fd, int command, ...) {
      va_list list;
      va_start(list, command);
      void *argument = va_arg(list, void *);
      va_end(list);
      return any_fcntl("fcntl64", fd, command, argument);
    }

    #define SPAWN_STEP(function, parameters, arguments)                                         \
      int function parameters {                                                                 \
        int (*real) parameters = dlsym(RTLD_NEXT, #function);                                   \
        return spawn_fails(#function) ? EMFILE : real arguments;                                \
      }
    SPAWN_STEP(posix_spawn_file_actions_init, (posix_spawn_file_actions_t *a), (a))
    SPAWN_STEP(posix_spawn_file_actions_addopen,
               (posix_spawn_file_actions_t *a, int fd, const char *path, int flags, mode_t mode),
               (a, fd, path, flags, mode))
    SPAWN_STEP(posix_spawn_file_actions_adddup2, (posix_spawn_file_actions_t *a, int from, int to),
               (a, from, to))
    SPAWN_STEP(posix_spawnattr_init, (posix_spawnattr_t *a), (a))
    SPAWN_STEP(posix_spawnattr_setflags, (posix_spawnattr_t *a, short flags), (a, flags))
    SPAWN_STEP(posix_spawn,
               (pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const arguments[],
                char *const environment[]),
               (pid, path, actions, attributes, arguments, environment))

    int statvfs(const char *path, struct statvfs *status) {
      int (*real)(const char *, struct statvfs *) = dlsym(RTLD_NEXT, "statvfs");
      int result = real(path, status);
      if (result == 0 && *setting("FAULT_FREE_BLOCKS")) {
        status->f_frsize = 4096;
        status->f_bavail = strtoull(setting("FAULT_FREE_BLOCKS"), NULL, 10);
      }
      return result;
    }
    """#
}
