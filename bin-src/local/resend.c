#include <errno.h>
#include <string.h>
#include "notify.h"
#include "queue/client.h"
#include "resend.h"

/* Returns 1, or 0 with errno set. */
static int
copy_message(struct queue_client *q, const struct message *m)
{
	char buffer[MESSAGE_BUFFER];
	uint64_t at = 0;
	const char *s;
	ssize_t r;

	while ((r = message_octets(m, at, &s, buffer)) > 0) {
		queue_client_message(q, s, (size_t)r);
		at += (uint64_t)r;
	}
	return r == 0;
}

static enum exitcode
say_refused(struct report *report, const struct queue_result *result)
{
	report_line(report, "Unable to forward the message: ", result->text);
	return result->permanent ? EXIT_PERM : EXIT_TEMP;
}

/* Returns 1, or 0 (ENOMEM). */
static int
put_envelope(struct queue_client *q, const struct resend *r)
{
	stralloc parameters = STRALLOC_ZERO;
	int ok = notify_carry_sender(&parameters, r->sender_parameters, r->is_list) && stralloc_0(&parameters);

	if (ok) {
		queue_client_sender(q, r->sender, strlen(r->sender));
		queue_client_sender_parameters(q, parameters.s);
		ok = notify_carry_recipient(&parameters, r->parameters, r->is_list) && stralloc_0(&parameters);
	}
	for (size_t at = 0; ok && at < r->recipients->len; at += strlen(r->recipients->s + at) + 1) {
		queue_client_recipient(q, r->recipients->s + at, strlen(r->recipients->s + at));
		queue_client_recipient_parameters(q, parameters.s);
	}
	stralloc_free(&parameters);
	errno = ENOMEM;
	return ok;
}

enum exitcode
resend_message(const struct resend *r, const struct message *m, struct report *report, uint64_t *number)
{
	struct queue_client q;
	struct queue_result result;
	enum exitcode code = EXIT_OK;

	queue_client_open(&q, r->home);
	queue_client_begin(&q);
	queue_client_message(&q, r->line, strlen(r->line));
	if (copy_message(&q, m) && put_envelope(&q, r)) {
		queue_client_end(&q, 1, &result);
		*number = result.number;
		if (result.code)
			code = say_refused(report, &result);
	} else {
		report_line(report, "Unable to copy the message: ", strerror(errno), ". (#4.3.0)");
		queue_client_abandon(&q);
		code = EXIT_TEMP;
	}
	queue_client_close(&q);
	return code;
}
