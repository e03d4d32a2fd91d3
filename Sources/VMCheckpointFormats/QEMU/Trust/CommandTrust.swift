/// Whether the recorded command line of a VM of QEMU may run without asking: a command line is a program.
package enum CommandTrust: Sendable, Hashable {
  /// `save qemu:` recorded it on this host for this user, together with the devices' state, and nothing of it
  /// was changed since.
  case ownRecord
  /// Anything else. It must be shown, and needs the user's word before it runs.
  case untrusted(Reason)

  /// Why a command line is not trusted.
  package enum Reason: Sendable, Hashable {
    /// There is no command line: the guest came in a stream.
    case notRecorded
    /// It has no proof.
    case noProof
    /// It has a proof, and this user has no key.
    case noKey
    /// The user's key cannot be used; the error's words, where they are known.
    case unusableKey(String?)
    /// The proof is of another key, or of something else.
    case wrongProof
  }
}

extension CommandTrust {
  /// The name in JSON, which does not change.
  package var name: String {
    switch self {
    case .ownRecord: "own-record"
    case .untrusted(.notRecorded): "not-recorded"
    case .untrusted(.noProof): "no-proof"
    case .untrusted(.noKey): "no-key"
    case .untrusted(.unusableKey): "unusable-key"
    case .untrusted(.wrongProof): "wrong-proof"
    }
  }
}

extension CommandTrust {
  /// The answer with this ``name``, without an error's words.
  package init?(name: String) {
    let all: [Self] =
      [.ownRecord]
      + [.notRecorded, .noProof, .noKey, .unusableKey(nil), .wrongProof].map(Self.untrusted)
    guard let found = all.first(where: { $0.name == name }) else { return nil }
    self = found
  }
}

extension CommandTrust.Reason: CustomStringConvertible {
  /// A clause, as in "the command line is not trusted: …".
  package var description: String {
    switch self {
    case .notRecorded:
      "none was recorded, because the guest came in a stream"
    case .noProof:
      "it has no proof of who recorded it; an older vmckpt saved it, or it was saved without a key"
    case .noKey:
      "another user or host recorded it; this user has no key here"
    case .unusableKey(let problem):
      "this user's key cannot be used" + (problem.map { ": \($0)" } ?? "")
    case .wrongProof:
      "another user or host recorded it, or it was changed since"
    }
  }
}
