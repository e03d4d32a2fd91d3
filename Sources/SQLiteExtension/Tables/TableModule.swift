import CSQLiteExtension
import Glibc

/// SQLite's callbacks for every ``TableFunction``. Without xCreate, so that each is a table-valued
/// function and nothing that a store's schema could name.
nonisolated(unsafe) let tableModule: UnsafePointer<sqlite3_module> = {
  var module = sqlite3_module()
  module.iVersion = 0
  module.xConnect = { database, context, _, _, table, message in
    connect(database, context, table, message)
  }
  module.xBestIndex = { table, info in planTable(table, info) }
  module.xDisconnect = { table in disconnect(table) }
  module.xOpen = { table, cursor in openCursor(table, cursor) }
  module.xClose = { cursor in closeCursor(cursor) }
  module.xFilter = { cursor, number, _, count, values in
    filter(cursor, plan: number, count, values)
  }
  module.xNext = { cursor in advance(cursor) }
  module.xEof = { cursor in withState(cursor) { $0.isAtEnd ? 1 : 0 } }
  module.xColumn = { cursor, context, column in readColumn(cursor, context, column) }
  module.xRowid = { cursor, rowID in
    rowID?.pointee = withState(cursor) { $0.rowNumber }
    return SQLITE_OK
  }
  let pointer = UnsafeMutablePointer<sqlite3_module>.allocate(capacity: 1)
  pointer.initialize(to: module)
  return UnsafePointer(pointer)
}()

private typealias Table = UnsafeMutablePointer<sqlite3_vtab>
private typealias Cursor = UnsafeMutablePointer<sqlite3_vtab_cursor>

/// The Swift side of a cursor.
private final class CursorState {
  var rows: (any TableCursor)?
  var isAtEnd = true
  var rowNumber: Int64 = 0
  /// The arguments follow these, and then the columns that the rows have too.
  var visibleColumnCount = 0
  var argumentCount = 0
}

private func instance(_ table: Table?) -> TableInstance {
  let object = UnsafeMutableRawPointer(table!).assumingMemoryBound(to: vmx_table.self).pointee
    .object
  return Unmanaged<TableInstance>.fromOpaque(object!).takeUnretainedValue()
}

private func unmanagedState(_ cursor: Cursor?) -> Unmanaged<CursorState> {
  let object = UnsafeMutableRawPointer(cursor!).assumingMemoryBound(to: vmx_cursor.self).pointee
    .object
  return .fromOpaque(object!)
}

/// SQLite keeps the cursor for the time of a call. Not to retain it there is worth a tenth of the
/// time of a query with millions of rows.
@inline(__always)
private func withState<Result>(_ cursor: Cursor?, _ body: (CursorState) -> Result) -> Result {
  unmanagedState(cursor)._withUnsafeGuaranteedRef(body)
}

/// Hands `error` to SQLite as the table's.
private func report(_ error: any Error, on table: Table?) -> CInt {
  let error = SQLError(error)
  vmx_free(table!.pointee.zErrMsg)
  table!.pointee.zErrMsg = vmx_copy_string(error.message)
  return error.code
}

private func connect(
  _ database: OpaquePointer?,
  _ context: UnsafeMutableRawPointer?,
  _ result: UnsafeMutablePointer<Table?>?,
  _ message: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
  let instance = Unmanaged<TableInstance>.fromOpaque(context!)
  let code = vmx_declare_vtab(database, instance.takeUnretainedValue().function.declaration)
  guard code == SQLITE_OK else { return code }
  _ = vmx_make_direct_only(database)
  if instance.takeUnretainedValue().function.isLifetimeHook {
    instance.takeUnretainedValue().connection.hook()
  }
  guard let memory = vmx_malloc(Int64(MemoryLayout<vmx_table>.size)) else { return SQLITE_NOMEM }
  let table = memory.bindMemory(to: vmx_table.self, capacity: 1)
  table.initialize(to: vmx_table())
  table.pointee.object = instance.retain().toOpaque()
  result?.pointee = UnsafeMutableRawPointer(table).assumingMemoryBound(to: sqlite3_vtab.self)
  return SQLITE_OK
}

private func disconnect(_ table: Table?) -> CInt {
  let instance = instance(table)
  if instance.function.isLifetimeHook { instance.connection.release() }
  Unmanaged.passUnretained(instance).release()
  vmx_free(table)
  return SQLITE_OK
}

private func openCursor(
  _ table: Table?,
  _ result: UnsafeMutablePointer<Cursor?>?
) -> CInt {
  guard let memory = vmx_malloc(Int64(MemoryLayout<vmx_cursor>.size)) else { return SQLITE_NOMEM }
  let cursor = memory.bindMemory(to: vmx_cursor.self, capacity: 1)
  cursor.initialize(to: vmx_cursor())
  cursor.pointee.object = Unmanaged.passRetained(CursorState()).toOpaque()
  result?.pointee = UnsafeMutableRawPointer(cursor)
    .assumingMemoryBound(to: sqlite3_vtab_cursor.self)
  return SQLITE_OK
}

private func closeCursor(_ cursor: Cursor?) -> CInt {
  unmanagedState(cursor).release()
  vmx_free(cursor)
  return SQLITE_OK
}

private func filter(
  _ cursor: Cursor?,
  plan number: CInt,
  _ count: CInt,
  _ values: UnsafeMutablePointer<OpaquePointer?>?
) -> CInt {
  let state = unmanagedState(cursor).takeUnretainedValue()
  let instance = instance(cursor!.pointee.pVtab)
  state.visibleColumnCount = instance.function.columns.count
  state.argumentCount =
    instance.function.help.arguments.count + instance.function.surplusColumnCount
  state.rows = nil
  state.isAtEnd = true
  state.rowNumber = 0
  // What the search for the snapshot leaves open ends when the rows have a statement of their own.
  defer { instance.connection.resetStatements() }
  do {
    let plan = TablePlan(number: number)
    guard
      let query = try plan.query(
        instance.function.help,
        Array(UnsafeBufferPointer(start: values, count: Int(count)))
      )
    else { return SQLITE_OK }
    state.rows = try instance.function.open(instance.connection, query)
  } catch let error as SQLError where error.isUnfinishedSnapshot {
    // A question about all snapshots is asked while one is being saved, too.
    return SQLITE_OK
  } catch {
    return report(error, on: cursor!.pointee.pVtab)
  }
  return advance(cursor)
}

private func advance(_ cursor: Cursor?) -> CInt {
  withState(cursor) { state in
    do {
      state.isAtEnd = try state.rows?.next() != true
      state.rowNumber += 1
      // Lets go of the database at once, and not when the statement ends.
      if state.isAtEnd { state.rows = nil }
      return SQLITE_OK
    } catch {
      state.rows = nil
      state.isAtEnd = true
      return report(error, on: cursor!.pointee.pVtab)
    }
  }
}

private func readColumn(_ cursor: Cursor?, _ context: OpaquePointer?, _ column: CInt) -> CInt {
  withState(cursor) { state in
    var index = Int(column)
    if index >= state.visibleColumnCount + state.argumentCount {
      index -= state.argumentCount
    } else if index >= state.visibleColumnCount {
      // An argument has nothing to report: its value is the caller's.
      index = -1
    }
    guard index >= 0, let rows = state.rows else {
      vmx_result_null(context)
      return SQLITE_OK
    }
    do {
      try rows.column(index).set(as: context)
      return SQLITE_OK
    } catch {
      let error = SQLError(error)
      vmx_result_error(context, error.message, error.code)
      return error.code
    }
  }
}
