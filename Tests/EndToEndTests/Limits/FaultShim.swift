import Foundation
import VMCheckpointTestSupport

/// A library that makes calls of the C library fail in a process that loads it before others.
final class FaultShim {
  private let directory: TemporaryDirectory
  private let path: String

  /// Compiles it; the C compiler is the one that Swift's toolchain links with.
  init() throws {
    directory = try TemporaryDirectory()
    path = directory.file("shim.so")
    let source = directory.file("shim.c")
    try writeFile(source, Self.source)
    let outcome = try run([
      "/usr/bin/env", "cc", "-shared", "-fPIC", "-O1", "-o", path, source, "-ldl", "-pthread",
    ])
    guard outcome.succeeded else { throw TestSetupError("cannot compile the shim: \(outcome)") }
  }

  /// The environment in which the `number`th call of `function` fails, and all later ones unless `once`.
  func environment(_ function: String, _ number: Int, once: Bool) -> [String: String] {
    [
      "LD_PRELOAD": path, "FAIL_FUNCTION": function, "FAIL_FROM": "\(number)",
      "FAIL_ONCE": once ? "1" : "",
    ]
  }

  private static let source = #"""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <errno.h>
    #include <pthread.h>
    #include <stdlib.h>
    #include <string.h>

    static int fails(const char *function) {
      static int calls;
      const char *wanted = getenv("FAIL_FUNCTION"), *once = getenv("FAIL_ONCE");
      if (!wanted || strcmp(wanted, function)) return 0;
      int number = __sync_add_and_fetch(&calls, 1), from = atoi(getenv("FAIL_FROM"));
      return once && *once ? number == from : number >= from;
    }

    int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                       void *argument) {
      if (fails("pthread_create")) return EAGAIN;
      int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
          dlsym(RTLD_NEXT, "pthread_create");
      return real(thread, attributes, start, argument);
    }

    /* Large and aligned: buffers of pages, tables. */
    int posix_memalign(void **memory, size_t alignment, size_t size) {
      if (size >= 65536 && fails("posix_memalign")) return ENOMEM;
      int (*real)(void **, size_t, size_t) = dlsym(RTLD_NEXT, "posix_memalign");
      return real(memory, alignment, size);
    }
    """#
}
