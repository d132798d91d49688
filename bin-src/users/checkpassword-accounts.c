/* checkpassword-accounts: check the password of a virtual account and run a program as its user.
 * Trust: name and password on descriptor 3 are anybody's. Reads users/passwords.cdb, never the network, and becomes the user
 * of an account, which is never root, before it runs a program of its command line. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/sgetopt.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "home.h"
#include "login.h"
#include "users/password.h"
#include "users/virtual.h"

#define USAGE "checkpassword-accounts [-s] program [argument ...] (name and password on descriptor 3)"
#define SYSTEM "bin/checkpassword-system"
#define SHELL "/bin/false"		/* who logs in by mail has no other way in */

/* Ends with the right code. */
static void
refuse(struct login *l, int code)
{
	login_forget(l);
	_exit(code);
}

static void
die_table(struct login *l)
{
	login_forget(l);
	strerr_diefusys(EXIT_TEMP, "read " VIRTUAL_PASSWORDS);
}

/* Whether accounts were ever made, or that cannot be known. */
static int
may_have_accounts(void)
{
	return access(VIRTUAL_FILE, F_OK) == 0 || errno != ENOENT;
}

/* Looks the account up and checks the password. Returns only if it is right. */
static void
check(struct login *l, struct virtual_account *v)
{
	stralloc decoy = STRALLOC_ZERO;
	struct table t;
	int opened = table_open(&t, VIRTUAL_PASSWORDS), found, ok;

	if (opened == 0 && !may_have_accounts())
		refuse(l, LOGIN_REFUSED);
	if (opened != 1 || table_get(&t, "", 0, &decoy) < 0 || !stralloc_0(&decoy))
		die_table(l);
	found = virtual_find(v, &t, l->name, strlen(l->name));
	if (found < 0)
		die_table(l);
	table_close(&t);
	ok = password_check(found && !(v->flags & VIRTUAL_LOCKED) ? v->hash : NULL, decoy.s, l->password);
	if (ok < 0) {
		login_forget(l);
		strerr_diefusys(EXIT_TEMP, "check a password");
	}
	if (!ok)
		refuse(l, LOGIN_REFUSED);
	stralloc_free(&decoy);
}

/* The other program reads it all again. */
static void
ask_system(struct login *l, const char **argv)
{
	int ok = login_pass_on(l);

	login_forget(l);
	if (!ok)
		strerr_diefusys(EXIT_TEMP, "make a pipe");
	argv[0] = SYSTEM;
	execv(SYSTEM, (char *const *)(uintptr_t)argv);
	strerr_diefusys(EXIT_TEMP, "execute " SYSTEM);
}

int
main(int argc, const char **argv)
{
	struct virtual_account v = { .address = NULL };
	subgetopt state = SUBGETOPT_ZERO;
	int with_system = 0, c, code;
	struct login_user user;
	const char *trouble;
	struct login l;

	PROG = "checkpassword-accounts";
	while ((c = subgetopt_r(argc, argv, "s", &state)) != -1)
		if (c == 's')
			with_system = 1;
		else
			strerr_dieusage(LOGIN_MISUSED, USAGE);
	if (argc == state.ind)
		strerr_dieusage(LOGIN_MISUSED, USAGE);
	code = login_read(&l);
	if (code != LOGIN_OK)
		refuse(&l, code);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (with_system && !strchr(l.name, '@'))
		ask_system(&l, argv + state.ind - 1);
	check(&l, &v);
	login_forget(&l);
	user = (struct login_user){
		.name = v.address, .home = v.home, .shell = SHELL, .quota = v.quota, .uid = v.uid, .gid = v.gid,
	};
	trouble = login_run(&user, argv + state.ind);
	strerr_diefusys(EXIT_TEMP, trouble, ": ", argv[state.ind]);
}
