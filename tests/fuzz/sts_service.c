/* qmail-mtastsd, given any octets by who asks, by what fetches policies, and by its files. The input is pieces, each after a letter (enum piece)
 * and its length of two octets. A policy is said to those only who ask about the domain that it was fetched for, and as it came; what is
 * kept on disk is read again the same, and all that is there has the name of a domain. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include "bin-src/remote/sts_service.h"
#include "given.h"
#include "service_socket.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_fsync(int fd);
int __real_poll(struct pollfd *p, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);
time_t __wrap_time(time_t *t);

enum piece {
	FILE_PIECE = 'f',	/* the text of a file, there before it starts: name, NUL, text */
	QUESTION = 'q',		/* somebody asks */
	FETCHED = 'a',		/* what is to be fetched is answered, the oldest first */
	TIME = 't',		/* so many seconds pass (4 octets) */
};
enum { CLIENTS = 8, SAID_MAX = 32, BEGIN = 1000000000 };

static struct sts_service service;
static char directory[] = "/tmp/fuzz-sts_service.XXXXXX";
static uint64_t seconds;
static int fetcher = -1;		/* the other end */

/* What was said of domains, which a policy may be. */
static struct { char domain[STS_DOMAIN_MAX + 1]; struct given text; } said[SAID_MAX];
static size_t said_len;

/* --- the clock ------------------------------------------------------------------------------------------------- */

int
__wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	(void)clock;
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
	(void)timeout;
	return n == 1 && p->fd == STDERR_FILENO ? 0 : __real_poll(p, n, 0);
}

int
__wrap_fsync(int fd)
{
	assert(fd >= 0);
	return 0;
}

/* --- files ------------------------------------------------------------------------------------------------------ */

static void
remember(const char *domain, struct given text)
{
	if (said_len == SAID_MAX || !sts_cache_is_domain(domain))
		return;
	strcpy(said[said_len].domain, domain);
	said[said_len++].text = text;
}

static int
was_said(const char *domain, const char *text, size_t len)
{
	for (size_t i = 0; i < said_len; i++) {
		const struct given *g = &said[i].text;

		/* of a file, all behind the first line */
		if (strcmp(said[i].domain, domain) == 0 && g->len >= len && memcmp(g->s + g->len - len, text, len) == 0)
			return 1;
	}
	return 0;
}

static void
write_file(struct given g)
{
	char *name = given_string(given_until(&g, '\0')), path[sizeof directory + STS_DOMAIN_MAX + 2];
	int fd = -1;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	if (*name && strlen(name) <= STS_DOMAIN_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0) {
		if (g.len)
			assert(write(fd, g.s, g.len) == (ssize_t)g.len);
		close(fd);
		remember(name, g);
	}
	free(name);
}

/* Empties the directory. */
static void
remove_files(void)
{
	DIR *dir = opendir(directory);
	const struct dirent *e;

	assert(dir);
	while ((e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
			assert(sts_cache_is_domain(e->d_name));
			assert(unlinkat(dirfd(dir), e->d_name, 0) == 0);
		}
	closedir(dir);
}

/* The files are the policies. */
static void
read_again(void)
{
	static struct sts_cache again;

	assert(sts_cache_open(&again, directory, service.wall));
	for (size_t i = 0; i < again.len; i++) {
		const struct sts_cached *e = again.entries[i], *of = sts_cache_find(&service.cache, e->domain, service.wall);

		assert(of && of->policy.len == e->policy.len && memcmp(of->text, e->text, e->policy.len) == 0);
		assert(strcmp(of->id, e->id) == 0 && of->fetched == e->fetched);
	}
	sts_cache_close(&again);
}

/* --- who asks, and what is fetched ------------------------------------------------------------------------------------ */

static struct { int fd; char domain[STS_DOMAIN_MAX + 1]; } clients[CLIENTS];
static unsigned int clients_len;

/* One connection; as one that was accepted. */
static void
ask(struct given question)
{
	int pair[2];

	if (clients_len == CLIENTS)
		return;
	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	service.clients[service.clients_len++] = (struct sts_asking){ .fd = pair[0], .deadline = UINT64_MAX };
	clients[clients_len].fd = pair[1];
	snprintf(clients[clients_len++].domain, STS_DOMAIN_MAX + 1, "%.*s", (int)question.len, (const char *)question.s);
	if (question.len)
		assert(send(pair[1], question.s, question.len, MSG_NOSIGNAL) == (ssize_t)question.len);
	else
		shutdown(pair[1], SHUT_WR);
}

static void
fetch(struct given answer)
{
	char domain[STS_DOMAIN_MAX + 1];
	int fd = -1;
	ssize_t n = service_socket_receive(fetcher, domain, sizeof domain - 1, &fd);

	if (n <= 0)
		return;
	domain[n] = '\0';
	assert(fd >= 0 && sts_cache_is_domain(domain));
	if (answer.len && *answer.s == 'P')
		remember(domain, (struct given){ answer.s + 1, answer.len - 1 });
	/* it may have come to an end without waiting for that */
	if (answer.len)
		assert(send(fd, answer.s, answer.len, MSG_NOSIGNAL) == (ssize_t)answer.len || errno == EPIPE);
	close(fd);
}

/* Looks at what was answered. */
static void
hear(void)
{
	static char packet[1 + STS_POLICY_MAX + 1];

	for (unsigned int i = 0; i < clients_len; i++) {
		ssize_t n = clients[i].fd < 0 ? -1 : recv(clients[i].fd, packet, sizeof packet, MSG_DONTWAIT);

		if (n < 0)
			continue;
		if (n > 0 && *packet == 'P')
			assert(was_said(clients[i].domain, packet + 1, (size_t)n - 1));
		else
			assert(n == 0 || (n == 1 && *packet == 'N'));
		close(clients[i].fd);
		clients[i].fd = -1;
	}
}

static void
turn(void)
{
	for (int i = 0; i < 3; i++)
		assert(sts_service_turn(&service));
	hear();
	for (size_t i = 0; i < service.cache.len; i++) {
		const struct sts_cached *e = service.cache.entries[i];

		assert(!i || strcmp(service.cache.entries[i - 1]->domain, e->domain) < 0);
		assert(sts_cache_is_domain(e->domain) && was_said(e->domain, e->text, e->policy.len));
	}
}

/* --- a run ------------------------------------------------------------------------------------------------------------------ */

static void
clean_up(void)
{
	rmdir(directory);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	if (!mkdtemp(directory) || atexit(clean_up))
		err(1, "%s", directory);
	return 0;
}

static void
start(void)
{
	int pair[2];

	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	fetcher = pair[1];
	service.fetcher = pair[0];
	service.listener = -1;
	service.clients_len = 0;
	service.said = service.listen_again = service.sweep = 0;
	memset(service.failures, 0, sizeof service.failures);
	assert(sts_service_start(&service) && sts_cache_open(&service.cache, directory, service.wall));
}

static void
stop(void)
{
	for (unsigned int i = 0; i < service.clients_len; i++)
		if (service.clients[i].fd >= 0)
			close(service.clients[i].fd);
	for (size_t i = 0; i < STS_SERVICE_FETCHES; i++)
		if (service.fetches[i].fd >= 0)
			close(service.fetches[i].fd);
	while (clients_len)
		if (clients[--clients_len].fd >= 0)
			close(clients[clients_len].fd);
	close(service.fetcher), close(fetcher);
	sts_cache_close(&service.cache);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	int is_started = 0;

	said_len = 0;
	seconds = 0;
	while (g.len) {
		enum piece kind = (enum piece)given_number(&g, 1);
		struct given piece = given_piece(&g, given_number(&g, 2));

		if (kind == FILE_PIECE && !is_started)
			write_file(piece);
		if (kind == FILE_PIECE)
			continue;
		if (!is_started)
			start();
		is_started = 1;
		if (kind == QUESTION)
			ask(piece);
		else if (kind == FETCHED)
			fetch(piece);
		else if (kind == TIME)
			seconds += given_number(&piece, 4);
		turn();
	}
	if (!is_started)
		start();
	read_again();
	stop();
	remove_files();
	return 0;
}
