#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "server.h"
#include "stralloc_set.h"

enum { STEPS_MAX = 16 };

static struct {
	pthread_t thread;
	int is_running, listening, fd;
	struct server_step steps[STEPS_MAX];
	stralloc told;
} server;

/* Reads once. Returns 0 when the client is gone. */
static int
hear(void)
{
	char octets[4096];
	ssize_t n = recv(server.fd, octets, sizeof octets, 0);

	return n > 0 && stralloc_catb(&server.told, octets, (size_t)n);
}

/* Whether wait has come, at or behind octet at. */
static int
has_come(size_t at, const char *wait)
{
	size_t n = strlen(wait);

	return !n || (server.told.len > at && memmem(server.told.s + at, server.told.len - at, wait, n));
}

static void *
follow(void *unused)
{
	const struct server_step *step = server.steps;
	int is_there = 1;

	if (server.listening >= 0)
		server.fd = accept(server.listening, NULL, NULL);
	for (; is_there && step->wait; step++) {
		size_t at = server.told.len;

		while (is_there && !has_come(at, step->wait))
			is_there = hear();
		if (!step->say)
			break;
		if (is_there)
			is_there = send(server.fd, step->say, strlen(step->say), MSG_NOSIGNAL) >= 0;
	}
	while (is_there && !step->wait)
		is_there = hear();
	close(server.fd);
	return unused;
}

static void
start(int listening, int fd, const struct server_step *steps)
{
	size_t n = 0;

	do {
		assert_true(n < STEPS_MAX);
		server.steps[n] = steps[n];
	} while (steps[n].wait && steps[n++].say);
	server.listening = listening;
	server.fd = fd;
	assert_true(stralloc_sets(&server.told, ""));
	assert_int_equal(pthread_create(&server.thread, NULL, follow, NULL), 0);
	server.is_running = 1;
}

int
server_start(const struct server_step *steps)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	start(-1, fd[1], steps);
	return fd[0];
}

void
server_accept(int listening, const struct server_step *steps)
{
	start(listening, -1, steps);
}

const char *
server_end(void)
{
	if (server.is_running) {
		server.is_running = 0;
		if (server.listening >= 0)
			shutdown(server.listening, SHUT_RDWR);	/* nobody may have come */
		assert_int_equal(pthread_join(server.thread, NULL), 0);
		assert_true(stralloc_0(&server.told));
	}
	return server.told.s;
}
