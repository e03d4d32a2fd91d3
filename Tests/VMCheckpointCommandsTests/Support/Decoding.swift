import FoundationEssentials

/// A result of the library, which gives its results no public initializers, from its JSON.
func result<Value: Decodable>(_ json: String) throws -> Value {
  try JSONDecoder().decode(Value.self, from: Data(json.utf8))
}
