/* qmail-queue: hand a message (descriptor 0) and its envelope (descriptor 1) to the queue.
 * Trust: both come from whoever calls, and are only carried: the keeper checks them, and learns from the kernel who
 * calls. Needs no privilege and reads no file: it shuts itself in before the first octet. */
#include <signal.h>
#include <unistd.h>
#include "caller.h"
#include "home.h"
#include "queue/client.h"
#include "queue/envelope.h"
#include "sandbox.h"

enum { SECONDS = 86400 };	/* for all */

static const struct sandbox shut_in = { .calls = &sandbox_client };

static void
carry_message(struct queue_client *q)
{
	char s[16384];
	size_t n;

	while (!q->code && (n = caller_read(0, s, sizeof s)))
		queue_client_message(q, s, n);
}

/* The caller may keep descriptor 1 open: the envelope says itself where it ends. */
static void
carry_envelope(struct queue_client *q)
{
	struct envelope_check check = { .state = ENVELOPE_START };
	char s[16384];

	while (check.state != ENVELOPE_COMPLETE) {
		size_t used, n = caller_read(1, s, sizeof s);
		unsigned int code = n ? envelope_check(&check, s, n, &used) : QUEUE_READ;

		if (code)
			_exit((int)code);
		queue_client_envelope(q, s, used);
	}
}

int
main(void)
{
	struct queue_client q;
	struct queue_result result;

	signal(SIGPIPE, SIG_IGN);
	caller_limit(SECONDS);
	if (!home_enter())
		return QUEUE_HOME;
	if (sandbox_enter(&shut_in) < 0)
		return QUEUE_NO_MEMORY;
	queue_client_open_keeper(&q, -1);
	queue_client_begin(&q);
	carry_message(&q);
	if (!q.code)
		carry_envelope(&q);
	queue_client_end(&q, 0, &result);
	return (int)result.code;
}
