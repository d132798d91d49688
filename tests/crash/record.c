/* record LOG HOME PROGRAM ARGUMENT...: runs a program and writes down what it and all that it starts do to files below
 * HOME/queue and HOME/home, in order, one line an event. Paths are relative to HOME; a file is named by its inode, which may
 * be used again.
 *
 *     create INODE PATH       mkdir PATH            write INODE OFFSET HEX     flush INODE       send NAME HEX
 *     tmpfile INODE           rmdir PATH            truncate INODE LENGTH      syncdir PATH
 *     link INODE PATH         rename FROM TO        syncall                    unlink PATH
 *
 * The programs are traced (ptrace, with a filter that stops them at these calls only), since most are static and some shut
 * themselves in. One such call is done at a time: the others wait at theirs, so the order of the record is that of the
 * disk. A call is written down when it has succeeded, but for `send`, octets that leave by a socket (of the program NAME),
 * which is written down before: an answer may look earlier than it was, never later.
 * What changes files in a way that has no line here (a shared mapping, fallocate, io_uring, ...) ends all with exit code 111. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../tracer.h"

enum { TRACED_MAX = 4096, SEND_MAX = 1 << 20, IOV_LEN_MAX = 1024, LINE_MAX_LEN = 8 << 20 };

#ifndef SYS_open	/* a newer architecture, without the calls that take no directory */
#define SYS_open -2
#define SYS_creat -3
#define SYS_rename -4
#define SYS_renameat -5
#define SYS_link -6
#define SYS_unlink -7
#define SYS_mkdir -8
#define SYS_rmdir -9
#define SYS_symlink -10
#define SYS_mknod -11
#endif

static const int stops_at[] = {
	SYS_open, SYS_openat, SYS_creat, SYS_write, SYS_writev, SYS_pwrite64, SYS_pwritev, SYS_pwritev2, SYS_sendfile, SYS_splice,
	SYS_copy_file_range, SYS_truncate, SYS_ftruncate, SYS_fsync, SYS_fdatasync, SYS_sync, SYS_syncfs, SYS_rename, SYS_renameat,
	SYS_renameat2, SYS_link, SYS_linkat, SYS_unlink, SYS_unlinkat, SYS_mkdir, SYS_mkdirat, SYS_rmdir, SYS_sendto, SYS_sendmsg,
	SYS_sendmmsg,
	/* those that are not understood */
	SYS_symlink, SYS_symlinkat, SYS_mknod, SYS_mknodat, SYS_mmap, SYS_fallocate, SYS_io_uring_setup, SYS_io_submit, SYS_openat2,
	SYS_vmsplice,
};

/* A traced process at one of these calls. */
struct call {
	struct tracer_call is;
	char from[PATH_MAX], to[PATH_MAX];	/* relative to HOME; "": elsewhere */
	int is_new;				/* open: there was no file */
};

static const char *home;
static size_t home_len;
static FILE *log_file;
static pid_t waiting[TRACED_MAX];
static size_t waiting_len;
static struct call now;	/* the one that is being done; is.pid 0: none */

/* --- what a traced process says ------------------------------------------------------------------------------- */

/* A string ends within a page that can be read; what lies behind that page may not be there. */
static int
read_string(pid_t pid, unsigned long long at, char s[PATH_MAX])
{
	for (size_t len = 0; len < PATH_MAX; ) {
		size_t n = 4096 - (at + len) % 4096;

		n = tracer_read(pid, at + len, s + len, n < PATH_MAX - len ? n : PATH_MAX - len);
		if (!n)
			return 0;
		if (memchr(s + len, 0, n))
			return 1;
		len += n;
	}
	return 0;
}

/* The path below HOME of something absolute, "" for what is not where mail is. */
static void
below_home(char out[PATH_MAX], const char *path)
{
	int is_below = !strncmp(path, home, home_len) && path[home_len] == '/';

	path += is_below ? home_len + 1 : 0;
	is_below = is_below && (!strncmp(path, "queue/", 6) || !strncmp(path, "home/", 5));
	snprintf(out, PATH_MAX, "%s", is_below ? path : "");
}

/* Where a name leads that is given as a directory's descriptor and a path: its folder resolved, its last part as it is. */
static void
resolve(char out[PATH_MAX], pid_t pid, int dir, unsigned long long at)
{
	char path[PATH_MAX], start[PATH_MAX + 64], folder[PATH_MAX], real[2 * PATH_MAX];
	char *slash;

	out[0] = '\0';
	if (!read_string(pid, at, path) || !path[0])
		return;
	if (path[0] == '/')
		start[0] = '\0';
	else if (dir == AT_FDCWD)
		snprintf(start, sizeof start, "/proc/%d/cwd/", pid);
	else
		snprintf(start, sizeof start, "/proc/%d/fd/%d/", pid, dir);
	slash = strrchr(path, '/');
	snprintf(real, sizeof real, "%s%.*s", start, slash ? (int)(slash - path) + 1 : 0, path);
	if (!realpath(real, folder))
		return;
	if ((size_t)snprintf(real, sizeof real, "%s/%s", folder, slash ? slash + 1 : path) < PATH_MAX)
		below_home(out, real);
}

/* The path below HOME of a descriptor ("" if it is none), and what it is. */
static int
look_at(char out[PATH_MAX], struct stat *st, pid_t pid, int fd)
{
	char at[64], path[PATH_MAX];
	ssize_t len;

	out[0] = '\0';
	snprintf(at, sizeof at, "/proc/%d/fd/%d", pid, fd);
	len = readlink(at, path, sizeof path - 1);
	if (len < 0 || stat(at, st) < 0)
		return 0;
	path[len] = '\0';
	below_home(out, path);
	return out[0] != '\0';
}

static int
exists(const char *path)
{
	char whole[2 * PATH_MAX];
	struct stat st;

	snprintf(whole, sizeof whole, "%s/%s", home, path);
	return lstat(whole, &st) == 0;
}

static unsigned long long
inode_of(const char *path)
{
	char whole[2 * PATH_MAX];
	struct stat st;

	snprintf(whole, sizeof whole, "%s/%s", home, path);
	if (lstat(whole, &st) < 0)
		tracer_trouble(whole);
	return st.st_ino;
}

static void
say_hex(const unsigned char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		putc_unlocked("0123456789abcdef"[s[i] >> 4], log_file);
		putc_unlocked("0123456789abcdef"[s[i] & 15], log_file);
	}
	putc_unlocked('\n', log_file);
	if (fflush(log_file))
		tracer_trouble("log");
}

#define SAY(...) do { fprintf(log_file, __VA_ARGS__); if (fflush(log_file)) tracer_trouble("log"); } while (0)

/* --- sockets --------------------------------------------------------------------------------------------------- */

/* The octets of a vector in a process's memory; a new string. */
static unsigned char *
gather(pid_t pid, unsigned long long at, size_t count, size_t *len)
{
	static struct iovec v[IOV_LEN_MAX];
	unsigned char *s = malloc(SEND_MAX);

	*len = 0;
	if (!s || count > IOV_LEN_MAX || tracer_read(pid, at, v, count * sizeof *v) < count * sizeof *v)
		tracer_trouble("read a vector");
	for (size_t i = 0; i < count; i++) {
		size_t n = v[i].iov_len < SEND_MAX - *len ? v[i].iov_len : SEND_MAX - *len;

		if (tracer_read(pid, (uintptr_t)v[i].iov_base, s + *len, n) < n)
			tracer_trouble("read what is sent");
		*len += n;
	}
	return s;
}

static void
say_send(const struct call *c)
{
	char name[TRACER_NAME_MAX];
	struct msghdr msg = { .msg_iovlen = 0 };
	struct iovec one = { .iov_base = (void *)(uintptr_t)c->is.args[1], .iov_len = c->is.args[2] };
	unsigned char *s;
	size_t len;

	tracer_name(name, c->is.pid);
	if (c->is.nr == SYS_sendmsg && tracer_read(c->is.pid, c->is.args[1], &msg, sizeof msg) < sizeof msg)
		tracer_trouble("read a message");
	if (c->is.nr == SYS_sendmsg)
		s = gather(c->is.pid, (uintptr_t)msg.msg_iov, msg.msg_iovlen, &len);
	else if (c->is.nr == SYS_writev)
		s = gather(c->is.pid, c->is.args[1], c->is.args[2], &len);
	else {
		len = one.iov_len < SEND_MAX ? one.iov_len : SEND_MAX;
		s = malloc(SEND_MAX);
		if (!s || tracer_read(c->is.pid, c->is.args[1], s, len) < len)
			tracer_trouble("read what is sent");
	}
	fprintf(log_file, "send %s ", name);
	say_hex(s, len);
	free(s);
}

static int
is_socket(pid_t pid, int fd)
{
	char link[64];
	struct stat st;

	snprintf(link, sizeof link, "/proc/%d/fd/%d", pid, fd);
	return stat(link, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* --- files ------------------------------------------------------------------------------------------------------ */

/* The descriptor that a call writes to. */
static int
target(const struct call *c)
{
	return (int)(c->is.nr == SYS_splice || c->is.nr == SYS_copy_file_range ? c->is.args[2] : c->is.args[0]);
}

/* len octets have just been written: they are read back, so it is the same for every call. */
static void
say_write(const struct call *c, const struct stat *st, size_t len)
{
	int given = c->is.nr == SYS_pwrite64 || c->is.nr == SYS_pwritev || c->is.nr == SYS_pwritev2;
	long long offset = given ? (long long)c->is.args[3] : -1;
	char link[64];
	unsigned char *s = malloc(len + 1);
	FILE *f;
	int fd;

	if (offset < 0) {
		snprintf(link, sizeof link, "/proc/%d/fdinfo/%d", c->is.pid, target(c));
		f = fopen(link, "r");
		if (!f || fscanf(f, "pos: %lld", &offset) != 1)
			tracer_trouble(link);
		fclose(f);
		offset -= (long long)len;
	}
	snprintf(link, sizeof link, "/proc/%d/fd/%d", c->is.pid, target(c));
	fd = open(link, O_RDONLY | O_CLOEXEC);
	if (!s || fd < 0 || pread(fd, s, len, offset) != (ssize_t)len)
		tracer_trouble("read back what was written");
	close(fd);
	fprintf(log_file, "write %llu %lld ", (unsigned long long)st->st_ino, offset);
	say_hex(s, len);
	free(s);
}

/* A call on a descriptor: whether it is on a file or folder below HOME. */
static int
is_ours(const struct call *c, int fd)
{
	char path[PATH_MAX];
	struct stat st;

	return look_at(path, &st, c->is.pid, fd) && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

/* The same after the call. */
static void
see(char path[PATH_MAX], struct stat *st, const struct call *c)
{
	if (!look_at(path, st, c->is.pid, target(c)))
		tracer_trouble("look at a descriptor");
}

static int
opens(struct call *c, int dir, unsigned long long at, unsigned long long flags)
{
	if (!(flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE)
		return 0;
	resolve(c->from, c->is.pid, dir, at);
	c->is_new = !exists(c->from);
	return c->from[0] != '\0';
}

static unsigned long long
open_flags(const struct call *c)
{
	return c->is.nr == SYS_creat ? O_CREAT | O_WRONLY | O_TRUNC : c->is.nr == SYS_open ? c->is.args[1] : c->is.args[2];
}

/* Before a call: whether it is one to be written down when it is done. */
static int
begins(struct call *c)
{
	pid_t pid = c->is.pid;
	const unsigned long long *a = c->is.args;

	switch (c->is.nr) {
	case SYS_open:
	case SYS_creat:
		return opens(c, AT_FDCWD, a[0], open_flags(c));
	case SYS_openat:
		return opens(c, (int)a[0], a[1], open_flags(c));
	case SYS_truncate:
	case SYS_unlink:
	case SYS_mkdir:
	case SYS_rmdir:
		resolve(c->from, pid, AT_FDCWD, a[0]);
		return c->from[0] != '\0';
	case SYS_unlinkat:
	case SYS_mkdirat:
		resolve(c->from, pid, (int)a[0], a[1]);
		return c->from[0] != '\0';
	case SYS_rename:
	case SYS_link:
		resolve(c->from, pid, AT_FDCWD, a[0]);
		resolve(c->to, pid, AT_FDCWD, a[1]);
		return c->from[0] || c->to[0];
	case SYS_renameat:
	case SYS_renameat2:
	case SYS_linkat:
		resolve(c->from, pid, (int)a[0], a[1]);
		resolve(c->to, pid, (int)a[2], a[3]);
		return c->from[0] || c->to[0];
	case SYS_sync:
	case SYS_syncfs:
		return 1;
	case SYS_symlink:
		resolve(c->to, pid, AT_FDCWD, a[1]);
		return c->to[0] != '\0';
	case SYS_symlinkat:
		resolve(c->to, pid, (int)a[1], a[2]);
		return c->to[0] != '\0';
	case SYS_mknod:
		resolve(c->to, pid, AT_FDCWD, a[0]);
		return c->to[0] != '\0';
	case SYS_mknodat:
		resolve(c->to, pid, (int)a[0], a[1]);
		return c->to[0] != '\0';
	case SYS_openat2:
	case SYS_io_uring_setup:
	case SYS_io_submit:
	case SYS_vmsplice:
	case SYS_sendmmsg:
		return 1;
	case SYS_mmap:
		return (a[3] & MAP_SHARED) && (a[2] & PROT_WRITE) && (int)a[4] >= 0 && is_ours(c, (int)a[4]);
	case SYS_sendto:
	case SYS_sendmsg:
		return 0;
	default:
		return is_ours(c, target(c));
	}
}

static void
opened(const struct call *c, long long fd)
{
	char path[PATH_MAX];
	struct stat st;

	if (!look_at(path, &st, c->is.pid, (int)fd) || !S_ISREG(st.st_mode))
		return;
	if ((open_flags(c) & O_TMPFILE) == O_TMPFILE)
		SAY("tmpfile %llu\n", (unsigned long long)st.st_ino);
	else if (c->is_new)
		SAY("create %llu %s\n", (unsigned long long)st.st_ino, path);
	else if (open_flags(c) & O_TRUNC)
		SAY("truncate %llu 0\n", (unsigned long long)st.st_ino);
}

static void
ended(const struct call *c, long long result)
{
	char path[PATH_MAX];
	struct stat st;

	switch (c->is.nr) {
	case SYS_open:
	case SYS_creat:
	case SYS_openat:
		opened(c, result);
		break;
	case SYS_truncate:
		SAY("truncate %llu %llu\n", inode_of(c->from), c->is.args[1]);
		break;
	case SYS_unlink:
	case SYS_unlinkat:
		SAY("%s %s\n", c->is.nr == SYS_unlinkat && c->is.args[2] & AT_REMOVEDIR ? "rmdir" : "unlink", c->from);
		break;
	case SYS_mkdir:
	case SYS_mkdirat:
	case SYS_rmdir:
		SAY("%s %s\n", c->is.nr == SYS_rmdir ? "rmdir" : "mkdir", c->from);
		break;
	case SYS_rename:
	case SYS_renameat:
	case SYS_renameat2:
		if (!c->from[0] || !c->to[0] || (c->is.nr == SYS_renameat2 && c->is.args[4] & RENAME_EXCHANGE))
			tracer_trouble("a rename that is not understood");
		SAY("rename %s %s\n", c->from, c->to);
		break;
	case SYS_link:
	case SYS_linkat:
		SAY("link %llu %s\n", inode_of(c->to), c->to);
		break;
	case SYS_sync:
	case SYS_syncfs:
		SAY("syncall\n");
		break;
	case SYS_fsync:
	case SYS_fdatasync:
		see(path, &st, c);
		if (S_ISDIR(st.st_mode))
			SAY("syncdir %s\n", path);
		else
			SAY("flush %llu\n", (unsigned long long)st.st_ino);
		break;
	case SYS_ftruncate:
		see(path, &st, c);
		SAY("truncate %llu %llu\n", (unsigned long long)st.st_ino, c->is.args[1]);
		break;
	case SYS_write:
	case SYS_writev:
	case SYS_pwrite64:
	case SYS_pwritev:
	case SYS_pwritev2:
	case SYS_sendfile:
	case SYS_splice:
	case SYS_copy_file_range:
		see(path, &st, c);
		say_write(c, &st, (size_t)result);
		break;
	default:
		errno = ENOSYS;
		snprintf(path, sizeof path, "call %ld", c->is.nr);
		tracer_trouble(path);
	}
}

/* --- tracing ----------------------------------------------------------------------------------------------------- */

/* A process stands before a call, and no other is doing one. */
static void
begin(pid_t pid)
{
	struct call c = { .is_new = 0 };

	if (!tracer_call(&c.is, pid))
		return;	/* it was killed */
	if (begins(&c)) {
		now = c;
		tracer_go_on(pid, PTRACE_SYSCALL, 0);
		return;
	}
	if (c.is.nr == SYS_sendto || c.is.nr == SYS_sendmsg ||
	    ((c.is.nr == SYS_write || c.is.nr == SYS_writev) && is_socket(pid, (int)c.is.args[0])))
		say_send(&c);
	tracer_go_on(pid, PTRACE_CONT, 0);
}

static void
begin_waiting(void)
{
	while (waiting_len && !now.is.pid) {
		pid_t first = waiting[0];

		memmove(waiting, waiting + 1, --waiting_len * sizeof *waiting);
		begin(first);
	}
}

static void
finish(pid_t pid)
{
	struct __ptrace_syscall_info info;

	if (pid == now.is.pid && ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) >= 0 && info.op == PTRACE_SYSCALL_INFO_EXIT) {
		if (!info.exit.is_error && (now.is.nr != SYS_write || info.exit.rval > 0))
			ended(&now, info.exit.rval);
		now.is.pid = 0;
	}
	tracer_go_on(pid, PTRACE_CONT, 0);
}

static void
stopped(pid_t pid, int status)
{
	switch (tracer_why(status)) {
	case TRACER_BEFORE:
		if (waiting_len == TRACED_MAX)
			tracer_trouble("too many processes");
		waiting[waiting_len++] = pid;
		break;
	case TRACER_AFTER:
		finish(pid);
		break;
	default:
		tracer_pass(pid, status, pid == now.is.pid ? PTRACE_SYSCALL : PTRACE_CONT);
	}
}

static void
gone(pid_t pid)
{
	size_t kept = 0;

	for (size_t i = 0; i < waiting_len; i++)
		if (waiting[i] != pid)
			waiting[kept++] = waiting[i];
	waiting_len = kept;
	if (now.is.pid == pid)
		now.is.pid = 0;
}

int
main(int argc, char **argv)
{
	static char real[PATH_MAX], line[LINE_MAX_LEN];
	pid_t first, pid;
	int status, code = TRACER_TROUBLE;

	if (argc < 4)
		return 100;
	log_file = fopen(argv[1], "ae");
	home = realpath(argv[2], real);
	if (!log_file || !home)
		tracer_trouble("start");
	home_len = strlen(home);
	setvbuf(log_file, line, _IOFBF, sizeof line);	/* one write a line: others write there too */
	first = tracer_start(argv + 3, stops_at, sizeof stops_at / sizeof *stops_at, 0);
	signal(SIGTERM, SIG_IGN);	/* it ends when the last of its programs does */
	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (WIFSTOPPED(status))
			stopped(pid, status);
		else
			gone(pid);
		if (pid == first && WIFEXITED(status))
			code = WEXITSTATUS(status);
		begin_waiting();
	}
	return code;
}
