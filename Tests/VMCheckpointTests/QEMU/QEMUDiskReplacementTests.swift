import Foundation
import Testing
import VMCheckpoint
import VMCheckpointFormats
import VMCheckpointProbes

/// An overlay must take the place of its disk and of nothing else, or be refused: a guess would let a clone write to
/// the disk.
@Suite struct QEMUDiskReplacementTests {
  private func disk(
    _ name: String = "/d.img",
    device: String = "",
    node: String = "#block1",
    format: String = "raw",
    isEncrypted: Bool = false,
    isFile: Bool = true
  ) -> RecordedDisk {
    let identity = FileIdentity(byteCount: 1, modifiedNanoseconds: 2, inode: 3, device: 4)
    return RecordedDisk(
      device: device,
      node: node,
      virtualByteCount: 1 << 20,
      isEncrypted: isEncrypted,
      images: [.init(name: name, format: format, identity: isFile ? identity : nil)]
    )
  }

  private func replaced(_ words: [String], _ disks: RecordedDisk...) throws -> [String] {
    Array(
      try QEMURunScriptProbe.words(["qemu"] + words, withOverlaysFor: disks).dropFirst()
    )
  }

  private func expectRefused(
    _ words: [String],
    _ disks: RecordedDisk...,
    because reason: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    do {
      let result = try QEMURunScriptProbe.words(["qemu"] + words, withOverlaysFor: disks)
      Issue.record("\(result)", sourceLocation: sourceLocation)
    } catch {
      let message = (error as? VMCheckpointError)?.message ?? "\(error)"
      #expect(message.contains(reason), sourceLocation: sourceLocation)
    }
  }

  @Test func drivesKeepTheirNames() throws {
    #expect(
      try replaced(
        ["-m", "1", "-drive", "if=none,file=/a,,b,id=d,,0,format=raw", "-device", "x,drive=d,,0"],
        disk("/a,b", device: "d,0")
      ) == [
        "-m", "1", "-drive", "file=/o/disk.0,format=qcow2,if=none,id=d,,0", "-device",
        "x,drive=d,,0",
      ]
    )
    #expect(
      try replaced(["--drive", "file=/d.img"], disk(device: "ide0-hd0"))
        == ["--drive", "file=/o/disk.0,format=qcow2"]
    )
    #expect(try replaced(["-hdb", "/d.img"], disk(device: "ide0-hd1")) == ["-hdb", "/o/disk.0"])
    // Two disks, each with its own.
    #expect(
      try replaced(
        ["-drive", "file=/a,id=a", "-drive", "file=/b,id=b"],
        disk("/b", device: "b"),
        disk("/a", device: "a")
      ) == [
        "-drive", "file=/o/disk.1,format=qcow2,id=a", "-drive", "file=/o/disk.0,format=qcow2,id=b",
      ]
    )
  }

  @Test func nodesKeepTheirNames() throws {
    #expect(
      try replaced(
        ["-blockdev", "qcow2,node-name=n,file.driver=file,file.filename=/d,,.img,cache.direct=on"],
        disk("/d,.img", node: "n", format: "qcow2")
      ) == [
        "-blockdev",
        "cache.direct=on,driver=qcow2,file.driver=file,file.filename=/o/disk.0,node-name=n",
      ]
    )
    // As libvirt gives them, and a node in each notation.
    #expect(
      try replaced(
        [
          "-blockdev", "driver=file,filename=/d.img,node-name=s-1,cache.direct=on,discard=unmap",
          "-blockdev", #"{"node-name":"n","driver":"raw","backing":null,"file":"s-1"}"#,
        ],
        disk(node: "n")
      ) == [
        "-blockdev",
        #"{"driver":"qcow2","file":{"cache":{"direct":true},"discard":"unmap","driver":"file","#
          + #""filename":"/o/disk.0"},"node-name":"n"}"#,
      ]
    )
    #expect(
      try replaced(["-blockdev", "file,node-name=n,filename=/d.img,aio=threads"], disk(node: "n"))
        == [
          "-blockdev",
          "driver=qcow2,file.aio=threads,file.driver=file,file.filename=/o/disk.0,node-name=n",
        ]
    )
  }

  @Test func whatMayMeanSomethingElseIsRefused() {
    let node = disk(node: "n")
    expectRefused(["-m", "1"], node, because: "no option of the command line opens it")
    // QEMU alone knows what a word that is not an option belongs to.
    expectRefused(["-S", "/d.img"], disk(device: "ide0-hd0"), because: "no option")
    expectRefused(
      ["-drive", "file=/d.img", "-hda", "/d.img"],
      disk(device: "ide0-hd0"),
      because: "more than one option"
    )
    for member in [
      "offset=512", "file.locking=off", "snapshot=on", "encrypt.key-secret=s", "backing=b",
      "readonly=on", "readonly", "l2-cache-size=1M",
    ] {
      expectRefused(
        ["-drive", "file=/d.img,id=d,\(member)"],
        disk(device: "d"),
        because: "its -drive has \"\(member)\""
      )
    }
    expectRefused(
      ["-drive", "file=/other,id=d"],
      disk(device: "d"),
      because: "its -drive names \"/other\""
    )
    expectRefused(
      ["-drive", "file=/d.img,file=/other,id=d"],
      disk(device: "d"),
      because: "its -drive names \"/other\""
    )
    expectRefused(["-drive", "id=d"], disk(device: "d"), because: "its -drive names no file")
    for option in ["-set", "-readconfig", "-snapshot"] {
      expectRefused(
        ["-drive", "file=/d.img,id=d", option],
        disk(device: "d"),
        because: "the command line has \"\(option)\""
      )
    }
    for (members, reason) in [
      ("raw,offset=512,file.driver=file,file.filename=/d.img", "its -blockdev has \"offset\""),
      ("raw,file.driver=nbd,file.filename=/d.img", "its -blockdev opens something else"),
      ("raw,file.driver=file,file.filename=/e", "its -blockdev opens something else"),
      ("raw,file.driver=file,file.filename=/d.img,file.locking=off", "of its file has \"locking\""),
      ("raw,file=gone", "the -blockdev of its file is not in the command line"),
      ("raw", "its -blockdev names no file"),
    ] {
      expectRefused(["-blockdev", "\(members),node-name=n"], node, because: reason)
    }
    expectRefused(
      [
        "-blockdev", "file,node-name=s,filename=/d.img", "-blockdev", "raw,node-name=n,file=s",
        "-device", "x,drive=s",
      ],
      node,
      because: "another option uses the node \"s\" too"
    )
    expectRefused(
      ["-blockdev", "file,node-name=n,filename=/d.img"],
      disk(node: "n", isEncrypted: true),
      because: "it is encrypted"
    )
    expectRefused(
      ["-blockdev", "throttle,node-name=n,file.driver=file,file.filename=/d.img"],
      disk(node: "n", format: "throttle"),
      because: "its format is \"throttle\""
    )
    expectRefused(
      ["-drive", "file=nbd://x/y,id=d"],
      disk("nbd://x/y", device: "d", isFile: false),
      because: "it is not a file that could be looked at"
    )
  }

  /// A description of disks is a stranger's.
  @Test func aDescriptionThatNoSaveWritesIsRefused() throws {
    let sound = RecordedDisks([disk()])
    #expect(try RecordedDisks(json: Array(sound.json.utf8)) == sound)
    func expectRefused(_ json: String, code: VMCheckpointError.Code = .corrupt) {
      #expect {
        try RecordedDisks(json: Array(json.utf8))
      } throws: {
        ($0 as? VMCheckpointError)?.code == code
      }
    }
    expectRefused("")
    expectRefused("{}")
    expectRefused(#"{"version": 2, "disks": []}"#, code: .invalidData)
    expectRefused(#"{"version": 1, "disks": [{}]}"#)
    expectRefused(sound.json.replacing(#""bytes":1"#, with: #""bytes":-1"#))
    expectRefused(sound.json.replacing(#""bytes":1"#, with: #""bytes":1e30"#))
    expectRefused(sound.json.replacing("1048576", with: "\(1 << 51)"))
    expectRefused(sound.json.replacing("/d.img", with: #"/d\u0000.img"#))
    var many = RecordedDisks(Array(repeating: disk(), count: 1025))
    expectRefused(many.json)
    many.disks = [disk()]
    many.disks[0].images = []
    expectRefused(many.json)
    many.disks[0].images = Array(repeating: disk().images[0], count: 257)
    expectRefused(many.json)
    many.disks = [disk(String(repeating: "x", count: 8193))]
    expectRefused(many.json)
  }
}
