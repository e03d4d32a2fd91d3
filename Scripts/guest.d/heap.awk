# A heap for a small guest: counts, and where each word stands, of the words in the kernel's
# module tables. Reads a target in MiB from a line, grows until there, answers with the size.
function resident_mib(    fields, line) {
  getline line < "/proc/self/statm"
  close("/proc/self/statm")
  split(line, fields, " ")
  return fields[2] / 256
}
BEGIN {
  marker = "VMCKPT-GUEST-" "MARKER-5b1f0c7e"
  while ((getline path < "/tmp/files") > 0) paths[count++] = path
}
{
  while (resident_mib() < $1) {
    path = paths[next_path++ % count]
    for (i = 0; i < 4096; i++) {
      seen[serial] = path ":" serial * 2654435761
      owner[path] = owner[path] " " serial++
      if (length(owner[path]) > 512) delete owner[path]
    }
  }
  print resident_mib(), marker
  fflush()
}
