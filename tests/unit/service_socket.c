/* The socket of a service: connecting from elsewhere, packets, descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "directory.h"
#include "monotonic.h"
#include "process.h"
#include "service_socket.h"
#include "slow_to_close.h"

#define PATH "folder/socket"

static int listener, home, pair[2];

/* While a socket is bound this path has to exist, if it is not NULL: who connects then must not take the service for one that is not wanted. */
static const char *has_to_exist;

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t len);
int __real_bind(int fd, const struct sockaddr *address, socklen_t len);

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t len)
{
	if (has_to_exist)
		assert_int_equal(access(has_to_exist, F_OK), 0);
	return __real_bind(fd, address, len);
}

static int
set_up(void **state)
{
	directory_make(state);
	listener = service_socket_listen(PATH);
	home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	return listener < 0 || home < 0;
}

static int
tear_down(void **state)
{
	close(listener);
	close(home);
	close(pair[0]);
	close(pair[1]);
	return directory_remove(state);
}

static void
who_connects_from_elsewhere_stays_there(void **state)
{
	char before[200], after[200], got[10];
	int fd, accepted;

	(void)state;
	assert_int_equal(chdir("/"), 0);
	assert_non_null(getcwd(before, sizeof before));
	fd = service_socket_connect(home, PATH, 1000);
	assert_true(fd >= 0);
	assert_non_null(getcwd(after, sizeof after));
	assert_string_equal(before, after);
	assert_int_equal(fchdir(home), 0);
	accepted = accept(listener, NULL, NULL);
	assert_true(accepted >= 0);
	assert_int_equal(service_socket_peer(accepted), geteuid());
	assert_int_equal(service_socket_say(fd, 'x', "yz"), 1);
	assert_int_equal(service_socket_receive(accepted, got, sizeof got, NULL), 3);
	assert_memory_equal(got, "xyz", 3);
	close(fd);
	assert_int_equal(service_socket_wait(accepted, monotonic_ms() + 10000), 1);
	assert_int_equal(service_socket_receive(accepted, got, sizeof got, NULL), 0);
	close(accepted);
}

static void
everybody_may_connect_and_nobody_list(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(stat(PATH, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	assert_int_equal(stat("folder", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0711);
}

static void
a_new_one_takes_the_place_of_an_old_one(void **state)
{
	int again, fd;

	(void)state;
	has_to_exist = PATH;
	again = service_socket_listen(PATH);
	has_to_exist = NULL;
	assert_true(again >= 0);
	fd = service_socket_connect(-1, PATH, 1000);
	assert_true(fd >= 0);
	assert_int_equal(accept(listener, NULL, NULL), -1);
	close(fd);
	close(again);
}

static void
nobody_listens(void **state)
{
	(void)state;
	assert_int_equal(service_socket_connect(-1, "folder/none", 1000), -1);
	assert_int_equal(errno, ENOENT);
	close(listener);
	assert_int_equal(service_socket_connect(-1, PATH, 1000), -1);
	assert_int_equal(errno, ECONNREFUSED);
	listener = -1;
}

static void
paths_that_are_too_long(void **state)
{
	char path[200];

	(void)state;
	memset(path, 'x', sizeof path - 1);
	path[50] = '/';
	path[sizeof path - 1] = '\0';
	assert_int_equal(service_socket_listen(path), -1);
	assert_int_equal(errno, ENAMETOOLONG);
	assert_int_equal(service_socket_connect(-1, path, 1000), -1);
	assert_int_equal(errno, ENAMETOOLONG);
}

/* A descriptor that is not 0, 1 or 2 and that nothing else refers to: how many there are can be told by the number it gets. */
static int
next_descriptor(void)
{
	int fd = fcntl(home, F_DUPFD, 0);

	close(fd);
	return fd;
}

static void
a_descriptor_comes_with_its_packet(void **state)
{
	struct iovec v[2] = { { (void *)(uintptr_t)"ab", 2 }, { (void *)(uintptr_t)"c", 1 } };
	struct stat sent, come;
	char got[10];
	int passed = -1;

	(void)state;
	assert_int_equal(service_socket_send(pair[0], v, 2, home), 1);
	assert_int_equal(service_socket_receive(pair[1], got, sizeof got, &passed), 3);
	assert_true(passed >= 0 && fcntl(passed, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fstat(home, &sent) | fstat(passed, &come), 0);
	assert_true(sent.st_ino == come.st_ino);
	close(passed);
	assert_int_equal(service_socket_send(pair[0], v, 2, -1), 1);
	assert_int_equal(service_socket_receive(pair[1], got, sizeof got, &passed), 3);
	assert_int_equal(passed, -1);
}

static void
descriptors_that_are_not_wanted_are_closed(void **state)
{
	struct iovec v = { (void *)(uintptr_t)"0123456789ab", 12 };
	int before = next_descriptor(), passed = 77;
	char got[10];

	(void)state;
	assert_int_equal(service_socket_send(pair[0], &v, 1, home), 1);
	assert_int_equal(service_socket_receive(pair[1], got, sizeof got, &passed), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(passed, -1);
	v.iov_len = 3;
	assert_int_equal(service_socket_send(pair[0], &v, 1, home), 1);
	assert_int_equal(service_socket_receive(pair[1], got, sizeof got, NULL), 3);
	assert_int_equal(next_descriptor(), before);
}

static void
only_one_descriptor_is_taken(void **state)
{
	union { struct cmsghdr align; char room[CMSG_SPACE(2 * sizeof(int))]; } control = { .room = "" };
	struct iovec v = { (void *)(uintptr_t)"x", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int both[2] = { home, home }, before = next_descriptor(), passed;
	char got[10];

	(void)state;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof both);
	memcpy(CMSG_DATA(c), both, sizeof both);
	assert_int_equal(sendmsg(pair[0], &m, 0), 1);
	assert_int_equal(service_socket_receive(pair[1], got, sizeof got, &passed), 1);
	if (passed >= 0)
		close(passed);
	assert_int_equal(next_descriptor(), before);
}

static void
waiting_ends_at_its_deadline(void **state)
{
	(void)state;
	assert_int_equal(service_socket_wait(pair[0], monotonic_ms() + 1), 0);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(service_socket_say(pair[1], 'x', ""), 1);
	assert_int_equal(service_socket_wait(pair[0], 0), 1);	/* what is there is taken, however late */
}

/* A wait between two tries is the moment at which the service takes one of those that are under way; tests/unit/units.mk */
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);
int __real_poll(struct pollfd *p, nfds_t n, int timeout);
static int service = -1;
static unsigned int waits;

int
__wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	char octet;
	int passed;

	if (n || service < 0)
		return __real_poll(p, n, timeout);
	waits++;
	assert_int_equal(service_socket_receive(service, &octet, 1, &passed), 1);
	close(passed);
	return 0;
}

/* In a process that is not root's: for root there is no such limit. */
static void
fill_and_send(void *data)
{
	const struct rlimit few = { 32, 32 };
	struct iovec v = { "x", 1 };
	int ends[2];
	unsigned int sent = 0;

	(void)data;
	assert_true(geteuid() != 0 || setresuid(65534, 65534, 65534) == 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	service = ends[1];
	while (!waits && sent++ < 100)
		assert_int_equal(service_socket_send(ends[0], &v, 1, STDIN_FILENO), 1);
	assert_true(waits > 0);
}

static void
a_descriptor_waits_while_too_many_are_under_way(void **state)
{
	(void)state;
	assert_int_equal(process_run(fill_and_send, NULL), PROCESS_WENT_ON);
}

/* One who may be another user sends over a connection that is not his; run by process_run. */
static void
send_as_another(void *data)
{
	const int *fd = data;

	if (getuid() == 0 && setuid(12345) < 0)
		_exit(1);
	_exit(!service_socket_say(*fd, 'L', "ana"));
}

static void
who_has_sent_a_packet(void **state)
{
	uid_t from, other = getuid() == 0 ? 12345 : getuid();
	char got[10];
	int fd, accepted, descriptor;

	(void)state;
	assert_int_equal(service_socket_tell_users(listener), 1);
	fd = service_socket_connect(home, PATH, 1000);
	assert_true(fd >= 0);
	assert_int_equal(service_socket_say(fd, 'S', "x"), 1);	/* before it is accepted */
	accepted = accept(listener, NULL, NULL);
	assert_true(accepted >= 0);
	assert_int_equal(service_socket_receive_from(accepted, got, sizeof got, &from), 2);
	assert_int_equal(from, getuid());
	assert_int_equal(process_run(send_as_another, &fd), 0);
	assert_int_equal(service_socket_receive_from(accepted, got, sizeof got, &from), 4);
	assert_memory_equal(got, "Lana", 4);
	assert_int_equal(from, other);
	descriptor = open(".", O_PATH | O_CLOEXEC);
	assert_int_equal(service_socket_send(fd, &(struct iovec){ (char *)(uintptr_t)"y", 1 }, 1, descriptor), 1);	/* it goes nowhere */
	assert_int_equal(service_socket_receive_from(accepted, got, sizeof got, &from), 1);
	assert_int_equal(service_socket_say(fd, 'S', "longer than ten"), 1);
	assert_int_equal(service_socket_receive_from(accepted, got, sizeof got, &from), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(service_socket_receive_from(accepted, got, sizeof got, &from), -1);
	assert_int_equal(errno, EAGAIN);
	close(descriptor);
	close(fd);
	assert_int_equal(service_socket_receive_from(accepted, got, sizeof got, &from), 0);
	close(accepted);
}

static void
to_whom_a_connection_is(void **state)
{
	int fd = service_socket_connect(home, PATH, 1000), null = open("/dev/null", O_RDONLY | O_CLOEXEC), stream[2];

	(void)state;
	assert_int_equal(service_socket_is_to(fd, PATH), 1);
	assert_int_equal(service_socket_is_to(fd, "folder/sockets"), 0);
	assert_int_equal(service_socket_is_to(fd, "folder/socke"), 0);
	assert_int_equal(service_socket_is_to(listener, PATH), 0);
	assert_int_equal(service_socket_is_to(pair[0], PATH), 0);
	assert_int_equal(service_socket_is_to(null, PATH), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream), 0);
	assert_int_equal(service_socket_is_to(stream[0], PATH), 0);
	close(stream[0]);
	close(stream[1]);
	close(null);
	close(fd);
	close(accept(listener, NULL, NULL));
}

static void
only_users_of_the_list_are_allowed(void **state)
{
	static const uid_t users[] = { 5, 7 };

	(void)state;
	assert_int_equal(service_socket_allows(users, 2, 5), 1);
	assert_int_equal(service_socket_allows(users, 2, 7), 1);
	assert_int_equal(service_socket_allows(users, 2, 6), 0);
	assert_int_equal(service_socket_allows(users, 1, 7), 0);
	assert_int_equal(service_socket_allows(users, 0, 5), 0);
	assert_int_equal(service_socket_allows(users, 2, (uid_t)-1), 0);
}

static void
nobody_waits_for_what_was_passed_to_be_closed(void **state)
{
	uint64_t begun = monotonic_ms();
	char got[10];
	int peer[2];

	(void)state;
	peer[0] = slow_to_close_pass(pair[0]);
	assert_int_equal(service_socket_receive(pair[1], got, sizeof got, NULL), 1);
	peer[1] = slow_to_close_pass(pair[0]);
	assert_int_equal(service_socket_receive_from(pair[1], got, sizeof got, &(uid_t){ 0 }), 1);
	assert_true(monotonic_ms() - begun < 1000);
	close(peer[0]);
	close(peer[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(to_whom_a_connection_is),
		cmocka_unit_test(who_connects_from_elsewhere_stays_there),
		cmocka_unit_test(who_has_sent_a_packet),
		cmocka_unit_test(everybody_may_connect_and_nobody_list),
		cmocka_unit_test(a_new_one_takes_the_place_of_an_old_one),
		cmocka_unit_test(paths_that_are_too_long),
		cmocka_unit_test(a_descriptor_waits_while_too_many_are_under_way),
		cmocka_unit_test(only_users_of_the_list_are_allowed),
		cmocka_unit_test(a_descriptor_comes_with_its_packet),
		cmocka_unit_test(descriptors_that_are_not_wanted_are_closed),
		cmocka_unit_test(only_one_descriptor_is_taken),
		cmocka_unit_test(nobody_waits_for_what_was_passed_to_be_closed),
		cmocka_unit_test(waiting_ends_at_its_deadline),
		cmocka_unit_test(nobody_listens),
	};

	return cmocka_run_group_tests_name("service_socket", tests, set_up, tear_down);
}
