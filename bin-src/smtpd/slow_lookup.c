#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/djbunix.h>
#include "replaced.h"
#include "slow_lookup.h"
#include "stralloc_set.h"

enum {
	PACKET_MAX = 1 + ACCOUNT_SIZE_MAX,	/* letter, then local, or user, home, dash, ext, each ended by NUL */
	ASK_USER = 'P', ASK_HOME = 'H',
	FIELDS_MAX = 4,
	GETPW_SECONDS = 60,	/* then it is killed */
};

#define GETPW "bin/qmail-getpw"		/* what qmail-lspawn asks */

/* --- a qmail-getpw of the site's own -------------------------------------------------------------------------------- */

static void
become_getpw(const char *local, int out)
{
	if (dup2(out, STDOUT_FILENO) < 0)
		return;
	closefrom(STDERR_FILENO + 1);
	alarm(GETPW_SECONDS);
	execl(GETPW, GETPW, local, (char *)NULL);
}

/* Reads what it prints, at most size octets; all of it, or nobody would end. Returns 0 when the loop is gone. */
static int
read_output(int fd, int loop, char *s, size_t size, size_t *len)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = loop, .events = 0 } };
	char rest[512];
	ssize_t n;

	for (*len = 0;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return 0;
		if (p[1].revents)
			return 0;
		n = *len < size ? read(fd, s + *len, size - *len) : read(fd, rest, sizeof rest);
		if (n == 0 || (n < 0 && errno != EINTR))
			return 1;
		if (n > 0 && *len < size)
			*len += (size_t)n;
	}
}

static void
run_getpw(const char *local, int loop, struct verdict *v)
{
	static char fields[ACCOUNT_SIZE_MAX];
	int ends[2], status = -1;
	size_t len = 0;
	pid_t pid;

	verdict_set(v, RCPT_CANNOT_KNOW, GETPW " of this site failed", NULL);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid == 0) {
		become_getpw(local, ends[1]);
		_exit(GETPW_SYSTEM);
	}
	close(ends[1]);
	if (pid > 0 && !read_output(ends[0], loop, fields, sizeof fields, &len))
		kill(pid, SIGKILL);
	close(ends[0]);
	if (pid > 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	if (status == 0)
		deliverable_fields(fields, len, v);
	else if (status > 0 && WIFEXITED(status) && WEXITSTATUS(status) == GETPW_NO_ALIAS)
		verdict_set(v, RCPT_TEMPORARY, "there is no user alias", NULL);
}

/* --- in a process of its own ------------------------------------------------------------------------------------ */

static void
work(const char *packet, size_t len, int loop, struct passwd_source *source, struct verdict *v)
{
	const char *field[FIELDS_MAX] = { NULL };
	size_t n = 0;

	for (const char *s = packet + 1; s < packet + len && n < FIELDS_MAX; s += strlen(s) + 1)
		field[n++] = s;
	if (*packet == ASK_USER && n == 1 && is_replaced(-1, "qmail-getpw"))
		run_getpw(field[0], loop, v);
	else if (*packet == ASK_USER && n == 1)
		deliverable_user(source, field[0], v);
	else if (*packet == ASK_HOME && n == FIELDS_MAX)
		deliverable_home(field[0], field[1], field[2], field[3], v);
	else
		verdict_set(v, RCPT_CANNOT_KNOW, "a question that makes no sense", NULL);
}

/* Answers questions until the socket ends. */
static void
serve(int fd)
{
	static char packet[PACKET_MAX + 1];
	stralloc entry = STRALLOC_ZERO;
	struct passwd_source machine = { .by_name = passwd_by_name, .owns = passwd_owns, .context = &entry };
	ssize_t n;

	while ((n = recv(fd, packet, PACKET_MAX, 0)) != 0) {
		struct verdict v = { .answer = RCPT_CANNOT_KNOW };

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		packet[n] = '\0';
		work(packet, (size_t)n, fd, &machine, &v);
		if (send(fd, &v, offsetof(struct verdict, text) + strlen(v.text) + 1, MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

static int
start_process(struct slow_lookups *s, unsigned int i)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return 0;
	pid = fork();
	if (pid < 0) {
		close(ends[0]);
		close(ends[1]);
		return 0;
	}
	if (pid == 0) {
		for (unsigned int other = 0; other < i; other++)
			close(s->fds[other]);
		close(ends[0]);
		serve(ends[1]);
	}
	close(ends[1]);
	s->fds[i] = ends[0];
	return 1;
}

int
slow_lookup_start(struct slow_lookups *s)
{
	for (unsigned int i = 0; i < SLOW_LOOKUP_PROCESSES; i++)
		if (!start_process(s, i))
			return 0;
	for (unsigned int i = 0; i < SLOW_LOOKUP_MAX; i++) {
		s->questions[i].next = s->free;
		s->free = &s->questions[i];
	}
	s->end = &s->first;
	return 1;
}

/* --- in the loop that asks ---------------------------------------------------------------------------------------- */

static void
put_back(struct slow_lookups *s, struct slow_question *q)
{
	q->packet.len = 0;
	q->next = s->free;
	s->free = q;
}

static void
cannot_know(struct slow_lookups *s, uint64_t asker, const char *why)
{
	struct verdict v;

	verdict_set(&v, RCPT_CANNOT_KNOW, why, NULL);
	s->answer(s->context, asker, &v);
}

static int
add(stralloc *packet, const char *s)
{
	return stralloc_catb(packet, s, strlen(s) + 1);
}

static int
make_packet(stralloc *packet, enum deliverable_step step, const struct deliverable *r)
{
	const struct account *a = &r->account;
	char letter = step == DELIVERABLE_USER ? ASK_USER : ASK_HOME;

	if (!stralloc_setb(packet, &letter, 1))
		return 0;
	if (step == DELIVERABLE_USER)
		return add(packet, r->local);
	return add(packet, a->user) && add(packet, a->home) && add(packet, a->dash) && add(packet, a->ext);
}

/* Whether every process works at something that takes too long. */
static int
all_are_stuck(const struct slow_lookups *s)
{
	for (unsigned int i = 0; i < SLOW_LOOKUP_PROCESSES; i++)
		if (!s->asked[i] || !s->asked[i]->is_late)
			return 0;
	return 1;
}

/* Gives the question that has waited longest to process i. */
static void
hand_over(struct slow_lookups *s, unsigned int i)
{
	struct slow_question *q;

	while (!s->asked[i] && (q = s->first)) {
		s->first = q->next;
		if (!s->first)
			s->end = &s->first;
		if (!q->is_over && send(s->fds[i], q->packet.s, q->packet.len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			s->asked[i] = q;
		else {
			if (!q->is_over)
				cannot_know(s, q->asker, "unable to ask another process");
			put_back(s, q);
		}
	}
}

void
slow_lookup_ask(struct slow_lookups *s, uint64_t asker, uint64_t now, enum deliverable_step step, const struct deliverable *r)
{
	struct slow_question *q = s->free;

	if (!q || all_are_stuck(s)) {
		cannot_know(s, asker, "name service or homes do not answer");
		return;
	}
	if (!make_packet(&q->packet, step, r)) {
		cannot_know(s, asker, "out of memory");
		return;
	}
	s->free = q->next;
	q->next = NULL;
	q->asker = asker;
	q->deadline = now + SLOW_LOOKUP_MS;
	q->is_over = q->is_late = 0;
	*s->end = q;
	s->end = &q->next;
	for (unsigned int i = 0; i < SLOW_LOOKUP_PROCESSES && s->first; i++)
		hand_over(s, i);
}

int
slow_lookup_take(struct slow_lookups *s, unsigned int i)
{
	struct slow_question *q = s->asked[i];
	struct verdict v;
	ssize_t n = recv(s->fds[i], &v, offsetof(struct verdict, text) + sizeof v.text, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (n <= (ssize_t)offsetof(struct verdict, text) || !q)
		return 0;
	v.text[(size_t)n - offsetof(struct verdict, text) - 1] = '\0';
	s->asked[i] = NULL;
	if (!q->is_over)
		s->answer(s->context, q->asker, &v);
	put_back(s, q);
	hand_over(s, i);
	return 1;
}

uint64_t
slow_lookup_expire(struct slow_lookups *s, uint64_t now)
{
	uint64_t next = UINT64_MAX;
	struct slow_question *q;

	for (unsigned int i = 0; i < SLOW_LOOKUP_PROCESSES; i++) {
		q = s->asked[i];
		if (!q || q->is_late)
			continue;
		if (q->deadline > now) {
			if (q->deadline < next)
				next = q->deadline;
			continue;
		}
		q->is_late = 1;
		if (!q->is_over)
			cannot_know(s, q->asker, "name service or home does not answer");
		q->is_over = 1;
	}
	while ((q = s->first) && (q->is_over || q->deadline <= now || all_are_stuck(s))) {
		s->first = q->next;
		if (!s->first)
			s->end = &s->first;
		if (!q->is_over)
			cannot_know(s, q->asker, "name service or homes do not answer");
		put_back(s, q);
	}
	return s->first && s->first->deadline < next ? s->first->deadline : next;
}

void
slow_lookup_forget(struct slow_lookups *s, uint64_t asker)
{
	for (unsigned int i = 0; i < SLOW_LOOKUP_PROCESSES; i++)
		if (s->asked[i] && s->asked[i]->asker == asker)
			s->asked[i]->is_over = 1;
	for (struct slow_question *q = s->first; q; q = q->next)
		if (q->asker == asker)
			q->is_over = 1;
}
