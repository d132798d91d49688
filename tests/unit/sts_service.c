/* Who waits for a policy, how long, and what is fetched: a service whose clock stands still until a test moves it, and whose fetches are
 * the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "bin-src/remote/sts_service.h"
#include "directory.h"
#include "process.h"
#include "service_socket.h"

#define TEXT(name) "version: STSv1\nmode: enforce\nmx: " name "\nmax_age: 604800\n"

enum { BEGIN = 1000000000, DAY = 86400 };

static struct sts_service service;
static int fetcher;		/* the test's end */
static uint64_t seconds;	/* since the beginning */
static int waits;		/* milliseconds that the last turn would have waited */

/* --- the clock ------------------------------------------------------------------------------------------------------------- */

int __wrap_clock_gettime(clockid_t id, struct timespec *t);
time_t __wrap_time(time_t *t);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);
int __real_poll(struct pollfd *p, nfds_t n, int timeout);

int
__wrap_clock_gettime(clockid_t id, struct timespec *t)
{
	(void)id;
	*t = (struct timespec){ .tv_sec = (time_t)seconds + 1 };
	return 0;
}

time_t
__wrap_time(time_t *t)
{
	(void)t;
	return (time_t)(BEGIN + seconds);
}

int
__wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	if (n == 1 && p->fd == STDERR_FILENO)
		return 0;	/* nothing is said */
	if (n > 1)
		waits = timeout;
	return __real_poll(p, n, 0);
}

/* Turns until nothing happens. */
static void
turn(void)
{
	for (int i = 0; i < 5; i++)
		assert_true(sts_service_turn(&service));
}

/* --- those who ask, and what is fetched ------------------------------------------------------------------------------------- */

static int
connects(void)
{
	int fd = service_socket_connect(-1, "s/socket", 0);

	assert_true(fd >= 0);
	return fd;
}

static int
asks(const char *domain, const char *id)
{
	struct iovec v[2] = { { (char *)(uintptr_t)domain, strlen(domain) + 1 }, { (char *)(uintptr_t)id, strlen(id) } };
	int fd = connects();

	assert_true(service_socket_send(fd, v, 2, -1));
	turn();
	return fd;
}

/* What is answered: "" nothing yet, "end", "N", or "P" and the name that TEXT has. */
static const char *
hears(int fd)
{
	static char packet[200];
	ssize_t n = service_socket_receive(fd, packet, sizeof packet - 1, NULL);
	char *name, *end;

	if (n < 0) {
		assert_int_equal(errno, EAGAIN);
		return "";
	}
	close(fd);
	packet[n] = '\0';
	name = n ? strstr(packet, "mx: ") : NULL;
	end = name ? strchr(name, '\n') : NULL;
	if (!end)
		return n ? packet : "end";
	*end = '\0';
	memmove(packet + 1, name + 3, strlen(name + 3) + 1);
	return packet;
}

/* The next fetch: the socket for its answer, which has to be for domain; -1: nothing is to be fetched. */
static int
fetches(const char *domain)
{
	char packet[300];
	int fd = -1;
	ssize_t n = service_socket_receive(fetcher, packet, sizeof packet - 1, &fd);

	if (n < 0)
		return -1;
	packet[n] = '\0';
	assert_string_equal(packet, domain);
	return fd;
}

static void
fetched(int fd, const char *packet)
{
	assert_true(fd >= 0);
	if (packet)
		assert_true(service_socket_say(fd, *packet, packet + 1));
	close(fd);
	turn();
}

static void
learns(const char *domain, const char *id, const char *text)
{
	int fd = asks(domain, id);

	fetched(fetches(domain), text);
	assert_string_not_equal(hears(fd), "");
}

static int
set_up(void **state)
{
	int ends[2];

	if (directory_make(state) != 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -1;
	seconds = 0;
	service = (struct sts_service){ .fetcher = ends[1], .listener = service_socket_listen("s/socket"), .users = { geteuid() }, .users_len = 1 };
	fetcher = ends[0];
	if (service.listener < 0 || !sts_cache_open(&service.cache, "policies", BEGIN))
		return -1;
	return !sts_service_start(&service);
}

static int
tear_down(void **state)
{
	for (unsigned int i = 0; i < STS_SERVICE_FETCHES; i++)
		if (service.fetches[i].fd >= 0)
			close(service.fetches[i].fd);
	for (unsigned int i = 0; i < service.clients_len; i++)
		if (service.clients[i].fd >= 0)
			close(service.clients[i].fd);
	close(service.listener);
	close(service.fetcher);
	close(fetcher);
	sts_cache_close(&service.cache);
	return directory_remove(state);
}

/* --- answers ------------------------------------------------------------------------------------------------------------------ */

static void
without_an_id_nothing_is_fetched(void **state)
{
	(void)state;
	assert_string_equal(hears(asks("x.example", "")), "N");
	assert_int_equal(fetches(""), -1);
}

static void
who_asks_waits_for_the_fetch(void **state)
{
	int one, other, fetch;

	(void)state;
	one = asks("x.example", "1");
	other = asks("x.example", "1");
	assert_string_equal(hears(one), "");
	fetch = fetches("x.example");
	assert_int_equal(fetches(""), -1);	/* one fetch for both */
	fetched(fetch, "P" TEXT("a"));
	assert_string_equal(hears(one), "P a");
	assert_string_equal(hears(other), "P a");
	assert_string_equal(hears(asks("x.example", "1")), "P a");
	assert_string_equal(hears(asks("x.example", "")), "P a");
	assert_int_equal(fetches(""), -1);
}

/* The fetch goes on, for those who ask later. */
static void
ten_seconds_at_most(void **state)
{
	int fd, fetch;

	(void)state;
	fd = asks("x.example", "1");
	fetch = fetches("x.example");
	assert_in_range(waits, 1, STS_ANSWER_MS);
	seconds = 9;
	turn();
	assert_string_equal(hears(fd), "");
	seconds = 10;
	turn();
	assert_string_equal(hears(fd), "N");
	fetched(fetch, "P" TEXT("a"));
	assert_string_equal(hears(asks("x.example", "1")), "P a");
}

static void
what_is_known_counts_meanwhile(void **state)
{
	int fd, fetch;

	(void)state;
	learns("x.example", "1", "P" TEXT("a"));
	fd = asks("x.example", "2");
	fetch = fetches("x.example");
	assert_string_equal(hears(fd), "");
	seconds = 10;
	turn();
	assert_string_equal(hears(fd), "P a");
	fetched(fetch, "P" TEXT("b"));
	assert_string_equal(hears(asks("x.example", "2")), "P b");
}

/* The id that was asked about first is not the one that is wanted then. */
static void
two_ids_at_once(void **state)
{
	int one, other, fetch;

	(void)state;
	one = asks("x.example", "1");
	other = asks("x.example", "2");
	fetch = fetches("x.example");
	assert_int_equal(fetches(""), -1);
	fetched(fetch, "P" TEXT("a"));
	assert_string_equal(hears(one), "P a");
	assert_string_equal(hears(other), "");
	fetched(fetches("x.example"), "P" TEXT("b"));
	assert_string_equal(hears(other), "P b");
}

/* --- failures ----------------------------------------------------------------------------------------------------------------- */

static const char *const failures[] = { "Eno\nsuch", "E", "Pnonsense", "P", "X", NULL };

/* Not again for five minutes, unless there is another id; and what is known stays. */
static void
a_fetch_that_fails(void **state)
{
	int fd;

	for (int known = 0; known < 2; known++) {
		const char *domain = known ? "y.example" : "x.example";

		if (known)
			learns(domain, "1", "P" TEXT("a"));
		fd = asks(domain, "2");
		fetched(fetches(domain), *(const char *const *)*state);
		assert_string_equal(hears(fd), known ? "P a" : "N");
		seconds += STS_SERVICE_AGAIN_S - 1;
		assert_string_equal(hears(asks(domain, "2")), known ? "P a" : "N");
		assert_int_equal(fetches(""), -1);
		fd = asks(domain, "3");
		assert_string_equal(hears(fd), "");
		fetched(fetches(domain), "P" TEXT("c"));
		assert_string_equal(hears(fd), "P c");
		seconds += 1;
		fd = asks(domain, "2");
		fetched(fetches(domain), "P" TEXT("b"));
		assert_string_equal(hears(fd), "P b");
	}
}

static void
a_fetch_without_end(void **state)
{
	int fetch;

	(void)state;
	close(asks("x.example", "1"));
	fetch = fetches("x.example");
	seconds = STS_SERVICE_FETCH_MS / 1000;
	turn();
	assert_false(service_socket_say(fetch, 'P', TEXT("a")));
	close(fetch);
	assert_string_equal(hears(asks("x.example", "1")), "N");
	assert_int_equal(fetches(""), -1);
}

/* More wait for one that ends. */
static void
fetches_are_bounded(void **state)
{
	int fds[STS_SERVICE_FETCHES + 1], fetch[STS_SERVICE_FETCHES];
	char domain[32];

	(void)state;
	for (unsigned int i = 0; i <= STS_SERVICE_FETCHES; i++) {
		snprintf(domain, sizeof domain, "%u.example", i);
		fds[i] = asks(domain, "1");
		if (i < STS_SERVICE_FETCHES)
			fetch[i] = fetches(domain);
	}
	assert_int_equal(fetches(""), -1);
	fetched(fetch[5], "P" TEXT("a"));
	assert_string_equal(hears(fds[5]), "P a");
	fetch[5] = fetches(domain);
	for (unsigned int i = 0; i < STS_SERVICE_FETCHES; i++)
		fetched(fetch[i], "P" TEXT("b"));
	for (unsigned int i = 0; i <= STS_SERVICE_FETCHES; i++)
		if (i != 5)
			assert_string_equal(hears(fds[i]), "P b");
}

/* --- daily -------------------------------------------------------------------------------------------------------------------- */

static void
every_day_anew(void **state)
{
	int fetch;

	(void)state;
	learns("x.example", "1", "P" TEXT("a"));
	seconds = DAY - 61;
	turn();
	assert_int_equal(fetches(""), -1);
	seconds = DAY;
	turn();
	fetch = fetches("x.example");
	assert_string_equal(hears(asks("x.example", "1")), "P a");	/* nobody waits for it */
	fetched(fetch, "P" TEXT("b"));
	assert_string_equal(hears(asks("x.example", "1")), "P b");
	seconds += 7 * DAY - 1;	/* its time began anew */
	assert_string_equal(hears(asks("x.example", "")), "P b");
}

/* An hour later again, until its time is over. */
static void
every_day_in_vain(void **state)
{
	(void)state;
	learns("x.example", "1", "P" TEXT("a"));
	for (seconds = DAY; seconds < 7 * DAY; seconds += STS_SERVICE_REFRESH_S) {
		turn();
		fetched(fetches("x.example"), "Eno");
		assert_string_equal(hears(asks("x.example", "1")), "P a");
		seconds += 60;
		turn();
		assert_int_equal(fetches(""), -1);
	}
	seconds = 7 * DAY;
	assert_string_equal(hears(asks("x.example", "")), "N");
}

static void
refreshes_leave_room(void **state)
{
	char domain[32];
	unsigned int n = 0;
	int fd;

	(void)state;
	for (unsigned int i = 0; i < 2 * STS_SERVICE_REFRESHES; i++) {
		snprintf(domain, sizeof domain, "%u.example", i);
		learns(domain, "1", "P" TEXT("a"));
		seconds++;
	}
	seconds = DAY + 100;
	turn();
	for (;; n++) {
		snprintf(domain, sizeof domain, "%u.example", n);
		fd = fetches(domain);
		if (fd < 0)
			break;
		close(fd);
	}
	assert_int_equal(n, STS_SERVICE_REFRESHES);
}

/* --- who asks ----------------------------------------------------------------------------------------------------------------- */

/* Who does not ask is given up, and what it took is free again. */
static void
a_silent_one(void **state)
{
	unsigned int before = process_descriptors();
	int fd;

	(void)state;
	fd = connects();
	turn();
	seconds = STS_SERVICE_IDLE_MS / 1000 - 1;
	turn();
	assert_string_equal(hears(fd), "");
	seconds++;
	turn();
	assert_string_equal(hears(fd), "end");
	assert_int_equal(process_descriptors(), before);
	assert_int_equal(service.clients_len, 0);
}

static void
one_that_goes_away(void **state)
{
	unsigned int before = process_descriptors();
	int fetch;

	(void)state;
	close(asks("x.example", "1"));
	turn();
	assert_int_equal(service.clients_len, 0);
	fetch = fetches("x.example");
	fetched(fetch, "P" TEXT("a"));
	assert_int_equal(process_descriptors(), before);
	assert_string_equal(hears(asks("x.example", "1")), "P a");
}

static void
one_that_asks_twice(void **state)
{
	int fd;

	(void)state;
	fd = asks("x.example", "1");
	assert_true(service_socket_say(fd, 'y', ".example"));
	turn();
	assert_string_equal(hears(fd), "");
	fetched(fetches("x.example"), "P" TEXT("a"));
	assert_int_equal(fetches(""), -1);
	assert_int_equal(service.clients_len, 0);
	close(fd);
}

/* The domain of a question, and what is answered at once; nothing is fetched. */
static const struct name_row { const char *rule, *domain, *answer; } names[] = {
	{ "an octet that no host has in its name: there is no policy", "a/b.example", "N" },
	{ "an octet beyond ASCII", "\xc3\xbc.example", "N" },
	{ "a final dot is no part of a domain", "x.example.", "end" },
	{ "a capital letter has another form", "X.example", "end" },
	{ "no domain", "", "end" },
};

static void
a_name_that_is_no_domain(void **state)
{
	const struct name_row *row = *state;

	learns("x.example", "1", "P" TEXT("a"));
	assert_string_equal(hears(asks(row->domain, "1")), row->answer);
	assert_int_equal(fetches(""), -1);
	assert_int_equal(service.clients_len, 0);
}

static void
somebody_else(void **state)
{
	int fd;

	(void)state;
	service.users[0] = geteuid() + 1;
	fd = connects();
	turn();
	assert_string_equal(hears(fd), "end");
}

static void
the_parent_has_ended(void **state)
{
	(void)state;
	close(fetcher);
	assert_false(sts_service_turn(&service));
	fetcher = -1;
}

/* The parent does not take what it is sent: nobody waits for that. */
static void
a_parent_that_stands_still(void **state)
{
	static const char filler[1000];

	(void)state;
	while (service_socket_send(service.fetcher, &(struct iovec){ (char *)(uintptr_t)filler, sizeof filler }, 1, -1))
		;
	assert_string_equal(hears(asks("x.example", "1")), "N");
}

int
main(void)
{
#define ONE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	static const struct CMUnitTest others[] = {
		ONE(without_an_id_nothing_is_fetched), ONE(who_asks_waits_for_the_fetch), ONE(ten_seconds_at_most),
		ONE(what_is_known_counts_meanwhile), ONE(two_ids_at_once), ONE(a_fetch_without_end), ONE(fetches_are_bounded), ONE(every_day_anew),
		ONE(every_day_in_vain), ONE(refreshes_leave_room), ONE(a_silent_one), ONE(one_that_goes_away), ONE(one_that_asks_twice),
		ONE(somebody_else), ONE(the_parent_has_ended), ONE(a_parent_that_stands_still),
	};
	enum { FAILURES = sizeof failures / sizeof *failures, NAMES = sizeof names / sizeof *names };
	struct CMUnitTest tests[FAILURES + NAMES + sizeof others / sizeof *others];

	for (size_t i = 0; i < FAILURES; i++)
		tests[i] = (struct CMUnitTest){ "a fetch that fails", a_fetch_that_fails, set_up, tear_down,
		    (void *)(uintptr_t)&failures[i] };
	for (size_t i = 0; i < NAMES; i++)
		tests[FAILURES + i] = (struct CMUnitTest){ names[i].rule, a_name_that_is_no_domain, set_up, tear_down,
		    (void *)(uintptr_t)&names[i] };
	memcpy(tests + FAILURES + NAMES, others, sizeof others);
	return cmocka_run_group_tests_name("sts_service", tests, NULL, NULL);
}
