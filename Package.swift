// swift-tools-version: 6.2

import PackageDescription

// CI builds with VMCKPT_WARNINGS_AS_ERRORS=1; a user's newer compiler may warn about more
// and must still be able to build.
let warningsAsErrors = Context.environment["VMCKPT_WARNINGS_AS_ERRORS"] == "1"

// Scripts/fuzz builds with VMCKPT_FUZZ=1, into a directory of its own.
let isFuzzing = Context.environment["VMCKPT_FUZZ"] == "1"

let strict: [SwiftSetting] =
  [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
  ] + (warningsAsErrors ? [.treatAllWarnings(as: .error)] : [])
  + (isFuzzing ? [.unsafeFlags(["-sanitize=fuzzer", "-enable-testing"])] : [])

// The example guest is x86-64 machine code, and so is its hypervisor interface.
#if arch(x86_64)
  let exampleTargets: [Target] = [
    // KVM's ioctls for Swift.
    .target(name: "CKVM"),

    // How a VMM uses the library: a small one with a live guest. End-to-end tests run it.
    .executableTarget(
      name: "kvm-overlay-guest",
      dependencies: [
        "CKVM",
        "VMCheckpoint",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict
    ),
  ]
#else
  let exampleTargets: [Target] = []
#endif

// libFuzzer on whatever reads what strangers wrote.
let fuzzTargets: [Target] =
  !isFuzzing
  ? []
  : [
    .target(
      name: "CFuzzHost",
      path: "Tests/Fuzz/CFuzzHost",
      linkerSettings: [.linkedLibrary("sqlite3")]
    ),
    .executableTarget(
      name: "vmckpt-fuzz",
      dependencies: [
        "CFuzzHost",
        "CSQLiteExtension",
        "SQLiteExtension",
        "VMCheckpoint",
        "VMCheckpointFormats",
        "VMCheckpointTestSupport",
        .product(name: "GRDBSQLite", package: "GRDB.swift"),
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      path: "Tests/Fuzz/vmckpt-fuzz",
      swiftSettings: strict + [.unsafeFlags(["-parse-as-library"])],
      // gold fails on what the sanitizers emit.
      linkerSettings: [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]
    ),
  ]

let package = Package(
  name: "vmckpt",
  products: [
    .executable(name: "vmckpt", targets: ["vmckpt"]),
    .library(name: "VMCheckpoint", targets: ["VMCheckpoint"]),
    .library(name: "VMCheckpointFormats", targets: ["VMCheckpointFormats"]),
    // Not "vmckpt": SwiftPM drops a library with an executable's name.
    .library(name: "vmckptext", type: .dynamic, targets: ["SQLiteExtensionEntry"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-algorithms", from: "1.2.1"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
  ],
  targets: [
    // Debian's liblz4: chunks are standard LZ4 frames.
    .systemLibrary(
      name: "CLZ4",
      pkgConfig: "liblz4",
      providers: [.apt(["liblz4-dev"])]
    ),

    // Debian's libxxhash: XXH3 tells cheaply whether a page stayed as it was, and XXH32 is the
    // checksum of LZ4 frames.
    .systemLibrary(
      name: "CXXHash",
      pkgConfig: "libxxhash",
      providers: [.apt(["libxxhash-dev"])]
    ),

    // Debian's libcrypto: SHA-256, the identity of a page.
    .systemLibrary(
      name: "CCrypto",
      pkgConfig: "libcrypto",
      providers: [.apt(["libssl-dev"])]
    ),

    // Structures of libraries that are loaded when they are first needed.
    .target(name: "CDecompression"),

    // libcurl, which is loaded when a remote first needs it.
    .target(name: "CCurl"),

    // Linux facts that Swift's Glibc module leaves out.
    .target(name: "CLinux"),

    // The store's DDL, embedded in the binary.
    .target(
      name: "VMCheckpointSchema",
      path: "Schema",
      exclude: ["README.md", "overlays.schema.json"],
      resources: [
        .embedInCode("schema_v1.sql"),
        .embedInCode("feature_absent_ranges.sql"),
        .embedInCode("feature_leases.sql"),
        .embedInCode("feature_overlay_origins.sql"),
        .embedInCode("feature_remotes.sql"),
        .embedInCode("feature_verifications.sql"),
        .embedInCode("feature_working_sets.sql"),
        .embedInCode("queries"),
      ],
      swiftSettings: strict
    ),

    // Words of the domain, overlays, the chunk codec: all that needs no database. GRDB must not come in:
    // it would bring a libsqlite3 into a process of the extension's host, which has its own SQLite.
    .target(
      name: "VMCheckpointCore",
      dependencies: [
        "CCrypto",
        "CLZ4",
        "CXXHash",
        .product(name: "Algorithms", package: "swift-algorithms"),
      ],
      swiftSettings: strict
    ),

    // The store and the pipelines.
    .target(
      name: "VMCheckpoint",
      dependencies: [
        "CCurl",
        "CLinux",
        "VMCheckpointCore",
        "VMCheckpointSchema",
        .product(name: "Algorithms", package: "swift-algorithms"),
        .product(name: "GRDB", package: "GRDB.swift"),
        .product(name: "GRDBSQLite", package: "GRDB.swift"),
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      swiftSettings: strict
    ),

    // What snapshots come from and go to: a folder for each format, and one line in the registry.
    .target(
      name: "VMCheckpointFormats",
      dependencies: [
        "CDecompression",
        "CLinux",
        "VMCheckpoint",
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      swiftSettings: strict
    ),

    // One command per verb: parse, one library call, render.
    .target(
      name: "VMCheckpointCommands",
      dependencies: [
        "CSQLiteExtension",
        "SQLiteExtension",
        "VMCheckpoint",
        "VMCheckpointFormats",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict
    ),

    .executableTarget(
      name: "vmckpt",
      dependencies: ["VMCheckpointCommands"],
      swiftSettings: strict
    ),

    // Micro-benchmarks of the library's inside; Scripts/bench runs them.
    .executableTarget(
      name: "vmckpt-bench",
      dependencies: [
        "CLZ4",
        "VMCheckpoint",
        "VMCheckpointKernels",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict
    ),

    // SQLite's extension interface for Swift.
    .target(name: "CSQLiteExtension"),

    // The loadable extension's functions.
    .target(
      name: "SQLiteExtension",
      dependencies: [
        "CLZ4",
        "CSQLiteExtension",
        "VMCheckpointCore",
      ],
      swiftSettings: strict
    ),

    // The extension's entry point, apart because -static-stdlib breaks targets that tests link.
    // The version script hides all but the entry point from the host's other libraries.
    .target(
      name: "SQLiteExtensionEntry",
      dependencies: ["CSQLiteExtension", "SQLiteExtension"],
      exclude: ["exports.map"],
      swiftSettings: strict,
      linkerSettings: [
        .unsafeFlags([
          "-static-stdlib",
          // An undefined symbol fails here, not on the user's machine.
          "-Xlinker", "-z", "-Xlinker", "defs",
          "-Xlinker",
          "--version-script=\(Context.packageDirectory)/Sources/SQLiteExtensionEntry/exports.map",
        ])
      ]
    ),

    // Steps of saves and restores one at a time, and a page index of any size: for benchmarks and tests,
    // without the commands. In no product.
    .target(
      name: "VMCheckpointKernels",
      dependencies: [
        "VMCheckpoint",
        .product(name: "GRDB", package: "GRDB.swift"),
      ],
      path: "Tests/VMCheckpointKernels",
      swiftSettings: strict
    ),

    // What tests see of the library's, the formats' and the commands' inside. In no product.
    .target(
      name: "VMCheckpointProbes",
      dependencies: [
        "VMCheckpoint",
        "VMCheckpointCommands",
        "VMCheckpointFormats",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "GRDB", package: "GRDB.swift"),
      ],
      path: "Tests/VMCheckpointProbes",
      swiftSettings: strict
    ),

    // Fixtures, a seeded generator, slow reference models and a runner for the built binary.
    .target(
      name: "VMCheckpointTestSupport",
      dependencies: ["CLinux", "VMCheckpoint"],
      path: "Tests/VMCheckpointTestSupport",
      swiftSettings: strict
    ),
    .testTarget(
      name: "VMCheckpointTests",
      dependencies: [
        "VMCheckpoint",
        "VMCheckpointFormats",
        "VMCheckpointKernels",
        "VMCheckpointProbes",
        "VMCheckpointTestSupport",
        .product(name: "GRDB", package: "GRDB.swift"),
      ],
      exclude: ["Store/Fixtures"],
      swiftSettings: strict
    ),
    .testTarget(
      name: "VMCheckpointCommandsTests",
      dependencies: [
        "VMCheckpointCommands",
        "VMCheckpointFormats",
        "VMCheckpointProbes",
        "VMCheckpointTestSupport",
      ],
      exclude: ["Help/Texts"],
      swiftSettings: strict
    ),
    .testTarget(
      name: "EndToEndTests",
      dependencies: ["VMCheckpoint", "VMCheckpointTestSupport"],
      exclude: ["Formats/Fixtures"],
      swiftSettings: strict
    ),
  ] + exampleTargets + fuzzTargets
)
