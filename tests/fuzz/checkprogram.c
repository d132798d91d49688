/* The socket between a session of qmail-smtpd and the process that runs RCPTCHECK, given any octets at either end. The first octet of an
 * input says which: 'r' the process, which gets a request, else the session, which gets an answer. A request is three strings, or
 * nothing is run; a text is one line of printable ASCII. */
#include <assert.h>
#include "given.h"
#include "bin-src/smtpd/checkprogram.c"	/* NOLINT(bugprone-suspicious-include): what takes requests is static there */

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

static void
take_request(struct given g)
{
	const char *strings[STRINGS] = { NULL };
	char *request = given_copy(g.s, g.len);
	const char *next = request;
	size_t nuls = 0;

	for (size_t i = 0; i < g.len; i++)
		nuls += !request[i];
	assert(split(request, g.len, strings) == (nuls == STRINGS && !request[g.len - 1]));
	for (int i = 0; i < STRINGS && nuls == STRINGS && !request[g.len - 1]; i++, next += strlen(next) + 1)
		assert(strings[i] == next);
	free(request);
}

static void
take_answer(struct given g)
{
	static stralloc text;
	struct checkprogram p;
	enum checkprogram_result result;
	int pair[2];

	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	p = (struct checkprogram){ .fd = pair[0], .is_set = 1 };
	if (g.len)
		assert(send(pair[1], g.s, g.len, 0) == (ssize_t)g.len);
	shutdown(pair[1], SHUT_WR);
	result = checkprogram_ask(&p, "s", "r", "h", &text);
	assert(text.len <= CHECKPROGRAM_TEXT_MAX && (p.fd >= 0) == (g.len > 0));
	for (size_t i = 0; i < text.len; i++)
		assert(text.s[i] >= ' ' && text.s[i] <= '~');
	assert(!text.len || text.s[text.len - 1] != ' ');
	if (!g.len || (*g.s && *g.s < TROUBLES))
		assert(result == CHECKPROGRAM_FAILED && p.trouble && !text.len);
	else
		assert(result == (enum checkprogram_result)*g.s && !p.trouble);
	checkprogram_close(&p);
	close(pair[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };

	(given_number(&g, 1) == 'r' ? take_request : take_answer)(g);
	return 0;
}
