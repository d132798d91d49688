#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "sandbox.h"
#include "sandbox-filters.h"	/* made by sandbox-calls */

/* --- the filter --------------------------------------------------------------------------------------------- */

/* What these two calls answer where a kernel is built without them, or a container's own filter refuses them. */
static int
is_absent(int error)
{
	return error == ENOSYS || error == EOPNOTSUPP || error == EINVAL || error == EPERM;
}

/* Returns 0, SANDBOX_NO_FILTER, or -1 with errno set. */
static int
load(const struct sandbox_filter *filter)
{
	struct sock_fprog program = { .len = filter->len, .filter = (struct sock_filter *)(uintptr_t)filter->code };

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0)
		return 0;
	return is_absent(errno) ? SANDBOX_NO_FILTER : -1;
}

int
sandbox_has_seccomp(void)
{
	uint32_t action = SECCOMP_RET_KILL_PROCESS;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

/* --- Landlock ----------------------------------------------------------------------------------------------- */

/* Parts of the interface that are newer than the headers of Debian 12. */
struct ruleset { uint64_t files, net, scoped; };
enum {
	RIGHT_TRUNCATE = 1 << 14,	/* ABI 3 */
	RIGHT_IOCTL_DEV = 1 << 15,	/* ABI 5 */
	NET_BIND_TCP = 1 << 0, NET_CONNECT_TCP = 1 << 1,	/* ABI 4 */
	SCOPE_ABSTRACT_SOCKET = 1 << 0, SCOPE_SIGNAL = 1 << 1,	/* ABI 6 */
};

#define RIGHTS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define RIGHTS_WRITE (RIGHTS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | \
	LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | \
	LANDLOCK_ACCESS_FS_REFER | RIGHT_TRUNCATE)
#define RIGHTS_MOVE (RIGHTS_READ | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REFER)
#define RIGHTS_REMOVE (LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define RIGHTS_ABI_1 ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
#define RIGHTS_OF_A_FILE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE)

int
sandbox_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi > 0 ? (int)abi : 0;
}

/* All rights that this ABI can take away, and size: how much of the structure it knows. */
static struct ruleset
everything(int abi, size_t *size)
{
	struct ruleset all = { .files = RIGHTS_ABI_1 };

	if (abi >= 2)
		all.files |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		all.files |= RIGHT_TRUNCATE;
	if (abi >= 5)
		all.files |= RIGHT_IOCTL_DEV;
	if (abi >= 4)
		all.net = NET_BIND_TCP | NET_CONNECT_TCP;
	if (abi >= 6)
		all.scoped = SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL;
	*size = abi >= 6 ? sizeof all : abi >= 4 ? offsetof(struct ruleset, scoped) : offsetof(struct ruleset, net);
	return all;
}

/* Allows rights on path (at directory) and below it; what is not there or not accessible is left out.
 * Returns 1, or 0 with errno set. */
static int
allow(int rules, int directory, const char *path, uint64_t rights)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = rights };
	struct stat st;
	int r;

	rule.parent_fd = openat(directory, path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP;
	if (fstat(rule.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
		rule.allowed_access &= RIGHTS_OF_A_FILE;
	r = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
	close(rule.parent_fd);
	return r;
}

/* Allows reading what the symbolic links of a directory lead to: administrators keep control files elsewhere. Without
 * readdir, because qmail-inject does this for each message and a DIR is 32 KiB.
 * Returns 1, or 0 with errno set; a path that is no directory, or none to be listed, has no links. */
static int
allow_links(int rules, const char *path)
{
	_Alignas(struct dirent64) char entries[4096];
	int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
	const struct dirent64 *entry;
	long n;
	int r = 1;

	if (directory < 0)
		return errno != ENOMEM && errno != EMFILE && errno != ENFILE;
	while (r && (n = syscall(SYS_getdents64, directory, entries, sizeof entries)) > 0)
		for (long i = 0; r && i < n; i += entry->d_reclen) {
			entry = (const void *)(entries + i);
			if (entry->d_type == DT_LNK || (entry->d_type == DT_UNKNOWN && entry->d_name[0] != '.'))
				r = allow(rules, directory, entry->d_name, LANDLOCK_ACCESS_FS_READ_FILE);
		}
	close(directory);
	return r;
}

/* Allows rights on each path of a list. Returns 1, or 0 with errno set. */
static int
allow_list(int rules, const char *const paths[SANDBOX_PATHS_MAX], uint64_t rights)
{
	for (size_t i = 0; i < SANDBOX_PATHS_MAX && paths[i]; i++)
		if (!allow(rules, AT_FDCWD, paths[i], rights))
			return 0;
	return 1;
}

static int
allow_paths(int rules, const struct sandbox *s, uint64_t known)
{
	for (size_t i = 0; i < SANDBOX_PATHS_MAX && s->read[i]; i++)
		if (!allow(rules, AT_FDCWD, s->read[i], RIGHTS_READ & known) || !allow_links(rules, s->read[i]))
			return 0;
	if (!allow_list(rules, s->write, RIGHTS_WRITE & known) || !allow_list(rules, s->move, RIGHTS_MOVE & known) ||
	    !allow_list(rules, s->remove, RIGHTS_REMOVE & known))
		return 0;
#ifdef __SANITIZE_ADDRESS__
	return allow(rules, AT_FDCWD, "/proc", RIGHTS_READ & known);	/* what the leak check reads at the end */
#else
	return 1;
#endif
}

/* Returns 0, SANDBOX_NO_LANDLOCK, or -1 with errno set. */
static int
lock_paths(const struct sandbox *s)
{
	int abi = sandbox_landlock_abi();
	size_t size;
	struct ruleset all = everything(abi, &size);
	int rules, r = -1;

	if (s->network)
		all.net = 0;

	/* ABI 1 allows no file to be renamed into another directory, which who writes or moves files does */
	if (abi < 1 || (abi < 2 && (s->write[0] || s->move[0])))
		return SANDBOX_NO_LANDLOCK;
	rules = (int)syscall(SYS_landlock_create_ruleset, &all, size, 0);
	if (rules < 0)
		return is_absent(errno) ? SANDBOX_NO_LANDLOCK : -1;
	if (allow_paths(rules, s, all.files)) {
		if (syscall(SYS_landlock_restrict_self, rules, 0) == 0)
			r = 0;
		else if (is_absent(errno) || errno == E2BIG)	/* E2BIG: 16 of them are stacked already */
			r = SANDBOX_NO_LANDLOCK;
	}
	close(rules);
	return r;
}

/* --- all together ------------------------------------------------------------------------------------------- */

/* Lowers a limit, soft and hard; one that is lower already stays. Returns 1, or 0 with errno set. */
static int
limit(__rlimit_resource_t resource, rlim_t most)
{
	struct rlimit now;

	if (getrlimit(resource, &now) < 0)
		return 0;
	if (now.rlim_max != RLIM_INFINITY && now.rlim_max < most)
		most = now.rlim_max;
	now.rlim_max = most;
	if (now.rlim_cur == RLIM_INFINITY || now.rlim_cur > most)
		now.rlim_cur = most;
	return setrlimit(resource, &now) == 0;
}

int
sandbox_enter(const struct sandbox *s)
{
	int landlock, filter = SANDBOX_NO_FILTER;

	if (!limit(RLIMIT_CORE, 0) || (s->files && !limit(RLIMIT_NOFILE, s->files)) ||
	    (s->file_size && !limit(RLIMIT_FSIZE, s->file_size)) || (s->memory && !limit(RLIMIT_AS, s->memory)))
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	landlock = lock_paths(s);
	if (landlock < 0)
		return -1;
#ifndef __SANITIZE_ADDRESS__
	filter = load(s->calls);
#else
	(void)load;	/* the sanitizer ends with calls of its own: visible in sandbox_warn */
#endif
	return filter < 0 ? -1 : filter | landlock;
}

void
sandbox_warn(int lack)
{
	const char *filter = "runs without a filter of system calls";
	const char *landlock = "runs without Landlock";

	if (lack < 0 || !lack)
		return;
	if (lack == (SANDBOX_NO_FILTER | SANDBOX_NO_LANDLOCK))
		strerr_warnw("runs without a filter of system calls and without Landlock: this kernel or container has neither, or this is a sanitizer build");
	else
		strerr_warnw(lack == SANDBOX_NO_FILTER ? filter : landlock,
		    ": this kernel or container has none, or this is a sanitizer build");
}
