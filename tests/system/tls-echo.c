/* tls-echo: a network server that knows nothing but TLS, for tests of qmail-tlsd: what the client says comes back.
 * Descriptor 0 listens. Started with "tls" TLS begins at once; with "starttls" after a line of the client's, whose reply is 220 or
 * 454. More arguments are names for ALPN. What happens is said in a line on descriptor 2. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tls_engine.h"

static void
say(const char *what, const char *more)
{
	char line[1000];
	int len = snprintf(line, sizeof line, "%s%s\n", what, more);

	if (write(2, line, (size_t)len) != len)
		_exit(111);
}

/* Reads the client's line, and throws away what came with it. */
static void
take_line(int connection)
{
	char octets[4096];
	ssize_t n;

	do
		n = read(connection, octets, sizeof octets);
	while (n > 0 && !memchr(octets, '\n', (size_t)n));
	if (n <= 0)
		_exit(0);
}

static void
reply(int connection, const char *text)
{
	if (write(connection, text, strlen(text)) < 0)
		_exit(0);
}

static void
echo(int plain)
{
	static char octets[65536];
	ssize_t n;

	while ((n = read(plain, octets, sizeof octets)) > 0) {
		for (ssize_t done = 0, w; done < n; done += w)
			if ((w = write(plain, octets + done, (size_t)(n - done))) <= 0)
				return;
		if (n >= 4 && memcmp(octets + n - 4, "bye\n", 4) == 0)
			return;
	}
}

static void
serve(int connection, int with_line, const char *const *alpn)
{
	static const char *const ends[] = { [TLS_ENGINE_CLOSED] = "end: closed ", [TLS_ENGINE_BROKEN] = "end: broken: ",
	    [TLS_ENGINE_GONE] = "end: gone: " };
	struct tls_engine t;
	char line[1000];
	enum tls_engine_end end;
	int plain;

	if (with_line)
		take_line(connection);
	if (!tls_engine_reach(&t, -1)) {
		say("no engine: ", t.text);
		if (with_line)
			reply(connection, "454 no TLS\r\n");
		_exit(0);
	}
	if (with_line)
		reply(connection, "220 go on\r\n");
	plain = tls_engine_start(&t, connection, alpn);
	close(connection);
	if (plain < 0) {
		say("no TLS: ", t.text);
		_exit(0);
	}
	snprintf(line, sizeof line, "%s %s host=%s alpn=%s", t.protocol, t.cipher, t.host, t.alpn);
	say("TLS: ", line);
	echo(plain);
	end = tls_engine_end(&t);
	say(ends[end], t.text);
	close(plain);
	_exit(0);
}

int
main(int argc, char **argv)
{
	int connection;

	if (argc < 2)
		return 100;
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		connection = accept(0, NULL, NULL);
		if (connection < 0 && errno != EINTR && errno != ECONNABORTED)
			return 111;
		if (connection >= 0 && fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(0);
			serve(connection, strcmp(argv[1], "starttls") == 0, argc > 2 ? (const char *const *)argv + 2 : NULL);
		}
		close(connection);
	}
}
