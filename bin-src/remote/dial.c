#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/socket.h>
#include "authorities.h"
#include "control/control.h"
#include "dial.h"
#include "domain.h"
#include "ip_address.h"
#include "monotonic.h"
#include "mx.h"

enum { SMTPS_PORT = 465 };	/* TLS from the first octet, RFC 8314 section 3.3 */

/* --- control files ------------------------------------------------------------------- */

static const char *
read_helo(struct dial *d)
{
	int r = control_line_or_me(&d->helo, "control/helohost");

	if (r <= 0 || !d->helo.len || !stralloc_0(&d->helo)) {
		if (r >= 0)
			errno = 0;
		return "control/helohost and control/me";
	}
	return NULL;
}

static const char *
read_outgoing(struct dial *d)
{
	static const char file[] = "control/outgoingip";
	stralloc list = STRALLOC_ZERO;
	const char *failed = control_list(&list, file) < 0 ? file : NULL;

	for (size_t at = 0; !failed && at < list.len; at += strlen(list.s + at) + 1) {
		const char *s = list.s + at;
		ip46 ip;
		size_t n = ip46_scan(s, &ip);

		if (!n || s[n]) {
			failed = file;
			errno = 0;
			break;
		}
		d->from[ip46_is6(&ip)] = ip;
		/* 0.0.0.0 says "any", as in the patch that the file comes from */
		d->has_from[ip46_is6(&ip)] = memcmp(ip.ip, IP6_ANY, ip46_is6(&ip) ? 16 : 4) != 0;
	}
	stralloc_free(&list);
	return failed;
}

static const char *
read_timeout(unsigned long *seconds, unsigned long standard, const char *file)
{
	*seconds = standard;
	if (control_number(seconds, file, DIAL_TIMEOUT_MAX) < 0)
		return file;
	if (!*seconds)
		*seconds = 1;
	return NULL;
}

static int
find_route(const struct dial *d, const char *host, struct smtproute *route)
{
	char ascii[DOMAIN_MAX + 1];

	return smtproute_find(&d->routes, host, domain_other_form(ascii, host), route);
}

/* The certificate of this host for host, "" none. */
static const char *
find_certificate(const struct dial *d, const struct smtproute *route, const char *host)
{
	char ascii[DOMAIN_MAX + 1];
	const char *domain = *route->relay ? route->relay : host;

	return tlsclientcert_find(&d->certificates, domain, domain_other_form(ascii, domain), *route->relay);
}

/* Connects to qmail-keyd if host needs it: only then this process may use what is there. */
static void
open_certificate(struct dial *d, const char *host)
{
	char name[DOMAIN_UTF8_MAX + 1];
	struct smtproute route;

	host = domain_without_dot(name, host);
	if (find_route(d, host, &route) >= 0 && *find_certificate(d, &route, host))
		client_certificate_open(&d->certificate);
}

const char *
dial_open(struct dial *d, const char *host)
{
	const char *failed;

	d->authorities_file = -1;
	client_certificate_init(&d->certificate);
	if ((failed = read_helo(d)) || (failed = read_outgoing(d)) ||
	    (failed = read_timeout(&d->timeout_connect, 60, "control/timeoutconnect")) ||
	    (failed = read_timeout(&d->timeout_remote, 1200, "control/timeoutremote")))
		return failed;
	if (!smtproutes_read(&d->routes))
		return "control/smtproutes";
	if (!tlspolicies_read(&d->policies))
		return "control/tlspolicy";
	if (!tlsclientcerts_read(&d->certificates))
		return "control/tlsclientcert";
	open_certificate(d, host);
	sts_open(&d->sts);
	if ((d->policies.has_verify || !d->sts.is_absent) && !authorities_open(&d->authorities_file))
		return "control/tlscafile";
	if (!localaddresses_read(&d->local))
		return "the addresses of this host, control/moreipme and control/notipme";
	if (!(d->dns = dns_open()))
		return "control/dnsservers or /etc/resolv.conf";
	d->tcpto = tcpto_open(1);	/* without it nothing is known */
	return NULL;
}

/* --- connecting -------------------------------------------------------------------------- */

/* Waits until a connect has ended. Returns 1, or 0 with errno. */
static int
wait_for_connect(int fd, unsigned long seconds)
{
	uint64_t end = monotonic_ms() + seconds * 1000;
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof errno;
	int error = 0;

	for (;;) {
		uint64_t now = monotonic_ms();
		int r = poll(&p, 1, now < end ? (int)(end - now) : 0);

		if (r > 0)
			break;
		if (r == 0 && now >= end) {
			errno = ETIMEDOUT;
			return 0;
		}
		if (r < 0 && errno != EINTR)
			return 0;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return 0;
	errno = error;
	return !error;
}

/* A connected socket, or -1 with errno. */
static int
connect_to(const struct dial *d, const struct mx_address *a)
{
	int is6 = ip46_is6(&a->ip), one = 1;
	int fd = socket_tcp46_nbcoe(is6);

	if (fd < 0)
		return -1;
	/* what we write is whole: to hold the end of it back for an answer gains nothing */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if ((!d->has_from[is6] || socket_bind46(fd, &d->from[is6], 0) == 0) &&
	    (socket_connect46(fd, &a->ip, a->port) == 0 ||
	    ((errno == EINPROGRESS || errno == EALREADY || errno == EINTR) && wait_for_connect(fd, d->timeout_connect))))
		return fd;
	one = errno;
	close(fd);
	errno = one;
	return -1;
}

/* --- texts ----------------------------------------------------------------------------------- */

/* Adds strings, ended by NULL; a text that is full stays as it is, as one does for which there is no memory. */
static void
add(stralloc *text, const char *s, ...)
{
	va_list more;

	va_start(more, s);
	for (; s && text->len < DIAL_TEXT_MAX; s = va_arg(more, const char *))
		if (!stralloc_cats(text, s))
			break;
	va_end(more);
}

/* A server was reached, and is none. */
static void
add_refusal(stralloc *text, const struct session *s, const char *what)
{
	add(text, "Connected to ", s->host, " but ", what, strcmp(what, "login") == 0 ? " was rejected. (#4.7.8)\n" :
	    strcmp(what, "greeting") ? " was rejected. (#4.3.2)\n" : " failed. (#4.3.2)\n", "Remote host said: ", s->reply.text, NULL);
}

static void
add_loss(stralloc *text, const struct session *s, int error)
{
	add(text, "Connected to ", s->host, error == EPROTO ? " but its answer made no sense" : error == ETIMEDOUT ?
	    " but it said nothing in time" : " but connection died", " before it took a command. (#4.4.1)\n", NULL);
}

static void
add_insecurity(stralloc *text, const struct dial *d, const struct session *s)
{
	add(text, "Connected to ", s->host, " but ", s->security, NULL);
	if (d->sts_mode == STS_ENFORCE)
		add(text, ", and its domain has an MTA-STS policy that is enforced", NULL);
	add(text, ". (#", s->security_status, ")\n", NULL);
}

/* --- one after another --------------------------------------------------------------------------- */

/* A socket that is connected, or -1 and unreached says why. */
static int
reach(struct dial *d, const struct mx_address *a, const struct session *s, stralloc *unreached)
{
	int fd = connect_to(d, a);

	if (fd < 0) {
		int error = errno;

		if (error == ETIMEDOUT)
			tcpto_timed_out(d->tcpto, &a->ip);
		add(unreached, unreached->len ? ", " : "", s->host, ": ", error == ETIMEDOUT ? "timed out" : strerror(error), NULL);
		return -1;
	}
	tcpto_answered(d->tcpto, &a->ip);
	return fd;
}

/* One session with the address. Returns 1 if it is open; -1 if TLS failed and may be left out; 0, and said or unreached say
 * more. */
static int
try_session(struct dial *d, const struct mx_address *a, struct session *s, stralloc *said, stralloc *unreached)
{
	const char *what;
	int fd = reach(d, a, s, unreached);

	if (fd < 0)
		return 0;
	switch (session_open(s, fd, &what)) {
	case SESSION_READY:
		return 1;
	case SESSION_REFUSED:
		add_refusal(said, s, what);
		return 0;
	case SESSION_LOST:
		add_loss(said, s, errno);
		return 0;
	case SESSION_INSECURE:
		if (s->tls == SESSION_TLS_MAY)
			return -1;
		d->is_insecure = 1;
		add_insecurity(said, d, s);
		return 0;
	}
	return 0;
}

/* The same, and another session in clear text where TLS failed and may be left out. Returns 1 if one is open. said: what the servers said
 * that were reached; unreached: the others. */
static int
try_address(struct dial *d, const struct mx_address *a, struct session *s, stralloc *said, stralloc *unreached)
{
	char why[SESSION_SECURITY_MAX];
	int r = try_session(d, a, s, said, unreached);

	if (r >= 0)
		return r;
	memcpy(why, s->security, sizeof why);
	s->tls = SESSION_CLEAR;
	if (!try_session(d, a, s, said, unreached))
		return 0;
	snprintf(s->security, sizeof s->security, "in clear text: %.250s", why);
	s->lacks_tls = 1;
	return 1;
}

static int
is_loopback(const ip46 *ip)
{
	static const char loopback[16] = { [15] = 1 };

	return ip46_is6(ip) ? memcmp(ip->ip, loopback, 16) == 0 : ip->ip[0] == 127;
}

/* A login goes by TLS, unless the relay is on this host; a certificate always. */
static enum session_tls
choose_tls(const struct dial *d, const struct session *s, const struct mx_address *a)
{
	if (a->port == SMTPS_PORT)
		return SESSION_TLS_AT_ONCE;
	if (d->policy.level > TLS_MAY || d->dane.kind != DANE_NONE || d->tls.certificate || (*s->user && !is_loopback(&a->ip)))
		return SESSION_TLS_MUST;
	return d->policy.level == TLS_NONE ? SESSION_CLEAR : SESSION_TLS_MAY;
}

/* Looks for the TLSA records of the host of address n, once for all its addresses. Returns 1, or 0 if the host is not to be used;
 * text says why. */
static int
consult_dane(struct dial *d, const struct mx *mx, size_t n, stralloc *text)
{
	const struct mx_address *a = &mx->addresses[n];
	int is_first = n == 0 || mx->addresses[n - 1].host != a->host, is_known;

	if (is_first && d->has_dane)
		dane_find(&d->dane, d->dns, mx, a, monotonic_ms() + UINT64_C(1000) * DIAL_DANE_SECONDS);
	else if (is_first)
		dane_forget(&d->dane);
	is_known = d->dane.kind != DANE_UNKNOWN;
	if (d->dane.kind == DANE_USABLE || (is_known && d->policy.level != TLS_DANE))
		return 1;
	if (is_first)
		add(text, is_known ? "DANE is demanded of " : "It is not known now whether DANE is demanded of ", mx->hosts[a->host].name,
		    is_known ? ", and it has no TLSA records to go by: " : ": ", d->dane.why, is_known ? ". (#4.7.4)\n" : ". (#4.4.3)\n", NULL);
	return 0;
}

/* Has the server proven by what is demanded of it. key: as below. */
static void
prepare_proof(struct dial *d, struct session *s, const char *name, const struct mx_address *a, char key[TLS_CLIENT_KEY_MAX])
{
	int len;

	if (d->dane.kind == DANE_USABLE) {
		s->tls_proof = ", verified by DANE";
		s->tls_key = NULL;	/* records change while a TLS session is kept */
		dane_demand(&d->dane, &d->tls.chain);
		return;
	}
	s->tls_proof = d->policy.level == TLS_VERIFY ? ", verified" : d->policy.level == TLS_FINGERPRINT ? ", fingerprint known" : "";
	/* with the domain: a session whose certificate was looked at for another one proves nothing */
	len = snprintf(key, TLS_CLIENT_KEY_MAX, "%s %u %s %s", s->host, (unsigned int)a->port, name, d->policy_of);
	/* where a bad certificate is only told of, each handshake has to show it */
	s->tls_key = len < TLS_CLIENT_KEY_MAX && !d->proof.is_lenient ? key : NULL;
	server_proof_demand(&d->proof, &d->tls.chain);
}

/* What the session has to know of the server. key: room for the TLS session's. */
static void
prepare_session(struct dial *d, struct session *s, const struct mx *mx, const struct mx_address *a, char key[TLS_CLIENT_KEY_MAX])
{
	const char *name = d->dane.kind == DANE_NONE ? mx->hosts[a->host].name : d->dane.base;
	ip46 ip;

	s->host[ip46_fmt(s->host, &a->ip)] = '\0';
	s->tls = choose_tls(d, s, a);
	s->tls_client = &d->tls;
	s->tls_name = ip_address_parse(&ip, name) ? NULL : name;	/* RFC 6066 section 3: no address */
	prepare_proof(d, s, name, a, key);
}

/* Without authorities, none of what needs them is sent. */
static void
read_authorities(struct dial *d)
{
	if (d->authorities_file < 0)
		return;
	trust_anchors_read(&d->authorities, d->authorities_file);
	d->authorities_file = -1;
}

/* --- MTA-STS ----------------------------------------------------------------------------------------- */

/* Whether the policy lets mail go to the MX host of a; it demands that its certificate is for that host. */
static int
prepare_sts(struct dial *d, const struct mx *mx, const struct mx_address *a)
{
	const char *name = mx->hosts[a->host].name;

	if (d->sts_mode == STS_NONE)
		return 1;
	server_proof_names(&d->proof, name, "");	/* without memory it is for nobody */
	d->proof.finding = NULL;
	return d->sts_mode == STS_TESTING || sts_policy_has(&d->sts.policy, name);
}

static void
add_foreign_host(const struct dial *d, const struct mx *mx, const struct mx_address *a, stralloc *text)
{
	if (a == mx->addresses || a->host != a[-1].host)
		add(text, "The MX host ", mx->hosts[a->host].name, " is not in the MTA-STS policy of ", d->policy_of, ". (#4.7.0)\n", NULL);
}

/* In testing mode: what would have been in the way. */
static void
report_testing(const struct dial *d, struct session *s, const char *host)
{
	const char *why = NULL;
	size_t len = strlen(s->security);

	if (d->sts_mode == STS_TESTING)
		why = !sts_policy_has(&d->sts.policy, host) ? "the MX host is not in the policy" : !s->connection.tls ? "there is no TLS" :
		    d->proof.finding;
	if (why)
		snprintf(s->security + len, sizeof s->security - len, "%s; MTA-STS is tested, and fails: %s", *s->security ? "" : "in clear text", why);
}

/* The policy of the domain; host has no relay. Returns 1, or 0 with text. */
static int
choose_sts(struct dial *d, const char *host, stralloc *text)
{
	if (!sts_finish(&d->sts, host)) {
		d->is_spent = 1;
		add(text, "qmail-mtastsd does not say how mail for ", host, " is to be protected. (#4.3.0)\n", NULL);
		return 0;
	}
	d->sts_mode = d->sts.policy.mode;
	if (d->sts_mode == STS_NONE)
		return 1;
	read_authorities(d);
	d->proof.is_lenient = d->sts_mode == STS_TESTING;
	if (d->sts_mode == STS_ENFORCE)
		d->policy.level = TLS_VERIFY;
	return 1;
}

/* --- all of it --------------------------------------------------------------------------------------- */

/* Whether the address was tried as another host's, and that had nothing to do with its name. */
static int
was_in_vain(const struct mx *mx, const char *in_vain, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (in_vain[i] && ip_address_is_same(&mx->addresses[i].ip, &mx->addresses[at].ip))
			return 1;
	return 0;
}

/* Tries all addresses of mx. Returns 1 if a session is open, or 0 with text set. */
static int
try_all(struct dial *d, const struct mx *mx, const char *host, struct session *s, stralloc *text)
{
	static stralloc unreached;
	char in_vain[MX_ADDRESSES_MAX] = { 0 };
	uint64_t end = monotonic_ms() + UINT64_C(1000) * DIAL_SECONDS;

	text->len = unreached.len = 0;
	for (size_t i = 0; i < mx->addresses_len && monotonic_ms() < end; i++) {
		const struct mx_address *a = &mx->addresses[i];
		char key[TLS_CLIENT_KEY_MAX];

		if (!consult_dane(d, mx, i, text) || was_in_vain(mx, in_vain, i))
			continue;
		prepare_session(d, s, mx, a, key);
		if (!prepare_sts(d, mx, a)) {
			add_foreign_host(d, mx, a, text);
			continue;
		}
		d->is_insecure = 0;
		if (tcpto_is_dead(d->tcpto, &a->ip))
			add(&unreached, unreached.len ? ", " : "", s->host, ": timed out lately", NULL);
		else if (try_address(d, a, s, text, &unreached)) {
			report_testing(d, s, mx->hosts[a->host].name);
			return 1;
		}
		in_vain[i] = !d->is_insecure;
	}
	if (unreached.len && stralloc_0(&unreached))
		add(text, "No connection to a server of ", host, " (", unreached.s, "). (#4.4.1)\n", NULL);
	return 0;
}

/* The host as it may stand in a text: others' control octets do not. */
static void
clean(stralloc *text)
{
	for (size_t i = 0; i < text->len; i++)
		if (((unsigned char)text->s[i] < 32 && text->s[i] != '\n') || text->s[i] == 127)
			text->s[i] = '?';
}

int
dial_service(const struct dial *d)
{
	return d->certificate.key.fd;
}

int
dial_is_same(const struct dial *d, const char *host, const char *other)
{
	char name[DOMAIN_UTF8_MAX + 1], other_name[DOMAIN_UTF8_MAX + 1];
	struct smtproute a, b;

	host = domain_without_dot(name, host);
	other = domain_without_dot(other_name, other);
	if (strcasecmp(host, other) == 0)
		return 1;
	return find_route(d, host, &a) == 1 && *a.relay && find_route(d, other, &b) == 1 && a.port == b.port &&
	    strcasecmp(a.relay, b.relay) == 0 && strcmp(a.user, b.user) == 0 && strcmp(a.password, b.password) == 0;
}

/* The policy for host. Returns 1, or 0 with text. */
static int
choose_policy(struct dial *d, const struct smtproute *route, const char *host, stralloc *text)
{
	char ascii[DOMAIN_MAX + 1];
	const char *domain = *route->relay ? route->relay : host, *other = domain_other_form(ascii, domain);

	if (tlspolicy_find(&d->policies, domain, other, &d->policy) < 0) {
		add(text, "The line of control/tlspolicy for ", domain, " makes no sense. (#4.3.5)\n", NULL);
		return 0;
	}
	d->policy_of = domain;
	d->has_dane = tlspolicy_has_dane(&d->policy);
	d->sts_mode = STS_NONE;
	d->proof.is_lenient = 0;
	d->proof.policy = &d->policy;
	d->proof.authorities = &d->authorities;
	if (!server_proof_names(&d->proof, route->relay, other ? other : host)) {
		add(text, "No memory. (#4.3.0)\n", NULL);
		return 0;
	}
	if (d->policy.level == TLS_VERIFY)
		read_authorities(d);
	return 1;
}

/* What this host shows the server. Returns 1, or 0 with text. */
static int
choose_certificate(struct dial *d, const struct smtproute *route, const char *host, stralloc *text)
{
	const char *name = find_certificate(d, route, host);

	d->tls.certificate = NULL;
	if (!*name)
		return 1;
	d->tls.certificate = &d->certificate;
	switch (client_certificate_take(&d->certificate, name)) {
	case 1:
		return 1;
	case 0:
		add(text, "control/tlsclientcert has ", name, " for ", d->policy_of, ", and qmail-keyd has no such key pair. (#4.3.5)\n", NULL);
		return 0;
	default:
		add(text, "qmail-keyd does not say which certificate is for ", d->policy_of, ". (#4.3.0)\n", NULL);
		return 0;
	}
}

/* Whether what the domain says of itself counts. */
static int
has_sts(const struct dial *d, const struct smtproute *route, const char *host)
{
	return !*route->relay && *host != '[' && (d->policy.level == TLS_MAY || d->policy.level == TLS_ENCRYPT) && !d->policy.has_nosts;
}

/* The servers of host, and what its domain demands of them. Returns 'K', or 'Z' or 'D' with text. */
static char
find_servers(struct dial *d, struct mx *mx, const struct smtproute *route, const char *host, stralloc *text)
{
	uint64_t end = monotonic_ms() + UINT64_C(1000) * DIAL_DNS_SECONDS;
	char ascii[DOMAIN_MAX + 1];
	const char *other = domain_other_form(ascii, host), *domain = other ? other : host;
	int asks = has_sts(d, route, host);

	if (asks)
		sts_begin(&d->sts, d->dns, domain);
	mx_find(mx, d->dns, &d->local, route, host, end);
	if (asks)
		dns_finish(d->dns, end);	/* mx_find may have had nothing to ask */
	if (mx->letter == 'K')
		return !asks || choose_sts(d, domain, text) ? 'K' : 'Z';
	add(text, mx->text, NULL);
	return mx->letter == 'D' ? 'D' : 'Z';
}

char
dial_host(struct dial *d, const char *host, struct session *s, stralloc *text)
{
	static struct mx mx;
	static struct smtproute route;	/* the session's user and password */
	static char name[DOMAIN_UTF8_MAX + 1];	/* d->policy_of */
	char letter = 'Z';

	host = domain_without_dot(name, host);
	s->helo = d->helo.s;
	s->timeout = d->timeout_remote;
	s->user = route.user;
	s->password = route.password;
	text->len = 0;
	if (find_route(d, host, &route) < 0)
		add(text, "The line of control/smtproutes for ", host, " makes no sense. (#4.3.5)\n", NULL);
	else if (choose_policy(d, &route, host, text) && choose_certificate(d, &route, host, text)) {
		letter = find_servers(d, &mx, &route, host, text);
		if (letter == 'K' && !try_all(d, &mx, host, s, text))
			letter = 'Z';
	}
	d->is_spent |= d->tls.certificate && d->certificate.key.fd < 0;
	if (letter != 'K')
		clean(text);
	return letter;
}
