import CCurl
import Glibc

/// libcurl's functions, loaded when a remote first needs them.
///
/// Its multi interface is used with one transfer at a time: so a wait for the server ends within a tenth of a second
/// when the operation is cancelled, whatever the server does.
struct CurlLibrary: Sendable {
  typealias Handle = UnsafeMutableRawPointer
  private typealias MessageRead =
    @convention(c) (Handle, UnsafeMutablePointer<CInt>) -> UnsafeMutablePointer<ccurl_message>?
  private typealias Poll =
    @convention(c) (
      Handle, UnsafeMutableRawPointer?, CUnsignedInt, CInt, UnsafeMutablePointer<CInt>?
    )
    -> CInt

  /// - Throws: ``VMCheckpointError`` with the code `unavailable`, which names Debian's package.
  static func shared() throws(VMCheckpointError) -> CurlLibrary { try loaded.get() }

  private static let loaded = Result { () throws(VMCheckpointError) in try CurlLibrary() }

  let easyInit: @convention(c) () -> Handle?
  let easyReset: @convention(c) (Handle) -> Void
  let easyCleanup: @convention(c) (Handle) -> Void
  let multiInit: @convention(c) () -> Handle?
  let multiCleanup: @convention(c) (Handle) -> CInt
  let multiAdd: @convention(c) (Handle, Handle) -> CInt
  let multiRemove: @convention(c) (Handle, Handle) -> CInt
  let multiPerform: @convention(c) (Handle, UnsafeMutablePointer<CInt>) -> CInt
  let errorText: @convention(c) (CInt) -> UnsafePointer<CChar>?
  let listAppend: @convention(c) (Handle?, UnsafePointer<CChar>) -> Handle?
  let listFree: @convention(c) (Handle?) -> Void
  private let poll: Poll
  private let messageRead: MessageRead
  private nonisolated(unsafe) let setopt: UnsafeMutableRawPointer

  private init() throws(VMCheckpointError) {
    let library = try LoadedLibrary("libcurl.so.4", package: "libcurl4")
    // Once, before all else.
    let begin = try library.function("curl_global_init", as: (@convention(c) (CLong) -> CInt).self)
    guard begin(CLong(CCURL_GLOBAL_ALL)) == CInt(CCURL_OK) else {
      throw VMCheckpointError(.unavailable, "libcurl cannot begin")
    }
    func function<Function>(_ name: String) throws(VMCheckpointError) -> Function {
      try library.function(name, as: Function.self)
    }
    easyInit = try function("curl_easy_init")
    easyReset = try function("curl_easy_reset")
    easyCleanup = try function("curl_easy_cleanup")
    multiInit = try function("curl_multi_init")
    multiCleanup = try function("curl_multi_cleanup")
    multiAdd = try function("curl_multi_add_handle")
    multiRemove = try function("curl_multi_remove_handle")
    multiPerform = try function("curl_multi_perform")
    errorText = try function("curl_easy_strerror")
    listAppend = try function("curl_slist_append")
    listFree = try function("curl_slist_free_all")
    // Since 7.66.
    poll = try function("curl_multi_poll")
    messageRead = try function("curl_multi_info_read")
    setopt = try library.address("curl_easy_setopt")
  }

  /// Sets an option.
  ///
  /// - Returns: Whether libcurl has it and took the value.
  @discardableResult
  func set(_ handle: Handle, _ option: Int, _ value: Int) -> Bool {
    ccurl_set_long(setopt, handle, CInt(option), value) == CInt(CCURL_OK)
  }

  @discardableResult
  func set(_ handle: Handle, _ option: Int, offset value: Int) -> Bool {
    ccurl_set_offset(setopt, handle, CInt(option), Int64(value)) == CInt(CCURL_OK)
  }

  /// The same for a text, which libcurl copies, or a pointer, which has to stay.
  @discardableResult
  func set(_ handle: Handle, _ option: Int, _ value: UnsafeRawPointer?) -> Bool {
    ccurl_set_pointer(setopt, handle, CInt(option), value) == CInt(CCURL_OK)
  }

  /// Waits until the transfer can go on, or for so long.
  func wait(_ multi: Handle, milliseconds: CInt) { _ = poll(multi, nil, 0, milliseconds, nil) }

  /// The result of the transfer, once it has ended.
  func result(_ multi: Handle) -> CInt? {
    var left: CInt = 0
    while let message = messageRead(multi, &left) {
      if message.pointee.message == CInt(CCURL_MESSAGE_DONE) { return message.pointee.data.result }
    }
    return nil
  }
}
