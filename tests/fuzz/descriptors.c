/* Messages with descriptors between processes of ours: what who runs a program instead of the keeper hears (queue/runner.h), and what who hands
 * connections over hears (lib/handover.h). The input is messages, each an octet for who hears it (enum hearer), one for how many
 * descriptors it has, and its octets after their length. Whatever comes, none stays open that was not given to the caller. */
#include <assert.h>
#include "given.h"
#include "handover.h"
#include "queue/runner.c"	/* NOLINT(bugprone-suspicious-include): what takes messages is static there */

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum hearer { RUNNER, RUNNER_NONE, PARENT, CHILD, HEARERS };
enum { DESCRIPTORS_MAX = 5 };

/* The lowest descriptor that is not open. */
static int
lowest(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert(fd >= 0 && close(fd) == 0);
	return fd;
}

static void
say(int fd, struct given g, size_t n)
{
	int fds[DESCRIPTORS_MAX];
	union { struct cmsghdr align; char octets[CMSG_SPACE(sizeof fds)]; } control = { .octets = "" };
	struct iovec v = { (void *)(uintptr_t)g.s, g.len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct cmsghdr *c = &control.align;

	for (size_t i = 0; i < n; i++)
		fds[i] = STDERR_FILENO;
	if (n) {
		*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n * sizeof *fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
		m.msg_control = control.octets;
		m.msg_controllen = CMSG_SPACE(n * sizeof *fds);
	}
	assert(sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t)g.len);
}

static void
close_taken(int fd)
{
	if (fd >= 0)
		assert(close(fd) == 0);
}

/* A message is the number, and as many descriptors as are due. */
static void
hear_as_runner(int fd, struct given g, size_t n, size_t due)
{
	int fds[RUNNER_PIPES] = { -1, -1, -1 };
	uint32_t number = 0;
	char packed[4];
	int r = take(fd, &number, fds, due);

	/* what is longer is cut off */
	assert(r == (g.len >= 4 && n == due ? 1 : -1));
	if (r != 1)
		return;
	uint32_pack_big(packed, number);
	assert(memcmp(packed, g.s, 4) == 0);
	for (size_t i = 0; i < due; i++)
		close_taken(fds[i]);
}

static void
hear_as_parent(int shared, size_t n)
{
	pid_t who = 0;
	int end = -1;

	assert(handover_hear(shared, &who, &end) && who == getpid());
	assert((end >= 0) == (n > 0));
	close_taken(end);
}

/* A process for which that is the end; what it has got by then goes with it. */
static void
hear_as_child(int fd, struct given g, size_t n)
{
	struct handover h;
	int connection = -1, end = -1, next[2] = { dup(fd), dup(fd) };

	close(next[0]), close(next[1]);
	if (handover_receive(fd, &h, &connection, &end)) {
		assert(g.len >= sizeof h && n >= 2);	/* what there is no room for, the kernel closes */
		close_taken(connection), close_taken(end);
	} else
		close(next[0]), close(next[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	int shared[2], pair[2], before = lowest();

	assert(handover_share(shared) && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	while (g.len) {
		enum hearer hearer = (enum hearer)(given_number(&g, 1) % HEARERS);
		size_t n = given_number(&g, 1) % (DESCRIPTORS_MAX + 1);
		struct given message = given_piece(&g, given_number(&g, 1));
		int was = lowest();

		if (!message.len)
			continue;
		say(hearer == PARENT ? shared[1] : pair[1], message, n);
		switch (hearer) {
		case RUNNER: hear_as_runner(pair[0], message, n, RUNNER_PIPES); break;
		case RUNNER_NONE: hear_as_runner(pair[0], message, n, 0); break;
		case PARENT: hear_as_parent(shared[0], n); break;
		default: hear_as_child(pair[0], message, n); break;
		}
		assert(lowest() == was);
	}
	close(shared[0]), close(shared[1]), close(pair[0]), close(pair[1]);
	assert(lowest() == before);
	return 0;
}
