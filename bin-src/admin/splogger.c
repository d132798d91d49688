/* splogger: give the lines of a log to syslog, with a time stamp and by their urgency.
 * Trust: the lines hold what strangers put into envelopes and replies: octets that are no printable ASCII are masked, a
 * line has a bounded length. Needs the system's log socket and no file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "exitcode.h"
#include "sandbox.h"

#define USAGE "splogger [tag [facility]]"
enum {
	LINE_MAX_OCTETS = 800,	/* of a line in one entry; what is longer goes on in the next, marked with a plus sign */
	FACILITY_MAIL = 2, FACILITY_MAX = 23,	/* RFC 5424 section 6.2.1 */
};

static const struct sandbox shut_in = { .calls = &sandbox_client };

struct entry {
	char text[LINE_MAX_OCTETS + 1];
	size_t len;
	int continued;	/* the text goes on with the line of the entry before */
	int priority;	/* of the whole line */
};

static int
priority_of(const char *line)
{
	if (strncmp(line, "alert:", 6) == 0)
		return LOG_ALERT;
	return strncmp(line, "warning:", 8) == 0 ? LOG_WARNING : LOG_INFO;
}

static void
send_entry(struct entry *e)
{
	struct timeval now;

	e->text[e->len] = '\0';
	if (!e->continued)
		e->priority = priority_of(e->text);
	gettimeofday(&now, NULL);
	syslog(e->priority, "%jd.%06ld%c%s", (intmax_t)now.tv_sec, (long)now.tv_usec, e->continued ? '+' : ' ', e->text);
	e->len = 0;
}

static void
take(struct entry *e, char c)
{
	if (c == '\n') {
		if (e->len || !e->continued)
			send_entry(e);
		e->continued = 0;
		return;
	}
	if (e->len == LINE_MAX_OCTETS) {
		send_entry(e);
		e->continued = 1;
	}
	e->text[e->len++] = c < ' ' || c > '~' ? '?' : c;
}

int
main(int argc, const char *const *argv)
{
	struct entry e = { .len = 0 };
	unsigned int facility = FACILITY_MAIL;
	char s[4096];
	ssize_t n;
	int lack;

	PROG = "splogger";
	if (argc > 3 || (argc == 3 && (!uint0_scan(argv[2], &facility) || facility > FACILITY_MAX)))
		strerr_dieusage(EXIT_PERM, USAGE);
	tzset();	/* syslog puts the local time into what it sends: read its rules now */
	openlog(argc > 1 ? argv[1] : "splogger", LOG_NDELAY, (int)(facility << 3));
	lack = sandbox_enter(&shut_in);
	if (lack < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
	sandbox_warn(lack);
	while ((n = fd_read(STDIN_FILENO, s, sizeof s)) > 0)
		for (ssize_t i = 0; i < n; i++)
			take(&e, s[i]);
	if (n < 0)
		strerr_diefusys(EXIT_TEMP, "read the log");
	if (e.len)
		send_entry(&e);
	return EXIT_OK;
}
