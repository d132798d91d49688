/* qmail-qmqpc: hands a message (descriptor 0) and its envelope (descriptor 1) to a QMQP server; with it in the place of
 * bin/qmail-queue a host needs no queue of its own.
 * Trust: message and envelope come from whoever calls; the server is the administrator's choice, but what it answers is
 * bounded and checked. Runs as the caller, needs no privilege, and is shut in before the server's first octet. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/stralloc.h>
#include <skalibs/types.h>
#include "caller.h"
#include "control/control.h"
#include "home.h"
#include "monotonic.h"
#include "queue/envelope.h"
#include "queue/protocol.h"
#include "sandbox.h"

enum {
	CONNECT_MS = 10000,	/* for each address of a server */
	TALK_MS = 60000,	/* for each read and write */
	TOTAL_SECONDS = 3600,	/* for all */
	MEMORY = 256 * 1024,	/* octets of a message that are kept in memory; a larger one goes to a file */
	PIECE = 65536,
	REPLY_MAX = 1000,	/* octets of a reply */
	LENGTH_MAX = 4,		/* digits of its length */
	ADDRESSES_MAX = 16,	/* of one name that are tried */
};

/* Exit codes beyond those of qmail-queue: QMQP's own. */
enum { REFUSED_FOR_NOW = 71, CONNECT_TIMEOUT = 72, CONNECT_REFUSED = 73 };

/* A message: in memory, or from MEMORY octets on all of it in a file without a name. */
struct message {
	stralloc octets;
	int file;	/* -1 none */
	uint64_t len;
};

/* --- reading what the caller has ------------------------------------------------------------------ */

/* A file without a name, in $TMPDIR or /tmp. */
static int
make_file(void)
{
	const char *directory = getenv("TMPDIR");
	char path[4096];
	int fd = open(directory && *directory ? directory : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	/* a file system that has no O_TMPFILE */
	if ((size_t)snprintf(path, sizeof path, "%s/qmail-qmqpc.XXXXXX", directory && *directory ? directory : "/tmp") >= sizeof path)
		_exit(QUEUE_WRITE);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0 || unlink(path) < 0)
		_exit(QUEUE_WRITE);
	return fd;
}

static void
write_file(int fd, const char *s, size_t len)
{
	while (len) {
		ssize_t w = write(fd, s, len);

		if (w < 0 && errno != EINTR)
			_exit(QUEUE_WRITE);
		if (w > 0) {
			s += w;
			len -= (size_t)w;
		}
	}
}

static void
read_message(struct message *m)
{
	static char s[PIECE];
	size_t n;

	m->file = -1;
	while ((n = caller_read(0, s, sizeof s))) {
		m->len += n;
		if (m->file < 0 && m->len > MEMORY) {
			m->file = make_file();
			write_file(m->file, m->octets.s, m->octets.len);
		}
		if (m->file >= 0)
			write_file(m->file, s, n);
		else if (!stralloc_catb(&m->octets, s, n))
			_exit(QUEUE_NO_MEMORY);
	}
	if (m->file >= 0 && lseek(m->file, 0, SEEK_SET) < 0)
		_exit(QUEUE_READ);
}

/* The envelope, checked and whole. */
static void
read_envelope(stralloc *envelope)
{
	struct envelope_check check = { .state = ENVELOPE_START };
	char s[4096];

	while (check.state != ENVELOPE_COMPLETE) {
		size_t used, n = caller_read(1, s, sizeof s);
		unsigned int code = n ? envelope_check(&check, s, n, &used) : QUEUE_READ;

		if (code)
			_exit((int)code);
		if (!stralloc_catb(envelope, s, used))
			_exit(QUEUE_NO_MEMORY);
	}
}

/* --- what is sent ------------------------------------------------------------------------------------ */

static void
put_netstring(stralloc *to, const char *s)
{
	char number[SIZE_FMT];

	if (!stralloc_catb(to, number, size_fmt(number, strlen(s))) || !stralloc_cats(to, ":") || !stralloc_cats(to, s) ||
	    !stralloc_cats(to, ","))
		_exit(QUEUE_NO_MEMORY);
}

/* What comes before the message, and what comes behind it. ESMTP parameters have no place in QMQP. */
static void
frame(stralloc *before, stralloc *behind, const struct message *m, const stralloc *envelope)
{
	char length[UINT64_FMT + 1], number[UINT64_FMT];

	if (!stralloc_cats(behind, ","))
		_exit(QUEUE_NO_MEMORY);
	for (const char *address = envelope_sender(envelope->s); address; address = envelope_next(address))
		put_netstring(behind, address);
	length[uint64_fmt(length, m->len)] = '\0';
	if (!stralloc_catb(before, number, uint64_fmt(number, strlen(length) + 1 + m->len + behind->len)) ||
	    !stralloc_cats(before, ":") || !stralloc_cats(before, length) || !stralloc_cats(before, ":") || !stralloc_cats(behind, ","))
		_exit(QUEUE_NO_MEMORY);
}

/* --- the server --------------------------------------------------------------------------------------- */

/* Connects without waiting longer than CONNECT_MS. Returns a non-blocking socket, or -1 with *code saying why not. */
static int
connect_address(const struct addrinfo *a, int *code)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof error;

	if (fd < 0) {
		*code = QUEUE_NETWORK;
		return -1;
	}
	if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return fd;
	if (errno != EINPROGRESS)
		error = errno;
	else if (poll(&p, 1, CONNECT_MS) != 1)
		error = ETIMEDOUT;
	else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (!error)
		return fd;
	close(fd);
	*code = error == ETIMEDOUT ? CONNECT_TIMEOUT : CONNECT_REFUSED;
	return -1;
}

/* Takes "host", "host:port", an IPv6 address, or "[IPv6 address]:port" apart, in place. */
static void
split(char *entry, const char **host, const char **port)
{
	char *colon = strchr(entry, ':');

	*host = entry;
	*port = "628";
	if (*entry == '[') {
		char *end = strchr(entry, ']');

		*host = entry + 1;
		if (!end)
			return;
		*end = '\0';
		colon = end[1] == ':' ? end + 1 : NULL;
	} else if (colon && strchr(colon + 1, ':'))
		return;
	if (!colon)
		return;
	*colon = '\0';
	*port = colon + 1;
}

/* Tries the addresses of one server. Returns a socket, or -1 with *code saying why not. */
static int
connect_server(char *entry, int *code)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *all;
	const char *host, *port;
	int fd = -1, tries = 0;

	split(entry, &host, &port);
	if (strspn(host, "0123456789abcdefABCDEF:.") == strlen(host))
		hints.ai_flags = 0;	/* AI_ADDRCONFIG leaves ::1 out where there is no other IPv6 */
	if (getaddrinfo(host, port, &hints, &all) != 0) {
		*code = QUEUE_NETWORK;
		return -1;
	}
	for (const struct addrinfo *a = all; a && fd < 0 && tries < ADDRESSES_MAX; a = a->ai_next, tries++)
		fd = connect_address(a, code);
	freeaddrinfo(all);
	return fd;
}

/* The first server that can be reached. */
static int
connect_any(void)
{
	stralloc servers = STRALLOC_ZERO;
	int fd = -1, code = QUEUE_CONFIG;

	if (control_list(&servers, "control/qmqpservers") < 0)
		_exit(QUEUE_CONFIG);
	for (size_t at = 0, len; at < servers.len && fd < 0; at += len + 1) {
		len = strlen(servers.s + at);	/* connect_server cuts it up */
		fd = connect_server(servers.s + at, &code);
	}
	if (fd < 0)
		_exit(code);
	stralloc_free(&servers);
	return fd;
}

/* Waits for the server. Returns 1, or 0 after TALK_MS. */
static int
wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	uint64_t deadline = monotonic_ms() + TALK_MS;

	for (;;) {
		uint64_t now = monotonic_ms();
		int r = now < deadline ? poll(&p, 1, (int)(deadline - now)) : 0;

		if (r >= 0 || errno != EINTR)
			return r > 0;
	}
}

/* Returns 1, or 0: the server takes no more. It may have answered nonetheless. */
static int
send_octets(int fd, const char *s, size_t len)
{
	while (len) {
		ssize_t w = send(fd, s, len, MSG_NOSIGNAL);

		if (w > 0) {
			s += w;
			len -= (size_t)w;
		} else if (errno != EAGAIN && errno != EINTR)
			return 0;
		else if (!wait_for(fd, POLLOUT))
			_exit(QUEUE_TALK);
	}
	return 1;
}

static int
send_message(int fd, const struct message *m)
{
	static char s[PIECE];
	uint64_t left = m->len;

	if (m->file < 0)
		return send_octets(fd, m->octets.s, m->octets.len);
	while (left) {
		size_t n = caller_read(m->file, s, sizeof s);

		if (!n)
			_exit(QUEUE_READ);
		if (!send_octets(fd, s, n))
			return 0;
		left -= n;
	}
	return 1;
}

/* Reads the reply, a netstring. Returns the exit code that its first letter stands for. */
static int
read_reply(int fd)
{
	char s[LENGTH_MAX + 1 + REPLY_MAX + 1 + 1];
	size_t got = 0, len = 0, digits;

	for (;;) {
		ssize_t r;

		s[got] = '\0';
		digits = strspn(s, "0123456789");
		if (digits > LENGTH_MAX || (digits < got && (!digits || s[digits] != ':')))
			return QUEUE_TALK;
		if (digits < got) {
			size_scan(s, &len);
			if (!len || len > REPLY_MAX)
				return QUEUE_TALK;
			if (got >= digits + 1 + len + 1)
				break;
		}
		r = wait_for(fd, POLLIN) ? recv(fd, s + got, sizeof s - 1 - got, 0) : 0;
		if (r < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (r <= 0)
			return QUEUE_TALK;
		got += (size_t)r;
	}
	if (s[digits + 1 + len] != ',')
		return QUEUE_TALK;
	switch (s[digits + 1]) {
	case 'K': return QUEUE_OK;
	case 'Z': return REFUSED_FOR_NOW;
	case 'D': return QUEUE_REFUSED;
	default: return QUEUE_TALK;
	}
}

int
main(void)
{
	static const struct sandbox shut_in = { .calls = &sandbox_client };
	static struct message message;
	stralloc envelope = STRALLOC_ZERO, before = STRALLOC_ZERO, behind = STRALLOC_ZERO;
	int server, whole, code;

	signal(SIGPIPE, SIG_IGN);
	caller_limit(TOTAL_SECONDS);
	if (!home_enter())
		_exit(QUEUE_HOME);
	read_message(&message);
	read_envelope(&envelope);
	frame(&before, &behind, &message, &envelope);
	server = connect_any();
	if (sandbox_enter(&shut_in) < 0)
		_exit(QUEUE_NO_MEMORY);
	whole = send_octets(server, before.s, before.len) && send_message(server, &message) &&
	    send_octets(server, behind.s, behind.len);
	/* a server that refuses early may have answered; only to the whole message a yes is one */
	code = read_reply(server);
	return !whole && code == QUEUE_OK ? QUEUE_TALK : code;
}
