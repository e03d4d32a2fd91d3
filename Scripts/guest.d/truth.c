// Prints what the guest's own kernel says of its processes, files, mappings, mounts, sockets, modules and
// log, for tests to compare with what vmckpt reads in the guest's RAM. Runs as root in the guest.
//
// Each record is a line "KIND LENGTH PATH", LENGTH bytes, and a line end:
//     file   what a file of /proc or /sys holds      link  where a symbolic link leads
//     inode  inode, mode and size of an open file    text  what this program itself found out
// The last record is "text 0 end". Nothing is changed or escaped on the way.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static char *content;
static size_t content_size;

static void put(const char *kind, const char *path, const void *bytes, size_t length) {
  printf("%s %zu %s\n", kind, length, path);
  fwrite(bytes, 1, length, stdout);
  putchar('\n');
}

static void reserve(size_t size) {
  if (size <= content_size) return;
  content_size = size * 2;
  content = realloc(content, content_size);
  if (!content) exit(1);
}

// All that a file holds, in `content`; -1 where it cannot be read.
static ssize_t slurp(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  size_t length = 0;
  ssize_t got;
  if (fd < 0) return -1;
  do {
    reserve(length + 65536 + 1);
    got = read(fd, content + length, 65536);
    if (got > 0) length += got;
  } while (got > 0);
  close(fd);
  content[length] = 0;
  return got < 0 && length == 0 ? -1 : (ssize_t)length;
}

static void put_file(const char *path) {
  ssize_t length = slurp(path);
  if (length >= 0) put("file", path, content, length);
}

static void put_link(const char *path) {
  char target[8192];
  ssize_t length = readlink(path, target, sizeof target);
  if (length >= 0) put("link", path, target, length);
}

static void put_inode(const char *path) {
  char text[128];
  struct stat about;
  if (stat(path, &about) != 0) return;
  int length = snprintf(
      text, sizeof text, "%llu %o %lld", (unsigned long long)about.st_ino, about.st_mode,
      (long long)about.st_size);
  put("inode", path, text, length);
}

static void each_number(const char *directory, void (*body)(const char *, const char *)) {
  DIR *open_directory = opendir(directory);
  struct dirent *entry;
  if (!open_directory) return;
  while ((entry = readdir(open_directory))) {
    if (isdigit((unsigned char)entry->d_name[0])) body(directory, entry->d_name);
  }
  closedir(open_directory);
}

// Whether `key` is new. What many processes have in common is printed once.
static int is_first(const char *key) {
  static char **keys;
  static size_t count;
  for (size_t index = 0; index < count; index++) {
    if (!strcmp(keys[index], key)) return 0;
  }
  keys = realloc(keys, (count + 1) * sizeof *keys);
  keys[count++] = strdup(key);
  return 1;
}

static void put_thread(const char *directory, const char *thread) {
  char path[512];
  const char *names[] = {"stat", "status"};
  for (size_t index = 0; index < sizeof names / sizeof *names; index++) {
    snprintf(path, sizeof path, "%s/%s/%s", directory, thread, names[index]);
    put_file(path);
  }
}

static void put_descriptor(const char *directory, const char *number) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", directory, number);
  put_link(path);
  put_inode(path);
}

static void put_position(const char *directory, const char *number) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", directory, number);
  put_file(path);
}

// The interfaces of this network namespace, with their addresses.
static void put_interfaces(const char *path) {
  char *text = NULL, address[INET6_ADDRSTRLEN];
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct if_nameindex *all = if_nameindex();
  struct ifaddrs *addresses = NULL, *each;
  for (int index = 0; all && all[index].if_index; index++) {
    struct ifreq request = {0};
    unsigned char *mac = (unsigned char *)request.ifr_hwaddr.sa_data;
    strncpy(request.ifr_name, all[index].if_name, IFNAMSIZ - 1);
    ioctl(fd, SIOCGIFMTU, &request);
    int mtu = request.ifr_mtu;
    ioctl(fd, SIOCGIFHWADDR, &request);
    fprintf(
        out, "device %s %u %d %02x:%02x:%02x:%02x:%02x:%02x", all[index].if_name,
        all[index].if_index, mtu, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    ioctl(fd, SIOCGIFFLAGS, &request);
    fprintf(out, " %x\n", (unsigned short)request.ifr_flags);
  }
  getifaddrs(&addresses);
  for (each = addresses; each; each = each->ifa_next) {
    if (!each->ifa_addr) continue;
    int family = each->ifa_addr->sa_family, bits = 0;
    if (family != AF_INET && family != AF_INET6) continue;
    size_t offset = family == AF_INET ? 4 : 8, bytes = family == AF_INET ? 4 : 16;
    inet_ntop(family, (char *)each->ifa_addr + offset, address, sizeof address);
    for (size_t index = 0; index < bytes; index++) {
      bits += __builtin_popcount(((unsigned char *)each->ifa_netmask)[offset + index]);
    }
    fprintf(out, "address %s %s/%d\n", each->ifa_name, address, bits);
  }
  fclose(out);
  put("text", path, text, length);
  free(text);
  if_freenameindex(all);
  freeifaddrs(addresses);
  close(fd);
}

static void put_network(const char *process) {
  char path[512];
  const char *names[] = {"tcp",     "tcp6",   "udp", "udp6",     "raw", "raw6",   "icmp",
                         "netlink", "packet", "dev", "if_inet6", "unix"};
  for (size_t index = 0; index < sizeof names / sizeof *names; index++) {
    snprintf(path, sizeof path, "%s/net/%s", process, names[index]);
    put_file(path);
  }
  snprintf(path, sizeof path, "%s/ns/net", process);
  int there = open(path, O_RDONLY | O_CLOEXEC), here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (there >= 0 && here >= 0 && setns(there, CLONE_NEWNET) == 0) {
    snprintf(path, sizeof path, "%s/net/interfaces", process);
    put_interfaces(path);
    setns(here, CLONE_NEWNET);
  }
  close(there);
  close(here);
}

static ssize_t link_key(char *key, size_t size, const char *process, const char *name) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", process, name);
  ssize_t length = readlink(path, key, size - 1);
  key[length < 0 ? 0 : length] = 0;
  return length;
}

static void put_process(const char *directory, const char *number) {
  char process[300], path[512], one[4096], two[4096], key[8400];
  const char *files[] = {"stat", "status", "cmdline", "environ", "maps"};
  const char *links[] = {"exe", "cwd", "root", "ns/mnt", "ns/net", "ns/pid"};
  snprintf(process, sizeof process, "%s/%s", directory, number);
  for (size_t index = 0; index < sizeof files / sizeof *files; index++) {
    snprintf(path, sizeof path, "%s/%s", process, files[index]);
    put_file(path);
  }
  for (size_t index = 0; index < sizeof links / sizeof *links; index++) {
    snprintf(path, sizeof path, "%s/%s", process, links[index]);
    put_link(path);
  }
  snprintf(path, sizeof path, "%s/task", process);
  each_number(path, put_thread);
  snprintf(path, sizeof path, "%s/fd", process);
  each_number(path, put_descriptor);
  snprintf(path, sizeof path, "%s/fdinfo", process);
  each_number(path, put_position);
  // Mounts are those of the namespace below the root.
  if (link_key(one, sizeof one, process, "ns/mnt") > 0 && link_key(two, sizeof two, process, "root") > 0) {
    snprintf(key, sizeof key, "%s %s", one, two);
    snprintf(path, sizeof path, "%s/mountinfo", process);
    if (is_first(key)) put_file(path);
  }
  if (link_key(one, sizeof one, process, "ns/net") > 0 && is_first(one)) put_network(process);
}

// The kernel's log: one record a read, "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT" and further lines.
static void put_log(void) {
  int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  size_t length = 0;
  if (fd < 0) return;
  for (;;) {
    reserve(length + 16384);
    ssize_t got = read(fd, content + length, 16384);
    if (got > 0) length += got;
    if (got == 0 || (got < 0 && errno != EPIPE)) break;
  }
  close(fd);
  put("text", "/dev/kmsg", content, length);
}

// The kernel's own symbols: how many, the sum of the FNV-1a hashes of their lines, and a few lines.
static void put_symbols(void) {
  FILE *in = fopen("/proc/kallsyms", "re"), *out;
  char *line = NULL, *text = NULL;
  size_t size = 0, length = 0;
  uint64_t count = 0, sum = 0;
  if (!in) return;
  out = open_memstream(&text, &length);
  while (getline(&line, &size, in) > 0) {
    // Those of modules and BPF programs follow, with a name in brackets.
    if (strchr(line, '[')) break;
    uint64_t hash = 0xcbf29ce484222325;
    for (char *byte = line; *byte; byte++) hash = (hash ^ (unsigned char)*byte) * 0x100000001b3;
    sum += hash;
    if (count++ % 512 == 0) fputs(line, out);
  }
  fprintf(out, "count %llu sum %llu\n", (unsigned long long)count, (unsigned long long)sum);
  fclose(out);
  fclose(in);
  put("text", "/proc/kallsyms", text, length);
  free(text);
  free(line);
}

static int busy;

// Counts a process that still runs, or waits for a disk. The zoo has one that waits for its child for ever.
static void count_busy(const char *directory, const char *number) {
  char path[300], *end;
  snprintf(path, sizeof path, "%s/%s/stat", directory, number);
  if (atoi(number) == getpid() || slurp(path) <= 0) return;
  // Kernel threads, PF_KTHREAD, go on for ever.
  unsigned long flags = 0;
  if (!(end = strrchr(content, ')'))) return;
  sscanf(end + 4, "%*d %*d %*d %*d %*d %lu", &flags);
  if (flags & 0x200000) return;
  if (end[2] == 'R' || (end[2] == 'D' && !strstr(content, "(zoo-vfork)"))) busy++;
}

// Waits, for half a minute at most, until all processes wait for something that will not come.
static void settle(void) {
  for (int round = 0; round < 600; round++) {
    busy = 0;
    each_number("/proc", count_busy);
    if (!busy) return;
    usleep(50000);
  }
}

int main(int count, char **arguments) {
  struct termios raw;
  char text[64];
  if (count > 1 && !freopen(arguments[1], "we", stdout)) return 1;
  if (tcgetattr(1, &raw) == 0) {
    cfmakeraw(&raw);
    cfsetspeed(&raw, B115200);
    tcsetattr(1, TCSANOW, &raw);
  }
  static char buffer[1 << 16];
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  settle();
  // Its own process will be gone.
  put("text", "collector", text, snprintf(text, sizeof text, "%d", getpid()));
  if (count > 2) put_symbols();
  const char *files[] = {
      "/proc/version",           "/proc/cmdline",  "/proc/sys/kernel/osrelease",
      "/proc/sys/kernel/version", "/proc/stat",    "/proc/sys/kernel/hostname",
      "/proc/modules",           "/proc/meminfo"};
  for (size_t index = 0; index < sizeof files / sizeof *files; index++) put_file(files[index]);
  each_number("/proc", put_process);
  put_log();
  put("text", "end", "", 0);
  if (fflush(stdout) != 0) return 1;
  tcdrain(1);
  return 0;
}
