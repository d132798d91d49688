/* checkpassword-authd: the checkpassword interface in front of qmail-authd, for chains that end in it, such as
 *     tcpserver ... qmail-smtpd HOST checkpassword-authd true
 * Trust: descriptor 3 is what somebody on the network typed; login.h bounds it. Runs as whoever starts it, who has to be one that qmail-authd
 * listens to; reads no password file, and becomes nobody: what it runs has the rights that it has. */
#include <fcntl.h>
#include <unistd.h>
#include <skalibs/exec.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "home.h"
#include "login.h"
#include "login_client.h"

#define USAGE "checkpassword-authd program [ argument ... ]"

/* Asks about the login. Returns LOGIN_OK, or what to exit with. */
static int
check(void)
{
	struct login l;
	struct login_client c;
	int home, r = login_read(&l);

	if (r != LOGIN_OK)
		return r;
	home = home_open();
	if (home < 0)
		strerr_diefusys(EXIT_TEMP, "open the qmail home");
	switch (login_client_check(&c, home, l.name, l.password, "", -1)) {
	case LOGIN_CLIENT_RIGHT: r = LOGIN_OK; break;
	case LOGIN_CLIENT_WRONG: r = LOGIN_REFUSED; break;
	default: r = EXIT_TEMP;
	}
	login_forget(&l);
	if (r == EXIT_TEMP)
		strerr_warnw(c.text);
	return r;
}

int
main(int argc, const char *const *argv)
{
	int r;

	PROG = "checkpassword-authd";
	if (argc < 2)
		strerr_dieusage(LOGIN_MISUSED, USAGE);
	r = check();
	if (r != LOGIN_OK)
		return r;
	exec(argv + 1);
	strerr_diefusys(EXIT_TEMP, "execute ", argv[1]);
}
