/* The accept loop and the processes that it makes. The server is a process of its own, this test is its clients: each process says what
 * it is, and does as the client says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "control/table.h"
#include "directory.h"
#include "exitcode.h"
#include "listener.h"

#define BUSY "busy\n"
#define RULES "rules.cdb"

static struct listener_config config;
static int listening = -1, extra = -1;
static struct sockaddr_in address;
static pid_t server;
static int prepared;		/* in the server's process */
static int is_slow;		/* processes say that they have started only when they are told to */
static void (*meanwhile)(void);	/* what happens in it before each fork */

/* --- in the processes of the server -------------------------------------------------------------------------------------- */

static void
put(const char *key, const char *value)
{
	dprintf(STDOUT_FILENO, "%s=%s\n", key, value ? value : "none");
}

static void
put_descriptors(void)
{
	char list[256] = "";

	for (int fd = 0; fd < 40; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			snprintf(list + strlen(list), sizeof list - strlen(list), " %d", fd);
	put("descriptors", list);
}

static void
put_signals(void)
{
	static const struct { int signal; const char *name; } signals[] = { { SIGTERM, "SIGTERM" }, { SIGCHLD, "SIGCHLD" },
	    { SIGPIPE, "SIGPIPE" }, { SIGHUP, "SIGHUP" } };
	struct sigaction action;
	sigset_t blocked;

	sigprocmask(SIG_BLOCK, NULL, &blocked);
	for (int i = 0; i < 4; i++) {
		sigaction(signals[i].signal, NULL, &action);
		put(signals[i].name, sigismember(&blocked, signals[i].signal) ? "blocked" : action.sa_handler == SIG_DFL ? "default" :
		    action.sa_handler == SIG_IGN ? "ignored" : "caught");
	}
}

static void
say_what_it_is(void)
{
	static const char *const variables[] = { "PROTO", "TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALIP", "TCPLOCALPORT", "TCPREMOTEHOST",
	    "TCPREMOTEINFO", "TCPLOCALHOST", "TCP6REMOTEIP", "LISTEN_EXTRA", "RULE" };
	char number[32];

	snprintf(number, sizeof number, "%d", (int)getpid());
	put("pid", number);
	snprintf(number, sizeof number, "%d", prepared);
	put("prepared", number);
	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		put(variables[i], getenv(variables[i]));
	put_descriptors();
	put_signals();
	put(".", ".");
}

/* Waits until the client says something, or a signal comes, which may have come before. */
static int
has_order(void)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	sigset_t term, outside;
	int r;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &outside);
	r = listener_is_stopping() ? -1 : ppoll(&p, 1, NULL, &outside);
	sigprocmask(SIG_SETMASK, &outside, NULL);
	return r > 0;
}

/* Takes an order: 'o': it is free, and says so before the client knows; 'k': the same, but this is to be its last; 's': it says that it has
 * started, and takes another order; 'd': it dies; none: it ends. 1: it may serve the next. */
static int
obey(void)
{
	char order = 0;

	while (has_order() && read(STDIN_FILENO, &order, 1) == 1 && order == 's')
		listener_ready();
	if (!order || order == 's')
		put("stopping", listener_is_stopping() ? "yes" : "no");
	if (order == 'd')
		raise(SIGKILL);
	if (order == 'k') {
		listener_keep_to_one();
		put_descriptors();
	} else if (order != 'o')
		return 0;
	listener_offer();
	put("free", "yes");
	return 1;
}

static void
count(void *data)
{
	++*(int *)data;
	if (meanwhile)
		meanwhile();
}

/* What is to be open in the server's process is open already. */
static void
run_server(void)
{
	config.prepare = count;
	config.data = &prepared;
	listener_serve(&config);
	if (!is_slow)
		listener_ready();
	do
		say_what_it_is();
	while (obey() && listener_next());
	_exit(EXIT_OK);
}

/* --- the server ------------------------------------------------------------------------------------------------------------ */

static int
listen_anywhere(void)
{
	socklen_t len = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, 50), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	return fd;
}

static int
begin(void **state)
{
	(void)state;
	meanwhile = NULL;
	is_slow = 0;
	config = (struct listener_config){ .most = 10, .most_address = 10, .most_prefix = 10, .busy = BUSY };
	listening = listen_anywhere();
	return 0;
}

static int
stop(int sig)
{
	int wstat;

	kill(server, sig);
	assert_int_equal(waitpid(server, &wstat, 0), server);
	server = 0;
	return WIFEXITED(wstat) ? WEXITSTATUS(wstat) : -WTERMSIG(wstat);
}

/* The sessions end with their connections, which the tests close. */
static int
end(void **state)
{
	(void)state;
	if (server > 0)
		stop(SIGTERM);
	close(listening);
	if (extra >= 0)
		close(extra);
	extra = -1;
	unlink(RULES);
	unlink("log");
	unsetenv("LISTEN_EXTRA");
	return 0;
}

static void
start(void)
{
	server = fork();
	assert_true(server >= 0);
	if (server == 0) {
		int log = open("log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

		dup2(listening, STDIN_FILENO);
		dup2(log, STDERR_FILENO);
		close(listening);
		close(log);
		run_server();
	}
}

static void
expect_logged(const char *want)
{
	char text[4096];
	int fd = open("log", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof text - 1);

	close(fd);
	assert_true(n >= 0);
	text[n] = '\0';
	if (!strstr(text, want))
		fail_msg("%s, not %s", text, want);
}

/* --- clients --------------------------------------------------------------------------------------------------------------- */

struct client { int fd; char said[4096]; };

/* Reads on until what was said ends so, or the server closes. */
static void
hear(struct client *c, const char *end_of_it)
{
	size_t len = 0, n = strlen(end_of_it);

	while (len < sizeof c->said - 1 && (len < n || memcmp(c->said + len - n, end_of_it, n) != 0)) {
		ssize_t r = recv(c->fd, c->said + len, sizeof c->said - 1 - len, 0);

		if (r <= 0)
			break;
		len += (size_t)r;
	}
	c->said[len] = '\0';
}

static void
connect_from(struct client *c, const char *ip)
{
	struct sockaddr_in from = { .sin_family = AF_INET };

	inet_pton(AF_INET, ip, &from.sin_addr);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(c->fd, (struct sockaddr *)&from, sizeof from), 0);
	assert_int_equal(connect(c->fd, (struct sockaddr *)&address, sizeof address), 0);
}

static void
come_from(struct client *c, const char *ip)
{
	connect_from(c, ip);
	hear(c, ".=.\n");
}

static void
come(struct client *c)
{
	come_from(c, "127.0.0.1");
}

static void
leave(struct client *c)
{
	close(c->fd);
}

static void
end_with(struct client *c, const char *order)
{
	assert_int_equal(send(c->fd, order, 1, MSG_NOSIGNAL), 1);
	hear(c, "free=yes\n");
	leave(c);
}

/* Ends in good order, and the process is known to be free afterwards. */
static void
end_in_order(struct client *c)
{
	end_with(c, "o");
}

static const char *
value(const struct client *c, const char *key)
{
	static char v[4][512];
	static unsigned int turn;
	char *to = v[turn++ % 4], line[64];
	const char *s = c->said;
	size_t len = (size_t)snprintf(line, sizeof line, "%s=", key);

	while (s && strncmp(s, line, len) != 0) {
		s = strchr(s, '\n');
		s += s != NULL;
	}
	if (!s)
		return "nothing";
	s += len;
	snprintf(to, sizeof v[0], "%.*s", (int)strcspn(s, "\n"), s);
	return to;
}

static int
pid_of(const struct client *c)
{
	return atoi(value(c, "pid"));
}

static void
expect(const struct client *c, const char *key, const char *want)
{
	if (strcmp(value(c, key), want) != 0)
		fail_msg("%s: %s, not %s", key, value(c, key), want);
}

/* --- options, sockets, and other processes ------------------------------------------------------------------------------------ */

static const struct option_row { const char *rule; int option; const char *argument; int is_right; } options[] = {
	{ "one", 'c', "1", 1 }, { "the most", 'c', "100000", 1 }, { "one more", 'c', "100001", 0 }, { "none", 'c', "0", 0 },
	{ "below none", 'a', "-1", 0 }, { "a word", 'a', "x", 0 }, { "a number and more", 'n', "5x", 0 }, { "nothing", 'n', "", 0 },
	{ "a descriptor", 'd', "3", 1 }, { "a descriptor that is none", 'd', "x", 0 }, { "no such option", 'z', "1", 0 },
};
enum { OPTIONS = sizeof options / sizeof *options };

static void
option_is_right(void **state)
{
	const struct option_row *row = *state;
	struct listener_config c = { .most = 7 };

	assert_int_equal(listener_option(&c, row->option, row->argument), row->is_right);
	if (row->option == 'c')
		assert_int_equal(c.most, row->is_right ? (unsigned long)atol(row->argument) : c.most);
}

static void
limits_of_control_files(void **state)
{
	struct listener_config c;

	(void)state;
	assert_int_equal(listener_config_init(&c), 1);
	assert_int_equal(c.most, LISTENER_MOST);
	assert_int_equal(c.most_address, LISTENER_MOST_ADDRESS);
	assert_int_equal(c.most_prefix, LISTENER_MOST_PREFIX);
	assert_null(c.rules);
	assert_null(c.host);
	directory_write("control/me", "me.test\nx\n");
	assert_int_equal(listener_config_init(&c), 1);
	assert_string_equal(c.host, "me.test");
	unlink("control/me");
	directory_write("control/concurrencyincoming", "100001\n");
	directory_write("control/concurrencyaddress", "5\n");
	assert_int_equal(listener_config_init(&c), 1);
	assert_int_equal(c.most, LISTENER_LIMIT_MAX);
	assert_int_equal(c.most_address, 5);
	directory_write("control/concurrencyaddress", "0\n");	/* no limit but the largest, as in the files of sessions */
	assert_int_equal(listener_config_init(&c), 1);
	assert_int_equal(c.most_address, LISTENER_LIMIT_MAX);
	assert_int_equal(mkdir("control/concurrencyprefix", 0700), 0);
	assert_int_equal(listener_config_init(&c), 0);
	rmdir("control/concurrencyprefix");
	unlink("control/concurrencyincoming");
	unlink("control/concurrencyaddress");
}

static void
which_descriptor_listens(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_true(listener_is(listening));
	assert_false(listener_is(pair[0]));
	assert_false(listener_is(-1));
	assert_false(listener_is(STDERR_FILENO));
	close(pair[0]);
	close(pair[1]);
}

static void
a_process_that_nobody_made_gets_no_connection(void **state)
{
	(void)state;
	listener_offer();
	assert_int_equal(listener_next(), 0);
	assert_true(fcntl(STDIN_FILENO, F_GETFD) >= 0);
	assert_int_equal(listener_is_stopping(), 0);
}

/* --- what a process finds ------------------------------------------------------------------------------------------------------ */

static void
a_process_knows_its_client_and_nothing_of_others(void **state)
{
	struct sockaddr_in from;
	socklen_t len = sizeof from;
	struct client c;
	char port[16];

	(void)state;
	setenv("TCPREMOTEHOST", "old.test", 1);
	setenv("TCPREMOTEINFO", "old", 1);
	setenv("TCPLOCALHOST", "old.test", 1);
	setenv("TCP6REMOTEIP", "::1", 1);
	start();
	come_from(&c, "127.0.0.2");
	assert_int_equal(getsockname(c.fd, (struct sockaddr *)&from, &len), 0);
	expect(&c, "PROTO", "TCP");
	expect(&c, "TCPREMOTEIP", "127.0.0.2");
	snprintf(port, sizeof port, "%d", ntohs(from.sin_port));
	expect(&c, "TCPREMOTEPORT", port);
	expect(&c, "TCPLOCALIP", "127.0.0.1");
	snprintf(port, sizeof port, "%d", ntohs(address.sin_port));
	expect(&c, "TCPLOCALPORT", port);
	expect(&c, "TCPREMOTEHOST", "none");
	expect(&c, "TCPREMOTEINFO", "none");
	expect(&c, "TCPLOCALHOST", "none");
	expect(&c, "TCP6REMOTEIP", "none");
	leave(&c);
	unsetenv("TCPREMOTEHOST");
	unsetenv("TCPREMOTEINFO");
	unsetenv("TCPLOCALHOST");
	unsetenv("TCP6REMOTEIP");
}

static void
a_process_knows_the_name_of_this_host(void **state)
{
	struct client c;

	(void)state;
	config.host = "me.test";
	start();
	come_from(&c, "127.0.0.2");
	expect(&c, "TCPLOCALHOST", "me.test");
	leave(&c);
}

static void
make_rules(const char *key, const char *value, size_t len)
{
	struct table_maker m;

	assert_int_equal(table_make(&m, RULES, "rules.new", 0644), 1);
	assert_int_equal(table_add(&m, key, strlen(key), value, len), 1);
	assert_int_equal(table_finish(&m), 1);
}

static const char allow[] = "+RULE=first", allow_later[] = "+RULE=second", deny[] = "D";

/* What the caller has opened is the caller's; of the parent's own, sockets and table included, nothing is left. */
static void
a_process_has_its_connection_and_what_the_caller_opened(void **state)
{
	struct client first, second;
	char list[64];
	int opened;

	(void)state;
	extra = listen_anywhere();
	opened = open("/dev/null", O_RDONLY | O_CLOEXEC);
	snprintf(list, sizeof list, "%d", extra);
	setenv("LISTEN_EXTRA", list, 1);
	config.rules = RULES;
	make_rules("", allow, sizeof allow);
	start();
	snprintf(list, sizeof list, " 0 1 2 %d", opened);
	come(&first);
	come(&second);	/* while the first is there */
	expect(&first, "descriptors", list);
	expect(&second, "descriptors", list);
	expect(&first, "LISTEN_EXTRA", "none");
	leave(&first);
	leave(&second);
	close(opened);
}

static void
signals_are_those_of_a_session(void **state)
{
	struct client c;

	(void)state;
	start();
	come(&c);
	expect(&c, "SIGTERM", "caught");
	expect(&c, "SIGCHLD", "default");
	expect(&c, "SIGPIPE", "ignored");
	expect(&c, "SIGHUP", "default");
	leave(&c);
}

static void
what_is_due_is_prepared_before_each_process(void **state)
{
	struct client first, second;

	(void)state;
	start();
	come(&first);
	come(&second);
	expect(&first, "prepared", "1");
	expect(&second, "prepared", "2");
	leave(&first);
	leave(&second);
}

static void
readiness_is_told_once_and_its_descriptor_closed(void **state)
{
	char octets[8];
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(fcntl(fd[0], F_SETFD, FD_CLOEXEC), 0);
	config.notify = (unsigned int)fd[1];
	start();
	close(fd[1]);
	assert_int_equal(read(fd[0], octets, sizeof octets), 1);
	assert_int_equal(octets[0], '\n');
	assert_int_equal(read(fd[0], octets, sizeof octets), 0);
	close(fd[0]);
}

/* --- rules and limits -------------------------------------------------------------------------------------------------------------- */

static void
a_table_that_is_replaced_counts_from_the_next_connection_on(void **state)
{
	struct client c;

	(void)state;
	config.rules = RULES;
	make_rules("", allow, sizeof allow);
	start();
	come(&c);
	expect(&c, "RULE", "first");
	leave(&c);
	make_rules("", allow_later, sizeof allow_later);
	come(&c);
	expect(&c, "RULE", "second");
	leave(&c);
	make_rules("", deny, sizeof deny);
	come(&c);
	assert_string_equal(c.said, "");
	leave(&c);
	assert_int_equal(stop(SIGTERM), EXIT_OK);
	expect_logged("refused: 127.0.0.1: denied by the rules\n");
}

static void
without_a_table_nobody_comes_in_unless_it_may_lack(void **state)
{
	struct client c;

	(void)state;
	config.rules = RULES;
	start();
	come(&c);
	assert_string_equal(value(&c, "pid"), "nothing");
	leave(&c);
	stop(SIGTERM);
	close(listening);
	listening = listen_anywhere();
	config.rules_may_lack = 1;
	start();
	come(&c);
	assert_true(pid_of(&c) > 0);
	leave(&c);
}

static void
a_table_that_is_damaged_lets_nobody_in(void **state)
{
	struct client c;

	(void)state;
	config.rules = RULES;
	config.rules_may_lack = 1;
	directory_write(RULES, "no table");
	start();
	come(&c);
	assert_string_equal(value(&c, "pid"), "nothing");
	leave(&c);
}

static void
as_many_connections_as_there_may_be_and_one_more(void **state)
{
	struct client c[3];

	(void)state;
	config.most = 2;
	start();
	come_from(&c[0], "127.0.0.1");
	come_from(&c[1], "127.0.0.2");
	come_from(&c[2], "127.0.0.3");
	assert_true(pid_of(&c[0]) > 0 && pid_of(&c[1]) > 0);
	assert_string_equal(c[2].said, BUSY);
	for (int i = 0; i < 3; i++)
		leave(&c[i]);
}

static void
as_many_connections_of_an_address_and_one_more(void **state)
{
	struct client c[3];

	(void)state;
	config.most_address = 1;
	start();
	come_from(&c[0], "127.0.0.1");
	come_from(&c[1], "127.0.0.1");
	come_from(&c[2], "127.0.0.2");
	assert_string_equal(c[1].said, BUSY);
	assert_true(pid_of(&c[0]) > 0 && pid_of(&c[2]) > 0);
	for (int i = 0; i < 3; i++)
		leave(&c[i]);
}

/* Before the second fork the first process ends, and its client comes again. */
static int second_fork[2][2];

static void
await_the_end_of_the_first(void)
{
	siginfo_t info;
	char octet;

	if (prepared == 2 && (write(second_fork[0][1], "", 1) != 1 || waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) != 0 ||
	    read(second_fork[1][0], &octet, 1) != 1))
		_exit(EXIT_PERM);
}

static void
a_process_that_has_ended_counts_as_no_connection(void **state)
{
	struct client c[3];
	char octet;

	(void)state;
	assert_true(pipe2(second_fork[0], O_CLOEXEC) == 0 && pipe2(second_fork[1], O_CLOEXEC) == 0);
	config.most_address = 1;
	meanwhile = await_the_end_of_the_first;
	start();
	come_from(&c[0], "127.0.0.1");
	connect_from(&c[1], "127.0.0.2");
	assert_int_equal(read(second_fork[0][0], &octet, 1), 1);
	leave(&c[0]);
	connect_from(&c[2], "127.0.0.1");
	assert_int_equal(write(second_fork[1][1], "", 1), 1);
	for (int i = 1; i < 3; i++) {
		hear(&c[i], ".=.\n");
		assert_true(pid_of(&c[i]) > 0);
		leave(&c[i]);
	}
	for (int i = 0; i < 4; i++)
		close(second_fork[i / 2][i % 2]);
}

static void
a_limit_of_none_lets_nobody_in(void **state)
{
	struct client c;

	(void)state;
	config.most = 0;
	start();
	come(&c);
	assert_string_equal(c.said, BUSY);
	leave(&c);
}

/* --- reuse -------------------------------------------------------------------------------------------------------------------------- */

static void
a_process_serves_as_many_connections_as_it_may(void **state)
{
	struct client c;
	int first;

	(void)state;
	config.reuse = 2;
	start();
	come(&c);
	first = pid_of(&c);
	end_in_order(&c);
	come(&c);
	assert_int_equal(pid_of(&c), first);
	end_in_order(&c);
	come(&c);
	assert_int_not_equal(pid_of(&c), first);
	end_in_order(&c);
}

static void
a_process_serves_one_connection_where_there_is_no_reuse(void **state)
{
	struct client c;
	int first;

	(void)state;
	config.reuse = 1;
	start();
	come(&c);
	first = pid_of(&c);
	end_in_order(&c);
	come(&c);
	assert_int_not_equal(pid_of(&c), first);
	leave(&c);
}

static void
a_process_that_keeps_to_one_connection_serves_no_other(void **state)
{
	struct client c;
	char alone[256];
	int first;

	(void)state;
	config.reuse = 1;
	start();
	come(&c);
	snprintf(alone, sizeof alone, "%s", value(&c, "descriptors"));
	end_in_order(&c);
	stop(SIGTERM);
	config.reuse = 5;
	start();
	come(&c);
	first = pid_of(&c);
	end_with(&c, "k");
	expect(&c, "descriptors", alone);
	come(&c);
	assert_int_not_equal(pid_of(&c), first);
	leave(&c);
}

static void
a_process_never_serves_another_address(void **state)
{
	struct client c;
	int first;

	(void)state;
	config.reuse = 5;
	start();
	come_from(&c, "127.0.0.1");
	first = pid_of(&c);
	end_in_order(&c);
	come_from(&c, "127.0.0.2");
	assert_int_not_equal(pid_of(&c), first);
	end_in_order(&c);
	come_from(&c, "127.0.0.1");
	assert_int_equal(pid_of(&c), first);
	leave(&c);
}

static void
the_next_connection_finds_descriptors_as_the_first(void **state)
{
	struct client c;
	char list[256];

	(void)state;
	config.reuse = 5;
	start();
	come(&c);
	snprintf(list, sizeof list, "%s", value(&c, "descriptors"));
	assert_memory_equal(list, " 0 1 2 ", 7);
	end_in_order(&c);
	for (int i = 0; i < 3; i++) {
		come(&c);
		expect(&c, "descriptors", list);
		expect(&c, "TCPREMOTEHOST", "none");
		end_in_order(&c);
	}
}

/* A server that reuses processes, under rules that change. */
static void
start_under_rules(void)
{
	config.reuse = 5;
	config.rules = RULES;
	make_rules("", allow, sizeof allow);
	start();
}

static void
new_rules_are_for_new_processes(void **state)
{
	struct client c;
	int first;

	(void)state;
	start_under_rules();
	come(&c);
	first = pid_of(&c);
	end_in_order(&c);
	make_rules("", allow_later, sizeof allow_later);
	come(&c);
	assert_int_not_equal(pid_of(&c), first);
	expect(&c, "RULE", "second");
	leave(&c);
}

/* A process that was serving when the rules changed serves nobody else. */
static void
rules_that_change_during_a_session(void **state)
{
	struct client old, other, c;
	int first;

	(void)state;
	start_under_rules();
	come(&old);
	first = pid_of(&old);
	make_rules("", allow_later, sizeof allow_later);
	come(&other);
	expect(&other, "RULE", "second");
	leave(&other);
	end_in_order(&old);
	come(&c);
	assert_int_not_equal(pid_of(&c), first);
	expect(&c, "RULE", "second");
	leave(&c);
}

/* --- fairness ----------------------------------------------------------------------------------------------------------------------- */

enum { STARTS = 4 };	/* processes that start at once for networks with many connections */

/* A server whose processes take their time, and as many clients of one network as start at once, and one more. */
static void
start_slowly(struct client clients[STARTS + 1])
{
	is_slow = 1;
	config.reuse = 5;
	config.most = config.most_prefix = 3 * STARTS;
	start();
	for (int i = 0; i < STARTS; i++)
		come(&clients[i]);
	connect_from(&clients[STARTS], "127.0.0.2");
}

static void
order(struct client *clients, int n, const char *what)
{
	for (int i = 0; i < n; i++)
		assert_int_equal(send(clients[i].fd, what, 1, MSG_NOSIGNAL), 1);
}

static void
leave_all(struct client *clients, int n)
{
	for (int i = 0; i < n; i++)
		leave(&clients[i]);
}

static int
has_heard(const struct client *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

static void
who_opens_many_connections_waits_for_who_opens_one(void **state)
{
	struct client many[STARTS + 1], one;

	(void)state;
	start_slowly(many);
	come_from(&one, "127.0.1.1");	/* who came after it */
	expect(&one, "TCPREMOTEIP", "127.0.1.1");
	assert_false(has_heard(&many[STARTS]));
	order(many, STARTS, "s");
	hear(&many[STARTS], ".=.\n");
	expect(&many[STARTS], "TCPREMOTEIP", "127.0.0.2");
	end_in_order(&many[STARTS]);
	leave(&one);
	leave_all(many, STARTS);
}

/* Places to start are for the network with the fewest connections and for the longest waiting, by turns. */
static void
who_opens_hundreds_waits_for_who_opens_a_few(void **state)
{
	struct client many[STARTS + 1], another, few[3], one;

	(void)state;
	start_slowly(many);
	connect_from(&another, "127.0.0.3");
	for (int i = 0; i < 2; i++)
		come_from(&few[i], "127.0.1.1");
	connect_from(&few[2], "127.0.1.2");
	come_from(&one, "127.0.2.1");	/* who came after it */
	assert_false(has_heard(&few[2]));
	order(many, STARTS, "s");	/* of seven that start, these four have: there is one place */
	hear(&few[2], ".=.\n");
	expect(&few[2], "TCPREMOTEIP", "127.0.1.2");
	assert_false(has_heard(&many[STARTS]));
	order(few, 1, "s");
	hear(&many[STARTS], ".=.\n");
	expect(&many[STARTS], "TCPREMOTEIP", "127.0.0.2");
	assert_false(has_heard(&another));
	leave_all(few, 3);
	leave_all(many, STARTS + 1);
	leave(&another);
	leave(&one);
}

/* Those that came at the same time are looked at before a process starts for any: of each network two would start at once. */
static void
who_comes_behind_many_networks_is_not_behind_them(void **state)
{
	struct client many[20], one;
	char network[32];

	(void)state;
	config.reuse = 5;
	config.most = 30;
	start();
	come(&one);
	leave(&one);
	kill(server, SIGSTOP);
	for (int i = 0; i < 20; i++) {
		snprintf(network, sizeof network, "127.0.%d.1", 1 + i / 2);
		connect_from(&many[i], network);
	}
	connect_from(&one, "127.0.20.1");
	kill(server, SIGCONT);
	hear(&one, ".=.\n");
	assert_in_range(atoi(value(&one, "prepared")), 2, 3);	/* it is the second or third process */
	leave_all(many, 20);
	leave(&one);
}

/* Nor does it wait for ever where others keep coming. */
static void
who_waits_is_served_though_others_never_cease(void **state)
{
	struct client many[STARTS + 1], one;
	int turns = 0;

	(void)state;
	start_slowly(many);
	while (!has_heard(&many[STARTS]) && ++turns < 50) {
		struct pollfd p = { .fd = many[STARTS].fd, .events = POLLIN };

		come_from(&one, "127.0.1.1");
		leave(&one);
		poll(&p, 1, 200);
	}
	assert_in_range(turns, 1, 49);
	leave_all(many, STARTS + 1);
}

/* They end without a word, or say nothing for a second. */
static void
processes_that_do_not_say_that_they_have_started(void **state)
{
	struct client many[STARTS + 1];

	(void)state;
	start_slowly(many);
	assert_false(has_heard(&many[STARTS]));
	order(many, STARTS, "d");
	hear(&many[STARTS], ".=.\n");
	expect(&many[STARTS], "TCPREMOTEIP", "127.0.0.2");
	leave_all(many, STARTS + 1);
	stop(SIGTERM);
	start_slowly(many);
	hear(&many[STARTS], ".=.\n");
	expect(&many[STARTS], "TCPREMOTEIP", "127.0.0.2");
	leave_all(many, STARTS + 1);
}

static void
who_waits_when_the_server_stops_is_told(void **state)
{
	struct client many[STARTS + 1], one;

	(void)state;
	start_slowly(many);
	come_from(&one, "127.0.1.1");
	kill(server, SIGTERM);
	hear(&many[STARTS], BUSY);
	assert_string_equal(many[STARTS].said, BUSY);
	leave_all(many, STARTS + 1);
	leave(&one);
}

static void
a_process_has_no_connection_of_who_waits(void **state)
{
	struct client many[STARTS + 1], one;
	char list[256];

	(void)state;
	start_slowly(many);
	come_from(&one, "127.0.1.1");
	snprintf(list, sizeof list, "%s", value(&one, "descriptors"));
	expect(&many[0], "descriptors", list);
	leave(&one);
	leave_all(many, STARTS + 1);
}

/* --- ends --------------------------------------------------------------------------------------------------------------------------- */

static void
a_stop_is_told_to_the_sessions(void **state)
{
	struct client c, late;

	(void)state;
	start();
	come(&c);
	kill(server, SIGTERM);
	hear(&c, "stopping=yes\n");
	assert_string_equal(c.said, "stopping=yes\n");
	leave(&c);
	assert_int_equal(waitpid(server, NULL, 0), server);
	server = 0;
	close(listening);
	late.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(late.fd, (struct sockaddr *)&address, sizeof address), -1);
	assert_int_equal(errno, ECONNREFUSED);
	leave(&late);
	listening = -1;
}

/* With each connection another one comes, up to CROWD; the first brings the signal. */
enum { CROWD = 90, TURNS = 64 };	/* TURNS: above what two turns of the server take */
static int *crowd;		/* how many came; shared with the server's process */

static void
stop_and_come_again(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (++*crowd == 1)
		kill(getpid(), SIGTERM);
	if (*crowd < CROWD && connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
		_exit(EXIT_PERM);
}

static void
a_stop_is_heard_though_clients_never_cease(void **state)
{
	struct client c;

	(void)state;
	crowd = mmap(NULL, sizeof *crowd, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(crowd, MAP_FAILED);
	config.most = config.most_address = config.most_prefix = CROWD;
	meanwhile = stop_and_come_again;
	start();
	come(&c);
	assert_true(pid_of(&c) > 0);
	leave(&c);
	assert_int_equal(waitpid(server, NULL, 0), server);
	server = 0;
	assert_in_range(*crowd, 1, TURNS);
	munmap(crowd, sizeof *crowd);
}

static void
a_parent_that_dies_stops_its_sessions(void **state)
{
	struct client c;

	(void)state;
	start();
	come(&c);
	assert_int_equal(stop(SIGKILL), -SIGKILL);
	hear(&c, "stopping=yes\n");
	assert_string_equal(c.said, "stopping=yes\n");
	leave(&c);
}

static void
a_stop_ends_in_good_order(void **state)
{
	struct client c;

	(void)state;
	start();
	come(&c);
	leave(&c);
	assert_int_equal(stop(SIGTERM), EXIT_OK);
}

static void
a_process_that_is_killed_is_logged(void **state)
{
	struct client c;

	(void)state;
	start();
	come(&c);
	assert_int_equal(send(c.fd, "d", 1, MSG_NOSIGNAL), 1);
	hear(&c, "never");
	leave(&c);
	assert_int_equal(stop(SIGTERM), EXIT_OK);	/* which waits for all of them */
	expect_logged(": 127.0.0.1: the process of this session was killed: by signal 9\n");
}

/* --- the start ----------------------------------------------------------------------------------------------------------------------- */

static const struct nonsense { const char *rule, *list; } nonsenses[] = {
	{ "no numbers", "x" }, { "a number and more", "0x" }, { "a descriptor that does not listen", "2" },
	{ "a descriptor that is not open", "39" }, { "commas", "0,0" }, { "two blanks", "0  0" },
	{ "more sockets than there may be", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0" },
};
enum { NONSENSES = sizeof nonsenses / sizeof *nonsenses };

static void
LISTEN_EXTRA_makes_no_sense(void **state)
{
	const struct nonsense *row = *state;
	int wstat;

	setenv("LISTEN_EXTRA", row->list, 1);
	start();
	assert_int_equal(waitpid(server, &wstat, 0), server);
	server = 0;
	assert_true(WIFEXITED(wstat));
	assert_int_equal(WEXITSTATUS(wstat), EXIT_TEMP);
	expect_logged("listen");
}

static void
a_descriptor_that_does_not_listen_is_no_server(void **state)
{
	int wstat, pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	close(listening);
	listening = pair[0];
	assert_int_equal(send(pair[1], "x", 1, MSG_NOSIGNAL), 1);	/* there is something to accept, it may seem */
	start();
	assert_int_equal(waitpid(server, &wstat, 0), server);
	server = 0;
	assert_true(WIFEXITED(wstat));
	assert_int_equal(WEXITSTATUS(wstat), EXIT_TEMP);
	close(pair[1]);
}

static int
make_home(void **state)
{
	PROG = "server";
	/* what this process was started with is none of the server's */
	for (int fd = STDERR_FILENO + 1; fd < 40; fd++)
		close(fd);
	return directory_make(state);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest others[] = {
		TEST(limits_of_control_files), TEST(which_descriptor_listens), TEST(a_process_that_nobody_made_gets_no_connection),
		TEST(a_process_knows_its_client_and_nothing_of_others), TEST(a_process_knows_the_name_of_this_host),
		TEST(a_process_has_its_connection_and_what_the_caller_opened),
		TEST(signals_are_those_of_a_session), TEST(what_is_due_is_prepared_before_each_process),
		TEST(readiness_is_told_once_and_its_descriptor_closed), TEST(a_table_that_is_replaced_counts_from_the_next_connection_on),
		TEST(without_a_table_nobody_comes_in_unless_it_may_lack), TEST(a_table_that_is_damaged_lets_nobody_in),
		TEST(as_many_connections_as_there_may_be_and_one_more), TEST(as_many_connections_of_an_address_and_one_more),
		TEST(a_process_that_has_ended_counts_as_no_connection), TEST(a_limit_of_none_lets_nobody_in),
		TEST(a_process_serves_as_many_connections_as_it_may),
		TEST(a_process_serves_one_connection_where_there_is_no_reuse),
		TEST(a_process_that_keeps_to_one_connection_serves_no_other), TEST(a_process_never_serves_another_address),
		TEST(the_next_connection_finds_descriptors_as_the_first),
		TEST(who_opens_many_connections_waits_for_who_opens_one),
		TEST(who_opens_hundreds_waits_for_who_opens_a_few),
		TEST(who_comes_behind_many_networks_is_not_behind_them), TEST(who_waits_is_served_though_others_never_cease),
		TEST(processes_that_do_not_say_that_they_have_started),
		TEST(who_waits_when_the_server_stops_is_told), TEST(a_process_has_no_connection_of_who_waits),
		TEST(new_rules_are_for_new_processes),
		TEST(rules_that_change_during_a_session), TEST(a_stop_is_told_to_the_sessions),
		TEST(a_stop_is_heard_though_clients_never_cease), TEST(a_parent_that_dies_stops_its_sessions), TEST(a_stop_ends_in_good_order),
		TEST(a_process_that_is_killed_is_logged), TEST(a_descriptor_that_does_not_listen_is_no_server),
	};
	struct CMUnitTest tests[OPTIONS + NONSENSES + sizeof others / sizeof *others], *next = tests;

	for (size_t i = 0; i < OPTIONS; i++)
		*next++ = (struct CMUnitTest){ options[i].rule, option_is_right, NULL, NULL, (void *)(uintptr_t)&options[i] };
	for (size_t i = 0; i < NONSENSES; i++)
		*next++ = (struct CMUnitTest){ nonsenses[i].rule, LISTEN_EXTRA_makes_no_sense, begin, end, (void *)(uintptr_t)&nonsenses[i] };
	memcpy(next, others, sizeof others);
	return cmocka_run_group_tests_name("listener", tests, make_home, directory_remove);
}
