#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "lingering.h"
#include "monotonic.h"
#include "service_socket.h"
#include "shortage.h"
#include "sts_service.h"

enum {
	SWEEP_MS = 60000,
	PAUSE_MS = 100,		/* before accepting again when there was no descriptor */
	SAY_MS = 60000,		/* the same warning is said as often */
	ACCEPTS = 64,		/* in one turn */
};

/* A logger that does not read must not stop the answers. */
static void
say(const char *kind, const char *what, const char *a, const char *b, const char *c)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (poll(&p, 1, 0) == 1)
		strerr_warn(PROG, ": ", kind, what, a, b, c);
}

/* --- failures --------------------------------------------------------------------------------------------------------- */

/* Where a failure is remembered: in the place of any other with that place. */
static uint64_t
hash(const struct sts_service *s, const char *domain, const char *id)
{
	char text[STS_DOMAIN_MAX + 1 + STS_ID_MAX + 1];
	size_t domain_len = strlen(domain) + 1, id_len = strlen(id);

	memcpy(text, domain, domain_len);
	memcpy(text + domain_len, id, id_len);
	return siphash(&s->key, text, domain_len + id_len);
}

static int
has_failed(const struct sts_service *s, const char *domain, const char *id)
{
	uint64_t h = hash(s, domain, id);

	return s->failures[h % STS_SERVICE_FAILURES].hash == h && s->now < s->failures[h % STS_SERVICE_FAILURES].until;
}

static void
remember_failure(struct sts_service *s, const char *domain, const char *id)
{
	uint64_t h = hash(s, domain, id);

	s->failures[h % STS_SERVICE_FAILURES].hash = h;
	s->failures[h % STS_SERVICE_FAILURES].until = s->now + UINT64_C(1000) * STS_SERVICE_AGAIN_S;
}

/* --- answers ---------------------------------------------------------------------------------------------------------- */

static void
drop(struct sts_service *s, struct sts_asking *c)
{
	lingering_close(c->fd);
	*c = (struct sts_asking){ .fd = -1 };
	while (s->clients_len && s->clients[s->clients_len - 1].fd < 0)
		s->clients_len--;
}

static void
answer(struct sts_service *s, struct sts_asking *c, const struct sts_cached *known)
{
	struct iovec v[2] = { { (char *)(uintptr_t)(known ? "P" : "N"), 1 } };

	if (known)
		v[1] = (struct iovec){ (char *)(uintptr_t)known->policy.text, known->policy.len };
	service_socket_send(c->fd, v, known ? 2 : 1, -1);	/* who does not get it has no answer, and knows */
	drop(s, c);
}

/* --- fetches ---------------------------------------------------------------------------------------------------------- */

static struct sts_fetching *
find_fetch(struct sts_service *s, const char *domain)
{
	for (size_t i = 0; i < STS_SERVICE_FETCHES; i++)
		if (s->fetches[i].fd >= 0 && strcmp(s->fetches[i].domain, domain) == 0)
			return &s->fetches[i];
	return NULL;
}

/* A place for one more, or NULL. */
static struct sts_fetching *
find_room(struct sts_service *s, int is_refresh)
{
	struct sts_fetching *room = NULL;
	unsigned int refreshes = 0;

	for (size_t i = 0; i < STS_SERVICE_FETCHES; i++) {
		if (s->fetches[i].fd < 0)
			room = &s->fetches[i];
		else
			refreshes += (unsigned int)s->fetches[i].is_refresh;
	}
	return is_refresh && refreshes >= STS_SERVICE_REFRESHES ? NULL : room;
}

/* Returns 1, or 0 with errno. */
static int
start_fetch(struct sts_service *s, struct sts_fetching *f, const char *domain, const char *id, int is_refresh)
{
	struct iovec v = { (char *)(uintptr_t)domain, strlen(domain) };
	int ends[2], ok, error;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return 0;
	ok = service_socket_send(s->fetcher, &v, 1, ends[1]);
	error = errno;
	close(ends[1]);
	if (!ok) {
		close(ends[0]);
		errno = error;
		return 0;
	}
	*f = (struct sts_fetching){ .fd = ends[0], .is_refresh = is_refresh, .deadline = s->now + STS_SERVICE_FETCH_MS };
	memcpy(f->domain, domain, strlen(domain));
	memcpy(f->id, id, strlen(id));
	return 1;
}

/* Answers a question, or has it wait for what is being fetched, now or later. */
static void
try_answer(struct sts_service *s, struct sts_asking *c)
{
	const struct sts_cached *known = sts_cache_find(&s->cache, c->domain, (uint64_t)s->wall);
	struct sts_fetching *room;

	if (!*c->id || (known && strcmp(known->id, c->id) == 0) || has_failed(s, c->domain, c->id)) {
		answer(s, c, known);
		return;
	}
	room = find_fetch(s, c->domain) ? NULL : find_room(s, 0);
	if (room && !start_fetch(s, room, c->domain, c->id, 0)) {
		say("warning: ", c->domain, ": no process could be asked to fetch its policy: ", strerror(errno), NULL);
		answer(s, c, known);
	}
}

static void
answer_waiting(struct sts_service *s)
{
	for (unsigned int i = 0; i < s->clients_len; i++)
		if (s->clients[i].fd >= 0 && *s->clients[i].domain)
			try_answer(s, &s->clients[i]);
}

/* What was fetched may have been written by anybody. */
static void
clean(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || (unsigned char)*s > '~')
			*s = '?';
}

static void
end_fetch(struct sts_service *s, struct sts_fetching *f)
{
	close(f->fd);
	f->fd = -1;
	answer_waiting(s);
}

static void
fail_fetch(struct sts_service *s, struct sts_fetching *f, const char *why)
{
	remember_failure(s, f->domain, f->id);
	say("warning: ", f->domain, ": no policy could be fetched: ", why,
	    sts_cache_find(&s->cache, f->domain, s->wall) ? "; the one that is known stays" : NULL);
	end_fetch(s, f);
}

static void
keep(struct sts_service *s, struct sts_fetching *f, const char *text, size_t len)
{
	const char *why = sts_cache_put(&s->cache, f->domain, f->id, text, len, s->wall);
	const struct sts_cached *known;

	if (why && *why) {
		fail_fetch(s, f, why);
		return;
	}
	if (why)
		say("warning: ", f->domain, ": its policy could not be written: ", strerror(errno), NULL);
	known = sts_cache_find(&s->cache, f->domain, s->wall);
	if (known)
		say("", f->domain, ": its policy has mode ", sts_mode_name(known->policy.mode), NULL);
	else	/* nothing is known for want of memory: not at once again */
		remember_failure(s, f->domain, f->id);
	end_fetch(s, f);
}

static void
fetch_ready(struct sts_service *s, struct sts_fetching *f)
{
	static char packet[1 + STS_POLICY_MAX + 1];
	ssize_t len = service_socket_receive(f->fd, packet, sizeof packet - 1, NULL);

	if (len < 0 && errno == EAGAIN)
		return;
	if (len > 0 && *packet == 'P') {
		keep(s, f, packet + 1, (size_t)len - 1);
		return;
	}
	packet[len > 0 ? len : 0] = '\0';
	clean(packet);
	fail_fetch(s, f, len > 1 && *packet == 'E' ? packet + 1 : "the process that was to fetch it ended");
}

/* Has what is due fetched anew, as much at once as may be. */
static void
refresh(struct sts_service *s)
{
	struct sts_cached *due;
	struct sts_fetching *room;

	while ((room = find_room(s, 1)) && (due = sts_cache_sweep(&s->cache, s->wall))) {
		due->refresh = s->wall + STS_SERVICE_REFRESH_S;
		if (!find_fetch(s, due->domain) && !start_fetch(s, room, due->domain, due->id, 1))
			break;
	}
	s->sweep = s->now + SWEEP_MS;
}

/* --- questions --------------------------------------------------------------------------------------------------------- */

static int
is_id(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!(s[i] >= 'a' && s[i] <= 'z') && !(s[i] >= 'A' && s[i] <= 'Z') && !(s[i] >= '0' && s[i] <= '9'))
			return 0;
	return len <= STS_ID_MAX;
}

/* An octet is in it that no name of a host has: there is no mta-sts.DOMAIN, and so no policy. */
static int
is_of_no_host(const char *domain)
{
	return domain[strspn(domain, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")] != '\0';
}

static void
client_ready(struct sts_service *s, struct sts_asking *c)
{
	char packet[STS_QUESTION_MAX + 1];
	ssize_t len = service_socket_receive(c->fd, packet, sizeof packet - 1, NULL);
	size_t domain_len;
	int is_question;

	if (len < 0 && errno == EAGAIN)
		return;
	packet[len > 0 ? len : 0] = '\0';
	domain_len = strlen(packet) + 1;
	is_question = len >= (ssize_t)domain_len && is_id(packet + domain_len, (size_t)len - domain_len);
	if (is_question && is_of_no_host(packet)) {
		answer(s, c, NULL);
		return;
	}
	if (!is_question || !sts_cache_is_domain(packet)) {
		drop(s, c);
		return;
	}
	memcpy(c->domain, packet, domain_len);
	memcpy(c->id, packet + domain_len, (size_t)len - domain_len);
	c->deadline = s->now + STS_ANSWER_MS;
	try_answer(s, c);
}

static void
turn_away(struct sts_service *s, int fd, const char *why, uid_t uid)
{
	char digits[UINT_FMT];

	lingering_close(fd);
	if (s->said && s->now - s->said < SAY_MS)
		return;
	s->said = s->now;
	digits[uint_fmt(digits, uid)] = '\0';
	say("warning: ", why, digits, NULL, NULL);
}

static void
take_client(struct sts_service *s, int fd)
{
	uid_t uid = service_socket_peer(fd);
	unsigned int i = 0;

	if (!service_socket_allows(s->users, s->users_len, uid)) {
		turn_away(s, fd, "a user who may not ask was turned away, uid ", uid);
		return;
	}
	while (i < s->clients_len && s->clients[i].fd >= 0)
		i++;
	if (i == STS_SERVICE_CLIENTS) {
		turn_away(s, fd, "too many connections, one was turned away, uid ", uid);
		return;
	}
	if (i == s->clients_len)
		s->clients_len++;
	s->clients[i] = (struct sts_asking){ .fd = fd, .deadline = s->now + STS_SERVICE_IDLE_MS };
	client_ready(s, &s->clients[i]);
}

static void
listener_ready(struct sts_service *s)
{
	for (int n = 0; n < ACCEPTS; n++) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0)
			take_client(s, fd);
		else if (is_shortage(errno)) {
			s->listen_again = s->now + PAUSE_MS;
			return;
		} else if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

/* --- the loop ------------------------------------------------------------------------------------------------------------ */

/* What is over is answered by what is known, or given up. */
static void
expire(struct sts_service *s)
{
	for (size_t i = 0; i < STS_SERVICE_FETCHES; i++)
		if (s->fetches[i].fd >= 0 && s->fetches[i].deadline <= s->now)
			fail_fetch(s, &s->fetches[i], "it took too long");
	for (unsigned int i = 0; i < s->clients_len; i++) {
		struct sts_asking *c = &s->clients[i];

		if (c->fd < 0 || c->deadline > s->now)
			continue;
		if (*c->domain)
			answer(s, c, sts_cache_find(&s->cache, c->domain, s->wall));
		else
			drop(s, c);
	}
	if (s->listen_again && s->listen_again <= s->now)
		s->listen_again = 0;
	if (s->sweep <= s->now)
		refresh(s);
}

static int
milliseconds_left(const struct sts_service *s)
{
	uint64_t first = s->sweep;

	if (s->listen_again && s->listen_again < first)
		first = s->listen_again;
	for (size_t i = 0; i < STS_SERVICE_FETCHES; i++)
		if (s->fetches[i].fd >= 0 && s->fetches[i].deadline < first)
			first = s->fetches[i].deadline;
	for (unsigned int i = 0; i < s->clients_len; i++)
		if (s->clients[i].fd >= 0 && s->clients[i].deadline < first)
			first = s->clients[i].deadline;
	return first > s->now ? (int)(first - s->now) : 0;
}

enum { FETCHER, LISTENER, FETCHES, CLIENTS = FETCHES + STS_SERVICE_FETCHES };

/* Returns how many there are. */
static nfds_t
list(const struct sts_service *s, struct pollfd p[CLIENTS + STS_SERVICE_CLIENTS])
{
	p[FETCHER] = (struct pollfd){ .fd = s->fetcher, .events = POLLIN };
	p[LISTENER] = (struct pollfd){ .fd = s->listen_again ? -1 : s->listener, .events = POLLIN };
	for (size_t i = 0; i < STS_SERVICE_FETCHES; i++)
		p[FETCHES + i] = (struct pollfd){ .fd = s->fetches[i].fd, .events = POLLIN };
	for (unsigned int i = 0; i < s->clients_len; i++)
		p[CLIENTS + i] = (struct pollfd){ .fd = s->clients[i].fd, .events = *s->clients[i].domain ? 0 : POLLIN };
	return CLIENTS + s->clients_len;
}

static void
look_at_clock(struct sts_service *s)
{
	s->now = monotonic_ms();
	s->wall = (uint64_t)time(NULL);
}

/* One that waits for its answer, and has gone, is dropped; it asks nothing else. */
static void
clients_ready(struct sts_service *s, const struct pollfd *p, unsigned int len)
{
	for (unsigned int i = 0; i < len; i++) {
		struct sts_asking *c = &s->clients[i];

		if (c->fd < 0 || !p[i].revents)
			continue;
		if (*c->domain)
			drop(s, c);
		else
			client_ready(s, c);
	}
}

int
sts_service_turn(struct sts_service *s)
{
	static struct pollfd p[CLIENTS + STS_SERVICE_CLIENTS];
	unsigned int clients_len = s->clients_len;
	int r = poll(p, list(s, p), milliseconds_left(s));

	look_at_clock(s);
	if (r < 0 && errno != EINTR)
		return 0;
	if (r > 0 && p[FETCHER].revents)
		return 0;	/* it says nothing, so this is its end */
	if (r > 0)
		clients_ready(s, p + CLIENTS, clients_len);
	for (size_t i = 0; r > 0 && i < STS_SERVICE_FETCHES; i++)
		if (p[FETCHES + i].fd >= 0 && p[FETCHES + i].revents && s->fetches[i].fd == p[FETCHES + i].fd)
			fetch_ready(s, &s->fetches[i]);
	if (r > 0 && p[LISTENER].revents)
		listener_ready(s);	/* last: no place is taken again before its events are over */
	expire(s);
	return 1;
}

int
sts_service_start(struct sts_service *s)
{
	for (size_t i = 0; i < STS_SERVICE_FETCHES; i++)
		s->fetches[i].fd = -1;
	look_at_clock(s);
	return getrandom(&s->key, sizeof s->key, 0) == sizeof s->key;
}
