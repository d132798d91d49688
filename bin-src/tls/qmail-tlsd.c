/* qmail-tlsd: the TLS of network servers, a process for each connection: takes it over, and gives its plain end back.
 * Trust: the connection is the network's. Runs as qmailt; only the users that are named may hand connections over, as the kernel
 * says it. Each process has one connection, no file and no key: qmail-keyd signs. The parent reads no octet from anybody. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <bearssl.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "exitcode.h"
#include "held_signals.h"
#include "home.h"
#include "key_client.h"
#include "lingering.h"
#include "monotonic.h"
#include "readiness.h"
#include "sandbox.h"
#include "server_policy.h"
#include "service_socket.h"
#include "service_users.h"
#include "shortage.h"
#include "suites.h"
#include "tls_engine.h"
#include "tunnel.h"

#define USAGE "qmail-tlsd [ -c most ] [ -d notification-fd ] [ -t seconds ] [ uid ... ]"

enum {
	MOST = 2000,		/* connections at once */
	MOST_MAX = 100000,
	HANDSHAKE = 30,		/* seconds */
	HANDSHAKE_MAX = 40,	/* TLS_ENGINE_HANDSHAKE_MS is more */
	REQUEST_MS = 10000,	/* for a server to hand the connection over, once it was told to */
	STOP_MS = 10000,	/* for the connections when this is stopped */
	SAY_MS = 60000,		/* the same warning is said as often */
	PAUSE_MS = 100,		/* before accepting again when there was no descriptor */
	NAMES_MAX = 8,		/* for ALPN */
	MEMORY_MAX = SANDBOX_MEMORY(64 << 20),	/* octets of address space of a connection, which allocates nothing */
};

struct tlsd {
	int listener;
	struct service_users users;	/* who may hand connections over */
	unsigned int most, children;
	unsigned int handshake;	/* seconds */
	uint64_t said;		/* when a refusal was said, 0 never */
	sigset_t outside;	/* signals that were blocked at the start */
};

/* --- a process: one connection ----------------------------------------------------------------------------------------- */

/* All memory of a connection; what is not used is never touched. */
static struct connection {
	br_ssl_server_context context;
	struct server_policy policy;
	struct tunnel tunnel;
	int end;			/* the server's end of the pair */
	char request[TLS_ENGINE_PACKET_MAX + 1];
	const char *alpn[NAMES_MAX];
	unsigned char records[BR_SSL_BUFSIZE_BIDI];
} connection;

/* Tells the server something that ends it, and ends. */
static _Noreturn void
refuse(const struct connection *c, char letter, const char *why)
{
	service_socket_say(c->tunnel.control, letter, why);
	_exit(EXIT_OK);
}

static void
tell_end(struct tunnel *t, const char *why)
{
	service_socket_say(t->control, why ? 'X' : 'C', why ? why : "");
}

static void
prepare_engine(struct connection *c)
{
	br_ssl_server_context *s = &c->context;
	unsigned char seed[48];

	br_ssl_server_zero(s);
	suites_set(&s->eng);
	br_ssl_engine_add_flags(&s->eng, BR_OPT_ENFORCE_SERVER_PREFERENCES | BR_OPT_FAIL_ON_ALPN_MISMATCH);
	br_ssl_engine_set_buffer(&s->eng, c->records, sizeof c->records, 1);
	server_policy_set(&c->policy, s);
	if (getrandom(seed, sizeof seed, 0) != sizeof seed)
		refuse(c, 'B', "the TLS engine has no random numbers");
	br_ssl_engine_inject_entropy(&s->eng, seed, sizeof seed);
	explicit_bzero(seed, sizeof seed);
	/* here and not later: it may open /dev/urandom */
	if (!br_ssl_server_reset(s))
		refuse(c, 'B', "the TLS engine cannot begin");
}

static void
shut_itself_in(const struct connection *c)
{
	static const struct sandbox shut_in = { .calls = &sandbox_tunnel, .memory = MEMORY_MAX };

	if (sandbox_enter(&shut_in) < 0)
		refuse(c, 'B', "the TLS engine cannot shut itself in");
}

/* The names of the protocol that the server speaks. */
static void
take_request(struct connection *c, size_t len)
{
	size_t n = 0;

	c->request[len] = '\0';
	for (const char *s = c->request + 1; s < c->request + len; s += strlen(s) + 1)
		if (strncmp(s, "ALPN=", 5) == 0 && n < NAMES_MAX)
			c->alpn[n++] = s + 5;
	br_ssl_engine_set_protocol_names(&c->context.eng, c->alpn, n);
}

/* Waits for the connection. */
static void
await_request(struct connection *c)
{
	struct tunnel *t = &c->tunnel;
	int type = 0, on = 1;
	socklen_t size = sizeof type;
	ssize_t n;

	if (!service_socket_wait(t->control, monotonic_ms() + REQUEST_MS))
		_exit(EXIT_OK);
	n = service_socket_receive(t->control, c->request, TLS_ENGINE_PACKET_MAX, &t->net);
	if (n == 0)
		_exit(EXIT_OK);	/* the server does without */
	if (n < 0 || c->request[0] != 'S' || t->net < 0)
		refuse(c, 'T', "the request was malformed");
	if (getsockopt(t->net, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM)
		refuse(c, 'T', "what was handed over is no connection");
	/* a handshake is several records one after another: none of them is to wait for an acknowledgement */
	setsockopt(t->net, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	take_request(c, (size_t)n);
}

/* Gives the plain end back, and says what the handshake has come to. */
static void
tell_success(struct connection *c)
{
	br_ssl_engine_context *e = &c->context.eng;
	const char *alpn = br_ssl_engine_get_selected_protocol(e);
	br_ssl_session_parameters session;
	const char *variables[][2] = {
		{ "SSL_PROTOCOL=", "TLSv1.2" }, { "SSL_CIPHER=", NULL },
		{ "SSL_TLS_SNI_SERVERNAME=", server_policy_host(e) }, { "SSL_ALPN=", alpn ? alpn : "" },
	};
	enum { VARIABLES = sizeof variables / sizeof *variables };
	struct iovec v[1 + 2 * VARIABLES] = { { (char *)(uintptr_t)"K", 1 } };
	unsigned int n = 1;

	br_ssl_engine_get_session_parameters(e, &session);
	variables[1][1] = suites_name(session.cipher_suite);
	explicit_bzero(&session, sizeof session);
	for (size_t i = 0; i < VARIABLES; i++)
		if (*variables[i][1]) {
			v[n++] = (struct iovec){ (char *)(uintptr_t)variables[i][0], strlen(variables[i][0]) };
			v[n++] = (struct iovec){ (char *)(uintptr_t)variables[i][1], strlen(variables[i][1]) + 1 };
		}
	if (!service_socket_send(c->tunnel.control, v, n, c->end))
		_exit(EXIT_OK);	/* there is no server any more */
	close(c->end);
}

/* In a process that was just forked: the whole life of a connection. */
static _Noreturn void
serve(const struct tlsd *d, int control)
{
	struct connection *c = &connection;
	struct tunnel *t = &c->tunnel;
	int pair[2];
	const char *why;

	t->control = control;
	t->engine = &c->context.eng;
	t->ended = tell_end;
	if (!key_client_connect(&c->policy.key))
		refuse(c, 'B', "qmail-keyd cannot be reached");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		refuse(c, 'B', "the TLS engine has no descriptors");
	t->plain = pair[0];
	c->end = pair[1];
	prepare_engine(c);
	shut_itself_in(c);
	if (!service_socket_say(control, 'R', ""))
		_exit(EXIT_OK);
	await_request(c);
	why = tunnel_handshake(t, monotonic_ms() + d->handshake * 1000ULL);
	key_client_close(&c->policy.key);
	if (why)
		refuse(c, c->policy.trouble ? 'T' : 'E', c->policy.trouble ? c->policy.trouble : why);
	tell_success(c);
	tunnel_run(t);
	_exit(EXIT_OK);
}

/* --- the parent ------------------------------------------------------------------------------------------------------------ */

static volatile sig_atomic_t is_stopping;

static void
on_signal(int sig)
{
	if (sig == SIGTERM)
		is_stopping = 1;
}

/* A logger that does not read must not stop the service; and it is not told more than once a minute. */
static void
say(struct tlsd *d, const char *what)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
	uint64_t now = monotonic_ms();

	if ((d->said && now - d->said < SAY_MS) || poll(&p, 1, 0) != 1)
		return;
	d->said = now;
	strerr_warnw(what);
}

static void
reap(struct tlsd *d)
{
	while (d->children && waitpid(-1, NULL, WNOHANG) > 0)
		d->children--;
}

static _Noreturn void
become_child(const struct tlsd *d, pid_t parent, int control)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_TEMP);
	signal(SIGTERM, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_SETMASK, &d->outside, NULL);
	close(d->listener);
	serve(d, control);
}

static void
take(struct tlsd *d, int control)
{
	pid_t parent = getpid(), pid = -1;
	const char *why = NULL, *answer = "the TLS engine is busy";
	uid_t uid = service_socket_peer(control);

	/* not only between turns: 32 forks take long enough for as many connections to end */
	if (d->children == d->most)
		reap(d);
	/* root has the keys anyway */
	if (uid && !service_users_have(&d->users, uid)) {
		why = "a user who may not ask was turned away";
		answer = "the TLS engine does not serve this user";
	} else if (d->children == d->most)
		why = "as many connections as there may be: one was turned away";
	else if ((pid = fork()) < 0)
		why = "unable to fork: a connection was turned away";
	if (pid == 0)
		become_child(d, parent, control);
	if (pid > 0)
		d->children++;
	if (why) {
		service_socket_say(control, 'B', answer);
		say(d, why);
	}
	lingering_close(control);
}

static void
accept_some(struct tlsd *d)
{
	enum { ACCEPTS = 32 };

	for (int i = 0; i < ACCEPTS && !is_stopping; i++) {
		int control = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (control >= 0)
			take(d, control);
		else if (is_shortage(errno)) {
			poll(NULL, 0, PAUSE_MS);
			return;	/* signals are let in, and ended children taken, who may be what is short */
		} else if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

/* Waits for a connection or a signal. */
static void
await(const struct tlsd *d, uint64_t ms)
{
	struct timespec t = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };
	struct pollfd p = { .fd = d->listener, .events = POLLIN };
	int n = ppoll(&p, d->listener >= 0, ms == UINT64_MAX ? NULL : &t, &d->outside);

	if (n < 0 && errno != EINTR)
		strerr_diefusys(EXIT_TEMP, "wait for connections");
	if (n > 0)
		held_signals_let_in(&d->outside);
}

/* No new connections; those that there are have their time to end. What is left is killed when the parent has ended. */
static void
stop(struct tlsd *d)
{
	uint64_t deadline = monotonic_ms() + STOP_MS, now;

	close(d->listener);
	d->listener = -1;
	for (reap(d); d->children && (now = monotonic_ms()) < deadline; reap(d))
		await(d, deadline - now);
}

/* --- the start ---------------------------------------------------------------------------------------------------------------- */

static void
parse_options(struct tlsd *d, int argc, char *const *argv, unsigned int *notify)
{
	int c;

	d->most = MOST;
	d->handshake = HANDSHAKE;
	while ((c = getopt(argc, argv, "c:d:t:")) >= 0)
		if ((c != 'c' || !uint0_scan(optarg, &d->most) || !d->most || d->most > MOST_MAX) &&
		    (c != 'd' || !uint0_scan(optarg, notify)) &&
		    (c != 't' || !uint0_scan(optarg, &d->handshake) || !d->handshake || d->handshake > HANDSHAKE_MAX))
			strerr_dieusage(EXIT_PERM, USAGE);
	for (argv += optind; *argv; argv++)
		if (!service_users_add(&d->users, *argv))
			strerr_dieusage(EXIT_PERM, USAGE);
	if (!d->users.len)
		service_users_put(&d->users, geteuid());
}

static void
trap_signals(struct tlsd *d)
{
	if (!held_signals_take((const int[]){ SIGTERM, SIGCHLD, 0 }, on_signal, &d->outside))
		strerr_diefusys(EXIT_TEMP, "trap signals");
	signal(SIGHUP, SIG_IGN);	/* there is nothing to be read anew: qmail-keyd has it all */
}

/* A process of its own tries to shut itself in, to say what lacks: those of connections are silent. */
static void
say_what_lacks(void)
{
	static const struct sandbox shut_in = { .calls = &sandbox_tunnel };
	pid_t pid = fork();

	if (pid == 0) {
		sandbox_warn(sandbox_enter(&shut_in));
		_exit(EXIT_OK);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

int
main(int argc, char *const *argv)
{
	static struct tlsd d;
	unsigned int notify = 0;

	PROG = "qmail-tlsd";
	parse_options(&d, argc, argv, &notify);
	if (geteuid() == 0)
		strerr_dief(EXIT_PERM, "never as root: run it as qmailt");
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the home");
	trap_signals(&d);
	say_what_lacks();
	d.listener = service_socket_listen(TLS_ENGINE_SOCKET);
	if (d.listener < 0)
		strerr_diefusys(EXIT_TEMP, "listen at " TLS_ENGINE_SOCKET);
	readiness_tell(notify);
	while (!is_stopping) {
		await(&d, UINT64_MAX);
		reap(&d);
		accept_some(&d);
	}
	stop(&d);
	return EXIT_OK;
}
