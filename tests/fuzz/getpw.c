/* What a qmail-getpw says, kept or of the administrator's own, given any octets, while it has some questions. The input is how many, and
 * packets, each after its length of two octets. */
#include <assert.h>
#include <sys/socket.h>
#include "given.h"
#include "spawner.h"
#include "users/tables.h"
/* what takes its answers is static there; NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "bin-src/local/lookup.c"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { QUESTIONS_MAX = 8 };

/* --- what is not asked here ----------------------------------------------------------------------------- */

int
tables_find(struct account *account, const char *local, size_t len, const char **table)
{
	(void)account, (void)table;
	assert(local && len);
	return 0;
}

void
spawner_log(const char *kind, const char *what, const char *name)
{
	(void)name;
	assert(*kind && *what);
}

/* --- a kept process -------------------------------------------------------------------------------------- */

/* The process has the questions; it is none that could be killed. Returns its end of the socket. */
static int
ask(struct lookups *l, unsigned int questions)
{
	struct kept_getpw_process *p = l->kept.processes;
	int pair[2];

	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	*p = (struct kept_getpw_process){ .fd = pair[0], .open = questions };
	for (int i = 1; i < KEPT_GETPW_MAX; i++)
		l->kept.processes[i].fd = -1;
	for (unsigned int i = 0; i < questions; i++) {
		assert(lookups_ask(l, SPAWN_WHO, i, "local", 5));
		l->list[i].kept = 0;
		l->list[i].number = i;
		l->list[i].state = LOOKUP_RUNS;
	}
	return pair[1];
}

static void
say(int fd, struct given g, unsigned int packets)
{
	while (g.len && packets--) {
		struct given packet = given_piece(&g, given_number(&g, 2));

		if (packet.len)
			assert(send(fd, packet.s, packet.len, MSG_NOSIGNAL) == (ssize_t)packet.len);
	}
}

/* An answer is a whole account, or a reason to wait; what was not answered waits for another process. */
static void
check(struct lookups *l, unsigned int questions)
{
	struct lookup *q;
	unsigned int waiting = 0, answered = 0;

	for (unsigned int i = 0; i < l->len; i++)
		waiting += l->list[i].state == LOOKUP_WAITS || l->list[i].state == LOOKUP_RUNS;
	for (; (q = lookups_answered(l)); answered++) {
		assert(q->id < questions && (q->trouble != NULL) == (q->account.user == NULL));
		assert(!q->account.user || (*q->account.user && *q->account.home && q->account.uid != (uid_t)-1 && q->account.gid != (gid_t)-1));
		lookups_took(l, q);
	}
	assert(waiting + answered == questions && l->len == waiting);
}

/* --- a process of its own --------------------------------------------------------------------------------- */

/* The same for what one prints; a pipe holds it. */
static void
read_printed(struct lookups *l, struct given g)
{
	struct lookup *q = l->list;
	int ends[2];

	assert(l->len == 0 && lookups_ask(l, SPAWN_START, 0, "local", 5) && pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
	if (g.len)
		assert(write(ends[1], g.s, g.len) == (ssize_t)g.len);
	close(ends[1]);
	q->fd = ends[0];
	q->state = LOOKUP_RUNS;
	read_output(l, q);
	if (q->state == LOOKUP_RUNS)
		finish(q, 0);
	check(l, 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct lookups l;
	struct given g = { octets, len };
	unsigned int questions = 1 + (unsigned int)given_number(&g, 1) % QUESTIONS_MAX;
	int fd;

	memset(&l.kept, 0, sizeof l.kept);
	read_printed(&l, g);
	fd = ask(&l, questions);
	say(fd, g, questions + 2);
	take_answers(&l, 0);
	check(&l, questions);
	while (l.len)
		drop(&l, l.list);
	kept_getpw_kill(&l.kept, 0);
	close(fd);
	return 0;
}
