/* qmail-route: say where mail for a host would go, and why.
 * Trust: shut in before it asks the DNS, whose answers are hostile; what it prints is host names and addresses that have
 * been checked, and the arguments with control characters masked. Writes nothing. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/sgetopt.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "dns.h"
#include "domain.h"
#include "exitcode.h"
#include "home.h"
#include "localaddress.h"
#include "monotonic.h"
#include "mx.h"
#include "sandbox.h"
#include "smtproute.h"
#include "tcpto.h"

#define USAGE "qmail-route [-t seconds] host ..."
enum { WAIT = 60, WAIT_MAX = 3600 };	/* seconds for the answers about one host */

struct program {
	struct dns *dns;
	struct localaddresses local;
	struct smtproutes routes;
	struct tcpto *dead;
	unsigned int wait;
	int has_permanent, has_temporary;	/* failures */
};

static const struct sandbox shut_in = { .calls = &sandbox_remote, .network = 1 };

static void
print_text(const char *s)
{
	for (; *s; s++)
		putchar((unsigned char)*s < ' ' || *s == 127 ? '?' : *s);
}

static void
print_route(const char *host, const struct mx *mx, const struct smtproute *route)
{
	print_text(host);
	if (*route->relay) {
		printf(": relay of smtproutes");
		if (*route->user)
			printf(", logs in as %s", route->user);
	} else {
		printf(": %s", *host == '[' ? "address" : mx->by_mx ? "mail exchangers" : "no mail exchanger, the host itself");
	}
	if (mx->ttl)
		printf(" (for %" PRIu32 " seconds)", mx->ttl);
	putchar('\n');
}

static void
print_addresses(const struct program *p, const struct mx *mx)
{
	char ip[IP46_FMT];

	for (size_t i = 0; i < mx->addresses_len; i++) {
		const struct mx_address *a = &mx->addresses[i];

		ip[ip46_fmt(ip, &a->ip)] = 0;
		printf("%u\t%s\t%s\t%u%s\n", (unsigned int)a->preference, mx->hosts[a->host].name, ip, (unsigned int)a->port,
		    tcpto_is_dead(p->dead, &a->ip) ? "\tskipped: timed out lately" : "");
	}
}

static void
tell(struct program *p, const char *host)
{
	static struct mx mx;
	char ascii[DOMAIN_MAX + 1], room[DOMAIN_UTF8_MAX + 1];
	const char *name = domain_without_dot(room, host);
	struct smtproute route;

	if (smtproute_find(&p->routes, name, domain_other_form(ascii, name), &route) < 0) {
		print_text(host);
		puts(": deferred: its entry in control/smtproutes makes no sense");
		p->has_temporary = 1;
		return;
	}
	mx_find(&mx, p->dns, &p->local, &route, name, monotonic_ms() + 1000 * (uint64_t)p->wait);
	if (mx.letter == 'K') {
		print_route(host, &mx, &route);
		print_addresses(p, &mx);
		return;
	}
	print_text(host);
	printf(": %s: ", mx.letter == 'D' ? "bounced" : "deferred");
	mx.text[strcspn(mx.text, "\n")] = 0;
	print_text(mx.text);
	putchar('\n');
	if (mx.letter == 'D')
		p->has_permanent = 1;
	else
		p->has_temporary = 1;
}

static int
parse_options(struct program *p, int argc, const char *const *argv)
{
	subgetopt options = SUBGETOPT_ZERO;
	int c;

	p->wait = WAIT;
	while ((c = subgetopt_r(argc, argv, "t:", &options)) >= 0)
		if (c != 't' || !uint0_scan(options.arg, &p->wait) || p->wait > WAIT_MAX)
			strerr_dieusage(EXIT_PERM, USAGE);
	if (options.ind >= argc)
		strerr_dieusage(EXIT_PERM, USAGE);
	return options.ind;
}

int
main(int argc, const char *const *argv)
{
	struct program p = { .dns = NULL };
	int i;

	PROG = "qmail-route";
	i = parse_options(&p, argc, argv);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (!smtproutes_read(&p.routes))
		strerr_diefusys(EXIT_TEMP, "read control/smtproutes");
	if (!localaddresses_read(&p.local))
		strerr_diefusys(EXIT_TEMP, "find the addresses of this host, control/moreipme, control/notipme");
	p.dns = dns_open();
	if (!p.dns)
		strerr_diefusys(EXIT_TEMP, "find the name servers of control/dnsservers or /etc/resolv.conf");
	p.dead = tcpto_open(0);
	if (sandbox_enter(&shut_in) < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
	for (; i < argc; i++)
		tell(&p, argv[i]);
	if (fflush(stdout) != 0)
		strerr_diefusys(EXIT_TEMP, "write");
	return p.has_temporary ? EXIT_TEMP : p.has_permanent ? EXIT_PERM : EXIT_OK;
}
