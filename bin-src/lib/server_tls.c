#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "monotonic.h"
#include "place.h"
#include "server_tls.h"

/* --- who does it ------------------------------------------------------------------------------------------------------- */

/* The descriptor that a variable names, closed for programs that are started; -1 if there is none. */
static int
descriptor(const char *variable)
{
	const char *text = getenv(variable);
	char *end;
	long fd;

	if (!text || *text < '0' || *text > '9')
		return -1;
	fd = strtol(text, &end, 10);
	return *end || fd <= STDERR_FILENO || fd > INT_MAX || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0 ? -1 : (int)fd;
}

static int
find_ucspi(struct server_tls *t)
{
	t->control = descriptor("SSLCTLFD");
	t->in = descriptor("SSLREADFD");
	t->out = descriptor("SSLWRITEFD");
	return t->control >= 0 && t->in >= 0 && t->out >= 0;
}

/* A server in front has done the handshake, and says so. */
static void
take_environment(struct server_tls *t)
{
	static const char *const names[] = { "SSL_PROTOCOL", "SSL_CIPHER", "SSL_TLS_SNI_SERVERNAME" };
	char s[TLS_ENGINE_PACKET_MAX];
	size_t len = 0;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *value = getenv(names[i]);

		if (value && strlen(names[i]) + strlen(value) + 2 <= sizeof s - len)
			len += (size_t)sprintf(s + len, "%s=%s", names[i], value) + 1;
	}
	tls_engine_take(&t->engine, s, len);
	t->is_on = 1;
}

int
server_tls_is_one_socket(void)
{
	struct stat in, out;

	return fstat(STDIN_FILENO, &in) == 0 && fstat(STDOUT_FILENO, &out) == 0 && S_ISSOCK(in.st_mode) && in.st_dev == out.st_dev &&
	    in.st_ino == out.st_ino;
}

static int
has_engine(void)
{
	struct stat st;

	return stat(TLS_ENGINE_SOCKET, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* The engine may be there for other users only (qmail-tlsd's arguments): a client that was promised TLS would come back in vain. */
static int
is_served(struct server_tls *t)
{
	int is = tls_engine_reach(&t->engine, -1);

	if (is)
		tls_engine_close(&t->engine);
	else
		snprintf(t->text, sizeof t->text, "no TLS is offered: %s", t->engine.text);
	t->engine.control = -1;
	return is;
}

void
server_tls_find(struct server_tls *t, int accepts)
{
	const char *wanted = getenv("UCSPITLS");
	int is_off = getenv("DISABLETLS") || (wanted && strcmp(wanted, "-") == 0);

	*t = (struct server_tls){ .by = SERVER_TLS_NOBODY, .control = -1, .in = -1, .out = -1, .engine.control = -1,
	    .is_required = wanted && *wanted == '!' };
	if (!accepts && getenv("SSLCTLFD")) {
		if (wanted && !is_off && find_ucspi(t))
			t->by = SERVER_TLS_UCSPI;
	} else if (!accepts && getenv("SSL_PROTOCOL"))
		take_environment(t);
	else if (!is_off && has_engine() && (accepts || (server_tls_is_one_socket() && is_served(t))))
		t->by = SERVER_TLS_ENGINE;
}

/* --- UCSPI-TLS ----------------------------------------------------------------------------------------------------------- */

/* Reads the variables, which end with two NULs. Returns their octets without the last one, or 0 with errno set: no handshake. */
static size_t
read_variables(int control, char s[SERVER_TLS_VARIABLES_MAX])
{
	uint64_t deadline = monotonic_ms() + TLS_ENGINE_HANDSHAKE_MS;
	size_t len = 0;

	while (len < SERVER_TLS_VARIABLES_MAX) {
		struct pollfd p = { .fd = control, .events = POLLIN };
		uint64_t now = monotonic_ms();
		int r = poll(&p, 1, now < deadline ? (int)(deadline - now) : 0);
		ssize_t n = r > 0 ? read(control, s + len, SERVER_TLS_VARIABLES_MAX - len) : r;

		if (n == 0)
			errno = r > 0 ? ECONNRESET : ETIMEDOUT;
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
			return 0;
		len += n > 0 ? (size_t)n : 0;
		if (len >= 2 && !s[len - 1] && !s[len - 2])
			return len - 1;
	}
	errno = EMSGSIZE;
	return 0;
}

/* "Y": the variables come back when the handshake is done. */
int
server_tls_start_ucspi(struct server_tls *t)
{
	char s[SERVER_TLS_VARIABLES_MAX];
	size_t len = write(t->control, "Y", 1) == 1 ? read_variables(t->control, s) : 0;

	if (!len) {
		snprintf(t->text, sizeof t->text, "no TLS: the UCSPI-TLS server: %s", strerror(errno));
		return 0;
	}
	tls_engine_take(&t->engine, s, len);
	close(t->control);
	t->control = -1;
	return 1;
}

static int
start_ucspi(struct server_tls *t)
{
	return server_tls_start_ucspi(t) && place_connection(t->in, t->out);
}

/* --- all of them ------------------------------------------------------------------------------------------------------- */

int
server_tls_reach(struct server_tls *t)
{
	if (t->by == SERVER_TLS_UCSPI || (t->by == SERVER_TLS_ENGINE && tls_engine_reach(&t->engine, -1)))
		return 1;
	snprintf(t->text, sizeof t->text, "no TLS: %s", t->by == SERVER_TLS_ENGINE ? t->engine.text : "there is no engine");
	return 0;
}

static int
start_engine(struct server_tls *t, const char *const *alpn)
{
	int plain = tls_engine_start(&t->engine, STDIN_FILENO, alpn);

	if (plain < 0)
		snprintf(t->text, sizeof t->text, "no TLS: %s", t->engine.text);
	return plain >= 0 && place_connection(plain, plain);
}

int
server_tls_start(struct server_tls *t, const char *const *alpn)
{
	t->is_on = t->by == SERVER_TLS_UCSPI ? start_ucspi(t) : start_engine(t, alpn);
	if (!t->is_on) {
		if (!*t->text)
			snprintf(t->text, sizeof t->text, "no TLS: the descriptors: %s", strerror(errno));
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
	}
	return t->is_on;
}

const char *
server_tls_end(struct server_tls *t)
{
	if (t->engine.control < 0 || tls_engine_end(&t->engine) == TLS_ENGINE_CLOSED)
		return "";
	snprintf(t->text, sizeof t->text, "TLS ended: %s", t->engine.text);
	return t->text;
}
