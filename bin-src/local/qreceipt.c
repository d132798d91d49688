/* qreceipt: tell the sender that the message arrived, if its header asks for that.
 * Trust: runs as the user, in a dot-qmail file; message and SENDER hold what somebody on the network chose. The notice has
 * a null reverse-path, so nothing answers it. */
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "address822.h"
#include "copy.h"
#include "date822.h"
#include "exitcode.h"
#include "field.h"
#include "home.h"
#include "message.h"
#include "message_id.h"
#include "queue/client.h"
#include "quote.h"

#define USAGE "qreceipt address"

struct wanted {
	const char *address;
	int found;
	int no_memory;
};

/* Compares an address of the field with ours, letter case aside. Stops the reading at the first that is ours. */
static int
compare(void *data, stralloc *address)
{
	struct wanted *w = data;
	stralloc plain = STRALLOC_ZERO;

	if (!address822_unquote(&plain, address->s, address->len) || !stralloc_0(&plain))
		w->no_memory = 1;
	else
		w->found = strcasecmp(plain.s, w->address) == 0;
	stralloc_free(&plain);
	return !w->found && !w->no_memory;
}

/* 1 if the header asks address for a notice. */
static int
is_asked(const struct message *m, const char *address)
{
	struct wanted w = { .address = address };
	stralloc body = STRALLOC_ZERO;
	int r = field_get(&body, m, "notice-requested-upon-delivery-to", ',');

	if (r < 0)
		strerr_diefusys(EXIT_TEMP, "read the message");
	if (r > 0 && address822_read(body.s, body.len, compare, &w, NULL) < 0 && !w.found)
		strerr_diefusys(EXIT_TEMP, "read the field Notice-Requested-Upon-Delivery-To");
	stralloc_free(&body);
	return w.found;
}

/* Nothing for an empty body; field_get left no newline in it. */
static int
add_field(stralloc *text, const char *name, const stralloc *body)
{
	if (body->len == 0)
		return 1;
	return stralloc_cats(text, name) && stralloc_catb(text, body->s, body->len) && stralloc_append(text, '\n');
}

/* Returns 1, or 0 with errno ENOMEM. */
static int
make_notice(stralloc *text, const char *address, const char *sender, const stralloc *message_id, const stralloc *subject)
{
	const char *at = strrchr(address, '@');
	const char *host = at ? at + 1 : "localhost";
	time_t now = time(NULL);
	char date[DATE822_MAX];

	date822_date(date, now);
	return stralloc_cats(text, "Date: ") && stralloc_cats(text, date) && stralloc_cats(text, "\nMessage-ID: ") &&
	    message_id_append(text, now, (uint64_t)getpid(), host, strlen(host)) &&
	    stralloc_cats(text, "\nFrom: Delivery notice <") && quote_address(text, address, strlen(address)) &&
	    stralloc_cats(text, ">\nTo: <") && quote_address(text, sender, strlen(sender)) &&
	    stralloc_cats(text, ">\nSubject: success notice\nAuto-Submitted: auto-replied\n") &&
	    add_field(text, "In-Reply-To: ", message_id) && add_field(text, "References: ", message_id) &&
	    stralloc_cats(text, "\nYour message was delivered to this address, as you asked to be told:\n\n\t") &&
	    stralloc_cats(text, address) && stralloc_cats(text, "\n\n") && add_field(text, "Subject: ", subject) &&
	    add_field(text, "Message-ID: ", message_id) &&
	    stralloc_cats(text, "\nIt need not have been read yet.\n");
}

static void
submit(int home, const stralloc *text, const char *recipient)
{
	struct queue_client q;
	struct queue_result result;

	queue_client_open(&q, home);
	queue_client_begin(&q);
	queue_client_message(&q, text->s, text->len);
	queue_client_sender(&q, "", 0);
	queue_client_recipient(&q, recipient, strlen(recipient));
	queue_client_end(&q, 1, &result);
	if (result.code)
		strerr_dief(result.permanent ? EXIT_PERM : EXIT_TEMP, "unable to send the notice: ", result.text);
	queue_client_close(&q);
}

int
main(int argc, const char *const *argv)
{
	stralloc text = STRALLOC_ZERO, message_id = STRALLOC_ZERO, subject = STRALLOC_ZERO;
	int home = home_open();
	const char *sender;
	struct message m;

	PROG = "qreceipt";
	if (argc != 2)
		strerr_dieusage(EXIT_PERM, USAGE);
	sender = copy_variable("SENDER");
	if (!message_of_input(&m, STDIN_FILENO))
		strerr_diefusys(EXIT_TEMP, "read the message on descriptor 0");
	if (!*sender || !strcmp(sender, "#@[]") || !is_asked(&m, argv[1]))
		return EXIT_OK;
	if (home < 0)
		strerr_diefusys(EXIT_TEMP, "find the qmail home");
	if (field_get(&message_id, &m, "message-id", '\0') < 0 || field_get(&subject, &m, "subject", '\0') < 0)
		strerr_diefusys(EXIT_TEMP, "read the message");
	if (!make_notice(&text, argv[1], sender, &message_id, &subject))
		strerr_diefusys(EXIT_TEMP, "write the notice");
	submit(home, &text, sender);
	return EXIT_OK;
}
