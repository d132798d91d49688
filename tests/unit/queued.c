#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "queued.h"

struct queued queued;

void
queued_reset(void)
{
	queued = (struct queued){ .result = { .number = 7, .time = 5, .text = "" } };
}

static void
add(char *to, size_t size, const char *s, size_t len)
{
	size_t at = strlen(to);

	assert_true(at + len < size);
	assert_null(memchr(s, '\0', len));
	memcpy(to + at, s, len);
	to[at + len] = '\0';
}

static void
record(const char *letter, const char *s, size_t len)
{
	assert_true(queued.is_open);
	add(queued.envelope, sizeof queued.envelope, letter, 1);
	add(queued.envelope, sizeof queued.envelope, s, len);
	add(queued.envelope, sizeof queued.envelope, "|", 1);
}

void
queue_client_begin(struct queue_client *q)
{
	(void)q;
	assert_false(queued.is_open);
	queued.is_open = 1;
	queued.message[0] = queued.envelope[0] = '\0';
}

void
queue_client_message(struct queue_client *q, const char *s, size_t len)
{
	(void)q;
	assert_true(queued.is_open && !*queued.envelope);
	add(queued.message, sizeof queued.message, s, len);
}

void
queue_client_sender(struct queue_client *q, const char *s, size_t len)
{
	(void)q;
	record("F", s, len);
}

void
queue_client_recipient(struct queue_client *q, const char *s, size_t len)
{
	(void)q;
	assert_true(*queued.envelope);
	record("T", s, len);
}

void
queue_client_sender_parameters(struct queue_client *q, const char *parameters)
{
	(void)q;
	if (*parameters)
		record("P", parameters, strlen(parameters));
}

void
queue_client_recipient_parameters(struct queue_client *q, const char *parameters)
{
	queue_client_sender_parameters(q, parameters);
}

void
queue_client_end(struct queue_client *q, int terminate, struct queue_result *result)
{
	(void)q;
	assert_true(queued.is_open && terminate && strstr(queued.envelope, "|T"));
	queued.is_open = 0;
	queued.ended++;
	*result = queued.result;
}

/* Also allowed where there is none. */
void
queue_client_abandon(struct queue_client *q)
{
	(void)q;
	queued.abandoned += queued.is_open != 0;
	queued.is_open = 0;
}

void
queue_client_rest(struct queue_client *q)
{
	(void)q;
}
