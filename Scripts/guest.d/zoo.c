// Odd processes for a guest: each has what a table of processes, files, mappings or sockets could get
// wrong. Runs as root in the guest, started by its first process: "zoo DIRECTORY". When all are there
// and wait, it makes DIRECTORY/ready; where one cannot be made, it says which and exits with 1.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *directory;
static const char *animal = "zoo";
static int ready_fd = -1;

#define CHECK(call)                                                                       \
  ({                                                                                      \
    long checked = (long)(call);                                                          \
    if (checked < 0) {                                                                    \
      fprintf(stderr, "zoo: %s: %s: %s\n", animal, #call, strerror(errno));               \
      _exit(1);                                                                           \
    }                                                                                     \
    checked;                                                                              \
  })

static void ready(void) {
  CHECK(write(ready_fd, "", 1));
  close(ready_fd);
}

static void wait_for_ever(void) {
  for (;;) pause();
}

// The state of a process or thread, as in its stat file; 0 where it has none.
static char state_of(pid_t pid) {
  char path[64], text[512], *end;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return 0;
  text[length] = 0;
  end = strrchr(text, ')');
  return end ? end[2] : 0;
}

static void await_state(pid_t pid, char state) {
  while (state_of(pid) != state) usleep(10000);
}

// A process of its own that runs `body`, which says when it is ready.
static pid_t keep(const char *name, void (*body)(void)) {
  int pair[2];
  char byte;
  CHECK(pipe2(pair, O_CLOEXEC));
  pid_t pid = CHECK(fork());
  if (pid == 0) {
    animal = name;
    prctl(PR_SET_NAME, name);
    close(pair[0]);
    ready_fd = pair[1];
    body();
    wait_for_ever();
  }
  close(pair[1]);
  if (read(pair[0], &byte, 1) != 1) {
    fprintf(stderr, "zoo: %s did not come up\n", name);
    _exit(1);
  }
  close(pair[0]);
  return pid;
}

static const char *in_directory(const char *name) {
  static char path[4096];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  return path;
}

static int make_file(const char *path, size_t length) {
  int fd = CHECK(open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
  char block[4096];
  memset(block, 'z', sizeof block);
  for (size_t done = 0; done < length; done += sizeof block) CHECK(write(fd, block, sizeof block));
  return fd;
}

static void raise_loopback(void) {
  struct ifreq request = {.ifr_name = "lo"};
  int fd = CHECK(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  CHECK(ioctl(fd, SIOCGIFFLAGS, &request));
  request.ifr_flags |= IFF_UP;
  CHECK(ioctl(fd, SIOCSIFFLAGS, &request));
  close(fd);
}

// Processes

static void *named_thread(void *argument) {
  char name[16];
  long number = (long)argument;
  snprintf(name, sizeof name, "zoo-thread-%ld", number);
  prctl(PR_SET_NAME, name);
  if (number == 1) setpriority(PRIO_PROCESS, syscall(SYS_gettid), 7);
  if (number == 2) ready();
  wait_for_ever();
  return NULL;
}

static void threads(void) {
  pthread_t thread;
  for (long number = 0; number < 3; number++) {
    CHECK(-pthread_create(&thread, NULL, named_thread, (void *)number));
  }
}

// The first thread ends, and the process lives on.
static void *surviving_thread(void *argument) {
  await_state((pid_t)(long)argument, 'Z');
  ready();
  wait_for_ever();
  return NULL;
}

static void leaderless(void) {
  pthread_t thread;
  CHECK(-pthread_create(&thread, NULL, surviving_thread, (void *)(long)getpid()));
  // pthread_exit() would look for a shared library.
  syscall(SYS_exit, 0);
}

static void zombie(void) {
  siginfo_t info;
  pid_t child = CHECK(fork());
  if (child == 0) _exit(3);
  CHECK(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
  ready();
}

static void stopped(void) {
  pid_t child = CHECK(fork());
  if (child == 0) {
    prctl(PR_SET_NAME, "zoo-stopped-1");
    raise(SIGSTOP);
    wait_for_ever();
  }
  CHECK(waitpid(child, NULL, WUNTRACED));
  ready();
}

static void traced(void) {
  pid_t child = CHECK(fork());
  if (child == 0) {
    prctl(PR_SET_NAME, "zoo-traced-1");
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    wait_for_ever();
  }
  CHECK(waitpid(child, NULL, WUNTRACED));
  ready();
}

// The parent waits, without a signal reaching it, until the child ends.
static void vforking(void) {
  if (vfork() == 0) {
    ready();
    wait_for_ever();
  }
}

static void other_ids(void) {
  gid_t groups[] = {100, 4242};
  CHECK(setgroups(2, groups));
  CHECK(setresgid(2000, 2001, 2002));
  CHECK(setresuid(1000, 1001, 1002));
  ready();
}

static void nice_one(void) {
  CHECK(setpriority(PRIO_PROCESS, 0, 5));
  ready();
}

static void real_time(void) {
  struct sched_param parameters = {.sched_priority = 10};
  sched_setscheduler(0, SCHED_FIFO, &parameters);
  ready();
}

// Becomes this program anew, with other arguments. main() goes on there.
static void again(const char *program, char **arguments) {
  char text[16];
  fcntl(ready_fd, F_SETFD, 0);
  snprintf(text, sizeof text, "%d", ready_fd);
  setenv("ZOO_READY", text, 1);
  setenv("ZOO_DIRECTORY", directory, 1);
  execv(program, arguments);
  CHECK(-1);
}

static void odd_arguments(void) {
  char *arguments[] = {"zoo-arguments", "",      "a tab\tand a\nnew line", "\xff\xfe not UTF-8",
                       "caf\xc3\xa9",   "a | b", "it's \"quoted\"",         NULL};
  again("/proc/self/exe", arguments);
}

static void copy_program(const char *path) {
  char block[65536];
  ssize_t length;
  int from = CHECK(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  int to = CHECK(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755));
  while ((length = CHECK(read(from, block, sizeof block))) > 0) CHECK(write(to, block, length));
  close(from);
  close(to);
}

static void gone_program(void) {
  char *arguments[] = {"zoo-gone", NULL};
  copy_program(in_directory("gone"));
  again(in_directory("gone"), arguments);
}

static void program_in_memory(void) {
  char path[64], *arguments[] = {"zoo-memfd", NULL};
  int fd = CHECK(memfd_create("a program", MFD_CLOEXEC));
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  copy_program(path);
  int readable = CHECK(open(path, O_RDONLY | O_CLOEXEC));
  close(fd);
  snprintf(path, sizeof path, "/proc/self/fd/%d", readable);
  again(path, arguments);
}

// What the processes that began anew do.
static void begun_anew(const char *name) {
  animal = name;
  prctl(PR_SET_NAME, name);
  directory = getenv("ZOO_DIRECTORY");
  ready_fd = atoi(getenv("ZOO_READY"));
  if (!strcmp(name, "zoo-gone")) {
    CHECK(unlink(in_directory("gone")));
    CHECK(mkdir(in_directory("left"), 0755));
    CHECK(chdir(in_directory("left")));
    CHECK(rmdir(in_directory("left")));
  }
  ready();
  wait_for_ever();
}

// Files and mappings

static void files(void) {
  int pair[2], fd;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);

  fd = make_file(in_directory("a file"), 8192);
  CHECK(lseek(fd, 4711, SEEK_SET));
  CHECK(open(in_directory("a file"), O_WRONLY | O_APPEND));
  CHECK(open(in_directory("a file"), O_RDONLY | O_NONBLOCK | O_NOATIME));
  make_file(in_directory("deleted"), 4096);
  CHECK(unlink(in_directory("deleted")));
  make_file(in_directory("new\nline\t\\ and caf\xc3\xa9 \xff (deleted)"), 10);
  make_file(in_directory("old name"), 10);
  char old[4096];
  strcpy(old, in_directory("old name"));
  CHECK(rename(old, in_directory("new name")));

  // A path of some 2,000 bytes.
  char deep[4096], part[130];
  memset(part, 'd', 128);
  part[128] = 0;
  int below = CHECK(open(directory, O_PATH | O_DIRECTORY));
  for (int level = 0; level < 15; level++) {
    CHECK(mkdirat(below, part, 0755));
    int next = CHECK(openat(below, part, O_PATH | O_DIRECTORY));
    close(below);
    below = next;
  }
  CHECK(openat(below, "deep", O_RDWR | O_CREAT, 0600));
  CHECK(open(directory, O_RDONLY | O_DIRECTORY));
  strcpy(deep, in_directory("link"));
  CHECK(symlink("nowhere", deep));
  CHECK(open(deep, O_PATH | O_NOFOLLOW));

  CHECK(pipe(pair));
  CHECK(pipe2(pair, O_DIRECT | O_NONBLOCK));
  CHECK(mkfifo(in_directory("fifo"), 0600));
  CHECK(open(in_directory("fifo"), O_RDWR));
  fd = CHECK(memfd_create("in memory", MFD_ALLOW_SEALING));
  CHECK(ftruncate(fd, 12345));
  CHECK(eventfd(3, 0));
  fd = CHECK(epoll_create1(0));
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(epoll_ctl(fd, EPOLL_CTL_ADD, pair[0], &event));
  CHECK(timerfd_create(CLOCK_MONOTONIC, 0));
  CHECK(signalfd(-1, &signals, 0));
  fd = CHECK(inotify_init1(0));
  CHECK(inotify_add_watch(fd, directory, IN_CREATE));
  syscall(434 /* pidfd_open */, getpid(), 0);
  syscall(SYS_userfaultfd, O_CLOEXEC);
  CHECK(open("/dev/null", O_RDWR));
  CHECK(open("/dev/zero", O_RDONLY));
  open("/dev/ptmx", O_RDWR | O_NOCTTY);
  CHECK(open("/proc/self/ns/net", O_RDONLY));
  CHECK(open("/proc/self/status", O_RDONLY));
  CHECK(open("/proc/sys/kernel/hostname", O_RDONLY));
  CHECK(open("/sys/kernel/mm", O_RDONLY));
  // Far behind the others.
  struct rlimit limit = {4096, 4096};
  CHECK(setrlimit(RLIMIT_NOFILE, &limit));
  CHECK(dup2(pair[1], 3000));
  ready();
}

static void mappings(void) {
  size_t page = 4096;
  int fd = make_file(in_directory("mapped"), 16 * page);
  char *at = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4 * page);
  at[0] = 'm';
  mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, page);
  close(fd);
  fd = make_file(in_directory("mapped and deleted"), 4 * page);
  mmap(NULL, 4 * page, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(unlink(in_directory("mapped and deleted")));
  close(fd);
  fd = CHECK(memfd_create("mapped memory", MFD_CLOEXEC));
  CHECK(ftruncate(fd, 8 * page));
  mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  at = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  at[0] = 's';
  int segment = shmget(0x7a6f6f, 4 * page, IPC_CREAT | 0600);
  if (segment >= 0) {
    shmat(segment, NULL, 0);
    shmctl(segment, IPC_RMID, NULL);
  }
  mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
  // Enough of them for a tree of some levels.
  at = mmap(NULL, 700 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int number = 0; number < 700; number += 2) {
    CHECK(mprotect(at + number * page, page, PROT_READ | PROT_WRITE));
    if (number % 20 == 0) at[number * page] = 'a';
  }
  // In its low addresses, and in the highest that a process may have.
  mmap((void *)0x100000, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  mmap((void *)0x7fffffff0000, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ready();
}

// Sockets

static int bound(int family, int type, int protocol, uint16_t port) {
  struct sockaddr_in six_less = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  int one = 1, fd = CHECK(socket(family, type, protocol));
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (family == AF_INET6) {
    six.sin6_addr = in6addr_loopback;
    CHECK(bind(fd, (struct sockaddr *)&six, sizeof six));
  } else {
    six_less.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(fd, (struct sockaddr *)&six_less, sizeof six_less));
  }
  return fd;
}

static int connected(int family, int type, uint16_t port) {
  struct sockaddr_in six_less = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  int fd = CHECK(socket(family, type, 0));
  if (family == AF_INET6) {
    six.sin6_addr = in6addr_loopback;
    CHECK(connect(fd, (struct sockaddr *)&six, sizeof six));
  } else {
    six_less.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(connect(fd, (struct sockaddr *)&six_less, sizeof six_less));
  }
  return fd;
}

static int bound_unix(int type, const char *name, int is_abstract) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1;
  strcpy(address.sun_path + is_abstract, name);
  int fd = CHECK(socket(AF_UNIX, type, 0));
  CHECK(bind(fd, (struct sockaddr *)&address, length));
  return fd;
}

static void internet_sockets(void) {
  raise_loopback();
  int listener = bound(AF_INET, SOCK_STREAM, 0, 4001);
  CHECK(listen(listener, 8));
  int client = connected(AF_INET, SOCK_STREAM, 4001), server = CHECK(accept(listener, NULL, NULL));
  // One side has said its last.
  int half = connected(AF_INET, SOCK_STREAM, 4001);
  CHECK(accept(listener, NULL, NULL));
  CHECK(shutdown(half, SHUT_WR));
  // No process holds what is left of a connection that both have closed.
  int ended = connected(AF_INET, SOCK_STREAM, 4001);
  int other = CHECK(accept(listener, NULL, NULL));
  close(ended);
  close(other);
  // And none what waits in the listener's queue.
  connected(AF_INET, SOCK_STREAM, 4001);
  int six = bound(AF_INET6, SOCK_STREAM, 0, 4002);
  CHECK(listen(six, 8));
  connected(AF_INET6, SOCK_STREAM, 4002);
  CHECK(accept(six, NULL, NULL));
  // Any address, of both families.
  int any = CHECK(socket(AF_INET6, SOCK_STREAM, 0));
  struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(4003)};
  CHECK(bind(any, (struct sockaddr *)&address, sizeof address));
  CHECK(listen(any, 1));
  connected(AF_INET, SOCK_STREAM, 4003);
  CHECK(accept(any, NULL, NULL));
  bound(AF_INET, SOCK_DGRAM, 0, 4004);
  connected(AF_INET, SOCK_DGRAM, 4004);
  bound(AF_INET6, SOCK_DGRAM, 0, 4005);
  socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
  // Neither bound nor connected: no table of the kernel has them.
  CHECK(socket(AF_INET, SOCK_STREAM, 0));
  CHECK(socket(AF_INET6, SOCK_DGRAM, 0));
  (void)client;
  (void)server;
  ready();
}

static void other_sockets(void) {
  int pair[2];
  CHECK(chdir(directory));
  CHECK(listen(bound_unix(SOCK_STREAM, "stream", 0), 4));
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "stream"};
  int client = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
  // Stays in the listener's queue, where no process holds its other end.
  CHECK(connect(client, (struct sockaddr *)&address, sizeof address));
  bound_unix(SOCK_DGRAM, "datagram socket", 0);
  CHECK(listen(bound_unix(SOCK_SEQPACKET, "abstract name", 1), 4));
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair));
  CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
  struct sockaddr_nl netlink = {.nl_family = AF_NETLINK, .nl_groups = 1};
  int route = CHECK(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
  CHECK(bind(route, (struct sockaddr *)&netlink, sizeof netlink));
  socket(AF_PACKET, SOCK_RAW, htons(3 /* all */));
  socket(AF_PACKET, SOCK_DGRAM, htons(0x800));
  socket(AF_ALG, SOCK_SEQPACKET, 0);
  int vsock = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (vsock >= 0) {
    struct {
      sa_family_t family;
      uint16_t reserved;
      uint32_t port, cid;
      uint8_t flags, zero[3];
    } any = {.family = AF_VSOCK, .port = 4321, .cid = (uint32_t)-1};
    if (bind(vsock, (struct sockaddr *)&any, sizeof any) == 0) listen(vsock, 1);
  }
  // Two file descriptors, in two processes, of one socket.
  if (CHECK(fork()) == 0) {
    prctl(PR_SET_NAME, "zoo-sharing");
    ready();
    wait_for_ever();
  }
}

// Namespaces

static void container_child(void) {
  CHECK(unshare(CLONE_NEWPID));
  if (CHECK(fork()) == 0) {
    prctl(PR_SET_NAME, "zoo-nested");
    CHECK(setresuid(65534, 65534, 65534));
    ready();
    wait_for_ever();
  }
}

static void container(void) {
  CHECK(unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC));
  CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
  char root[4096], path[4200];
  strcpy(root, in_directory("root"));
  CHECK(mkdir(root, 0755));
  CHECK(mount("a source", root, "tmpfs", MS_NOSUID, "size=1m"));
  const char *places[] = {"proc", "with space", "tab\tand\\back", "caf\xc3\xa9", "bound", NULL};
  for (int number = 0; places[number]; number++) {
    snprintf(path, sizeof path, "%s/%s", root, places[number]);
    CHECK(mkdir(path, 0755));
    if (number == 0) continue;
    CHECK(mount("none", path, "tmpfs", number == 2 ? MS_RDONLY | MS_NODEV | MS_NOEXEC : 0, NULL));
  }
  // A part of another file system, read only, and once more over it.
  snprintf(path, sizeof path, "%s/bound", root);
  CHECK(mount(directory, path, NULL, MS_BIND, NULL));
  CHECK(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
  CHECK(sethostname("container", 9));
  raise_loopback();
  CHECK(listen(bound(AF_INET, SOCK_STREAM, 0, 4001), 1));
  bound_unix(SOCK_DGRAM, "in a namespace", 1);
  pid_t child = CHECK(fork());
  if (child == 0) {
    prctl(PR_SET_NAME, "zoo-container-1");
    CHECK(chroot(root));
    CHECK(chdir("/"));
    CHECK(mount("proc", "/proc", "proc", MS_RDONLY, NULL));
    make_file("/a file of the container", 100);
    container_child();
  }
}

// The same mounts as all others, and another root.
static void other_root(void) {
  CHECK(mkdir(in_directory("jail"), 0755));
  CHECK(chroot(in_directory("jail")));
  CHECK(chdir("/"));
  make_file("/a file in jail", 100);
  ready();
}

// A file of a file system that is no longer mounted anywhere.
static void detached(void) {
  char path[4096];
  strcpy(path, in_directory("detached"));
  CHECK(mkdir(path, 0755));
  CHECK(mount("detached", path, "tmpfs", 0, NULL));
  make_file(in_directory("detached/file"), 100);
  CHECK(umount2(path, MNT_DETACH));
  ready();
}

int main(int count, char **arguments) {
  if (getenv("ZOO_READY")) begun_anew(arguments[0]);
  if (count != 2) return 64;
  directory = arguments[1];
  CHECK(mkdir(directory, 0755));
  keep("zoo-threads", threads);
  keep("zoo-leaderless", leaderless);
  keep("zoo-zombie", zombie);
  keep("zoo-stopped", stopped);
  keep("zoo-traced", traced);
  await_state(keep("zoo-vfork", vforking), 'D');
  keep("zoo-ids", other_ids);
  keep("zoo-nice", nice_one);
  keep("zoo-real-time", real_time);
  keep("a ) (\\\n\xc3\xa9", other_ids);
  keep("zoo-arguments", odd_arguments);
  keep("zoo-gone", gone_program);
  keep("zoo-memfd", program_in_memory);
  keep("zoo-files", files);
  keep("zoo-mappings", mappings);
  keep("zoo-internet", internet_sockets);
  keep("zoo-sockets", other_sockets);
  keep("zoo-container", container);
  keep("zoo-jail", other_root);
  keep("zoo-detached", detached);
  make_file(in_directory("ready"), 1);
  wait_for_ever();
}
