/// A guest that is to be written in some format: a stored snapshot, or one that was just captured. This is what
/// a form may know of it before RAM is written.
package protocol RestorableGuest {
  /// What messages call it.
  var title: String { get }

  /// Where RAM lies.
  var layout: RAMLayout { get }

  /// The pages whose content is unknown: ``page(at:)`` gives zeros for them.
  var absent: AbsentPages { get }

  /// All device states with their data, in the VMM's order.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when a SHA-256 is not right, or
  ///   `DatabaseError`.
  func deviceStates() throws -> [DeviceState]

  /// The first device state of `format`, if there is one.
  ///
  /// - Throws: As ``deviceStates()``.
  func deviceState(format: String) throws -> DeviceState?

  /// The page at `pfn` as bare RAM; zero where nothing is there.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when it is damaged, `inputOutput` when it cannot be
  ///   read, or `DatabaseError`.
  func page(at pfn: PFN) throws -> PageContents
}

/// A guest's RAM on its way into a form, with the overlays that it is to show.
package protocol RestorableRAM {
  /// Writes RAM into files, an output for each file of `form`, in any order.
  ///
  /// - Parameter observer: Sees all pages that are not zero, in any order.
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; the outputs hold anything then.
  func write(
    _ form: RestoredForm,
    to outputs: [OutputFile],
    observer: PageObserver?
  ) throws

  /// Writes RAM, and what else `form` has, from its beginning to its end.
  ///
  /// - Parameter isLastPass: Whether RAM is not written once more.
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; part may be written then.
  func write(
    _ form: RestoredForm,
    inOrderTo sink: any FlatRAMSink,
    isLastPass: Bool
  ) throws

  /// Puts the file in its place that has all of RAM.
  ///
  /// - Throws: As ``OutputFile/commit()``.
  func commit(_ output: OutputFile) throws

  /// The overlays.json that describes the RAM that was written.
  func overlaysJSON() throws -> String

  /// Called when all is written and nothing has its name yet.
  ///
  /// - Throws: ``VMCheckpointError`` when what was read must not count.
  func checkBeforeCompletion() throws
}
