/* qmail-keyd: hold the private keys of TLS, and sign handshakes with them.
 * Trust: whoever asks may have been taken over by the network. Runs as qmailk; only qmailt may ask, and for the keys of clients only
 * qmailr, as the kernel says it. The workers read tls/ when they start, and shut themselves in before the first question: from then on
 * they have no file, no network and no program. With a server's key they sign nothing but TLS 1.2 handshakes, with a client's the hash that
 * they are given. New keys are read by new workers. The parent never has a key, and reads nothing that others write. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include <skalibs/uint16.h>
#include <skalibs/uint32.h>
#include "control/control.h"
#include "exitcode.h"
#include "home.h"
#include "key_client.h"
#include "keystore.h"
#include "lingering.h"
#include "monotonic.h"
#include "readiness.h"
#include "sandbox.h"
#include "service_socket.h"
#include "service_users.h"
#include "shortage.h"

#define USAGE "qmail-keyd [ -c uid ] [ -d notification-fd ] [ -w workers ] [ uid ... ]"
#define FOLDER "tls"
#define CLIENT_FOLDER FOLDER "/client"

enum {
	WORKERS_MAX = 64,
	CLIENTS_MAX = 4096,	/* descriptors of a worker, so about as many connections */
	EVENTS = 32,
	MEMORY_MAX = SANDBOX_MEMORY(256 << 20),	/* octets of address space: keys with their chains, CLIENTS_MAX connections */
	PAUSE_MS = 100,		/* before accepting again when there was no descriptor */
	RETIRE_MS = 60000,	/* for the connections of a worker that another has taken the place of */
};

/* Which keys a connection may use. */
enum right { SERVER_KEYS = 1 << 0, CLIENT_KEYS = 1 << 1 };

struct keyd {
	int listener;
	struct service_users servers, clients;	/* who may use keys of servers, and who those of clients */
	unsigned int workers;
	sigset_t outside;	/* signals that were blocked at the start */
	/* the workers that serve: they end when they read the end of this pipe, and retire when they read an octet */
	int life;
	pid_t pids[WORKERS_MAX];
};

/* --- a worker: answers -------------------------------------------------------------------------------------------------- */

struct worker {
	const struct keyd *keyd;
	struct keystore keys, client_keys;
	int epoll, life;
	unsigned int clients;
	uint64_t retired_until;		/* 0: it serves */
	uint64_t paused_until;		/* accepting; 0: it is not paused */
	/* of each connection, by descriptor */
	unsigned char rights[CLIENTS_MAX];
	uint16_t answers[CLIENTS_MAX];	/* that it has had */
};

static int
answer_nothing(int fd)
{
	return service_socket_say(fd, 'N', "");
}

/* The chain of keypair i, -1 none. letter: of the question. */
static int
send_chain(const struct keystore *keys, int i, int fd, char letter)
{
	char head[6] = { letter };
	const struct keypair *pair;
	struct iovec v[2] = { { head, sizeof head } };

	if (i < 0)
		return answer_nothing(fd);
	pair = keys->entries[i].pair;
	head[1] = (char)pair->kind;
	uint32_pack_big(head + 2, (uint32_t)i);
	v[1] = (struct iovec){ pair->chain.s, pair->chain.len };
	return service_socket_send(fd, v, 2, -1);
}

static int
answer_chain(const struct worker *w, int fd, const unsigned char *packet, size_t len)
{
	char host[KEY_HOST_MAX + 1];

	if (len < 2 || len > 2 + KEY_HOST_MAX)
		return 0;
	memcpy(host, packet + 2, len - 2);
	host[len - 2] = '\0';
	return send_chain(&w->keys, keystore_find(&w->keys, packet[1], host), fd, 'C');
}

static int
answer_pair(const struct worker *w, int fd, const unsigned char *packet, size_t len)
{
	if (len < 2 || len > 1 + KEY_NAME_MAX)
		return 0;
	return send_chain(&w->client_keys, keystore_find_file(&w->client_keys, (const char *)packet + 1, len - 1), fd, 'P');
}

typedef size_t sign_function(const struct keypair *k, unsigned int algorithm, const unsigned char *s, size_t len,
    unsigned char signature[KEY_SIGNATURE_MAX]);

static int
answer_signature(const struct keystore *keys, sign_function *sign, int fd, const unsigned char *packet, size_t len)
{
	unsigned char signature[1 + KEY_SIGNATURE_MAX] = { packet[0] };
	uint32_t number;
	uint16_t algorithm;
	size_t n;

	if (len < 7)
		return 0;
	uint32_unpack_big((const char *)packet + 1, &number);
	uint16_unpack_big((const char *)packet + 5, &algorithm);
	n = number < keys->len ? sign(keys->entries[number].pair, algorithm, packet + 7, len - 7, signature + 1) : 0;
	return n ? service_socket_send(fd, &(struct iovec){ signature, 1 + n }, 1, -1) : answer_nothing(fd);
}

static int
may_have_more(const struct worker *w, int fd)
{
	return w->answers[fd] < (w->rights[fd] & CLIENT_KEYS ? KEY_CLIENT_QUESTIONS_MAX : KEY_QUESTIONS_MAX);
}

/* Takes one question. 1, or 0: the connection is to be closed. */
static int
answer(struct worker *w, int fd)
{
	unsigned char packet[7 + KEY_EXCHANGE_MAX + KEY_HOST_MAX];
	ssize_t n = service_socket_receive(fd, packet, sizeof packet, NULL);
	enum right needed;

	if (n < 0 && errno == EAGAIN)
		return 1;
	if (n <= 0 || !may_have_more(w, fd))
		return 0;
	w->answers[fd]++;
	needed = packet[0] == 'C' || packet[0] == 'S' ? SERVER_KEYS : CLIENT_KEYS;
	if (!(w->rights[fd] & needed))
		return 0;
	switch (packet[0]) {
	case 'C': return answer_chain(w, fd, packet, (size_t)n);
	case 'S': return answer_signature(&w->keys, keypair_sign, fd, packet, (size_t)n);
	case 'P': return answer_pair(w, fd, packet, (size_t)n);
	case 'H': return answer_signature(&w->client_keys, keypair_sign_hash, fd, packet, (size_t)n);
	default: return 0;
	}
}

/* --- a worker: connections ------------------------------------------------------------------------------------------------ */

static int
watch(const struct worker *w, int operation, int fd, uint32_t events)
{
	return epoll_ctl(w->epoll, operation, fd, &(struct epoll_event){ .events = events, .data.fd = fd }) == 0;
}

/* What the user who connected fd may use. */
static unsigned int
rights_of(const struct keyd *k, int fd)
{
	uid_t peer = service_socket_peer(fd);

	return (service_users_have(&k->servers, peer) ? SERVER_KEYS : 0) |
	    (service_users_have(&k->clients, peer) ? CLIENT_KEYS : 0);
}

static void
accept_some(struct worker *w)
{
	for (int i = 0; i < EVENTS; i++) {
		int fd = accept4(w->keyd->listener, NULL, NULL, SOCK_CLOEXEC);
		unsigned int rights;

		if (fd < 0 && is_shortage(errno)) {
			w->paused_until = monotonic_ms() + PAUSE_MS;
			watch(w, EPOLL_CTL_MOD, w->keyd->listener, 0);
		}
		if (fd < 0)
			return;
		rights = rights_of(w->keyd, fd);
		if (fd >= CLIENTS_MAX || !rights || !watch(w, EPOLL_CTL_ADD, fd, EPOLLIN)) {
			lingering_close(fd);
			continue;
		}
		w->rights[fd] = (unsigned char)rights;
		w->answers[fd] = 0;
		w->clients++;
	}
}

/* The parent has said something: another worker takes this one's place, or there is no parent any more. */
static void
hear_parent(struct worker *w)
{
	char octet;

	if (read(w->life, &octet, 1) != 1)
		_exit(EXIT_OK);
	w->retired_until = monotonic_ms() + RETIRE_MS;
	w->paused_until = 0;
	watch(w, EPOLL_CTL_DEL, w->keyd->listener, 0);
	watch(w, EPOLL_CTL_DEL, w->life, 0);	/* its end follows at once, and says nothing more */
}

static int
patience(const struct worker *w)
{
	uint64_t until = w->retired_until ? w->retired_until : w->paused_until, now = monotonic_ms();

	return !until ? -1 : until > now ? (int)(until - now) : 0;
}

static void
turn(struct worker *w)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(w->epoll, events, EVENTS, patience(w));

	if (n < 0 && errno != EINTR)
		strerr_diefusys(EXIT_TEMP, "wait for questions");
	if (w->paused_until && monotonic_ms() >= w->paused_until) {
		w->paused_until = 0;
		watch(w, EPOLL_CTL_MOD, w->keyd->listener, EPOLLIN);
	}
	for (int i = 0; i < n; i++) {
		int fd = events[i].data.fd;

		if (fd == w->life)
			hear_parent(w);
		else if (fd == w->keyd->listener)
			accept_some(w);
		else if (!answer(w, fd)) {
			lingering_close(fd);
			w->clients--;
		}
	}
}

/* What is wrong with the keys ends the worker, and is said by the first: the others see the same. */
static _Noreturn void
give_up(const char *trouble, int is_first)
{
	if (is_first)
		strerr_warn("alert: ", PROG, ": ", trouble);
	_exit(EXIT_TEMP);
}

/* Reads the keys. Servers have one at least, clients need none. */
static void
load(struct worker *w, int is_first)
{
	stralloc me = STRALLOC_ZERO, trouble = STRALLOC_ZERO;
	int has_client_keys = access(CLIENT_FOLDER, F_OK) == 0 || errno != ENOENT;

	if (control_line(&me, "control/me") < 0 || !stralloc_0(&me))
		strerr_diefusys(EXIT_TEMP, "read control/me");
	if (!keystore_load(&w->keys, FOLDER, me.s, &trouble) ||
	    (has_client_keys && !keystore_load(&w->client_keys, CLIENT_FOLDER, "", &trouble)))
		give_up(trouble.len ? trouble.s : "out of memory", is_first);
	if (!w->keys.len)
		give_up(FOLDER ": there is no file NAME.pem in it", is_first);
	stralloc_free(&me);
}

static void
shut_itself_in(int with_word)
{
	static const struct sandbox shut_in = { .calls = &sandbox_signer, .files = CLIENTS_MAX, .memory = MEMORY_MAX };
	int lack;

	/* no process of the same user may look into it */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		strerr_diefusys(EXIT_TEMP, "hide its memory");
	lack = sandbox_enter(&shut_in);
	if (lack < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
	if (with_word)
		sandbox_warn(lack);
}

/* ready: gets an octet when it serves. */
static void
work(const struct keyd *k, int life, int ready, int is_first)
{
	static struct worker w;

	w.keyd = k;
	w.life = life;
	load(&w, is_first);
	w.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w.epoll < 0 || !watch(&w, EPOLL_CTL_ADD, k->listener, EPOLLIN) || !watch(&w, EPOLL_CTL_ADD, life, EPOLLIN))
		strerr_diefusys(EXIT_TEMP, "prepare for questions");
	shut_itself_in(is_first && k->life < 0);
	if (write(ready, "", 1) != 1)
		_exit(EXIT_TEMP);
	close(ready);
	while (!w.retired_until || (w.clients && monotonic_ms() < w.retired_until))
		turn(&w);
	_exit(EXIT_OK);
}

/* --- the parent ------------------------------------------------------------------------------------------------------------ */

/* In a worker that was just forked. */
static void
become_worker(const struct keyd *k, const int life[2], const int ready[2], int is_first)
{
	close(life[1]);
	close(ready[0]);
	if (k->life >= 0)
		close(k->life);
	sigprocmask(SIG_SETMASK, &k->outside, NULL);
	work(k, life[0], ready[1], is_first);
}

/* Whether as many workers as there are say that they serve. */
static int
are_ready(const struct keyd *k, int ready)
{
	char octet;

	for (unsigned int i = 0; i < k->workers; i++) {
		ssize_t n;

		while ((n = read(ready, &octet, 1)) < 0 && errno == EINTR)
			;
		if (n != 1)
			return 0;
	}
	return 1;
}

/* Starts workers, which read the keys. Returns 1 when all of them serve, in the place of those before; 0 with what was wrong having
 * been said: then nothing has changed. */
static int
start_workers(struct keyd *k)
{
	static const char octets[WORKERS_MAX];
	int life[2], ready[2], is_fine = 1;
	pid_t pids[WORKERS_MAX];

	if (pipe2(life, O_CLOEXEC) < 0 || pipe2(ready, O_CLOEXEC) < 0)
		strerr_diefusys(EXIT_TEMP, "make a pipe");
	for (unsigned int i = 0; i < k->workers && is_fine; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			become_worker(k, life, ready, i == 0);
		is_fine = pids[i] > 0;
	}
	if (!is_fine)
		strerr_warnwusys("fork");
	close(life[0]);
	close(ready[1]);
	is_fine = is_fine && are_ready(k, ready[0]);
	close(ready[0]);
	if (!is_fine) {
		close(life[1]);
		return 0;
	}
	if (k->life >= 0 && write(k->life, octets, k->workers) < (ssize_t)k->workers)
		strerr_warnwusys("retire workers");
	if (k->life >= 0)
		close(k->life);
	k->life = life[1];
	memcpy(k->pids, pids, k->workers * sizeof *pids);
	return 1;
}

/* Takes what children have ended. One that served is missed: s6 starts all of it anew. */
static void
reap(const struct keyd *k)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		for (unsigned int i = 0; i < k->workers; i++)
			if (k->pids[i] == pid)
				strerr_dief(EXIT_TEMP, "a process of mine has ended");
}

static void
serve(struct keyd *k, const sigset_t *signals)
{
	for (;;)
		switch (sigwaitinfo(signals, NULL)) {
		case SIGTERM:
			return;
		case SIGCHLD:
			reap(k);
			break;
		case SIGHUP:
			if (start_workers(k))
				strerr_warni("the keys were read again");
			else
				strerr_warn("alert: ", PROG, ": unable to read the keys again, the old ones stay");
			reap(k);
		}
}

static void
parse_options(struct keyd *k, int argc, char *const *argv, unsigned int *notify)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	int c;

	k->workers = processors < 1 ? 1 : processors > 8 ? 8 : (unsigned int)processors;
	while ((c = getopt(argc, argv, "c:d:w:")) >= 0)
		if ((c != 'c' || !service_users_add(&k->clients, optarg)) && (c != 'd' || !uint0_scan(optarg, notify)) &&
		    (c != 'w' || !uint0_scan(optarg, &k->workers) || k->workers < 1 || k->workers > WORKERS_MAX))
			strerr_dieusage(EXIT_PERM, USAGE);
	for (argv += optind; *argv; argv++)
		if (!service_users_add(&k->servers, *argv))
			strerr_dieusage(EXIT_PERM, USAGE);
	if (!k->servers.len)
		service_users_put(&k->servers, geteuid());
	if (!k->clients.len)
		service_users_put(&k->clients, geteuid());
}

int
main(int argc, char *const *argv)
{
	static struct keyd k = { .life = -1 };
	unsigned int notify = 0;
	sigset_t signals;

	PROG = "qmail-keyd";
	parse_options(&k, argc, argv, &notify);
	if (geteuid() == 0)
		strerr_dief(EXIT_PERM, "never as root: run it as qmailk");
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the home");
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &signals, &k.outside) < 0)
		strerr_diefusys(EXIT_TEMP, "block signals");
	signal(SIGPIPE, SIG_IGN);
	k.listener = service_socket_listen(KEY_SOCKET);
	if (k.listener < 0)
		strerr_diefusys(EXIT_TEMP, "listen at " KEY_SOCKET);
	if (!start_workers(&k))
		strerr_dief(EXIT_TEMP, "no key can be used");
	readiness_tell(notify);
	serve(&k, &signals);
	return EXIT_OK;
}
