#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/exec.h>
#include "become.h"
#include "exitcode.h"
#include "login.h"

/* Splits what was read. */
static int
parse(struct login *l)
{
	const char *end = l->octets + l->len;
	const char *name_end = memchr(l->octets, '\0', l->len);
	const char *password = name_end ? name_end + 1 : end;

	if (!name_end || !memchr(password, '\0', (size_t)(end - password)))
		return LOGIN_MISUSED;
	l->name = l->octets;
	l->password = password;
	return *l->name && *l->password ? LOGIN_OK : LOGIN_REFUSED;
}

int
login_read(struct login *l)
{
	ssize_t r;
	int e;

	l->len = 0;
	do {
		r = read(LOGIN_FD, l->octets + l->len, sizeof l->octets - l->len);
		if (r > 0)
			l->len += (size_t)r;
	} while ((r > 0 && l->len < sizeof l->octets) || (r < 0 && errno == EINTR));
	e = errno;
	close(LOGIN_FD);
	if (r < 0) {
		errno = e;
		return e == EBADF ? LOGIN_MISUSED : EXIT_TEMP;
	}
	return l->len > LOGIN_MAX ? LOGIN_REFUSED : parse(l);
}

int
login_pass_on(const struct login *l)
{
	int ends[2];

	/* a pipe takes that much at once */
	if (pipe(ends) < 0 || write(ends[1], l->octets, l->len) != (ssize_t)l->len)
		return 0;
	close(ends[1]);
	if (ends[0] == LOGIN_FD)
		return 1;
	if (dup2(ends[0], LOGIN_FD) < 0)
		return 0;
	close(ends[0]);
	return 1;
}

void
login_forget(struct login *l)
{
	explicit_bzero(l, sizeof *l);
}

/* HOME for programs, which know nothing of the directory that a relative home is relative to. */
static int
set_home(const char *home)
{
	char *path = *home == '/' ? NULL : getcwd(NULL, 0);
	int r = setenv("HOME", path ? path : home, 1);

	free(path);
	return r == 0;
}

const char *
login_run(const struct login_user *user, const char *const *argv)
{
	if (!become(user->uid, user->gid))
		return "become the user";
	if (chdir(user->home) < 0)
		return "enter the home";
	if (!set_home(user->home) || setenv("USER", user->name, 1) < 0 || setenv("SHELL", user->shell, 1) < 0 ||
	    (*user->quota ? setenv("MAILDIRQUOTA", user->quota, 1) : unsetenv("MAILDIRQUOTA")) < 0)
		return "set the environment";
	exec(argv);
	return "execute the program";
}
