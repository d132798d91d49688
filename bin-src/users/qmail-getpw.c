/* qmail-getpw: say which user of this machine an address belongs to.
 * Trust: the local part comes from the envelope of anybody's message. Runs as qmailp: no files of its own, it only asks
 * the user database and looks at the owner of home directories. Not shut in: the name service loads the libraries and asks
 * the daemons that the machine is configured with. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "users/account.h"
#include "users/passwd.h"

#define USAGE "qmail-getpw local"

/* Answers qmail-lspawn's questions (local/kept_getpw.h) until the socket ends. */
static int
serve(const struct passwd_source *machine, int socket)
{
	static const unsigned char codes[] = { [PASSWD_FOUND] = 0, [PASSWD_NO_ALIAS] = GETPW_NO_ALIAS,
		[PASSWD_TEMP_USER] = GETPW_SYSTEM, [PASSWD_TEMP_HOME] = GETPW_HOME, [PASSWD_NO_MEMORY] = GETPW_NO_MEMORY };
	enum { NUMBER = 4 };
	static char question[NUMBER + ACCOUNT_LOCAL_MAX + 1];
	stralloc fields = STRALLOC_ZERO;
	ssize_t n;

	while ((n = recv(socket, question, sizeof question - 1, 0)) > NUMBER || (n < 0 && errno == EINTR)) {
		struct iovec v[3] = { { .iov_base = question, .iov_len = NUMBER }, { .iov_len = 1 } };
		unsigned char code;

		if (n < 0)
			continue;
		question[n] = '\0';
		fields.len = 0;
		code = codes[passwd_find(&fields, machine, question + NUMBER)];
		v[1].iov_base = &code;
		v[2] = (struct iovec){ .iov_base = fields.s, .iov_len = code ? 0 : fields.len };
		if (sendmsg(socket, &(struct msghdr){ .msg_iov = v, .msg_iovlen = 3 }, MSG_NOSIGNAL) < 0)
			return GETPW_SYSTEM;
	}
	return n < 0 ? GETPW_SYSTEM : 0;
}

int
main(int argc, const char *const *argv)
{
	stralloc entry = STRALLOC_ZERO;
	stralloc fields = STRALLOC_ZERO;
	struct passwd_source machine = { .by_name = passwd_by_name, .owns = passwd_owns, .context = &entry };

	unsigned int socket;

	PROG = "qmail-getpw";
	if (argc == 3 && !strcmp(argv[1], "-W") && uint0_scan(argv[2], &socket))
		return serve(&machine, (int)socket);
	if (argc != 2)
		strerr_dieusage(GETPW_USAGE, USAGE);
	switch (passwd_find(&fields, &machine, argv[1])) {
	case PASSWD_FOUND:
		break;
	case PASSWD_NO_ALIAS:
		strerr_dief(GETPW_NO_ALIAS, "there is no user alias");
	case PASSWD_TEMP_USER:
		strerr_diefusys(GETPW_SYSTEM, "ask the user database");
	case PASSWD_TEMP_HOME:
		strerr_diefusys(GETPW_HOME, "look at the home directory of a user");
	case PASSWD_NO_MEMORY:
		strerr_dief(GETPW_NO_MEMORY, "out of memory");
	}
	if (allwrite(STDOUT_FILENO, fields.s, fields.len) < fields.len)
		strerr_diefusys(GETPW_SYSTEM, "write the answer");
	return 0;
}
