#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "directory.h"
#include "listener.h"
#include "smtpd.h"
#include "queued.h"

static struct session session;
static struct settings settings, initial;
static struct recipient_checks checks;
static struct localaddresses own;
static struct queue_client client;
static struct server_tls tls;
static struct auth auth;
static int client_end;

struct session *smtpd = &session;
struct auth *smtpd_auth;
int smtpd_is_stopping;

int
listener_is_stopping(void)
{
	return smtpd_is_stopping;
}

struct smtpd_tls smtpd_tls;

int __wrap_server_tls_reach(struct server_tls *t);
int __wrap_server_tls_start(struct server_tls *t, const char *const *alpn);
const char *__wrap_server_tls_end(struct server_tls *t);

int
__wrap_server_tls_reach(struct server_tls *t)
{
	strcpy(t->text, smtpd_tls.is_there ? "" : "no TLS: busy");
	return smtpd_tls.is_there;
}

int
__wrap_server_tls_start(struct server_tls *t, const char *const *alpn)
{
	assert_string_equal(alpn[0], "smtp");
	smtpd_tls.started++;
	strcpy(t->text, smtpd_tls.succeeds ? "" : "no TLS: too slow");
	strcpy(t->engine.protocol, "TLSv1.2");
	strcpy(t->engine.cipher, "TLS_X");
	strcpy(t->engine.host, "mail.test");
	t->is_on = smtpd_tls.succeeds;
	return t->is_on;
}

const char *
__wrap_server_tls_end(struct server_tls *t)
{
	(void)t;
	return smtpd_tls.end;
}

static void
nothing(void *data)
{
	(void)data;
}

int
smtpd_home(void **state)
{
	const char *file;

	setenv("TCPREMOTEIP", "192.0.2.1", 1);
	if (directory_make(state))
		return -1;
	directory_write("control/me", "me.test\n");
	return !settings_read(&initial, &file);
}

int
smtpd_begin(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	client_end = fd[0];
	settings = initial;
	memset(&checks, 0, sizeof checks);
	checks.program.fd = -1;
	rcptcheck_init(&checks.accounts, -1);
	checks.accounts.not_before = UINT64_MAX;	/* nobody knows the users */
	tls = (struct server_tls){ .by = SERVER_TLS_NOBODY, .engine.control = -1 };
	smtpd_tls = (struct smtpd_tls){ .is_there = 1, .succeeds = 1, .end = "" };
	memset(&session, 0, sizeof session);
	session.settings = &settings;
	session.checks = &checks;
	session.own = &own;
	session.queue = &client;
	auth = (struct auth){ .runner = -1, .owns_sender = -1 };
	session.tls = &tls;
	session.auth = smtpd_auth = &auth;
	session.submission = -1;
	session.phase = PHASE_IDLE;
	session.reason = session.dns_lists = "";
	session.in = (struct input){ .fd = fd[1], .timeout_ms = 20000, .session_end = UINT64_MAX, .flush = nothing, .rest = nothing,
	    .is_stopping = listener_is_stopping };
	session.reply.fd = fd[1];
	peer_read(&session.peer);
	input_start(&session.in);
	reply_start(&session.reply);
	smtpd_is_stopping = 0;
	queued_reset();
	return 0;
}

int
smtpd_end(void **state)
{
	(void)state;
	session_reset(&session);
	session_free(&session);
	recipient_checks_end(&checks);
	close(session.in.fd);
	smtpd_closes();
	return 0;
}

const char *
smtpd_says(const char *lines)
{
	static char answer[REPLY_SIZE + 1];

	for (;;) {
		size_t len = strcspn(lines, "|");
		char *line = test_malloc(len + 1);

		memcpy(line, lines, len);
		line[len] = '\0';
		session.reply.len = 0;
		command_run(&session, line, len);
		test_free(line);
		lines += len;
		if (!*lines)
			break;
		lines++;
	}
	memcpy(answer, session.reply.out, session.reply.len);
	answer[session.reply.len] = '\0';
	if (session.reply.len)
		answer[session.reply.len - 2] = '\0';
	return answer;
}

void
smtpd_sends(const char *octets, size_t len)
{
	assert_int_equal(send(client_end, octets, len, MSG_NOSIGNAL), len);
}

void
smtpd_closes(void)
{
	if (client_end >= 0)
		close(client_end);
	client_end = -1;
}

const char *
smtpd_logged(void)
{
	static char text[SESSION_LOG_SIZE + 1];

	memcpy(text, session.log, session.log_len);
	text[session.log_len] = '\0';
	session.log_len = 0;
	return text;
}
