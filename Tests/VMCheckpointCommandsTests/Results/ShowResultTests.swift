import Testing
import VMCheckpointCommands
import VMCheckpointProbes

@Suite struct ShowResultTests {
  static let page = String(repeating: "A", count: 5464)

  static let json = """
    {
      "absent_pages": 3,
      "children": [
        "web/2",
        "web/3"
      ],
      "completed_at": "2026-03-01T09:30:01.250Z",
      "cpu_vendor": "amd",
      "device_state_count": 1,
      "device_states": [
        {
          "bytes": 5000,
          "format": "qemu-vmstate",
          "name": "cpu0",
          "sha256": "ef01",
          "stored_bytes": 900,
          "version": 3
        }
      ],
      "digest": "abcd",
      "memory_regions": [
        {
          "bytes": 3221225472,
          "file_offset": 0,
          "gpa": 0,
          "name": "low"
        },
        {
          "bytes": 4096,
          "file_offset": 3221225472,
          "gpa": 4294967296,
          "name": ""
        }
      ],
      "name": "web/1",
      "new_pages": 1,
      "new_stored_bytes": 300,
      "overlay_count": 3,
      "overlay_origin": "qemu-device-state",
      "overlays": {
        "format": 1,
        "guest_os_id": "0x8100060100000000",
        "overlays": [
          {
            "kind": "hypercall",
            "pfn": "0x4000",
            "underlay": "zero",
            "variant": "vmmcall"
          },
          {
            "kind": "reference-tsc",
            "offset": -12,
            "pfn": "0x4002",
            "scale": 18446744073709551615,
            "sequence": 7
          },
          {
            "contents": "\(page)",
            "kind": "synic-message",
            "pfn": "0x4003",
            "vp": 11
          }
        ]
      },
      "parent": null,
      "producer": "vmckpt 0.1.0",
      "qemu": {
        "command_line": [
          "qemu",
          "-m"
        ],
        "command_trust": "wrong-proof",
        "disks": [
          {
            "device": "d0",
            "encrypted": false,
            "images": [
              {
                "bytes": 200704,
                "device": 65024,
                "file": "top.qcow2",
                "format": "qcow2",
                "inode": 7,
                "mtime_ns": 1700000000000000001
              },
              {
                "bytes": null,
                "device": null,
                "file": "nbd://a",
                "format": "raw",
                "inode": null,
                "mtime_ns": null
              }
            ],
            "node": "#block1",
            "virtual_bytes": 1048576
          }
        ],
        "machine": "pc-q35-7.2",
        "working_directory": "/srv"
      },
      "ram_bytes": 3221229568,
      "source": "/dev/shm/{\\"a\\": [1]}",
      "started_at": "2026-03-01T09:30:00.125Z",
      "stored_pages": 2,
      "tags": {
        "k\\\\": "v, \\"w\\": []"
      },
      "tsc_frequency_hz": null,
      "uuid": "5d1c",
      "vm": "web",
      "working_set": {
        "door": "userfaultfd",
        "duration_seconds": 5,
        "pages": 8276,
        "recorded_at": "2026-03-01T09:40:00.125Z",
        "runs": 1385,
        "snapshot": "web/0"
      }
    }

    """

  /// Every key, every kind of value, and strings that look like JSON.
  @Test func asJSON() throws {
    #expect(try RenderedResult(showing: Self.json).json == Self.json)
  }

  @Test func asText() throws {
    #expect(
      try RenderedResult(showing: Self.json).text == #"""
        web/1
          UUID           5d1c
          VM             web
          Parent         -
          Children       web/2, web/3
          Tags           k\=v, "w": []
          Started        2026-03-01T09:30:00.125Z
          Completed      2026-03-01T09:30:01.250Z
          Source         /dev/shm/{"a": [1]}
          Producer       vmckpt 0.1.0
          CPU vendor     amd
          TSC frequency  -
          Guest OS ID    0x8100060100000000
          RAM            3.0 GiB
          Not zero       8.0 KiB (0.0%)
          Absent         12.0 KiB
          New            4.0 KiB in 1 page, stored in 300 B
          Working set    8276 pages in 1385 runs, recorded in 5.0 s (userfaultfd), from web/0
          Digest         abcd
          Command line   not trusted: another user or host recorded it, or it was changed since

        Memory regions
          GPA             SIZE       BYTES  OFFSET      NAME
          0x0          3.0 GiB  3221225472  0x0         low
          0x100000000  4.0 KiB        4096  0xc0000000  -

        Overlays, from qemu-device-state
          PFN     KIND           VP  PARAMETERS
          0x4000  hypercall       -  underlay=zero variant=vmmcall
          0x4002  reference-tsc   -  offset=-12 scale=18446744073709551615 sequence=7
          0x4003  synic-message  11  contents=<page>

        Device states
          NAME  FORMAT        VERSION     SIZE  STORED  SHA-256
          cpu0  qemu-vmstate        3  4.9 KiB   900 B  ef01

        Disks, not captured
          DEVICE  FORMAT       SIZE  WRITTEN                         FILE
          d0      qcow2   196.0 KiB  2023-11-14T22:13:20.000000001Z  top.qcow2
          -       raw             -  -                               nbd://a

        """#
    )
  }
}
