/* login: the checkpassword interface (interfaces section 13): who wants to log in, and the program that a success starts.
 * Trust    descriptor 3 holds what somebody on the network typed: any octets, bounded before anything is done with them
 * Memory   the password is in one place, struct login, and login_forget wipes it
 * Errors   a program of this interface exits with 1 for a refusal, 2 for misuse, 111 where it cannot be known now */
#ifndef LOGIN_H
#define LOGIN_H
#include <stddef.h>
#include <sys/types.h>

enum {
	LOGIN_FD = 3,
	LOGIN_MAX = 512,	/* octets of name, password, timestamp and their NULs; more is refused, and never hashed */
	LOGIN_OK = 0,
	LOGIN_REFUSED = 1,
	LOGIN_MISUSED = 2,
};

struct login {
	char octets[LOGIN_MAX + 1];
	size_t len;
	const char *name, *password;	/* in octets, not empty */
};

/* Reads descriptor 3 up to its end and closes it. Returns LOGIN_OK; or what to exit with: LOGIN_REFUSED (it is too long, or
 * name or password is empty), LOGIN_MISUSED (no descriptor 3, or no name NUL password NUL in it), EXIT_TEMP. */
int login_read(struct login *l);

/* Puts what was read on descriptor 3 again, for another program of this interface. Returns 1, or 0 with errno set. */
int login_pass_on(const struct login *l);

void login_forget(struct login *l);

/* Whom the program runs as. quota may be empty; home may be relative to the current directory. */
struct login_user {
	const char *name, *home, *shell, *quota;
	uid_t uid;
	gid_t gid;
};

/* Becomes the user, changes into its home, sets USER, HOME, SHELL and MAILDIRQUOTA, and executes argv. Returns only if that
 * fails: what could not be done, in words, with errno set. */
const char *login_run(const struct login_user *user, const char *const *argv);

#endif
