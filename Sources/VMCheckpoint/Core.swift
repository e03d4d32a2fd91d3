// The words of the domain, overlays and the chunk codec are a module of their own, which the SQLite
// extension uses as well. Users of the library see one module.
@_exported public import VMCheckpointCore
