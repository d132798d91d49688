/* qmail-qread: list the messages in the queue and their recipients.
 * Trust: addresses are whatever senders wrote; control characters are masked. Reads control/ first, then shuts itself in
 * and only talks to the keeper. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "date822.h"
#include "exitcode.h"
#include "home.h"
#include "listing.h"
#include "bin-src/send/route.h"
#include "sandbox.h"

#define USAGE "qmail-qread"

static const struct sandbox shut_in = { .calls = &sandbox_client };

/* A message as far as the keeper has told it: its first line says whether it bounces, which its recipients show. */
struct message {
	stralloc sender, recipients;	/* as they are printed; sender not NUL-terminated */
	uint64_t number, birth, size;
	int is_bouncing;
};

static void
add_text(stralloc *to, const char *s)
{
	if (!stralloc_readyplus(to, strlen(s)))
		strerr_dief(EXIT_TEMP, "out of memory");
	for (; *s; s++)
		to->s[to->len++] = (unsigned char)*s < ' ' || *s == 127 ? '?' : *s;
}

static void
begin(struct message *m, const struct queue_notice *notice)
{
	m->sender.len = m->recipients.len = 0;
	m->number = notice->number;
	m->birth = notice->birth;
	m->size = notice->size;
	m->is_bouncing = 0;
	add_text(&m->sender, notice->sender);
}

static void
add_recipient(struct message *m, const struct route_rules *rules, const char *recipient, char state)
{
	static stralloc address = STRALLOC_ZERO;
	struct route route;

	if (!route_find(rules, recipient, &address, &route) ||
	    !stralloc_cats(&m->recipients, state == 'T' ? "\t" : "  done\t") ||
	    !stralloc_cats(&m->recipients, route.channel == ROUTE_LOCAL ? "local\t" : "remote\t"))
		strerr_dief(EXIT_TEMP, "out of memory");
	add_text(&m->recipients, address.s);
	if (!stralloc_append(&m->recipients, '\n'))
		strerr_dief(EXIT_TEMP, "out of memory");
	m->is_bouncing |= state == 'D';
}

static void
print(const struct message *m)
{
	char date[DATE822_MAX];
	size_t len = date822_trace(date, (time_t)m->birth);

	printf("%.*sGMT  #%ju  %ju  <%.*s>%s\n%.*s", (int)(len - strlen("-0000")), date, (uintmax_t)m->number,
	    (uintmax_t)m->size, (int)m->sender.len, m->sender.s, m->is_bouncing ? "  bouncing" : "",
	    (int)m->recipients.len, m->recipients.s ? m->recipients.s : "");
}

int
main(int argc, const char *const *argv)
{
	struct route_rules rules = { .locals = { .slots = NULL } };
	struct message m = { .number = 0 };
	struct listing_item item;
	struct listing l;
	const char *file;

	(void)argv;
	PROG = "qmail-qread";
	if (argc != 1)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	file = route_load(&rules);
	if (file)
		strerr_diefusys(EXIT_TEMP, "read ", file);
	tzset();	/* even gmtime reads the local time zone at its first call */
	if (sandbox_enter(&shut_in) < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
	if (!listing_open(&l))
		strerr_diefusys(EXIT_TEMP, "ask qmail-queued");
	for (;;)
		switch (listing_next(&l, &item)) {
		case LISTING_MESSAGE:
			begin(&m, &item.notice);
			break;
		case LISTING_RECIPIENT:
			add_recipient(&m, &rules, item.recipient.address, item.recipient.state);
			break;
		case LISTING_OVER:
			print(&m);
			break;
		case LISTING_ALL:
			if (fflush(stdout) != 0)
				strerr_diefusys(EXIT_TEMP, "write");
			return EXIT_OK;
		case LISTING_TROUBLE:
			fflush(stdout);
			strerr_diefusys(EXIT_TEMP, "read the whole list");
		}
}
