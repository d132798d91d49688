#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/uint64.h>
#include "directory.h"
#include "queue_keeper.h"
#include "process.h"

struct keeper keeper;
char keeper_said[200];
int keeper_forks_fail;
pid_t keeper_child;
uid_t keeper_peer;
int keeper_peer_is_unknown;
int (*keeper_fdatasync)(int fd);
int (*keeper_fsync)(int fd);

static unsigned int descriptors;

/* --- the services ----------------------------------------------------------------------------- */

int
keeper_watch(struct keeper *k, struct source *s, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };

	if (s->watched != events && epoll_ctl(k->epoll, s->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->fd, &e) < 0)
		return 0;
	s->watched = events;
	return 1;
}

void
keeper_unwatch(struct keeper *k, struct source *s)
{
	if (s->watched)
		epoll_ctl(k->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	s->watched = 0;
}

void
keeper_log(const char *kind, const char *text, uint64_t number, int error)
{
	(void)kind, (void)number, (void)error;
	snprintf(keeper_said, sizeof keeper_said, "%s", text);
}

uint64_t
keeper_take_number(struct keeper *k)
{
	return k->next_number++;
}

pid_t
keeper_fork(struct keeper *k, int *fd, int keep)
{
	int ends[2];
	pid_t pid;

	if (keeper_forks_fail) {
		errno = EAGAIN;
		return -1;
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	*fd = ends[pid == 0];
	close(ends[pid != 0]);
	if (pid > 0) {
		fcntl(*fd, F_SETFL, O_NONBLOCK);
		return keeper_child = pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* not the test's own ends either */
	for (int i = 3; i < 2000; i++)
		if (i != *fd && i != keep && i != k->ring.fd)
			close(i);
	return 0;
}

/* --- what the kernel says ----------------------------------------------------------------------- */

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int
__wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	int r = __real_getsockopt(fd, level, name, value, len);

	if (level != SOL_SOCKET || name != SO_PEERCRED)
		return r;
	((struct ucred *)value)->uid = keeper_peer;
	errno = ENOMEM;
	return keeper_peer_is_unknown ? -1 : r;
}

int __wrap_fdatasync(int fd);
int
__wrap_fdatasync(int fd)
{
	return keeper_fdatasync ? keeper_fdatasync(fd) : 0;
}

int __wrap_fsync(int fd);
int
__wrap_fsync(int fd)
{
	return keeper_fsync ? keeper_fsync(fd) : 0;
}

/* --- a queue --------------------------------------------------------------------------------------- */

static void
listen_at(struct source *s, const char *path, void (*accept)(struct keeper *, struct source *, uint32_t))
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	*s = (struct source){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), .ready = accept };
	strcpy(address.sun_path, path);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(s->fd, 1000), 0);
}

static void
make_queue(void)
{
	static const char *const folders[] = { "run", "queue", "queue/journal", "queue/new", "queue/damaged", "queue/mess", "queue/info" };
	char path[RING_PATH_MAX], id[RING_ID], folder[INFO_PATH_MAX];

	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
		assert_int_equal(mkdir(folders[i], 0700), 0);
	for (unsigned int n = 0; n < QUEUE_SPLIT; n++)
		for (int kind = 0; kind < 2; kind++) {
			info_folder(folder, kind ? "mess" : "info", n);
			assert_int_equal(mkdir(folder, 0700), 0);
		}
	assert_int_equal(ring_create(RING_SIZE_MIN, 1, 1000), 1);
	assert_int_equal(ring_find(path, id), 1);
	/* as ring_open would find it, who reads it from the disk */
	keeper.ring = (struct ring){ .fd = open(path, O_RDWR | O_CLOEXEC), .size = RING_SIZE_MIN, .next = 2, .head = 1, .tail = 1, .limit = 1000 };
	memcpy(keeper.ring.id, id, RING_ID);
}

int
keeper_set_up(void **state)
{
	descriptors = process_descriptors();
	assert_int_equal(directory_make(state), 0);
	keeper = (struct keeper){ .epoll = epoll_create1(EPOLL_CLOEXEC), .lock = -1, .send = { .fd = -1 }, .alias = 1001, .qmaild = 1002,
		.qmails = 1003, .now_ms = 1000000, .scanned = 1, .accepting = 1, .complete_end = &keeper.complete };
	keeper_peer = 12345;
	keeper_peer_is_unknown = 0;
	keeper_forks_fail = 0;
	keeper_fdatasync = keeper_fsync = NULL;
	keeper_said[0] = '\0';
	channel_init(&keeper.send_channel, -1, 0);
	make_queue();
	keeper.first_number = keeper.next_number = keeper.ring.limit;
	assert_true(ledger_init(&keeper.ledger));
	assert_true(ledger_batch(&keeper.ledger, keeper.ring.next - 1, 0));
	listen_at(&keeper.submit_listener, QUEUE_SUBMIT_SOCKET, submit_accept);
	listen_at(&keeper.send_listener, QUEUE_SEND_SOCKET, notices_accept);
	return 0;
}

static void
free_memory(void)
{
	struct message *m;
	uint64_t number;

	for (size_t at = 0; ledger_walk(&keeper.ledger, &at, &number, &m); at = 0)
		ledger_remove(&keeper.ledger, number);
	free(keeper.ledger.slots);
	free(keeper.ledger.batches);
	for (size_t i = 0; i < keeper.reports_len; i++)
		stralloc_free(&keeper.reports[i].text);
	free(keeper.reports);
	free(keeper.tell);
	free(keeper.later);
	stralloc_free(&keeper.unsaid);
	free(keeper.wanted);
}

int
keeper_tear_down(void **state)
{
	for (struct submitter *s = keeper.submitters; s; s = s->next)
		submit_kill(&keeper, s);
	submit_free_dead(&keeper);
	notices_close(&keeper);
	for (struct survey *s; (s = keeper.surveys); free(s)) {
		keeper.surveys = s->next;
		channel_free(&s->channel);
		channel_free(&s->relay);
	}
	for (int i = 0; i < WRITERS; i++)
		if (keeper.writers[i].pid)
			channel_free(&keeper.writers[i].channel);
	while (waitpid(-1, NULL, 0) > 0)	/* each ends with its channel */
		;
	free_memory();
	ring_close(&keeper.ring);
	close(keeper.submit_listener.fd);
	close(keeper.send_listener.fd);
	close(keeper.epoll);
	assert_int_equal(process_descriptors(), descriptors);
	return directory_remove(state);
}

/* --- what happens ------------------------------------------------------------------------------------ */

static int
handle(int timeout)
{
	struct epoll_event e;
	int n = epoll_wait(keeper.epoll, &e, 1, timeout);

	if (n == 1) {
		struct source *s = e.data.ptr;

		s->ready(&keeper, s, e.events);
	}
	return n;
}

void
keeper_event(void)
{
	while (handle(-1) < 1)
		;
}

void
keeper_events(void)
{
	while (handle(0) == 1)
		;
}

void
keeper_connect(struct channel *c, struct source *listener)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(address.sun_path, listener == &keeper.submit_listener ? QUEUE_SUBMIT_SOCKET : QUEUE_SEND_SOCKET);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	channel_init(c, fd, QUEUE_FRAME_MAX);
	listener->ready(&keeper, listener, EPOLLIN);
}

void
keeper_say(struct channel *c, char type, const char *s, size_t len)
{
	assert_true(channel_put1(c, type, s, len));
	assert_int_equal(channel_flush(c), 1);
}

void
keeper_submit(struct channel *c, size_t len)
{
	static const char envelope[] = "Fs@x\0Ta@y\0";
	static char octets[QUEUE_FRAME_MAX];

	memset(octets, 'x', sizeof octets);
	while (len) {
		size_t n = len < sizeof octets ? len : sizeof octets;

		keeper_say(c, SUBMIT_MESSAGE, octets, n);
		keeper_events();
		len -= n;
	}
	keeper_say(c, SUBMIT_ENVELOPE, envelope, sizeof envelope);
	keeper_say(c, SUBMIT_END, "", 0);
	keeper_events();
}

int
keeper_hears(struct channel *c, struct channel_frame *f)
{
	int r;

	while (channel_next(c, f) == 0)
		if ((r = channel_receive(c)) <= 0)
			return r;
	return f->type;
}

int
keeper_answered(struct channel *c, unsigned int code, uint64_t *number)
{
	struct channel_frame f = { .len = 0 };

	if (keeper_hears(c, &f) != SUBMIT_RESULT || f.len != 17 || (unsigned char)f.s[0] != code)
		return 0;
	if (number)
		uint64_unpack_big(f.s + 1, number);
	return 1;
}
