/// A server with TLS on loopback that says the same of every object, with a certificate that no system knows.
///
/// Python and openssl do it: neither this process nor the product has the server's side of TLS.
package final class TLSObjectStore {
  package let port: UInt16
  /// The certificate, which signed itself, for 127.0.0.1 alone.
  package let certificatePath: String

  private let directory: TemporaryDirectory
  private let process: ChildProcess

  package init() throws {
    directory = try TemporaryDirectory()
    certificatePath = directory.file("certificate.pem")
    let made = try run([
      "/usr/bin/env", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
      "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext",
      "subjectAltName=IP:127.0.0.1", "-keyout", directory.file("key.pem"), "-out", certificatePath,
    ])
    guard made.succeeded else { throw TestSetupError("openssl makes no certificate: \(made)") }
    try writeFile(directory.file("server.py"), Self.script)
    process = try ChildProcess([
      "/usr/bin/env", "python3", directory.file("server.py"), directory.path,
    ])
    let portPath = directory.file("port")
    try waitUntil("the server listens") { (try? readFile(portPath))?.last == 10 }
    let text = String(decoding: try readFile(portPath).dropLast(), as: UTF8.self)
    guard let port = UInt16(text) else { throw TestSetupError("the server has no port") }
    self.port = port
  }

  private static let script = """
    import http.server, os, ssl, sys

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.send_header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
            self.end_headers()

    folder = sys.argv[1]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder + "/certificate.pem", folder + "/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with open(folder + "/port.new", "w") as file:
        file.write(f"{server.server_address[1]}\\n")
    os.rename(folder + "/port.new", folder + "/port")
    server.serve_forever()

    """
}
