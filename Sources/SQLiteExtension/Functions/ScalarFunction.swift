import CSQLiteExtension

/// A scalar SQL function.
struct ScalarFunction {
  let help: FunctionHelp
  /// Whether the result follows from the arguments alone, so that SQLite may compute it once.
  let isDeterministic: Bool
  /// Computes the result; called only when no required argument is NULL.
  let body: (Connection, [SQLArgument]) throws -> SQLValue

  init(
    _ help: FunctionHelp,
    isDeterministic: Bool = false,
    body: @escaping (Connection, [SQLArgument]) throws -> SQLValue
  ) {
    self.help = help
    self.isDeterministic = isDeterministic
    self.body = body
  }

  /// Makes the function known to the connection, once for each number of arguments.
  func register(_ connection: Connection) throws {
    for count in help.requiredArgumentCount...help.arguments.count {
      // Direct only: a store's own views, triggers and generated columns must not call it.
      let flags = SQLITE_DIRECTONLY | (isDeterministic ? SQLITE_DETERMINISTIC : 0)
      let context = Unmanaged.passRetained(Registration(function: self, connection: connection))
      let code = vmx_create_function(
        connection.database,
        help.name,
        CInt(count),
        flags,
        context.toOpaque(),
        { callFunction($0, $1, $2) },
        { Unmanaged<Registration>.fromOpaque($0!).release() }
      )
      guard code == SQLITE_OK else { throw SQLError(code: code, of: connection.database) }
    }
  }

  fileprivate final class Registration {
    let function: ScalarFunction
    let connection: Connection

    init(function: ScalarFunction, connection: Connection) {
      self.function = function
      self.connection = connection
    }
  }
}

private func callFunction(
  _ context: OpaquePointer?,
  _ count: CInt,
  _ values: UnsafeMutablePointer<OpaquePointer?>?
) {
  let registration = Unmanaged<ScalarFunction.Registration>
    .fromOpaque(vmx_user_data(context)).takeUnretainedValue()
  let help = registration.function.help
  let arguments = (0..<Int(count)).map {
    SQLArgument(value: values![$0], name: "\(help.name): \(help.arguments[$0])")
  }
  guard !arguments.prefix(help.requiredArgumentCount).contains(where: \.isNull) else {
    return vmx_result_null(context)
  }
  // Between calls no statement may hold the database.
  defer { registration.connection.resetStatements() }
  do {
    try registration.function.body(registration.connection, arguments).set(as: context)
  } catch {
    let error = SQLError(error)
    vmx_result_error(context, error.message, error.code)
  }
}
