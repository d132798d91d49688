/* qmail-dnsbl: ask DNS lists about an address, for a session of a network server or an administrator.
 * Trust: the answers come from the Internet; what is passed on of them is cut and cleaned. Runs as who starts it (qmaild),
 * reads control files, then shuts itself in with nothing but Internet sockets; it never holds the session's connection. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/buffer.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "control/control.h"
#include "dns.h"
#include "dnsbl.h"
#include "dnsbl_list.h"
#include "dnsbl_silence.h"
#include "exitcode.h"
#include "home.h"
#include "monotonic.h"
#include "sandbox.h"

#define USAGE "qmail-dnsbl [ -p ] address"

enum {
	LISTS_MAX = 32,
	SESSION_FD = 3,		/* -p: a SOCK_SEQPACKET socket to the session */
	STEP_MS = 200,		/* after which a session is told what is known so far */
	MEMORY_MAX = SANDBOX_MEMORY(64 << 20),	/* octets of address space: LISTS_MAX lists, two answers of each */
};

struct asked {
	struct dnsbl_list list;
	struct dns_question address, txt;
};

struct program {
	ip46 client;
	int silence_defers;
	struct asked lists[LISTS_MAX];
	size_t len;
	struct dns *dns;
};

/* What all lists together say. */
struct outcome {
	enum dnsbl_verdict verdict;
	char text[DNSBL_TEXT_MAX];
	char log[DNSBL_LOG_MAX];
};

static int
has_txt(const struct dnsbl_list *list)
{
	return list->kind != DNSBL_GOOD && !*list->text;
}

static enum dnsbl_state
state_of(const struct asked *a)
{
	return dnsbl_list_judge(&a->address, has_txt(&a->list) ? &a->txt : NULL);
}

/* --- what it means ------------------------------------------------------------------------------------------------ */

static void
add_log(struct outcome *o, const char *how, const char *zone)
{
	size_t len = strlen(o->log);

	if (len + strlen(how) + strlen(zone) + sizeof ", " <= sizeof o->log)
		snprintf(o->log + len, sizeof o->log - len, "%s%s%s", len ? ", " : "", how, zone);
}

/* A bad list, or a silent one that counts as bad: the first one is what the client is told. */
static void
refuse(const struct program *p, struct outcome *o, const struct asked *a, enum dnsbl_state state)
{
	if (o->verdict != DNSBL_ACCEPT)
		return;
	if (state == DNSBL_SILENT) {
		o->verdict = DNSBL_DEFER;
		snprintf(o->text, sizeof o->text, "no answer from %s", a->list.zone);
		return;
	}
	o->verdict = a->list.kind == DNSBL_BAD_REJECT ? DNSBL_REJECT : DNSBL_DEFER;
	dnsbl_list_text(o->text, &a->list, &p->client, &a->txt);
}

static void
judge(const struct program *p, struct outcome *o)
{
	int is_good = 0;

	*o = (struct outcome){ .verdict = DNSBL_ACCEPT };
	for (const struct asked *a = p->lists; a < p->lists + p->len; a++) {
		enum dnsbl_state state = state_of(a);

		if (state == DNSBL_ABSENT)
			continue;
		add_log(o, state == DNSBL_SILENT ? "no answer from " : "listed in ", a->list.zone);
		if (a->list.kind == DNSBL_GOOD)
			is_good |= state == DNSBL_PRESENT;
		else if (a->list.kind != DNSBL_LOG_ONLY && (state == DNSBL_PRESENT || p->silence_defers))
			refuse(p, o, a, state);
	}
	if (is_good) {
		o->verdict = DNSBL_ACCEPT;
		o->text[0] = '\0';
	}
}

/* --- asking --------------------------------------------------------------------------------------------------------- */

static void
ask(struct program *p)
{
	char name[DNS_NAME_MAX + 1];

	for (struct asked *a = p->lists; a < p->lists + p->len; a++) {
		dnsbl_list_name(name, &a->list, &p->client);
		dns_ask(p->dns, &a->address, name, DNS_A);
		if (has_txt(&a->list))
			dns_ask(p->dns, &a->txt, name, DNS_TXT);
	}
}

/* Sends the session what is known; returns 0 when it is gone. */
static int
tell_session(const struct program *p, int is_final)
{
	char packet[2 + DNSBL_TEXT_MAX + DNSBL_LOG_MAX], *end;
	struct outcome o;

	judge(p, &o);
	packet[0] = is_final ? '.' : '+';
	packet[1] = (char)o.verdict;
	end = stpcpy(stpcpy(packet + 2, o.text) + 1, o.log) + 1;
	return send(SESSION_FD, packet, (size_t)(end - packet), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static int
serve_session(struct program *p)
{
	uint64_t deadline = monotonic_ms() + DNSBL_WAIT_MS, now;

	ask(p);
	while ((now = monotonic_ms()) < deadline && !dns_wait(p->dns, now + STEP_MS < deadline ? now + STEP_MS : deadline))
		if (!tell_session(p, 0))
			return EXIT_OK;
	tell_session(p, 1);
	return EXIT_OK;
}

static const char *
kind_name(enum dnsbl_kind kind)
{
	switch (kind) {
	case DNSBL_BAD_DEFER: return "451";
	case DNSBL_BAD_REJECT: return "553";
	case DNSBL_LOG_ONLY: return "log only";
	case DNSBL_GOOD: break;
	}
	return "good";
}

static void
put(const char *s)
{
	buffer_puts(buffer_1, s);
}

static int
print(struct program *p)
{
	char text[DNSBL_TEXT_MAX];
	struct outcome o;

	ask(p);
	dns_wait(p->dns, monotonic_ms() + DNSBL_WAIT_MS);
	for (const struct asked *a = p->lists; a < p->lists + p->len; a++) {
		enum dnsbl_state state = state_of(a);

		put(a->list.zone);
		put(" (");
		put(kind_name(a->list.kind));
		put(state == DNSBL_ABSENT ? "): not listed" : state == DNSBL_SILENT ? "): no answer" : "): listed");
		if (state == DNSBL_PRESENT && a->list.kind != DNSBL_GOOD) {
			dnsbl_list_text(text, &a->list, &p->client, &a->txt);
			put(": ");
			put(text);
		}
		put("\n");
	}
	judge(p, &o);
	put(o.verdict == DNSBL_ACCEPT ? "accept" : o.verdict == DNSBL_DEFER ? "451 " : "553 ");
	put(o.text);
	put("\n");
	if (!buffer_flush(buffer_1))
		strerr_diefusys(EXIT_TEMP, "write the answers");
	return o.verdict == DNSBL_ACCEPT ? EXIT_OK : o.verdict == DNSBL_DEFER ? EXIT_TEMP : EXIT_PERM;
}

/* --- start -------------------------------------------------------------------------------------------------------------- */

static void
read_lists(struct program *p, const char *file)
{
	stralloc lines = STRALLOC_ZERO;
	int r = control_list(&lines, file);

	if (r < 0)
		strerr_diefusys(EXIT_TEMP, "read ", file);
	for (const char *s = lines.s, *end = s + lines.len; s < end; s += strlen(s) + 1) {
		struct asked *a = &p->lists[p->len];

		if (p->len == LISTS_MAX) {
			strerr_warnw("only the first 32 lists of ", file, " are asked");
			break;
		}
		r = dnsbl_list_parse(&a->list, s);
		if (r < 0)
			strerr_warnw("no list makes sense of a line of ", file, ": ", s);
		p->len += r > 0;
	}
	stralloc_free(&lines);
}

static void
shut_itself_in(void)
{
	static const struct sandbox shut_in = { .calls = &sandbox_remote, .network = 1, .memory = MEMORY_MAX };

	if (sandbox_enter(&shut_in) < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
}

int
main(int argc, char *const *argv)
{
	static struct program p;
	const char *file = getenv("DNSBLLIST");
	int c, for_session = 0;

	PROG = "qmail-dnsbl";
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	while ((c = getopt(argc, argv, "p")) >= 0)
		if (c == 'p')
			for_session = 1;
		else
			strerr_dieusage(EXIT_PERM, USAGE);
	if (optind + 1 != argc || !ip46_scan(argv[optind], &p.client))
		strerr_dieusage(EXIT_PERM, USAGE);
	p.silence_defers = dnsbl_silence_defers();
	if (p.silence_defers < 0)
		strerr_diefusys(EXIT_TEMP, "read control/dnsblfailclosed");
	read_lists(&p, file && *file ? file : DNSBL_LISTS);
	p.dns = dns_open();
	if (!p.dns)
		strerr_diefusys(EXIT_TEMP, "read which name servers to ask");
	shut_itself_in();
	return for_session ? serve_session(&p) : print(&p);
}
