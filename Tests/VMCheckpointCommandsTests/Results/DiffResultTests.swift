import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointProbes

@Suite struct DiffResultTests {
  private let diff: SnapshotDiff

  init() throws {
    diff = try result(
      """
      {"a": "web/1", "b": "web/2", "isIdentical": false,
       "absent": {"pageCount": 7, "rangeCount": 1, "ranges": [{"firstPFN": 32, "pageCount": 7}]},
       "added": {"pageCount": 3, "rangeCount": 2, "ranges": [
         {"firstPFN": 16, "pageCount": 2}, {"firstPFN": 20, "pageCount": 1}]},
       "zeroed": {"pageCount": 5, "rangeCount": 1, "ranges": []},
       "changed": {"pageCount": 30, "rangeCount": 25, "ranges": [
         {"firstPFN": 99, "pageCount": 4}]},
       "unchangedPageCount": 100,
       "overlays": [
         {"change": "added", "pfn": 16384, "kind": "hypercall", "vp": 0},
         {"change": "changed", "pfn": 16386, "kind": "synic-event", "vp": 3}],
       "deviceStates": [{"change": "removed", "name": "cpu\\u001b1"}],
       "regions": [{"change": "added", "region":
         {"gpa": 4294967296, "byteCount": 4096, "fileOffset": 8192, "name": "dimm"}}],
       "guestOSID": {"a": "0x8100060100000000"}}
      """
    )
  }

  @Test func asJSON() {
    #expect(
      RenderedResult(diff).json == #"""
        {
          "a": "web/1",
          "absent": {
            "page_count": 7,
            "range_count": 1,
            "ranges": [
              {
                "first_pfn": 32,
                "page_count": 7
              }
            ]
          },
          "added": {
            "page_count": 3,
            "range_count": 2,
            "ranges": [
              {
                "first_pfn": 16,
                "page_count": 2
              },
              {
                "first_pfn": 20,
                "page_count": 1
              }
            ]
          },
          "b": "web/2",
          "changed": {
            "page_count": 30,
            "range_count": 25,
            "ranges": [
              {
                "first_pfn": 99,
                "page_count": 4
              }
            ]
          },
          "device_states": [
            {
              "change": "removed",
              "name": "cpu\u001b1"
            }
          ],
          "guest_os_id": {
            "a": "0x8100060100000000",
            "b": null
          },
          "identical": false,
          "memory_regions": [
            {
              "bytes": 4096,
              "change": "added",
              "file_offset": 8192,
              "gpa": 4294967296,
              "name": "dimm"
            }
          ],
          "overlays": [
            {
              "change": "added",
              "kind": "hypercall",
              "pfn": 16384,
              "vp": 0
            },
            {
              "change": "changed",
              "kind": "synic-event",
              "pfn": 16386,
              "vp": 3
            }
          ],
          "owner_count": null,
          "owners": null,
          "unchanged_page_count": 100,
          "warnings": [],
          "zeroed": {
            "page_count": 5,
            "range_count": 1,
            "ranges": []
          }
        }

        """#
    )
  }

  @Test func asText() {
    #expect(
      RenderedResult(diff).text == #"""
        What web/2 has different from web/1
          PAGES      COUNT       SIZE
          added          3   12.0 KiB
          zeroed         5   20.0 KiB
          changed       30  120.0 KiB
          unchanged    100  400.0 KiB
          absent         7   28.0 KiB

        Memory regions
          + GPA 0x100000000, 4.0 KiB at offset 0x2000, dimm

        Guest OS ID
          0x8100060100000000 before, unknown now

        Overlays
          + 0x4000 hypercall
          ~ 0x4002 synic-event vp 3

        Device states
          - cpu\u{1B}1

        Absent PFNs
          0x20-0x26  7 pages

        Added PFNs
          0x10-0x11  2 pages
          0x14  1 page

        Zeroed PFNs
          1 range (--limit all)

        Changed PFNs
          0x63-0x66  4 pages
          24 more ranges (--limit all)

        """#
    )
  }

  @Test func identical() throws {
    let none = #"{"pageCount": 0, "rangeCount": 0, "ranges": []}"#
    let diff: SnapshotDiff = try result(
      """
      {"a": "a", "b": "b", "isIdentical": true, "absent": \(none), "added": \(none), "zeroed": \(none),
       "changed": \(none), "unchangedPageCount": 7, "overlays": [], "deviceStates": [],
       "regions": []}
      """
    )
    #expect(RenderedResult(diff).text == "a and b hold the same RAM, overlays and device state\n")
    #expect(RenderedResult(diff).exitCode == 0)
  }
}
