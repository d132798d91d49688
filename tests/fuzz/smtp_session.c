/* Whole sessions of qmail-smtpd with clients that send any octets: without waiting for a reply, or line by line as one does who waits. The
 * queue is a stand-in. The first octet of an input says which: an odd one, such as 'w', that it comes as a whole, an even one, such
 * as 'l', by lines. */
#include <assert.h>
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/smtpd/recipient.h"
#include "bin-src/smtpd/session.h"
#include "control_files.h"
#include "given.h"
#include "queue/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* --- a queue that looks at what it is given ------------------------------------------ */

static struct {
	int is_open, has_envelope;
	struct envelope_check check;
} queue;

static void
envelope(const char *s, size_t len)
{
	size_t used;

	assert(queue.is_open && envelope_check(&queue.check, s, len, &used) == 0 && used == len);
}

static void
record(const char *kind, const char *s, size_t len)
{
	assert(!memchr(s, '\0', len));
	envelope(kind, 1);
	envelope(s, len);
	envelope("", 1);
}

void
queue_client_begin(struct queue_client *q)
{
	assert(!queue.is_open);
	memset(&queue, 0, sizeof queue);
	queue.is_open = 1;
	(void)q;
}

void
queue_client_message(struct queue_client *q, const char *s, size_t len)
{
	assert(queue.is_open && !queue.has_envelope && !memchr(s, '\r', len));
	(void)q;
}

void
queue_client_sender(struct queue_client *q, const char *s, size_t len)
{
	queue.has_envelope = 1;
	record("F", s, len);
	(void)q;
}

void
queue_client_recipient(struct queue_client *q, const char *s, size_t len)
{
	assert(len > 0);
	record("T", s, len);
	(void)q;
}

void
queue_client_sender_parameters(struct queue_client *q, const char *parameters)
{
	if (*parameters)
		record("P", parameters, strlen(parameters));
	(void)q;
}

void
queue_client_recipient_parameters(struct queue_client *q, const char *parameters)
{
	queue_client_sender_parameters(q, parameters);
}

void
queue_client_end(struct queue_client *q, int terminate, struct queue_result *result)
{
	assert(terminate);
	envelope("", 1);
	assert(queue.check.state == ENVELOPE_COMPLETE && queue.check.recipients > 0);
	*result = (struct queue_result){ .number = 1, .time = 1, .text = "" };
	queue.is_open = 0;
	(void)q;
}

void
queue_client_abandon(struct queue_client *q)
{
	assert(queue.is_open);
	queue.is_open = 0;
	(void)q;
}

void
queue_client_rest(struct queue_client *q)
{
	(void)q;
}

/* --- the session ------------------------------------------------------------------------ */

static struct session session;
static struct settings settings;
static struct recipient_checks checks;
static struct localaddresses own;
static struct queue_client client;
static struct server_tls tls;
static struct auth auth = { .is_on = 1, .runner = -1, .owns_sender = -1 };	/* there is no keeper */
static int replies;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *file = "";
	struct peer peer;
	struct control_files files = control_files_begin();

	replies = memfd_create("replies", MFD_CLOEXEC);
	if (replies < 0 || dup2(replies, 1) < 0)
		err(1, "prepare");
	control_files_write("control/me", "here.test\n");
	control_files_write("control/databytes", "3000\n");
	control_files_write("control/maxrcpt", "5\n");
	control_files_write("control/maxsmtperrors", "50\n");
	setenv("TCPREMOTEIP", "192.0.2.1", 1);
	peer_read(&peer);
	if (!settings_read(&settings, &file) || !recipient_checks_start(&checks, &peer, 0))
		err(1, "settings %s", file);
	session.settings = &settings;
	session.checks = &checks;
	session.own = &own;
	session.queue = &client;
	session.tls = &tls;
	session.auth = &auth;
	control_files_end(&files);
	(void)argc;
	(void)argv;
	return 0;
}

/* Every reply is lines of a code and printable ASCII, of 512 octets at most with CRLF. */
static void
check_replies(void)
{
	static char text[1 << 20];
	ssize_t len = pread(replies, text, sizeof text, 0);
	const char *s = text, *end;

	assert(len > 0 && len < (ssize_t)sizeof text);
	for (; s < text + len; s = end + 1) {
		end = memchr(s, '\n', (size_t)(text + len - s));
		assert(end && end - s >= 4 && end - s < 512 && end[-1] == '\r');
		assert(s[0] >= '2' && s[0] <= '5' && strspn(s, "0123456789") == 3 && (s[3] == ' ' || s[3] == '-'));
		for (; s < end - 1; s++)
			assert(*s >= 32 && *s < 127);
	}
}

enum { LINES_MAX = 100 };	/* what a socket holds as packets; the rest comes in one piece */

static void
send_piece(int fd, const struct given *piece)
{
	if (piece->len && write(fd, piece->s, piece->len) != (ssize_t)piece->len)
		err(1, "give octets");
}

/* A packet a line: a read takes no more than one, so that nothing lies behind a command while it is run. */
static void
send_lines(int fd, struct given g)
{
	for (int i = 0; i < LINES_MAX && g.len; i++) {
		const uint8_t *lf = memchr(g.s, '\n', g.len);
		struct given line = given_piece(&g, lf ? (size_t)(lf + 1 - g.s) : g.len);

		send_piece(fd, &line);
	}
	send_piece(fd, &g);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	int is_whole = given_number(&g, 1) & 1, pair[2];

	if (socketpair(AF_UNIX, (is_whole ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0, pair) || dup2(pair[0], 0) < 0)
		err(1, "socketpair");
	close(pair[0]);
	if (is_whole)
		send_piece(pair[1], &g);
	else
		send_lines(pair[1], g);
	if (shutdown(pair[1], SHUT_WR) || ftruncate(replies, 0) || lseek(replies, 0, SEEK_SET))
		err(1, "give octets");
	session_run(&session);
	session.log_len = 0;
	assert(!queue.is_open);
	close(pair[1]);
	check_replies();
	return 0;
}
