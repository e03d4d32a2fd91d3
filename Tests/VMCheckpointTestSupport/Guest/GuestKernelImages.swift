import Foundation

/// Guests with Debian's other kernels, which Scripts/guest-kernels captures.
package struct GuestKernelImages {
  /// One of them.
  package struct Image: Decodable {
    package let name: String
    package let kernel: String
    /// The processor, and what the kernel's command line says of its layout.
    package let layout: String
    /// For `vmckpt save --region`.
    package let region: String
    package var directory = ""

    private enum CodingKeys: CodingKey { case name, kernel, layout, region }

    package var ram: String { "\(directory)/moment-1.ram" }
    package var truth: String { "\(directory)/moment-1.truth" }
  }

  package let images: [Image]

  /// - Throws: ``TestSetupError`` when there is none: tests must not pass without them.
  package init() throws {
    let advice = "run the tests with Scripts/test, or Scripts/guest-kernels"
    guard let directory = environmentValue("VMCKPT_GUEST_KERNELS") else {
      throw TestSetupError("VMCKPT_GUEST_KERNELS is not set; \(advice)")
    }
    let wanted = environmentValue("VMCKPT_GUEST_KERNEL_NAMES")?.split(separator: ",").map(
      String.init
    )
    let names =
      try wanted
      ?? FileManager.default.contentsOfDirectory(atPath: directory).sorted()
      .filter { exists("\(directory)/\($0)/kernel.json") }
    images = try names.map { name in
      var image = try JSONDecoder().decode(
        Image.self,
        from: Data(readFile("\(directory)/\(name)/kernel.json"))
      )
      image.directory = "\(directory)/\(name)"
      return image
    }
    guard !images.isEmpty else { throw TestSetupError("no guest in \(directory); \(advice)") }
  }
}
