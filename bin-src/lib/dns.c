#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <netinet/in.h>
#include <ares.h>
#include <skalibs/bytestr.h>
#include <skalibs/stralloc.h>
#include "control/control.h"
#include "dns.h"
#include "monotonic.h"

enum {
	CLASS_IN = 1, TYPE_NS = 2, TYPE_SOA = 6,	/* RFC 1035 3.2 */
	HEADER_OCTETS = 12, FLAG_AA = 0x04, FLAG_AD = 0x20,	/* RFC 1035 4.1.1: octets 2 and 3 of a message */
	RCODE_NAME_ERROR = 3,
	UDP_OCTETS = 1232,		/* what passes without fragments */
	FIRST_WAIT = 2000, TRIES = 4,	/* milliseconds until a question is repeated, then longer; times for each server */
	TTL_MAX = 7 * 86400,
	SOCKETS = ARES_GETSOCK_MAXNUM - 1,	/* the macro for the last one shifts into the sign */
};

struct dns {
	ares_channel channel;
	unsigned int pending;
	int is_local;
	int is_closing;		/* nothing is asked anew */
};

/* What a question owns. While records grows, text in it is an offset. */
struct state {
	struct dns *d;
	stralloc text;
	struct dns_record *records;
	size_t len, room;
};

/* --- names ---------------------------------------------------------------------------------------------------- */

static int
is_label_octet(char c, int is_host)
{
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')
		return 1;
	/* what c-ares writes without a backslash; such as '/', RFC 2317 */
	return !is_host && c > ' ' && c < 0x7f && !strchr("\\\"().;@$", c);
}

/* 1 if name, in lower case, is one that may be asked for; is_host: and one of a host. The root is not. */
static int
is_name(const char *name, int is_host)
{
	size_t label = 0, i;

	for (i = 0; name[i]; i++)
		if (name[i] == '.') {
			if (!label)
				return 0;
			label = 0;
		} else if (!is_label_octet(name[i], is_host) || ++label > 63) {
			return 0;
		}
	return label > 0 && i <= DNS_NAME_MAX;
}

/* s is one that is_name accepts, so it fits. */
static void
copy_name(char name[DNS_NAME_MAX + 1], const char *s)
{
	memcpy(name, s, strlen(s) + 1);
}

static void
lower(char *s)
{
	for (; *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s + ('a' - 'A'));
}

/* --- reading a message (RFC 1035 section 4) --------------------------------------------------------------------- */

struct message {
	const unsigned char *octets;
	size_t len, at;
};

/* A record of a message: owner is "" if it is unusable. */
struct raw {
	char owner[DNS_NAME_MAX + 1];
	unsigned int type, class;
	uint32_t ttl;
	size_t data, data_len;	/* the RDATA, within the message */
};

static int
take_number(struct message *m, unsigned int octets, uint32_t *n)
{
	if (m->len - m->at < octets)
		return 0;
	for (*n = 0; octets; octets--)
		*n = *n << 8 | m->octets[m->at++];
	return 1;
}

/* The name at m->at, in lower case; "" for the root, and "\\" for one that is no text: odd octets, or too long.
 * Returns 0 if the message is damaged or there is no memory. */
static int
take_name(struct message *m, char name[DNS_NAME_MAX + 1])
{
	char *s;
	long octets;

	if (m->at >= m->len ||
	    ares_expand_name(m->octets + m->at, m->octets, (int)m->len, &s, &octets) != ARES_SUCCESS)
		return 0;
	lower(s);
	/* c-ares 1.18 takes a label of one NUL for the root as well */
	if (!m->octets[m->at])
		*name = 0;
	else
		copy_name(name, is_name(s, 0) ? s : "\\");
	m->at += (size_t)octets;
	ares_free_string(s);
	return m->at <= m->len;
}

static int
take_record(struct message *m, struct raw *r)
{
	uint32_t type, class, data_len;

	if (!take_name(m, r->owner) || !take_number(m, 2, &type) || !take_number(m, 2, &class) ||
	    !take_number(m, 4, &r->ttl) || !take_number(m, 2, &data_len) || m->len - m->at < data_len)
		return 0;
	r->type = type;
	r->class = class;
	r->ttl = r->ttl >> 31 ? 0 : r->ttl > TTL_MAX ? TTL_MAX : r->ttl;	/* RFC 2181 section 8 */
	r->data = m->at;
	r->data_len = data_len;
	m->at += data_len;
	return 1;
}

static unsigned int
count(const struct message *m, unsigned int section)
{
	return (unsigned int)(m->octets[4 + 2 * section] << 8 | m->octets[5 + 2 * section]);
}

/* Goes to the answers, after the one question. Returns 0 if the message is damaged. */
static int
skip_question(struct message *m)
{
	char name[DNS_NAME_MAX + 1];

	if (m->len < HEADER_OCTETS || count(m, 0) != 1)
		return 0;
	m->at = HEADER_OCTETS;
	if (!take_name(m, name) || m->len - m->at < 4)
		return 0;
	m->at += 4;
	return 1;
}

/* --- an answer's records ---------------------------------------------------------------------------------------- */

enum found { DAMAGED = -1, NOTHING, SOMETHING };

/* Adds a record whose text is len octets at s. Beyond the limits it is left out. Returns 0 if there is no memory. */
static int
add(struct dns_question *q, const struct raw *r, uint32_t preference, const void *s, size_t len)
{
	struct state *state = q->state;
	struct dns_record *record;

	if (state->len == DNS_RECORDS_MAX || state->text.len + len + 1 > DNS_TEXT_MAX) {
		q->is_cut = 1;
		return 1;
	}
	if (state->len == state->room) {
		size_t room = state->room ? 2 * state->room : 8;
		struct dns_record *more = realloc(state->records, room * sizeof *more);

		if (!more)
			return 0;
		state->records = more;
		state->room = room;
	}
	record = &state->records[state->len];
	record->preference = (uint16_t)preference;
	record->ttl = r->ttl;
	record->text = (const char *)(uintptr_t)state->text.len;
	record->len = len;
	if (!stralloc_readyplus(&state->text, len + 1) || !stralloc_catb(&state->text, s, len) || !stralloc_0(&state->text))
		return 0;
	state->len++;
	return 1;
}

/* A record that holds a host name, after a preference in MX. */
static int
add_host(struct dns_question *q, const struct message *m, const struct raw *r)
{
	struct message data = { m->octets, r->data + r->data_len, r->data };
	uint32_t preference = 0;
	char name[DNS_NAME_MAX + 1];

	if (r->type == DNS_MX && !take_number(&data, 2, &preference))
		return 0;
	/* a compressed name points to octets before it, so the end of this record is end enough */
	if (!take_name(&data, name) || data.at != data.len)
		return 0;
	if (is_name(name, r->type != DNS_CNAME) || (!*name && r->type == DNS_MX))
		return add(q, r, preference, name, strlen(name));
	q->is_cut = 1;
	return 1;
}

/* RFC 1035 3.3.14: one or more strings, each after its length. */
static int
add_text(struct dns_question *q, const struct message *m, const struct raw *r)
{
	const unsigned char *data = m->octets + r->data;
	stralloc text = STRALLOC_ZERO;
	int ok = r->data_len > 0;

	for (size_t i = 0; ok && i < r->data_len; i += 1u + data[i])
		ok = r->data_len - i > data[i] && stralloc_catb(&text, (const char *)data + i + 1, data[i]);
	ok = ok && add(q, r, 0, text.s, text.len);
	stralloc_free(&text);
	return ok;
}

/* Adds a record of the type that was asked for. Returns 0 if it is damaged or there is no memory. */
static int
add_record(struct dns_question *q, const struct message *m, const struct raw *r)
{
	switch (q->type) {
	case DNS_A:
		return r->data_len == 4 && add(q, r, 0, m->octets + r->data, 4);
	case DNS_AAAA:
		return r->data_len == 16 && add(q, r, 0, m->octets + r->data, 16);
	case DNS_TXT:
		return add_text(q, m, r);
	case DNS_TLSA:
		return r->data_len > 3 && add(q, r, 0, m->octets + r->data, r->data_len);
	default:
		return add_host(q, m, r);
	}
}

/* The answers that may count: the type asked for, and CNAMEs. */
struct answers {
	struct raw *list;
	size_t len;
};

static int
take_answers(struct answers *a, struct message *m, enum dns_type type)
{
	size_t room = 0;
	struct raw r;

	for (unsigned int n = count(m, 1); n; n--) {
		if (!take_record(m, &r))
			return 0;
		if (r.class != CLASS_IN || (r.type != (unsigned int)type && r.type != DNS_CNAME) || !is_name(r.owner, 0))
			continue;
		if (a->len == room) {
			struct raw *more = realloc(a->list, (room = room ? 2 * room : 8) * sizeof *more);

			if (!more)
				return 0;
			a->list = more;
		}
		a->list[a->len++] = r;
	}
	return 1;
}

/* Follows one CNAME of q->name. Returns SOMETHING, NOTHING if it has none, or DAMAGED. */
static enum found
follow(struct dns_question *q, const struct answers *a, const struct message *m, uint32_t *ttl)
{
	for (size_t i = 0; i < a->len; i++) {
		struct message data = { m->octets, a->list[i].data + a->list[i].data_len, a->list[i].data };
		char target[DNS_NAME_MAX + 1];

		if (a->list[i].type != DNS_CNAME || strcmp(a->list[i].owner, q->name) != 0)
			continue;
		if (!take_name(&data, target) || data.at != data.len || !is_name(target, 0) || ++q->links > DNS_LINKS_MAX)
			return DAMAGED;
		copy_name(q->name, target);
		if (a->list[i].ttl < *ttl)
			*ttl = a->list[i].ttl;
		return SOMETHING;
	}
	return NOTHING;
}

/* Fills q from the answers. */
static enum found
choose(struct dns_question *q, struct answers *a, const struct message *m)
{
	uint32_t ttl = TTL_MAX;
	enum found r = SOMETHING;
	int any = 0;

	while (q->type != DNS_CNAME && (r = follow(q, a, m, &ttl)) == SOMETHING)
		;
	if (r == DAMAGED) {
		q->trouble = q->links > DNS_LINKS_MAX ? "its CNAMEs lead on and on" : "the answer is damaged";
		return DAMAGED;
	}
	for (size_t i = 0; i < a->len; i++) {
		if (a->list[i].type != (unsigned int)q->type || strcmp(a->list[i].owner, q->name) != 0)
			continue;
		if (a->list[i].ttl > ttl)
			a->list[i].ttl = ttl;
		if (!add_record(q, m, &a->list[i]))
			return DAMAGED;
		any = 1;
	}
	return any ? SOMETHING : NOTHING;
}

/* Gives the records to the caller. */
static void
hand_out(struct dns_question *q)
{
	struct state *state = q->state;

	q->ttl = state->len ? TTL_MAX : 0;
	for (size_t i = 0; i < state->len; i++) {
		state->records[i].text = state->text.s + (uintptr_t)state->records[i].text;
		if (state->records[i].ttl < q->ttl)
			q->ttl = state->records[i].ttl;
	}
	q->records = state->records;
	q->records_len = state->len;
}

/* --- an answer -------------------------------------------------------------------------------------------------- */

/* What the authority section says of a name without records: RFC 2308 section 2.2. */
struct authority { int has_soa, has_ns; };

static int
take_authority(struct authority *a, struct message *m)
{
	struct raw r;

	for (unsigned int n = count(m, 2); n; n--) {
		if (!take_record(m, &r))
			return 0;
		a->has_soa |= r.type == TYPE_SOA;
		a->has_ns |= r.type == TYPE_NS;
	}
	return 1;
}

static void send_question(struct dns_question *q);

static void
answered(struct dns_question *q, enum dns_kind kind)
{
	struct state *state = q->state;

	q->kind = kind;
	if (kind == DNS_FOUND)
		hand_out(q);
	if (kind != DNS_TEMPORARY)
		q->trouble = NULL;
	else if (!q->trouble)
		q->trouble = "the answer is damaged";
	state->d->pending--;
}

/* A NOERROR answer without a record of the type. */
static void
judge_nothing(struct dns_question *q, struct message *m, size_t answers, unsigned int links_before)
{
	struct authority authority = { 0, 0 };
	struct state *state = q->state;

	if (!take_authority(&authority, m)) {
		answered(q, DNS_TEMPORARY);
	} else if (q->links > links_before && !authority.has_soa && !state->d->is_closing) {
		send_question(q);	/* only the alias: the server left the rest to us */
	} else if (answers && !authority.has_soa) {
		q->trouble = "the answer is to another question";
		answered(q, DNS_TEMPORARY);
	} else if (authority.has_ns && !authority.has_soa && !(m->octets[2] & FLAG_AA)) {
		q->trouble = "the name server does not resolve, it refers to others";
		answered(q, DNS_TEMPORARY);
	} else {
		answered(q, DNS_NO_DATA);
	}
}

static void
judge(struct dns_question *q, struct message *m)
{
	struct answers a = { NULL, 0 };
	unsigned int links_before = q->links, rcode;
	enum found found = DAMAGED;

	if (skip_question(m) && take_answers(&a, m, q->type))
		found = choose(q, &a, m);
	free(a.list);
	if (found == DAMAGED) {
		answered(q, DNS_TEMPORARY);
		return;
	}
	rcode = m->octets[3] & 0x0f;
	q->is_authentic = (!links_before || q->is_authentic) && m->octets[3] & FLAG_AD;
	if (rcode == RCODE_NAME_ERROR) {
		answered(q, DNS_NO_NAME);
	} else if (rcode) {
		q->trouble = "the name server failed";
		answered(q, DNS_TEMPORARY);
	} else if (found == SOMETHING) {
		answered(q, DNS_FOUND);
	} else {
		judge_nothing(q, m, count(m, 1), links_before);
	}
}

static const char *
explain(int status)
{
	switch (status) {
	case ARES_ETIMEOUT:
	case ARES_ECANCELLED:
		return "no name server answered in time";
	case ARES_ESERVFAIL:
		return "the name server failed";
	case ARES_EREFUSED:
	case ARES_ENOTIMP:
		return "the name server refuses to answer";
	case ARES_ENOMEM:
		return "out of memory";
	case ARES_EBADRESP:
	case ARES_EFORMERR:
		return "the answer is damaged";
	default:
		return "no name server gave a usable answer";
	}
}

static void
take_answer(void *question, int status, int timeouts, unsigned char *octets, int len)
{
	struct dns_question *q = question;
	struct message m = { octets, (size_t)len, 0 };

	(void)timeouts;
	if (octets && len >= HEADER_OCTETS &&
	    (status == ARES_SUCCESS || status == ARES_ENODATA || status == ARES_ENOTFOUND)) {
		judge(q, &m);
		return;
	}
	q->trouble = explain(status);
	answered(q, DNS_TEMPORARY);
}

/* --- questions -------------------------------------------------------------------------------------------------- */

/* Sends the question for q->name; its answer may come before this returns, if it is trouble. */
static void
send_question(struct dns_question *q)
{
	struct state *state = q->state;
	unsigned char *octets;
	uint16_t id;
	int len, status;

	/* an own identifier: the random numbers of c-ares 1.18 can be guessed where it finds no source (CVE-2023-31147) */
	if (getrandom(&id, sizeof id, 0) != sizeof id) {
		q->trouble = "no random numbers";
		answered(q, DNS_TEMPORARY);
		return;
	}
	status = ares_create_query(q->name, CLASS_IN, (int)q->type, id, 1, &octets, &len, UDP_OCTETS);
	if (status == ARES_EBADNAME) {
		answered(q, DNS_NO_NAME);
	} else if (status != ARES_SUCCESS) {
		q->trouble = explain(status);
		answered(q, DNS_TEMPORARY);
	} else {
		octets[3] |= FLAG_AD;	/* tell us if you have verified it: RFC 6840 5.7 */
		ares_send(state->d->channel, octets, len, take_answer, q);
		ares_free_string(octets);
	}
}

/* Copies name in lower case without its final dot. Returns 0 if there can be no such name. */
static int
put_name(struct dns_question *q, const char *name)
{
	size_t len = strlen(name);

	if (len && name[len - 1] == '.')
		len--;
	if (len > DNS_NAME_MAX)
		return 0;
	memcpy(q->name, name, len);
	q->name[len] = 0;
	lower(q->name);
	return is_name(q->name, 0);
}

void
dns_ask(struct dns *d, struct dns_question *q, const char *name, enum dns_type type)
{
	struct state *state;
	int possible;

	dns_free(q);
	q->type = type;
	possible = put_name(q, name);
	if (!possible || d->pending >= DNS_QUESTIONS_MAX || !(state = calloc(1, sizeof *state))) {
		q->kind = possible ? DNS_TEMPORARY : DNS_NO_NAME;
		q->trouble = !possible ? NULL : d->pending >= DNS_QUESTIONS_MAX ? "too many questions" : "out of memory";
		return;
	}
	state->d = d;
	q->state = state;
	q->kind = DNS_PENDING;
	d->pending++;
	send_question(q);
}

void
dns_free(struct dns_question *q)
{
	struct state *state = q->state;

	if (state) {
		stralloc_free(&state->text);
		free(state->records);
		free(state);
	}
	memset(q, 0, sizeof *q);
}

/* --- waiting ---------------------------------------------------------------------------------------------------- */

/* The sockets of c-ares, as poll wants them. Returns how many. */
static nfds_t
list_sockets(struct dns *d, struct pollfd fds[SOCKETS])
{
	ares_socket_t sockets[SOCKETS];
	int bits = ares_getsock(d->channel, sockets, SOCKETS);
	nfds_t n = 0;

	for (int i = 0; i < SOCKETS; i++) {
		int events = (ARES_GETSOCK_READABLE(bits, i) ? POLLIN : 0) | (ARES_GETSOCK_WRITABLE(bits, i) ? POLLOUT : 0);

		if (events)
			fds[n++] = (struct pollfd){ .fd = sockets[i], .events = (short)events };
	}
	return n;
}

/* Milliseconds until something is to be repeated, at most left. */
static int
next_wait(struct dns *d, uint64_t left)
{
	struct timeval longest, wait;
	const struct timeval *t;

	if (left > 60000)
		left = 60000;
	longest.tv_sec = (time_t)(left / 1000);
	longest.tv_usec = (suseconds_t)(left % 1000 * 1000);
	t = ares_timeout(d->channel, &longest, &wait);
	return (int)(t->tv_sec * 1000 + (t->tv_usec + 999) / 1000);
}

/* Waits once, for at most left milliseconds, and has c-ares do what is to be done. */
static void
turn(struct dns *d, uint64_t left)
{
	struct pollfd fds[SOCKETS];
	nfds_t n = list_sockets(d, fds);
	int ready = poll(fds, n, next_wait(d, left));

	for (nfds_t i = 0; ready > 0 && i < n; i++)
		if (fds[i].revents)
			ares_process_fd(d->channel,
			    fds[i].revents & (POLLIN | POLLERR | POLLHUP) ? fds[i].fd : ARES_SOCKET_BAD,
			    fds[i].revents & POLLOUT ? fds[i].fd : ARES_SOCKET_BAD);
	ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

int
dns_wait(struct dns *d, uint64_t deadline)
{
	uint64_t now;

	do {
		if (!d->pending)
			return 1;
		now = monotonic_ms();
		turn(d, now < deadline ? deadline - now : 0);
	} while (now < deadline);
	return !d->pending;
}

void
dns_cancel(struct dns *d)
{
	d->is_closing = 1;
	if (d->pending)
		ares_cancel(d->channel);
	d->is_closing = 0;
}

void
dns_finish(struct dns *d, uint64_t deadline)
{
	if (!dns_wait(d, deadline))
		dns_cancel(d);
}

/* --- the servers ------------------------------------------------------------------------------------------------ */

/* Takes the servers of control/dnsservers, if there is that file. Returns 1, or 0 with errno set. */
static int
read_servers(struct dns *d)
{
	stralloc servers = STRALLOC_ZERO;
	int r = control_list(&servers, "control/dnsservers");

	if (r > 0 && !servers.len) {
		errno = EINVAL;
		r = -1;
	}
	if (r > 0) {
		for (size_t i = 0; i + 1 < servers.len; i++)
			if (!servers.s[i])
				servers.s[i] = ',';
		if (ares_set_servers_ports_csv(d->channel, servers.s) != ARES_SUCCESS) {
			errno = EINVAL;
			r = -1;
		}
	}
	stralloc_free(&servers);
	return r >= 0;
}

static int
is_loopback(const struct ares_addr_port_node *server)
{
	if (server->family == AF_INET)
		return *(const unsigned char *)&server->addr.addr4 == 127;
	return server->family == AF_INET6 && !memcmp(&server->addr.addr6, &in6addr_loopback, 16);
}

static int
all_are_local(struct dns *d)
{
	struct ares_addr_port_node *servers;
	int all = 1;

	if (ares_get_servers_ports(d->channel, &servers) != ARES_SUCCESS)
		return 0;
	for (const struct ares_addr_port_node *s = servers; s; s = s->next)
		all = all && is_loopback(s);
	ares_free_data(servers);
	return all;
}

static int
open_channel(struct dns *d)
{
	static char lookups[] = "b";	/* the DNS, no files */
	struct ares_options options = {
		.flags = ARES_FLAG_EDNS | ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
		.timeout = FIRST_WAIT, .tries = TRIES, .ednspsz = UDP_OCTETS, .lookups = lookups,
	};
	int which = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ | ARES_OPT_LOOKUPS |
	    ARES_OPT_DOMAINS | ARES_OPT_NOROTATE;

#ifdef ARES_OPT_QUERY_CACHE
	which |= ARES_OPT_QUERY_CACHE;	/* for 0 seconds: the name server has a cache, and the TTLs that go with it */
#endif
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS ||
	    ares_init_options(&d->channel, &options, which) != ARES_SUCCESS) {
		errno = ENOMEM;
		return 0;
	}
	return 1;
}

struct dns *
dns_open(void)
{
	struct dns *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	if (!open_channel(d)) {
		free(d);
		return NULL;
	}
	if (!read_servers(d)) {
		int error = errno;

		dns_close(d);
		errno = error;
		return NULL;
	}
	d->is_local = all_are_local(d);
	return d;
}

int
dns_is_local(const struct dns *d)
{
	return d->is_local;
}

void
dns_close(struct dns *d)
{
	if (!d)
		return;
	d->is_closing = 1;
	ares_destroy(d->channel);
	free(d);
}
