/* POP3 before the login with clients that send any octets, without waiting for a reply; what follows a TAB TAB comes within TLS.
 * The TLS engine and the login keeper are stand-ins. */
#include <assert.h>
#include <err.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bin-src/pop3d/authorization.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

static const uint8_t *within;	/* what the client sends within TLS */
static size_t within_len;

/* A connection on which the client has said all it will; the client's end is left open for the replies, in *client. */
static int
connection(const uint8_t *octets, size_t len, int *client)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		err(1, "socketpair");
	if (write(pair[1], octets, len) != (ssize_t)len || shutdown(pair[1], SHUT_WR))
		err(1, "give octets");
	*client = pair[1];
	return pair[0];
}

/* --- stand-ins ---------------------------------------------------------------------------- */

static int client_within = -1;

int
tls_engine_reach(struct tls_engine *t, int home)
{
	(void)home;
	memset(t, 0, sizeof *t);
	t->control = -1;
	return 1;
}

int
tls_engine_start(struct tls_engine *t, int fd, const char *const *alpn)
{
	assert(client_within < 0 && alpn && fd >= 0);
	strcpy(t->protocol, "TLSv1.2");
	return connection(within, within_len, &client_within);
}

/* No program follows. */
void
tls_engine_tell(const struct tls_engine *t)
{
	assert(strcmp(t->protocol, "TLSv1.2") == 0);
}

/* There is no server in front. */
int
server_tls_start_ucspi(struct server_tls *t)
{
	(void)t;
	abort();
}

static enum authorization_answer
login(void *data, int fd, const char *name, const char *secret, const char *challenge)
{
	assert(data == NULL && fd >= 0 && strlen(name) < INPUT_LINE_MAX && strlen(secret) < INPUT_LINE_MAX && challenge);
	switch (*secret) {
	case 'r': return AUTHORIZATION_RIGHT;
	case 'u': return AUTHORIZATION_UNKNOWN;
	case 'l': return AUTHORIZATION_LOST;
	default: return AUTHORIZATION_WRONG;
	}
}

/* --- sessions ----------------------------------------------------------------------------- */

/* Every line is short, printable, and ends with CRLF. */
static void
check_replies(int client)
{
	static char text[1 << 20];
	size_t len = 0, start = 0;
	ssize_t n;

	while ((n = recv(client, text + len, sizeof text - len, MSG_DONTWAIT)) > 0)
		len += (size_t)n;
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\n') {
			assert(i > start && text[i - 1] == '\r' && i - start < 512);
			start = i + 1;
		} else
			assert((text[i] >= 32 && text[i] < 127) || (text[i] == '\r' && i + 1 < len && text[i + 1] == '\n'));
	assert(start == len);
	close(client);
}

static void
run(const struct authorization_settings *settings, const uint8_t *octets, size_t len)
{
	static struct authorization a;
	const uint8_t *tabs = memmem(octets, len, "\t\t", 2);
	size_t before = tabs ? (size_t)(tabs - octets) : len;
	int client, server = connection(octets, before, &client);

	within = octets + before;
	within_len = len - before;
	client_within = -1;
	memset(&a, 0, sizeof a);
	a.settings = settings;
	authorization_run(&a, server, server, NULL);
	assert(a.end != AUTHORIZATION_GOES_ON);
	assert(client_within < 0 || a.is_encrypted);
	assert(a.end != AUTHORIZATION_LOGGED_IN || !settings->needs_tls || a.is_encrypted);
	check_replies(client);
	if (client_within >= 0) {
		check_replies(client_within);
		close(a.in.fd);
	} else
		close(server);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static const struct authorization_settings demanding = { .timeout = 5, .needs_tls = 1, .offers_tls = 1, .login = login },
	    classic = { .timeout = 5, .host = "h.test", .login = login };

	setenv("TCPREMOTEIP", "192.0.2.1", 1);
	run(&demanding, octets, len);
	run(&classic, octets, len);
	return 0;
}
