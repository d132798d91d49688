/* checkpassword-system: check the password of a user of this machine and run a program as this user.
 * Trust: name and password on descriptor 3 are anybody's. Runs as root to read the shadow file, never reads the network, and
 * becomes the user, who is never root, before it runs a program of its command line. */
#include <errno.h>
#include <pwd.h>
#include <shadow.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "login.h"
#include "shadow_state.h"
#include "users/passwd.h"
#include "users/password.h"

#define USAGE "checkpassword-system program [argument ...] (name and password on descriptor 3)"
#define SHADOWED "x"		/* the password is in the shadow file, passwd(5) */
#define SHELL "/bin/sh"		/* of an entry without shell, passwd(5) */

enum { DAY = 86400 };	/* seconds */

/* The dearest hash: what a password may cost here. Empty if there is none. */
static void
find_decoy(char decoy[PASSWORD_HASH_MAX])
{
	FILE *file = fopen(SHADOW, "re");
	uint64_t cost = 0;
	struct spwd *sp;

	*decoy = '\0';
	if (!file)
		return;
	while ((sp = fgetspent(file)))
		if (password_cost(sp->sp_pwdp) > cost && strlen(sp->sp_pwdp) < PASSWORD_HASH_MAX) {
			cost = password_cost(sp->sp_pwdp);
			memcpy(decoy, sp->sp_pwdp, strlen(sp->sp_pwdp) + 1);
		}
	fclose(file);
}

/* Looks the user up. Returns 1; 0 there is none; -1 that cannot be known. */
static int
find_user(const char *name, struct passwd *pw, struct spwd **sp)
{
	static stralloc room;	/* pw's strings */
	int found = passwd_by_name(&room, name, pw);

	if (found != 1)
		return found;
	*sp = getspnam(name);
	if (*sp || strcmp(pw->pw_passwd, SHADOWED) != 0)
		return 1;
	errno = geteuid() == 0 ? ENOENT : EACCES;
	return -1;
}

/* The hash that counts; NULL for who may not log in. */
static const char *
hash_of(const struct passwd *pw, const struct spwd *sp)
{
	if (pw->pw_uid == 0 || pw->pw_gid == 0)
		return NULL;
	if (!sp)
		return pw->pw_passwd;
	return shadow_state_is_valid(sp, (long)(time(NULL) / DAY)) ? sp->sp_pwdp : NULL;
}

/* Returns 1 and *pw if the password is right; 0 if not; -1 if that cannot be known. */
static int
check(const struct login *l, struct passwd *pw)
{
	char decoy[PASSWORD_HASH_MAX];
	struct spwd *sp = NULL;
	int found = find_user(l->name, pw, &sp);

	if (found < 0)
		return -1;
	find_decoy(decoy);
	return password_check(found ? hash_of(pw, sp) : NULL, decoy, l->password);
}

int
main(int argc, const char *const *argv)
{
	struct login_user user;
	const char *trouble;
	struct passwd pw;
	struct login l;
	int code, ok = 0;

	PROG = "checkpassword-system";
	if (argc < 2)
		strerr_dieusage(LOGIN_MISUSED, USAGE);
	code = login_read(&l);
	if (code == LOGIN_OK)
		ok = check(&l, &pw);
	login_forget(&l);
	if (code != LOGIN_OK)
		_exit(code);
	if (ok < 0)
		strerr_diefusys(EXIT_TEMP, "ask the user database");
	if (!ok)
		_exit(LOGIN_REFUSED);
	user = (struct login_user){
		.name = pw.pw_name, .home = pw.pw_dir, .shell = *pw.pw_shell ? pw.pw_shell : SHELL, .quota = "",
		.uid = pw.pw_uid, .gid = pw.pw_gid,
	};
	trouble = login_run(&user, argv + 1);
	strerr_diefusys(EXIT_TEMP, trouble, ": ", argv[1]);
}
