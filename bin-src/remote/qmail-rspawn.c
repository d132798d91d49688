/* qmail-rspawn: start workers for mail to other hosts.
 * Trust: runs as qmailr, group nofiles. It reads requests of qmail-send on descriptor 3; the messages go to its workers
 * only, which are processes of their own: qmail-remote, which shuts itself in; or, where the site put another program in its
 * place, one that runs that program for each message. A filter of ours would break it (lib/sandbox.h), so neither that
 * worker nor this program is shut in; they read no octet of the network themselves. */
#include <string.h>
#include <unistd.h>
#include <skalibs/iopause.h>
#include <skalibs/selfpipe.h>
#include <skalibs/strerr.h>
#include <skalibs/tai.h>
#include "classic.h"
#include "exitcode.h"
#include "home.h"
#include "spawner.h"
#include "tcpto.h"

/* The host as it stands in a worker's command line, for who looks at the list of processes. */
enum { SHOWN_MAX = 255 };

/* Becomes a worker for host. */
static _Noreturn void
serve(const char *host, size_t len)
{
	char shown[SHOWN_MAX + 1];

	if (len > SHOWN_MAX)
		len = SHOWN_MAX;
	memcpy(shown, host, len);
	shown[len] = '\0';
	if (classic_is_ours()) {
		execl("libexec/qmail-remote", "qmail-remote", "-W", shown, (char *)NULL);
		spawner_log("alert", "unable to exec", "libexec/qmail-remote");
	}
	classic_serve();
}

static void
take_requests(struct spawner *s)
{
	struct spawner_request r;
	int n;

	while (!spawner_is_behind(s) && (n = spawner_next(s, &r)) != 0) {
		if (n < 0) {
			spawner_log("alert", "qmail-send made no sense", NULL);
			_exit(EXIT_TEMP);
		}
		if (r.type == SPAWN_KILL)
			spawner_kill(s, r.id);
		else if (r.type == SPAWN_WHO)
			spawner_defer(s, r.id, "qmail-rspawn knows no users. (#4.3.0)\n");
		else if (spawner_start(s, r.id, "", 0) == 0)
			serve(r.name, r.len);
	}
}

static void
reap(struct spawner *s)
{
	pid_t pid;
	int wstat;

	while (selfpipe_read() > 0)
		;
	while (spawner_reap(s, &pid, &wstat))
		;
}

/* Takes requests and answers, until nothing more can be done now. Returns 0 when qmail-send is gone. */
static int
work(struct spawner *s)
{
	int was_behind;

	do {
		take_requests(s);
		was_behind = spawner_is_behind(s);
		if (channel_flush(&s->channel) < 0)
			return 0;
	} while (was_behind && !spawner_is_behind(s));
	return 1;
}

/* One turn of the loop. Returns 0 when qmail-send is gone. */
static int
turn(struct spawner *s)
{
	short events = spawner_is_behind(s) ? 0 : IOPAUSE_READ;
	iopause_fd x[2] = { { .fd = s->signals, .events = IOPAUSE_READ }, { .fd = s->channel.fd } };

	if (channel_unsent(&s->channel))
		events |= IOPAUSE_WRITE;
	x[1].events = events;
	if (iopause_g(x, 2, NULL) < 0)
		strerr_diefusys(EXIT_TEMP, "wait for requests");
	if (x[0].revents)
		reap(s);
	if (events & IOPAUSE_READ ? x[1].revents && channel_receive(&s->channel) < 0 : x[1].revents & IOPAUSE_EXCEPT)
		return 0;
	return work(s);
}

int
main(void)
{
	static struct spawner s;

	PROG = "qmail-rspawn";
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (!spawner_init(&s))
		strerr_diefusys(EXIT_TEMP, "take requests on descriptor 3");
	if (!tcpto_reset())	/* what is not there is not known */
		strerr_warnwu1sys("empty run/tcpto, the list of dead hosts");
	while (turn(&s))
		;
	return EXIT_OK;
}
