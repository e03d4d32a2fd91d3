import VMCheckpointCommands

@main
struct Entry {
  static func main() {
    VMCheckpointTool.main()
  }
}
