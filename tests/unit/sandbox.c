/* What a program that shut itself in can still do, and what it cannot: each row in a child of its own, which enters and
 * then tries one thing. A row that needs what this kernel does not have is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "sandbox.h"

/* A thing to try returns 0 if it worked, else errno. Descriptors 10 to 13 were made before entering. */
enum { LISTENING = 10, TCP = 11, CONNECTED = 12, PARENT_FILE = 13 };

static int
try_base(void)
{
	struct timespec t = { 0, 1 };
	char *s = malloc(1 << 20), *bigger;
	char octets[4];
	struct stat st;
	pid_t pid = getpid();

	if (!s || pid < 2 || clock_gettime(CLOCK_MONOTONIC, &t) < 0 || time(NULL) == 0)
		return EIO;
	bigger = realloc(s, 8 << 20);
	if (!bigger) {
		free(s);
		return ENOMEM;
	}
	free(bigger);
	if (nanosleep(&(struct timespec){ 0, 1 }, NULL) < 0 || getentropy(octets, sizeof octets) < 0)
		return errno;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || alarm(100) != 0 || alarm(0) == 0)
		return errno;
	return fstat(PARENT_FILE, &st) == 0 && write(PARENT_FILE, "x", 1) == 1 && lseek(PARENT_FILE, 0, SEEK_SET) == 0 ? 0 : errno;
}

static int
open_to_read(const char *path)
{
	int fd = open(path, O_RDONLY);
	char c;

	return fd < 0 ? errno : read(fd, &c, 1) < 0 ? errno : 0;
}

static int
open_to_write(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	return fd < 0 ? errno : write(fd, "x", 1) < 0 || fsync(fd) < 0 ? errno : 0;
}

static int try_read_inside(void) { return open_to_read("inside/file"); }
static int try_read_outside(void) { return open_to_read("outside/file"); }
static int try_read_link(void) { return open_to_read("inside/link"); }
static int try_read_beside_link(void) { return open_to_read("outside/other"); }
static int try_write_inside(void) { return open_to_write("inside/new"); }
static int try_write_outside(void) { return open_to_write("outside/file"); }
static int try_list(void) { int fd = open("outside", O_RDONLY | O_DIRECTORY); return fd < 0 ? errno : 0; }
static int try_truncate(void) { return truncate("inside/file", 0) < 0 ? errno : 0; }

static int
try_rename(void)
{
	if (mkdir("inside/deep", 0700) < 0 || open_to_write("inside/a") != 0)
		return errno;
	if (rename("inside/a", "inside/deep/b") < 0 || unlink("inside/deep/b") < 0 || rmdir("inside/deep") < 0)
		return errno;
	return 0;
}

static int
try_move(void)
{
	return renameat2(AT_FDCWD, "inside/from/file", AT_FDCWD, "inside/to/file", RENAME_NOREPLACE) < 0 ||
	    linkat(AT_FDCWD, "inside/to/file", AT_FDCWD, "inside/from/file", 0) < 0 ? errno : 0;
}

static int try_move_in(void) { return renameat2(AT_FDCWD, "inside/file", AT_FDCWD, "inside/to/file", RENAME_NOREPLACE) < 0 ? errno : 0; }
static int try_read_movable(void) { return open_to_read("inside/from/file"); }
static int try_write_movable(void) { return openat(AT_FDCWD, "inside/from/file", O_WRONLY) < 0 ? errno : 0; }
static int try_write_movable_both_ways(void) { return openat(AT_FDCWD, "inside/from/file", O_RDWR) < 0 ? errno : 0; }
static int try_truncate_movable(void) { return openat(AT_FDCWD, "inside/from/file", O_RDONLY | O_TRUNC) < 0 ? errno : 0; }
static int try_make_movable(void) { return mkdir("inside/from/new", 0700) < 0 ? errno : 0; }
static int try_list_inside(void) { int fd = openat(AT_FDCWD, "inside", O_RDONLY | O_DIRECTORY); return fd < 0 ? errno : 0; }
static int try_move_out(void) { return renameat2(AT_FDCWD, "inside/file", AT_FDCWD, "outside/stolen", RENAME_NOREPLACE) < 0 ? errno : 0; }
static int try_remove(void) { return unlinkat(AT_FDCWD, "inside/file", 0) < 0 ? errno : 0; }
static int try_remove_outside(void) { return unlinkat(AT_FDCWD, "outside/file", 0) < 0 ? errno : 0; }
static int try_rename_out(void) { return rename("inside/file", "outside/stolen") < 0 ? errno : 0; }
static int try_symlink(void) { return symlink("x", "inside/symlink") < 0 ? errno : 0; }
static int try_fifo(void) { return mknod("inside/fifo", S_IFIFO | 0600, 0) < 0 ? errno : 0; }
static int try_chown(void) { return chown("inside/file", 1, 1) < 0 ? errno : 0; }

static int
try_exec(void)
{
	char *const arguments[] = { (char *)(uintptr_t)"true", NULL };

	execve("/bin/true", arguments, arguments + 1);
	return errno;
}

static int
connect_to(const char *path, size_t skip)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno;
	strcpy(address.sun_path + skip, path);
	return connect(fd, (struct sockaddr *)&address,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + skip + strlen(path))) < 0 ? errno : 0;
}

static int try_connect(void) { return connect_to("outside/socket", 0); }
static int try_connect_abstract(void) { return connect_to("tambo-unit-sandbox", 1); }
static int try_socket_inet(void) { return socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0; }
static int try_socket_netlink(void) { return socket(AF_NETLINK, SOCK_RAW, 0) < 0 ? errno : 0; }

static int
try_connect_tcp(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	return connect(TCP, (struct sockaddr *)&address, sizeof address) < 0 ? errno : 0;
}

static int
try_udp(void)
{
	struct sockaddr_in6 own = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	int fd = socket(AF_INET6, SOCK_DGRAM, 0), one = 1;
	socklen_t len = sizeof own;
	char c;

	if (fd < 0)	/* a machine without IPv6 */
		return errno == EAFNOSUPPORT ? 0 : errno;
	if (bind(fd, (struct sockaddr *)&own, sizeof own) < 0)
		return errno == EADDRNOTAVAIL ? 0 : errno;
	if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) < 0 || getsockname(fd, (struct sockaddr *)&own, &len) < 0 ||
	    connect(fd, (struct sockaddr *)&own, len) < 0 || send(fd, "x", 1, 0) != 1 || recv(fd, &c, 1, 0) != 1)
		return errno;
	return 0;
}

static int
try_talk(void)
{
	struct iovec octets = { (void *)(uintptr_t)"x", 1 };
	char space[CMSG_SPACE(sizeof(int))] = "";
	struct msghdr m = { .msg_iov = &octets, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int fd = PARENT_FILE;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	return sendmsg(CONNECTED, &m, MSG_NOSIGNAL) < 0 || shutdown(CONNECTED, SHUT_WR) < 0 ? errno : 0;
}

static int
try_accept(void)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	int fd = accept4(LISTENING, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ? errno : 0;
}

static int
try_fork(void)
{
	int ends[2], status;
	pid_t pid;

	if (pipe(ends) < 0 || (pid = fork()) < 0)
		return errno;
	if (pid == 0)
		_exit(7);
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7 ? 0 : ECHILD;
}

static int try_kill_child(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	return pid > 0 && kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid ? 0 : errno;
}

static int try_set_owner(void) { return fcntl(CONNECTED, F_SETOWN, getppid()) < 0 ? errno : 0; }	/* of its SIGIO, or another signal */
static int try_set_signal(void) { return fcntl(CONNECTED, F_SETSIG, SIGKILL) < 0 ? errno : 0; }
static int try_set_lease(void) { return fcntl(PARENT_FILE, F_SETLEASE, F_WRLCK) < 0 ? errno : 0; }

static int
try_descriptor_flags(void)
{
	int copy = fcntl(CONNECTED, F_DUPFD_CLOEXEC, 14);

	return copy < 0 || fcntl(copy, F_GETFD) != FD_CLOEXEC || fcntl(copy, F_SETFD, 0) < 0 ||
	    fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK) < 0 || fcntl(copy, F_DUPFD, 14) < 0 ? errno : 0;
}

static int try_kill_parent(void) { return kill(getppid(), 0) < 0 ? errno : 0; }
static int try_ptrace(void) { return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? errno : 0; }
static int try_namespace(void) { return syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) < 0 ? errno : 0; }
static int try_unshare(void) { return unshare(CLONE_NEWUSER) < 0 ? errno : 0; }
static int try_clone3(void) { return syscall(SYS_clone3, NULL, 0) < 0 ? errno : 0; }
static int try_statx(void) { return syscall(SYS_statx, AT_FDCWD, ".", 0, 0, NULL) < 0 ? errno : 0; }

static int
try_executable_memory(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0;
}

static int
try_limits(void)
{
	struct rlimit core, files, size;

	if (getrlimit(RLIMIT_CORE, &core) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0 || getrlimit(RLIMIT_FSIZE, &size) < 0)
		return errno;
	return core.rlim_max == 0 && files.rlim_max == 20 && files.rlim_cur == 20 && size.rlim_cur == 4096 ? 0 : EINVAL;
}

static int
try_raise_limit(void)
{
	return setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 10, 20 }) < 0 ? errno : 0;
}


static int
try_memory(void)
{
	return mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0;
}

static int try_no_new_privs(void) { return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : EINVAL; }

static const struct sandbox
	client = { .calls = &sandbox_client },
	reader = { .calls = &sandbox_reader, .read = { "inside", "not-there" } },
	reader_of_file = { .calls = &sandbox_reader, .read = { "outside/file" } },
	scheduler = { .calls = &sandbox_scheduler, .read = { "inside" } },
	maildrop = { .calls = &sandbox_maildrop, .move = { "inside/from", "inside/to" }, .remove = { "inside" } },
	mover = { .calls = &sandbox_keeper, .move = { "inside/from", "inside/to" }, .remove = { "inside" } },
	keeper = { .calls = &sandbox_keeper, .write = { "inside" } },
	remote = { .calls = &sandbox_remote, .read = { "inside" }, .network = 1 },
	remote_without_network = { .calls = &sandbox_remote },
	reading_keeper = { .calls = &sandbox_keeper, .read = { "inside" } },
	small = { .calls = &sandbox_client, .files = 20, .file_size = 4096, .memory = 32 << 20 };

enum { KILLED = 1 << 12 };

static const struct row {
	const char *rule;
	const struct sandbox *shut_in;
	int (*try)(void);
	int want;	/* 0, errno, or KILLED by the filter */
	int needs;	/* version of Landlock, 0 none */
} rows[] = {
	{ "client: memory, clock, signals, open descriptors", &client, try_base, 0, 0 },
	{ "client: connect to a Unix socket", &client, try_connect, 0, 0 },
	{ "client: send a descriptor", &client, try_talk, 0, 0 },
	{ "client: opens no file", &client, try_read_outside, KILLED, 0 },
	{ "client: writes no file", &client, try_write_inside, KILLED, 0 },
	{ "client: does not fork", &client, try_fork, KILLED, 0 },
	{ "client: does not accept", &client, try_accept, KILLED, 0 },
	{ "client: runs no program", &client, try_exec, KILLED, 0 },
	{ "client: no internet socket", &client, try_socket_inet, KILLED, 0 },
	{ "client: no netlink socket", &client, try_socket_netlink, KILLED, 0 },
	{ "client: no TCP over a socket made before", &client, try_connect_tcp, EACCES, 4 },
	{ "client: no abstract socket", &client, try_connect_abstract, EPERM, 6 },
	{ "client: no signal", &client, try_kill_parent, KILLED, 0 },
	{ "client: flags and copies of descriptors", &client, try_descriptor_flags, 0, 0 },
	{ "client: no signal by way of a socket", &client, try_set_owner, KILLED, 0 },
	{ "client: nor another one than SIGIO", &client, try_set_signal, KILLED, 0 },
	{ "client: no lease", &client, try_set_lease, KILLED, 0 },
	{ "client: no ptrace", &client, try_ptrace, KILLED, 0 },
	{ "client: no namespace", &client, try_unshare, KILLED, 0 },
	{ "client: no executable memory", &client, try_executable_memory, KILLED, 0 },
	{ "client: clone3 does not exist", &client, try_clone3, ENOSYS, 0 },
	{ "client: statx does not exist", &client, try_statx, ENOSYS, 0 },
	{ "client: asking for no_new_privs", &client, try_no_new_privs, KILLED, 0 },

	{ "reader: a file inside", &reader, try_read_inside, 0, 0 },
	{ "reader: a symbolic link that leads out", &reader, try_read_link, 0, 0 },
	{ "reader: a file outside, beside that link's target", &reader, try_read_beside_link, EACCES, 1 },
	{ "reader: a directory outside", &reader, try_list, EACCES, 1 },
	{ "reader: writes nothing", &reader, try_write_inside, KILLED, 0 },
	{ "reader: does not truncate", &reader, try_truncate, KILLED, 0 },
	{ "reader: makes no socket", &reader, try_connect, KILLED, 0 },
	{ "reader: of one file", &reader_of_file, try_read_outside, 0, 0 },
	{ "reader: of one file, not the next", &reader_of_file, try_read_beside_link, EACCES, 1 },

	{ "scheduler: reads", &scheduler, try_read_inside, 0, 0 },
	{ "scheduler: connects", &scheduler, try_connect, 0, 0 },
	{ "scheduler: forks", &scheduler, try_fork, 0, 0 },
	{ "scheduler: kills its child", &scheduler, try_kill_child, 0, 0 },
	{ "scheduler: runs no program", &scheduler, try_exec, KILLED, 0 },
	{ "scheduler: writes nothing", &scheduler, try_write_inside, KILLED, 0 },
	{ "scheduler: no child in a namespace", &scheduler, try_namespace, KILLED, 0 },
	{ "scheduler: no signal to others", &scheduler, try_kill_parent, EPERM, 6 },

	{ "keeper: writes", &keeper, try_write_inside, 0, 0 },
	{ "keeper: renames between directories", &keeper, try_rename, 0, 0 },
	{ "keeper: not out of its directory", &keeper, try_rename_out, EACCES, 2 },
	{ "keeper: writes nothing outside", &keeper, try_write_outside, EACCES, 1 },
	{ "keeper: reads nothing outside", &keeper, try_read_outside, EACCES, 1 },
	{ "keeper: accepts and asks who it is", &keeper, try_accept, 0, 0 },
	{ "keeper: forks", &keeper, try_fork, 0, 0 },
	{ "keeper: makes no socket", &keeper, try_connect, KILLED, 0 },
	{ "keeper: runs no program", &keeper, try_exec, KILLED, 0 },
	{ "keeper: makes no symbolic link", &keeper, try_symlink, KILLED, 0 },
	{ "keeper: makes no FIFO", &keeper, try_fifo, KILLED, 0 },
	{ "keeper: gives no file away", &keeper, try_chown, KILLED, 0 },
	{ "keeper: a path to read is not written", &reading_keeper, try_write_inside, EACCES, 1 },
	{ "keeper: a path to read is not truncated", &reading_keeper, try_truncate, KILLED, 0 },

	{ "maildrop: memory, clock, signals, open descriptors", &maildrop, try_base, 0, 0 },
	{ "maildrop: reads what it moves", &maildrop, try_read_movable, 0, 0 },
	{ "maildrop: moves", &maildrop, try_move, 0, 0 },
	{ "maildrop: lists where it removes", &maildrop, try_list_inside, 0, 0 },
	{ "maildrop: removes", &maildrop, try_remove, 0, 0 },
	{ "maildrop: reads nothing that it only removes", &maildrop, try_read_inside, EACCES, 1 },
	{ "maildrop: moves nothing that it only removes", &maildrop, try_move_in, EXDEV, 2 },
	{ "maildrop: writes nothing", &maildrop, try_write_movable, KILLED, 0 },
	{ "maildrop: nor to read it as well", &maildrop, try_write_movable_both_ways, KILLED, 0 },
	{ "maildrop: empties nothing", &maildrop, try_truncate_movable, KILLED, 0 },
	{ "maildrop: makes nothing", &maildrop, try_write_inside, KILLED, 0 },
	{ "maildrop: does not truncate", &maildrop, try_truncate, KILLED, 0 },
	{ "maildrop: reads nothing outside", &maildrop, try_read_outside, EACCES, 1 },
	{ "maildrop: lists nothing outside", &maildrop, try_list, EACCES, 1 },
	{ "maildrop: moves nothing out", &maildrop, try_move_out, EACCES, 2 },
	{ "maildrop: removes nothing outside", &maildrop, try_remove_outside, EACCES, 1 },
	{ "moved paths, whatever the filter: moves", &mover, try_move, 0, 0 },
	{ "moved paths: are not written", &mover, try_write_movable, EACCES, 1 },
	{ "moved paths: are not emptied", &mover, try_truncate_movable, EACCES, 3 },
	{ "moved paths: get no directory", &mover, try_make_movable, EACCES, 1 },
	{ "maildrop: makes no socket", &maildrop, try_connect, KILLED, 0 },
	{ "maildrop: no internet socket", &maildrop, try_socket_inet, KILLED, 0 },
	{ "maildrop: does not accept", &maildrop, try_accept, KILLED, 0 },
	{ "maildrop: does not fork", &maildrop, try_fork, KILLED, 0 },
	{ "maildrop: runs no program", &maildrop, try_exec, KILLED, 0 },
	{ "maildrop: no signal", &maildrop, try_kill_parent, KILLED, 0 },
	{ "maildrop: no signal by way of a socket", &maildrop, try_set_owner, KILLED, 0 },

	{ "remote: memory, clock, signals, open descriptors", &remote, try_base, 0, 0 },
	{ "remote: UDP, bound, with options", &remote, try_udp, 0, 0 },
	{ "remote: TCP (nobody is there)", &remote, try_connect_tcp, ECONNREFUSED, 0 },
	{ "remote: an internet socket", &remote, try_socket_inet, 0, 0 },
	{ "remote: TCP only where network says so", &remote_without_network, try_connect_tcp, EACCES, 4 },
	{ "remote: a file inside", &remote, try_read_inside, 0, 0 },
	{ "remote: no file outside", &remote, try_read_beside_link, EACCES, 1 },
	{ "remote: writes nothing", &remote, try_write_inside, KILLED, 0 },
	{ "remote: no Unix socket", &remote, try_connect, KILLED, 0 },
	{ "remote: no netlink socket", &remote, try_socket_netlink, KILLED, 0 },
	{ "remote: does not accept", &remote, try_accept, KILLED, 0 },
	{ "remote: does not fork", &remote, try_fork, KILLED, 0 },
	{ "remote: runs no program", &remote, try_exec, KILLED, 0 },

	{ "limits: core, descriptors, file size", &small, try_limits, 0, 0 },
	{ "limits: cannot be changed", &small, try_raise_limit, KILLED, 0 },
	{ "limits: memory", &small, try_memory, ENOMEM, 0 },
};

static int
listen_at(const char *path, size_t skip)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path + skip, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + skip + strlen(path))), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static void
make_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "text", 4), 4);
	close(fd);
}

static void
move_fd(int fd, int to)
{
	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, to), to);
	close(fd);
}

/* Everything that the rows use, in the current directory and on fixed descriptors. */
static void
prepare(int pair[2])
{
	assert_int_equal(mkdir("inside", 0700) | mkdir("inside/from", 0700) | mkdir("inside/to", 0700) | mkdir("outside", 0700), 0);
	make_file("inside/file");
	make_file("inside/from/file");
	make_file("outside/file");
	make_file("outside/other");
	assert_int_equal(symlink("../outside/file", "inside/link"), 0);
	move_fd(listen_at("outside/socket", 0), LISTENING);
	move_fd(socket(AF_INET, SOCK_STREAM, 0), TCP);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	move_fd(pair[1], CONNECTED);
	move_fd(open("outside/other", O_RDWR), PARENT_FILE);
}

static void
clean_up(void)
{
	static const char *const files[] = { "inside/file", "inside/from/file", "inside/to/file", "inside/link", "inside/new", "outside/file",
	    "outside/other", "outside/socket" };

	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		unlink(files[i]);
	rmdir("inside/from");
	rmdir("inside/to");
	rmdir("inside");
	rmdir("outside");
	for (int fd = LISTENING; fd <= PARENT_FILE; fd++)
		close(fd);
}

static void
sandbox_row(void **state)
{
	const struct row *row = *state;
	int pair[2], status, abstract;
	pid_t pid;

	if (!sandbox_has_seccomp() || sandbox_landlock_abi() < row->needs)
		skip();
	prepare(pair);
	abstract = listen_at("tambo-unit-sandbox", 1);
	pid = fork();
	if (pid == 0) {
		if (row->try == try_accept && connect_to("outside/socket", 0) != 0)
			_exit(253);
		_exit(sandbox_enter(row->shut_in) < 0 ? 254 : row->try());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(abstract);
	close(pair[0]);
	clean_up();
	if (row->want == KILLED) {
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGSYS);
	} else {
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), row->want);
	}
}

/* What a container does that lets neither seccomp nor Landlock through: both answer EPERM. */
static int
forbid_sandboxes(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

static void
runs_without_what_is_missing(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (!sandbox_has_seccomp())
		skip();
	make_file("file");
	pid = fork();
	if (pid == 0) {
		if (!forbid_sandboxes() || sandbox_has_seccomp() || sandbox_landlock_abi() != 0)
			_exit(254);
		if (sandbox_enter(&small) != (SANDBOX_NO_FILTER | SANDBOX_NO_LANDLOCK))
			_exit(253);
		_exit(try_limits() != 0 || try_no_new_privs() != 0 || open_to_read("file") != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	unlink("file");
	assert_int_equal(status, 0);
}

enum { ROWS = sizeof rows / sizeof *rows };

int
main(void)
{
	char directory[] = "/tmp/unit-sandbox-XXXXXX";
	struct CMUnitTest tests[ROWS + 1];
	size_t n = 0;
	int failed;

	if (!mkdtemp(directory) || chdir(directory) < 0)
		return 111;
	for (size_t i = 0; i < ROWS; i++)
		tests[n++] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = sandbox_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(runs_without_what_is_missing);
	failed = cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
	if (chdir("/") == 0)
		rmdir(directory);
	return failed;
}
