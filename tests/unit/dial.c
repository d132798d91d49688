/* A session with one of the servers of a host. Which addresses there are is said here, and what a connect comes to: a server of
 * server.h takes the place of the socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/socket.h>
#include "bin-src/remote/dial.h"
#include "bin-src/remote/mx.h"
#include "bin-src/remote/sts_client.h"
#include "directory.h"
#include "process.h"
#include "server.h"
#include "service_socket.h"

enum { PEERS_MAX = MX_ADDRESSES_MAX };

static struct dial dial;
static struct session session;
static stralloc text;

/* What is at the addresses 192.0.2.1, 192.0.2.2 and so on: steps of a server, or the errno of the connect. */
struct peer { int error; const struct server_step *steps; int is_dead; };
static const struct peer *peers;
static size_t peers_len;

static struct {
	unsigned int asked, connects, timed_out, answered;	/* how often */
	char from[4];
	unsigned int binds;
	int bind_error;
	int instead;	/* of the socket, where there is no server; 0 none */
	char letter;	/* of mx_find, which has text then */
	enum dane_kind dane[MX_HOSTS_MAX];	/* what each host has */
	int has_two_addresses_a_host;
	unsigned int dane_asked;
} seen;

/* --- the modules below ------------------------------------------------------------------------------------------- */

static int has_dns;

struct dns *
dns_open(void)
{
	static char something;

	return has_dns ? (struct dns *)(uintptr_t)&something : NULL;
}

void
mx_find(struct mx *mx, struct dns *d, const struct localaddresses *l, const struct smtproute *route, const char *host, uint64_t deadline)
{
	(void)d, (void)l, (void)route, (void)host, (void)deadline;
	seen.asked++;
	mx->letter = seen.letter;
	strcpy(mx->text, "Sorry, so says the DNS. (#5.1.2)\n");
	mx->addresses_len = peers_len;
	for (size_t i = 0; i < peers_len; i++) {
		unsigned int h = (unsigned int)((seen.has_two_addresses_a_host ? i / 2 : i) % MX_HOSTS_MAX);

		mx->addresses[i] = (struct mx_address){ .ip.ip = { (char)192, 0, 2, (char)(i + 1) }, .port = 25, .host = h };
		snprintf(mx->hosts[h].name, sizeof mx->hosts->name, "mx%u.x.test", h + 1);
	}
}

void
dane_find(struct dane *d, struct dns *dns, const struct mx *mx, const struct mx_address *a, uint64_t deadline)
{
	(void)dns, (void)mx, (void)deadline;
	seen.dane_asked++;
	d->kind = seen.dane[a->host];
	d->why = "so says the test";
	strcpy(d->base, "base.test");
}

void
dane_forget(struct dane *d)
{
	d->kind = DANE_NONE;
}

void
dane_demand(const struct dane *d, struct server_chain *chain)
{
	chain->of = d;
}

/* What qmail-mtastsd says, and what it was asked. */
static struct {
	int connects;		/* 0, or the errno of it */
	enum sts_answer answer;
	const char *policy;
	unsigned int records, asked;	/* how often */
	char record[300], question[300];
} sts;

int
sts_client_connect(void)
{
	errno = sts.connects;
	return sts.connects ? -1 : 1000;
}

enum sts_answer
sts_client_ask(int fd, const char *domain, const char *id, struct sts_policy *policy)
{
	assert_int_equal(fd, 1000);
	sts.asked++;
	snprintf(sts.question, sizeof sts.question, "%s %s", domain, id);
	if (sts.answer == STS_POLICY)
		assert_null(sts_policy_parse(policy, sts.policy, strlen(sts.policy)));
	return sts.answer;
}

void
dns_ask(struct dns *d, struct dns_question *q, const char *name, enum dns_type type)
{
	static const struct dns_record one = { .text = "v=STSv1; id=a1", .len = 14 };

	(void)d;
	assert_int_equal(type, DNS_TXT);
	sts.records++;
	snprintf(sts.record, sizeof sts.record, "%s", name);
	*q = (struct dns_question){ .kind = DNS_FOUND, .records = &one, .records_len = 1 };
}

void
dns_finish(struct dns *d, uint64_t deadline)
{
	(void)d, (void)deadline;
}

void
dns_free(struct dns_question *q)
{
	memset(q, 0, sizeof *q);
}

struct tcpto *
tcpto_open(int write)
{
	assert_true(write);
	return NULL;
}

int
tcpto_is_dead(const struct tcpto *t, const ip46 *ip)
{
	(void)t;
	return peers[ip->ip[3] - 1].is_dead;
}

void
tcpto_timed_out(struct tcpto *t, const ip46 *ip)
{
	(void)t, (void)ip;
	seen.timed_out++;
}

void
tcpto_answered(struct tcpto *t, const ip46 *ip)
{
	(void)t, (void)ip;
	seen.answered++;
}

/* In the place of those of skalibs. */
int
socket_connect4(int fd, const char *ip, uint16_t port)
{
	const struct peer *p = &peers[ip[3] - 1];
	int end;

	assert_int_equal(port, 25);
	seen.connects++;
	if (p->steps)
		server_end();
	end = p->steps ? server_start(p->steps) : seen.instead;
	if (end)
		assert_int_equal(dup3(end, fd, O_CLOEXEC), fd);
	if (p->steps)
		close(end);
	errno = p->error;
	return p->error ? -1 : 0;
}

int
socket_bind4(int fd, const char *ip, uint16_t port)
{
	(void)fd;
	assert_int_equal(port, 0);
	memcpy(seen.from, ip, sizeof seen.from);
	seen.binds++;
	errno = seen.bind_error;
	return seen.bind_error ? -1 : 0;
}

/* --- control files ------------------------------------------------------------------------------------------------- */

static int
set_up(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof seen);
	memset(&dial, 0, sizeof dial);
	memset(&sts, 0, sizeof sts);
	sts.connects = ENOENT;
	seen.letter = 'K';
	has_dns = 1;
	connection_init(&session.connection, -1);
	directory_write("control/me", "me.test\n");
	return 0;
}

static int
tear_down(void **state)
{
	static const char *const files[] = { "helohost", "outgoingip", "smtproutes", "tlspolicy", "tlsclientcert", "timeoutconnect", "timeoutremote", "moreipme" };
	char path[64];

	(void)state;
	connection_close(&session.connection);
	server_end();
	stralloc_free(&dial.helo);
	smtproutes_free(&dial.routes);
	localaddresses_free(&dial.local);
	tlspolicies_free(&dial.policies);
	tlsclientcerts_free(&dial.certificates);
	key_client_close(&dial.certificate.key);
	trust_anchors_free(&dial.authorities);
	if (dial.authorities_file > 2)
		close(dial.authorities_file);
	stralloc_free(&dial.proof.names);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(path, sizeof path, "control/%s", files[i]);
		remove(path);
	}
	return 0;
}

static void
defaults(void **state)
{
	(void)state;
	assert_null(dial_open(&dial, "x.test"));
	assert_string_equal(dial.helo.s, "me.test");
	assert_int_equal(dial.timeout_connect, 60);
	assert_int_equal(dial.timeout_remote, 1200);
	assert_false(dial.has_from[0] || dial.has_from[1]);
}

static void
values_out_of_bounds_become_the_nearest(void **state)
{
	(void)state;
	directory_write("control/timeoutconnect", "0\n");
	directory_write("control/timeoutremote", "86401\n");
	directory_write("control/helohost", "helo.test\n");
	assert_null(dial_open(&dial, "x.test"));
	assert_string_equal(dial.helo.s, "helo.test");
	assert_int_equal(dial.timeout_connect, 1);
	assert_int_equal(dial.timeout_remote, DIAL_TIMEOUT_MAX);
}

static void
an_address_of_each_kind_to_come_from(void **state)
{
	(void)state;
	directory_write("control/outgoingip", "192.0.2.77\n2001:db8::77\n");
	assert_null(dial_open(&dial, "x.test"));
	assert_true(dial.has_from[0] && !ip46_is6(&dial.from[0]) && dial.from[0].ip[3] == 77);
	assert_true(dial.has_from[1] && ip46_is6(&dial.from[1]) && dial.from[1].ip[15] == 0x77);
}

static void
any_address_to_come_from(void **state)
{
	(void)state;
	directory_write("control/outgoingip", "0.0.0.0\n::\n");
	assert_null(dial_open(&dial, "x.test"));
	assert_false(dial.has_from[0] || dial.has_from[1]);
}

/* file NULL: the DNS has none. want: what cannot be read, and errno. */
static const struct unreadable { const char *rule, *file, *text, *want; int error; } unreadables[] = {
	{ "an empty name", "control/helohost", "\n", "control/helohost and control/me", 0 },
	{ "an address that is none", "control/outgoingip", "here\n", "control/outgoingip", 0 },
	{ "an address and more", "control/outgoingip", "192.0.2.1:25\n", "control/outgoingip", 0 },
	{ "a good address and another", "control/outgoingip", "192.0.2.1\n192.0.2\n", "control/outgoingip", 0 },
	{ "outgoingip is a directory", "control/outgoingip", NULL, "control/outgoingip", EINVAL },
	{ "timeoutconnect is a directory", "control/timeoutconnect", NULL, "control/timeoutconnect", EINVAL },
	{ "timeoutremote is a directory", "control/timeoutremote", NULL, "control/timeoutremote", EINVAL },
	{ "a certificate for nobody", "control/tlsclientcert", "name\n", "control/tlsclientcert", 0 },
	{ "tlsclientcert is a directory", "control/tlsclientcert", NULL, "control/tlsclientcert", EINVAL },
	{ "smtproutes is a directory", "control/smtproutes", NULL, "control/smtproutes", EINVAL },
	{ "an own address that is none", "control/moreipme", "here\n", "the addresses of this host, control/moreipme and control/notipme", EINVAL },
	{ "no resolver", NULL, NULL, "control/dnsservers or /etc/resolv.conf", -1 },
};
enum { UNREADABLES = sizeof unreadables / sizeof *unreadables };

static void
what_cannot_be_read_is_said(void **state)
{
	const struct unreadable *row = *state;

	has_dns = row->file != NULL;
	if (row->text)
		directory_write(row->file, row->text);
	else if (row->file)
		assert_int_equal(mkdir(row->file, 0700), 0);
	assert_string_equal(dial_open(&dial, "x.test"), row->want);
	if (row->error >= 0)
		assert_int_equal(errno, row->error);
}

static void
no_name_of_this_host(void **state)
{
	(void)state;
	unlink("control/me");
	assert_string_equal(dial_open(&dial, "x.test"), "control/helohost and control/me");
}

/* --- which server -------------------------------------------------------------------------------------------------- */

#define HI "220 hi\r\n"
#define EHLO "EHLO me.test\r\n"
#define HELO "HELO me.test\r\n"
static const struct server_step good[] = { { "", HI }, { EHLO, "250-me\r\n250 DSN\r\n" }, { 0 } };
static const struct server_step unwilling[] = { { "", "554 no\r\n" }, { 0 } };

static char
dials(const struct peer *p, size_t len)
{
	char letter;

	peers = p;
	peers_len = len;
	if (!dial.helo.s)
		assert_null(dial_open(&dial, "x.test"));
	letter = dial_host(&dial, "x.test", &session, &text);
	if (letter == 'K')
		return letter;
	assert_true(stralloc_0(&text));
	assert_int_equal(session.connection.fd, -1);
	return letter;
}

/* text: what is said of the address if there is no other. */
static const struct row { const char *rule; struct peer peer; unsigned int timed_out, answered; const char *text; } rows[] = {
	{ "a connection that is refused", { ECONNREFUSED, NULL, 0 }, 0, 0, "No connection to a server of x.test (192.0.2.1: Connection refused). (#4.4.1)\n" },
	{ "a network that is not there", { ENETUNREACH, NULL, 0 }, 0, 0, "(192.0.2.1: Network is unreachable)" },
	{ "a connection that times out", { ETIMEDOUT, NULL, 0 }, 1, 0, "(192.0.2.1: timed out)" },
	{ "an address that timed out lately", { 0, good, 1 }, 0, 0, "(192.0.2.1: timed out lately)" },
	{ "it greets with a failure", { 0, unwilling, 0 }, 0, 1, "Connected to 192.0.2.1 but greeting failed. (#4.3.2)\nRemote host said: 554 no\n" },
	{ "it likes no name", { 0, (const struct server_step[]){ { "", HI }, { EHLO, "550 no\r\n" }, { HELO, "550 never\r\n" }, { 0 } }, 0 }, 0, 1,
	    "Connected to 192.0.2.1 but my name was rejected. (#4.3.2)\nRemote host said: 550 never\n" },
	{ "it closes before it greets", { 0, (const struct server_step[]){ { "", NULL } }, 0 }, 0, 1,
	    "Connected to 192.0.2.1 but connection died before it took a command. (#4.4.1)\n" },
	{ "it closes after EHLO", { 0, (const struct server_step[]){ { "", HI }, { EHLO, NULL } }, 0 }, 0, 1, "but connection died" },
	{ "it speaks no SMTP", { 0, (const struct server_step[]){ { "", "hello\r\n" }, { 0 } }, 0 }, 0, 1, "but its answer made no sense" },
};
enum { ROWS = sizeof rows / sizeof *rows };

/* Whatever a server does, it is temporary; and the next one is tried. */
static void
row_is_right(void **state)
{
	const struct row *row = *state;
	const struct peer two[] = { row->peer, { 0, good, 0 } };
	unsigned int before;

	assert_null(dial_open(&dial, "x.test"));
	before = process_descriptors();
	assert_int_equal(dials(two, 1), 'Z');
	assert_non_null(strstr(text.s, row->text));
	assert_int_equal(seen.timed_out, row->timed_out);
	assert_int_equal(seen.answered, row->answered);
	server_end();
	assert_int_equal(process_descriptors(), before);
	assert_int_equal(dials(two, 2), 'K');
	assert_string_equal(session.host, "192.0.2.2");
	assert_int_equal(session.extensions, SESSION_DSN);
	assert_int_equal(seen.answered, 2 * row->answered + 1);
}

static void
a_connection_that_takes_a_moment(void **state)
{
	static const struct peer one[] = { { EINPROGRESS, good, 0 } };

	(void)state;
	assert_int_equal(dials(one, 1), 'K');
}

/* It never becomes writable: its buffer is full from the start. */
static void
a_connection_that_takes_too_long(void **state)
{
	static const struct peer one[] = { { EINPROGRESS, NULL, 0 } };
	static const char octets[65536];
	int fd[2];

	(void)state;
	assert_null(dial_open(&dial, "x.test"));
	dial.timeout_connect = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	while (send(fd[0], octets, sizeof octets, MSG_NOSIGNAL) > 0)
		;
	seen.instead = fd[0];
	assert_int_equal(dials(one, 1), 'Z');
	assert_non_null(strstr(text.s, "(192.0.2.1: timed out)"));
	assert_int_equal(seen.timed_out, 1);
	close(fd[0]);
	close(fd[1]);
}

static void
all_of_them_are_named(void **state)
{
	static const struct peer three[] = { { ECONNREFUSED, NULL, 0 }, { 0, unwilling, 0 }, { ETIMEDOUT, NULL, 0 } };

	(void)state;
	assert_int_equal(dials(three, 3), 'Z');
	assert_string_equal(text.s, "Connected to 192.0.2.2 but greeting failed. (#4.3.2)\nRemote host said: 554 no\n"
	    "No connection to a server of x.test (192.0.2.1: Connection refused, 192.0.2.3: timed out). (#4.4.1)\n");
	assert_int_equal(seen.connects, 3);
}

static void
the_text_is_bounded_whatever_they_say(void **state)
{
	static char greeting[SMTP_REPLY_TEXT_MAX] = "554-";
	static const struct server_step talks[] = { { "", greeting }, { "", "\r\n554 no\r\n" }, { 0 } };
	struct peer many[PEERS_MAX];

	(void)state;
	memset(greeting + 4, 'x', sizeof greeting - 5);
	for (size_t i = 0; i < PEERS_MAX; i++)
		many[i] = (struct peer){ .steps = talks };
	assert_int_equal(dials(many, PEERS_MAX), 'Z');
	assert_int_equal(seen.connects, PEERS_MAX);
	assert_in_range(text.len, SMTP_REPLY_LINE_MAX, DIAL_TEXT_MAX + SMTP_REPLY_TEXT_MAX);
}

static void
the_host_is_cleaned(void **state)
{
	static const struct peer one[] = { { ECONNREFUSED, NULL, 0 } };

	(void)state;
	assert_null(dial_open(&dial, "x.test"));
	peers = one;
	peers_len = 1;
	assert_int_equal(dial_host(&dial, "x\r\033[1m\177.test", &session, &text), 'Z');
	for (size_t i = 0; i < text.len - 1; i++)
		assert_true(text.s[i] >= ' ' && text.s[i] < 127);
}

static void
what_the_DNS_says_is_handed_on(void **state)
{
	static const struct { char letter, want; } letters[] = { { 'D', 'D' }, { 'Z', 'Z' }, { '\0', 'Z' } };

	(void)state;
	for (size_t i = 0; i < sizeof letters / sizeof *letters; i++) {
		seen.letter = letters[i].letter;
		assert_int_equal(dials(NULL, 0), letters[i].want);
		assert_string_equal(text.s, "Sorry, so says the DNS. (#5.1.2)\n");
	}
}

static void
the_address_to_come_from_is_used(void **state)
{
	static const struct peer one[] = { { 0, good, 0 } };

	(void)state;
	directory_write("control/outgoingip", "192.0.2.77\n");
	assert_int_equal(dials(one, 1), 'K');
	assert_int_equal(seen.binds, 1);
	assert_int_equal(seen.from[3], 77);
}

static void
an_address_to_come_from_that_is_not_here(void **state)
{
	static const struct peer one[] = { { 0, good, 0 } };

	(void)state;
	directory_write("control/outgoingip", "192.0.2.77\n");
	seen.bind_error = EADDRNOTAVAIL;
	assert_int_equal(dials(one, 1), 'Z');
	assert_non_null(strstr(text.s, "192.0.2.1: Cannot assign requested address"));
	assert_int_equal(seen.connects, 0);
}

/* --- control/smtproutes -------------------------------------------------------------------------------------------- */

static const struct route { const char *rule, *line, *text; } routes[] = {
	{ "a port that is none", "x.test:relay.test:port", "makes no sense. (#4.3.5)" },
	{ "an open bracket", "x.test:[192.0.2.9", "makes no sense. (#4.3.5)" },
};
enum { ROUTES = sizeof routes / sizeof *routes };

/* Nobody is asked or told anything, and nothing of the line is in a bounce. */
static void
a_route_that_cannot_be_taken_waits_for_the_administrator(void **state)
{
	const struct route *row = *state;

	directory_write("control/smtproutes", row->line);
	assert_int_equal(dials(NULL, 0), 'Z');
	assert_non_null(strstr(text.s, row->text));
	assert_null(strstr(text.s, "relay.test"));
	assert_null(strstr(text.s, "password"));
	assert_int_equal(seen.asked, 0);
}

static void
hosts_whose_mail_goes_to_the_same_server(void **state)
{
	static const struct { const char *host, *other; int is_same; } pairs[] = {
		{ "a.test", "A.test", 1 }, { "a.test", "b.test", 1 }, { "a.test", "port.test", 0 }, { "a.test", "login.test", 0 },
		{ "login.test", "login2.test", 0 }, { "none.test", "other.test", 0 }, { "a.test", "none.test", 0 },
		{ "empty.test", "empty2.test", 0 }, { "bad.test", "bad2.test", 0 }, { "bad.test", "BAD.test", 1 },
		{ "a.test", "x.below.test", 1 }, { "a.test", "capital.test", 1 }, { "none.test", "none.test.", 1 }, { "a.test.", "b.test", 1 },
		{ "port.test.", "a.test", 0 },
	};

	(void)state;
	directory_write("control/smtproutes", "a.test:relay.test\nb.test:relay.test:25\nport.test:relay.test:26\nlogin.test:relay.test|u|p\n"
	    "login2.test:relay.test|u|q\nempty.test:\nempty2.test:\nbad.test:relay.test:x\nbad2.test:relay.test:x\n.below.test:relay.test\n"
	    "capital.test:Relay.TEST\n");
	assert_null(dial_open(&dial, "x.test"));
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
		if (dial_is_same(&dial, pairs[i].host, pairs[i].other) != pairs[i].is_same ||
		    dial_is_same(&dial, pairs[i].other, pairs[i].host) != pairs[i].is_same)
			fail_msg("%s %s", pairs[i].host, pairs[i].other);
}

/* --- DANE ------------------------------------------------------------------------------------------------------------ */

#define NO_TLS "Connected to 192.0.2.1 but it does not offer TLS. (#4.7.4)\n"
#define UNKNOWN "It is not known now whether DANE is demanded of mx1.x.test: so says the test. (#4.4.3)\n"
#define DEMANDED "DANE is demanded of mx1.x.test, and it has no TLSA records to go by: so says the test. (#4.7.4)\n"
#define FINGERPRINT "fingerprint:0000000000000000000000000000000000000000000000000000000000000000"

/* What becomes of mail to a server without TLS. text: NULL if it is taken. */
static const struct dane_row { const char *rule, *policy; enum dane_kind kind; const char *text; unsigned int asked, connects; } dane_rows[] = {
	{ "no records", "may", DANE_NONE, NULL, 1, 1 },
	{ "records", "may", DANE_USABLE, NO_TLS, 1, 1 },
	{ "records of no use", "may", DANE_UNUSABLE, NO_TLS, 1, 1 },
	{ "nobody knows whether there are records", "may", DANE_UNKNOWN, UNKNOWN, 1, 0 },
	{ "encrypt, no records", "encrypt", DANE_NONE, NO_TLS, 1, 1 },
	{ "encrypt, nobody knows whether there are records", "encrypt", DANE_UNKNOWN, UNKNOWN, 1, 0 },
	{ "dane, no records", "dane", DANE_NONE, DEMANDED, 1, 0 },
	{ "dane, records", "dane", DANE_USABLE, NO_TLS, 1, 1 },
	{ "dane, records of no use", "dane", DANE_UNUSABLE, DEMANDED, 1, 0 },
	{ "dane, nobody knows whether there are records", "dane", DANE_UNKNOWN, UNKNOWN, 1, 0 },
	{ "none does not ask", "none", DANE_UNKNOWN, NULL, 0, 1 },
	{ "verify does not ask", "verify", DANE_UNKNOWN, NO_TLS, 0, 1 },
	{ "fingerprint does not ask", FINGERPRINT, DANE_UNKNOWN, NO_TLS, 0, 1 },
};
enum { DANE_ROWS = sizeof dane_rows / sizeof *dane_rows };

static void
dane_row_is_right(void **state)
{
	static const struct peer one[] = { { 0, good, 0 } };
	const struct dane_row *row = *state;
	char line[200];

	snprintf(line, sizeof line, "x.test:%s\n", row->policy);
	directory_write("control/tlspolicy", line);
	seen.dane[0] = row->kind;
	if (row->text) {
		assert_int_equal(dials(one, 1), 'Z');
		assert_string_equal(text.s, row->text);
	} else {
		assert_int_equal(dials(one, 1), 'K');
	}
	assert_int_equal(seen.dane_asked, row->asked);
	assert_int_equal(seen.connects, row->connects);
}

/* The server is the one that the records are for: its name, its certificate, and no TLS session from another time. */
static void
what_a_server_with_records_has_to_prove(void **state)
{
	static const struct peer one[] = { { 0, good, 0 } };

	(void)state;
	seen.dane[0] = DANE_USABLE;
	assert_int_equal(dials(one, 1), 'Z');
	assert_string_equal(session.tls_name, "base.test");
	assert_string_equal(session.tls_proof, ", verified by DANE");
	assert_null(session.tls_key);
	assert_ptr_equal(dial.tls.chain.of, &dial.dane);
}

static void
the_next_host_has_records_of_its_own(void **state)
{
	static const struct peer six[] = { { 0, good, 0 }, { 0, good, 0 }, { 0, good, 0 }, { 0, good, 0 }, { ECONNREFUSED, NULL, 0 }, { 0, good, 0 } };

	(void)state;
	seen.has_two_addresses_a_host = 1;
	seen.dane[0] = DANE_UNKNOWN;
	seen.dane[1] = DANE_USABLE;
	seen.dane[2] = DANE_NONE;
	assert_int_equal(dials(six, 6), 'K');
	assert_string_equal(session.host, "192.0.2.6");
	assert_string_equal(session.tls_name, "mx3.x.test");
	assert_string_equal(session.tls_proof, "");
	assert_int_equal(session.tls, SESSION_TLS_MAY);
	assert_ptr_equal(dial.tls.chain.of, &dial.proof);
	assert_int_equal(seen.dane_asked, 3);
	assert_int_equal(seen.connects, 4);
	/* each address is named, and a host that was left out once */
	assert_true(stralloc_0(&text));
	assert_string_equal(text.s, UNKNOWN "Connected to 192.0.2.3 but it does not offer TLS. (#4.7.4)\n"
	    "Connected to 192.0.2.4 but it does not offer TLS. (#4.7.4)\n");
}

/* --- a certificate of this host ---------------------------------------------------------------------------------------- */

#define NO_ANSWER "qmail-keyd does not say which certificate is for x.test. (#4.3.0)\n"
#define CHAIN "P\1\0\0\0\0" "\0\0\1x"

/* What qmail-keyd answers (NULL: it is away), and what becomes of mail to a server without TLS. text: NULL if it is taken. */
static const struct certificate_row { const char *rule, *line, *policy, *answer; size_t answer_len; const char *text; int is_spent; unsigned int connects; }
certificate_rows[] = {
	{ "no certificate for that host", "y.test:a", "may", NULL, 0, NULL, 0, 1 },
	{ "for relays only", ":a", "may", NULL, 0, NULL, 0, 1 },
	{ "an exemption", "x.test:", "may", NULL, 0, NULL, 0, 1 },
	{ "qmail-keyd is away", "x.test:a", "may", NULL, 0, NO_ANSWER, 1, 0 },
	{ "no such key pair", "x.test:a", "may", "N", 1, "control/tlsclientcert has a for x.test, and qmail-keyd has no such key pair. (#4.3.5)\n", 0, 0 },
	{ "an answer that makes no sense", "x.test:a", "may", "P", 1, NO_ANSWER, 1, 0 },
	{ "a chain that is none", "x.test:a", "may", CHAIN, sizeof CHAIN - 2, NO_ANSWER, 1, 0 },
	{ "never in clear text", "x.test:a", "may", CHAIN, sizeof CHAIN - 1, NO_TLS, 0, 1 },
	{ "never in clear text, whatever tlspolicy says", ".test:a", "none", CHAIN, sizeof CHAIN - 1, NO_TLS, 0, 1 },
};
enum { CERTIFICATE_ROWS = sizeof certificate_rows / sizeof *certificate_rows };

static void
certificate_row_is_right(void **state)
{
	static const struct peer one[] = { { 0, good, 0 } };
	const struct certificate_row *row = *state;
	int keyd[2];
	char line[64];

	directory_write("control/tlsclientcert", row->line);
	snprintf(line, sizeof line, "x.test:%s\n", row->policy);
	directory_write("control/tlspolicy", line);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, keyd), 0);
	assert_null(dial_open(&dial, "x.test"));
	assert_int_equal(dial_service(&dial), -1);
	if (row->answer) {
		dial.certificate.key.fd = keyd[0];
		assert_int_equal(send(keyd[1], row->answer, row->answer_len, 0), row->answer_len);
	} else {
		close(keyd[0]);
	}
	if (row->text) {
		assert_int_equal(dials(one, 1), 'Z');
		assert_string_equal(text.s, row->text);
	} else {
		assert_int_equal(dials(one, 1), 'K');
	}
	assert_int_equal(seen.connects, row->connects);
	assert_int_equal(dial.is_spent, row->is_spent);
	assert_int_equal(dial_service(&dial), row->answer && !row->is_spent ? keyd[0] : -1);
	close(keyd[1]);
}

/* Who needs no key does not get near them. */
static const struct needy { const char *host; int connects; } needy[] = {
	{ "x.test", 1 }, { "X.test", 1 }, { "a.relay.test", 1 }, { "b.relay.test", 1 }, { "c.relay.test", 0 }, { "y.test", 0 }, { "relay.test", 1 },
	{ "bad.test", 0 }, { "x.test.", 1 }, { "a.relay.test.", 1 },
};
enum { NEEDY = sizeof needy / sizeof *needy };

static void
who_connects_to_qmail_keyd(void **state)
{
	const struct needy *row = *state;
	int listener;

	assert_true(mkdir("run", 0700) == 0 || errno == EEXIST);
	listener = service_socket_listen(KEY_SOCKET);
	assert_true(listener >= 0);
	directory_write("control/smtproutes", "a.relay.test:relay.test\nb.relay.test:other.test\nc.relay.test:third.test\nbad.test:relay.test:x\n");
	directory_write("control/tlsclientcert", "x.test:a\nrelay.test:b\n:c\nthird.test:\n");
	assert_null(dial_open(&dial, row->host));
	assert_int_equal(dial_service(&dial) >= 0, row->connects);
	close(listener);
	unlink(KEY_SOCKET);
}

static int
remove_directory(void **state)
{
	stralloc_free(&text);
	return directory_remove(state);
}

/* --- MTA-STS --------------------------------------------------------------------------------------------------------- */

#define POLICY(mode) "version: STSv1\nmode: " mode "\nmx: mx2.x.test\nmax_age: 1\n"

static void
says(enum sts_answer answer, const char *policy)
{
	sts.connects = 0;
	sts.answer = answer;
	sts.policy = policy;
}

static const struct peer two_good[] = { { 0, good, 0 }, { 0, good, 0 } };

static void
without_qmail_mtastsd_nothing_is_asked(void **state)
{
	(void)state;
	assert_int_equal(dials(two_good, 1), 'K');
	assert_int_equal(sts.records + sts.asked, 0);
}

/* Also for the sessions that follow, and a domain in capital letters. */
static void
a_domain_without_a_policy(void **state)
{
	(void)state;
	says(STS_NO_POLICY, NULL);
	for (int n = 0; n < 2; n++) {
		assert_int_equal(dials(two_good, 1), 'K');
		connection_close(&session.connection);
		assert_int_equal(dial_host(&dial, "X.test", &session, &text), 'K');
		connection_close(&session.connection);
	}
	assert_int_equal(sts.asked, 1);
	assert_string_equal(sts.record, "_mta-sts.x.test");
	assert_string_equal(sts.question, "x.test a1");
	assert_string_equal(session.security, "");
}

static void
a_domain_in_other_letters(void **state)
{
	(void)state;
	says(STS_NO_POLICY, NULL);
	peers = two_good;
	peers_len = 1;
	assert_null(dial_open(&dial, "x.test"));
	assert_int_equal(dial_host(&dial, "f\xc3\xbc.test", &session, &text), 'K');
	assert_string_equal(sts.question, "xn--f-eha.test a1");
}

static void
mode_none(void **state)
{
	(void)state;
	says(STS_POLICY, POLICY("none"));
	assert_int_equal(dials(two_good, 1), 'K');
	assert_string_equal(session.security, "");
}

/* control/tlspolicy and MTA-STS are asked about the same name as the DNS, which knows no difference. */
static const struct dotted { const char *rule, *host, *policy, *question; } dotted[] = {
	{ "a final dot", "X.test.", "x.test:encrypt\n", "x.test a1" },
	{ "a final dot, a suffix", "x.test.", ".test:encrypt\n", "x.test a1" },
	{ "a final dot, other letters", "f\xc3\xbc.test.", "f\xc3\xbc.test:encrypt\n", "xn--f-eha.test a1" },
	{ "a final dot, other letters in ASCII", "f\xc3\xbc.test.", "xn--f-eha.test:encrypt\n", "xn--f-eha.test a1" },
	{ "a final dot that is ideographic", "x.test\xe3\x80\x82", "x.test:encrypt\n", "x.test a1" },
};
enum { DOTTED = sizeof dotted / sizeof *dotted };

static void
a_host_with_a_final_dot(void **state)
{
	const struct dotted *row = *state;

	says(STS_NO_POLICY, NULL);
	directory_write("control/tlspolicy", row->policy);
	peers = two_good;
	peers_len = 1;
	assert_null(dial_open(&dial, row->host));
	assert_int_equal(dial_host(&dial, row->host, &session, &text), 'Z');
	assert_true(stralloc_0(&text));
	assert_string_equal(text.s, NO_TLS);
	assert_string_equal(sts.question, row->question);
}

/* The first host is none of the policy, and is not called; the second one has no TLS. */
static void
an_enforced_policy(void **state)
{
	(void)state;
	says(STS_POLICY, POLICY("enforce"));
	for (int n = 0; n < 2; n++) {
		seen.connects = 0;
		assert_int_equal(dials(two_good, 2), 'Z');
		assert_string_equal(text.s, "The MX host mx1.x.test is not in the MTA-STS policy of x.test. (#4.7.0)\n"
		    "Connected to 192.0.2.2 but it does not offer TLS, and its domain has an MTA-STS policy that is enforced. (#4.7.4)\n");
		assert_int_equal(seen.connects, 1);
	}
	assert_int_equal(sts.asked, 1);
}

static void
a_policy_that_is_tested(void **state)
{
	static const struct peer second[] = { { ECONNREFUSED, NULL, 0 }, { 0, good, 0 } };

	(void)state;
	says(STS_POLICY, POLICY("testing"));
	assert_int_equal(dials(two_good, 2), 'K');
	assert_string_equal(session.host, "192.0.2.1");
	assert_string_equal(session.security, "in clear text; MTA-STS is tested, and fails: the MX host is not in the policy");
	connection_close(&session.connection);
	assert_int_equal(dials(second, 2), 'K');
	assert_string_equal(session.security, "in clear text; MTA-STS is tested, and fails: there is no TLS");
}

/* Both hosts have records: the policy says which one is called, the records what it proves. */
static void
an_enforced_policy_and_TLSA_records(void **state)
{
	(void)state;
	says(STS_POLICY, POLICY("enforce"));
	seen.dane[0] = seen.dane[1] = DANE_USABLE;
	assert_int_equal(dials(two_good, 2), 'Z');
	assert_int_equal(seen.connects, 1);
	assert_string_equal(session.host, "192.0.2.2");
	assert_string_equal(session.tls_proof, ", verified by DANE");
	assert_ptr_equal(dial.tls.chain.of, &dial.dane);
}

/* errno of the connection; 0: it gets no answer. */
static const int troubles[] = { ECONNREFUSED, EACCES, 0 };

enum { TROUBLES = sizeof troubles / sizeof *troubles };

static void
a_qmail_mtastsd_that_does_not_serve(void **state)
{
	says(STS_NO_ANSWER, NULL);
	sts.connects = *(const int *)*state;
	for (int n = 0; n < 2; n++) {
		assert_int_equal(dials(two_good, 1), 'Z');
		assert_string_equal(text.s, "qmail-mtastsd does not say how mail for x.test is to be protected. (#4.3.0)\n");
	}
	assert_int_equal(seen.connects, 0);
	assert_int_equal(dial.is_spent, 1);
}

/* One process, one domain: another one is for another process. */
static void
another_domain(void **state)
{
	(void)state;
	says(STS_NO_POLICY, NULL);
	assert_int_equal(dials(two_good, 1), 'K');
	connection_close(&session.connection);
	assert_int_equal(dial_host(&dial, "y.test", &session, &text), 'Z');
	assert_int_equal(dials(two_good, 1), 'K');
}

/* What the administrator says, a relay, and an address come before. line: of control/tlspolicy. */
static const struct exempt { const char *rule, *file, *line, *host; } exempts[] = {
	{ "none", "control/tlspolicy", ":none\n", "x.test" },
	{ "nosts", "control/tlspolicy", "x.test:may:nosts\n", "x.test" },
	{ "a relay", "control/smtproutes", ":relay.test\n", "x.test" },
	{ "an address", "control/smtproutes", "", "[192.0.2.9]" },
};
enum { EXEMPTS = sizeof exempts / sizeof *exempts };

static void
what_is_exempt(void **state)
{
	const struct exempt *row = *state;

	says(STS_POLICY, POLICY("enforce"));
	directory_write(row->file, row->line);
	peers = two_good;
	peers_len = 1;
	assert_null(dial_open(&dial, "x.test"));
	assert_int_equal(dial_host(&dial, row->host, &session, &text), 'K');
	assert_int_equal(sts.records + sts.asked, 0);
}

/* The stricter counts. */
static void
encrypt_is_less_than_enforce(void **state)
{
	(void)state;
	says(STS_POLICY, POLICY("enforce"));
	directory_write("control/tlspolicy", ":encrypt\n");
	assert_int_equal(dials(two_good, 1), 'Z');
	assert_non_null(strstr(text.s, "is not in the MTA-STS policy"));
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest others[] = {
		TEST(defaults), TEST(values_out_of_bounds_become_the_nearest), TEST(an_address_of_each_kind_to_come_from),
		TEST(any_address_to_come_from), TEST(no_name_of_this_host), TEST(a_connection_that_takes_a_moment),
		TEST(a_connection_that_takes_too_long), TEST(all_of_them_are_named), TEST(the_text_is_bounded_whatever_they_say),
		TEST(the_host_is_cleaned), TEST(what_the_DNS_says_is_handed_on), TEST(the_address_to_come_from_is_used),
		TEST(an_address_to_come_from_that_is_not_here), TEST(hosts_whose_mail_goes_to_the_same_server),
		TEST(what_a_server_with_records_has_to_prove), TEST(the_next_host_has_records_of_its_own),
		TEST(without_qmail_mtastsd_nothing_is_asked), TEST(a_domain_without_a_policy), TEST(a_domain_in_other_letters), TEST(mode_none),
		TEST(an_enforced_policy), TEST(a_policy_that_is_tested), TEST(another_domain),
		TEST(encrypt_is_less_than_enforce), TEST(an_enforced_policy_and_TLSA_records),
	};
	struct CMUnitTest tests[UNREADABLES + ROWS + ROUTES + DANE_ROWS + EXEMPTS + TROUBLES + CERTIFICATE_ROWS + NEEDY + DOTTED + sizeof others / sizeof *others], *next = tests;

	for (size_t i = 0; i < UNREADABLES; i++)
		*next++ = (struct CMUnitTest){ unreadables[i].rule, what_cannot_be_read_is_said, set_up, tear_down, (void *)(uintptr_t)&unreadables[i] };
	for (size_t i = 0; i < ROWS; i++)
		*next++ = (struct CMUnitTest){ rows[i].rule, row_is_right, set_up, tear_down, (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < ROUTES; i++)
		*next++ = (struct CMUnitTest){ routes[i].rule, a_route_that_cannot_be_taken_waits_for_the_administrator, set_up, tear_down,
		    (void *)(uintptr_t)&routes[i] };
	for (size_t i = 0; i < DANE_ROWS; i++)
		*next++ = (struct CMUnitTest){ dane_rows[i].rule, dane_row_is_right, set_up, tear_down, (void *)(uintptr_t)&dane_rows[i] };
	for (size_t i = 0; i < EXEMPTS; i++)
		*next++ = (struct CMUnitTest){ exempts[i].rule, what_is_exempt, set_up, tear_down, (void *)(uintptr_t)&exempts[i] };
	for (size_t i = 0; i < TROUBLES; i++)
		*next++ = (struct CMUnitTest){ "a qmail-mtastsd that does not serve", a_qmail_mtastsd_that_does_not_serve, set_up, tear_down,
		    (void *)(uintptr_t)&troubles[i] };
	for (size_t i = 0; i < CERTIFICATE_ROWS; i++)
		*next++ = (struct CMUnitTest){ certificate_rows[i].rule, certificate_row_is_right, set_up, tear_down,
		    (void *)(uintptr_t)&certificate_rows[i] };
	for (size_t i = 0; i < NEEDY; i++)
		*next++ = (struct CMUnitTest){ needy[i].host, who_connects_to_qmail_keyd, set_up, tear_down, (void *)(uintptr_t)&needy[i] };
	for (size_t i = 0; i < DOTTED; i++)
		*next++ = (struct CMUnitTest){ dotted[i].rule, a_host_with_a_final_dot, set_up, tear_down, (void *)(uintptr_t)&dotted[i] };
	memcpy(next, others, sizeof others);
	return cmocka_run_group_tests_name("dial", tests, directory_make, remove_directory);
}
