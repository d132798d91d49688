/* qmail-rcptcheck: ask qmail-rcptd whether addresses deliver, for an administrator or as a RCPTCHECK program.
 * Trust: as a RCPTCHECK program it is given anybody's address in RECIPIENT; it prints nothing then, because descriptor 1 may
 * be the connection. */
#include <stdlib.h>
#include <string.h>
#include <skalibs/buffer.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "home.h"
#include "rcptcheck.h"

#define USAGE "qmail-rcptcheck address... (or with RECIPIENT in the environment)"

static const char *
name_of(enum rcpt_answer answer)
{
	switch (answer) {
	case RCPT_DELIVERS: return "delivers";
	case RCPT_UNKNOWN: return "unknown";
	case RCPT_NOT_LOCAL: return "not local";
	case RCPT_TEMPORARY: return "temporary";
	case RCPT_CANNOT_KNOW: break;
	}
	return "cannot know";
}

static enum exitcode
exit_code_of(enum rcpt_answer answer)
{
	return answer == RCPT_UNKNOWN ? EXIT_PERM : answer == RCPT_TEMPORARY ? EXIT_TEMP : EXIT_OK;
}

/* What two addresses together exit with. */
static enum exitcode
worse_of(enum exitcode a, enum exitcode b)
{
	if (a == EXIT_PERM || b == EXIT_PERM)
		return EXIT_PERM;
	return a == EXIT_TEMP || b == EXIT_TEMP ? EXIT_TEMP : EXIT_OK;
}

static void
put_address(const char *s)
{
	char c;

	for (; *s; s++) {
		c = *s >= ' ' && *s <= '~' ? *s : '?';
		buffer_put(buffer_1, &c, 1);
	}
}

int
main(int argc, const char *const *argv)
{
	const char *recipient = getenv("RECIPIENT");
	enum exitcode code = EXIT_OK;
	enum rcpt_answer answer;
	struct rcptcheck r;
	int home;

	PROG = "qmail-rcptcheck";
	home = home_open();
	if (argc < 2 && !recipient)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (home < 0)
		strerr_diefusys(EXIT_TEMP, "open the qmail home");
	rcptcheck_init(&r, home);
	if (argc < 2)
		return (int)exit_code_of(rcptcheck_ask(&r, recipient, strlen(recipient)));
	for (argv++; *argv; argv++) {
		answer = rcptcheck_ask(&r, *argv, strlen(*argv));
		code = worse_of(code, exit_code_of(answer));
		put_address(*argv);
		buffer_puts(buffer_1, ": ");
		buffer_puts(buffer_1, name_of(answer));
		buffer_puts(buffer_1, ": ");
		buffer_puts(buffer_1, r.text);
		buffer_puts(buffer_1, "\n");
	}
	if (!buffer_flush(buffer_1))
		strerr_diefusys(EXIT_TEMP, "write the answers");
	return (int)code;
}
