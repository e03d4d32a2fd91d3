/// A captured guest, as a form sees it before RAM is written.
struct ConvertedGuest: RestorableGuest {
  let title: String
  let guest: PreparedGuest
  let ram: ConvertedRAM

  var layout: RAMLayout { ram.layout }
  var absent: AbsentPages { guest.absent }

  func deviceStates() -> [DeviceState] { guest.deviceStates }

  func deviceState(format: String) -> DeviceState? {
    guest.deviceStates.first { $0.format == format }
  }

  func page(at pfn: PFN) throws -> PageContents { try ram.barePage(at: pfn) }
}
