/// A kind of overlay whose page the guest may write, so that the page itself is the parameter.
package protocol GuestWritablePage: OverlayKindDefinition {
  /// The page as the guest and the hypervisor left it.
  var contents: PageContents { get }

  init(contents: PageContents)
}

extension GuestWritablePage {
  package static var scope: OverlayScope { .vp }
  package static var storesContents: Bool { true }

  package static var parameterKeys: [String] { [] }
  package var jsonMembers: [(key: String, json: String)] { [] }

  package init(_ object: StrictJSONObject, contents: PageContents?) throws(VMCheckpointError) {
    guard let contents else { throw object.path.invalid("the contents are missing") }
    self.init(contents: contents)
  }
}
