#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/uint64.h>
#include "monotonic.h"
#include "queue/client.h"
#include "queue/runner.h"
#include "replaced.h"
#include "stralloc_set.h"

enum {
	PIECE = 64 * 1024,	/* octets that are gathered before they are handed on */
	RETRY_MS = 50,		/* between two tries to connect, or to send */
	RESENDS = 3,		/* of a message whose keeper went away: it may be the reason why */
};

static void
trouble(struct queue_client *q, unsigned int code)
{
	if (!q->code)
		q->code = code;
}

/* --- waiting ---------------------------------------------------------------- */

/* The end of a wait that begins now. */
static uint64_t
wait_end(const struct queue_client *q)
{
	return monotonic_ms() + (uint64_t)q->patience * 1000;
}

/* 1 if fd is ready before until, or 0 with errno set (ETIMEDOUT: it is not). */
static int
wait_for(int fd, short events, uint64_t until)
{
	struct pollfd p = { .fd = fd, .events = events };
	uint64_t now;

	while ((now = monotonic_ms()) < until) {
		int r = poll(&p, 1, (int)(until - now));

		if (r > 0)
			return 1;
		if (r < 0 && errno != EINTR)
			return 0;
	}
	errno = ETIMEDOUT;
	return 0;
}

/* --- the keeper's socket ---------------------------------------------------- */

/* A keeper that takes no connections for now is not waited for here. */
static int
connect_here(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = QUEUE_SUBMIT_SOCKET };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

/* A socket path holds 107 octets, so it is always relative to the home. */
static int
connect_from_home(int home)
{
	int here, fd = -1, e;

	if (home < 0)
		return connect_here();
	here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (here < 0)
		return -1;
	if (fchdir(home) == 0)
		fd = connect_here();
	e = errno;
	if (fchdir(here) < 0 && fd >= 0) {
		e = errno;
		close(fd);
		fd = -1;
	}
	close(here);
	errno = e;
	return fd;
}

/* 1 if connected; the keeper may be on its way up for QUEUE_CONNECT_WAIT seconds. */
static int
connect_keeper(struct queue_client *q)
{
	uint64_t deadline = monotonic_ms() + QUEUE_CONNECT_WAIT * 1000;
	int fd;

	while ((fd = connect_from_home(q->home)) < 0) {
		if (errno != ECONNREFUSED && errno != ENOENT && errno != EAGAIN && errno != EINTR)
			return 0;
		if (monotonic_ms() >= deadline)
			return 0;
		poll(NULL, 0, RETRY_MS);
	}
	channel_init(&q->keeper, fd, QUEUE_FRAME_MAX);
	return 1;
}

/* Whether a kept connection is still good: nothing may come from the keeper between two messages. */
static int
still_connected(const struct queue_client *q)
{
	struct pollfd p = { .fd = q->keeper.fd, .events = POLLIN };

	return q->keeper.fd >= 0 && poll(&p, 1, 0) == 0;
}

static int
put_pieces(struct queue_client *q, char type, const stralloc *octets)
{
	for (size_t i = 0; i < octets->len; i += PIECE) {
		size_t n = octets->len - i < PIECE ? octets->len - i : PIECE;

		if (!channel_put1(&q->keeper, type, octets->s + i, n))
			return 0;
	}
	return 1;
}

/* Writes what is queued for the keeper. Returns 1, or 0 with errno set. */
static int
flush(struct queue_client *q)
{
	uint64_t until = wait_end(q);
	int r;

	while ((r = channel_flush(&q->keeper)) == 0)
		if (!wait_for(q->keeper.fd, POLLOUT, until))
			return 0;
	return r > 0;
}

static unsigned int
code_of_wait(int error)
{
	return error == ETIMEDOUT ? QUEUE_TIMEOUT : QUEUE_TALK;
}

/* Hands on what was gathered of a message too large to wait for its end. */
static void
stream(struct queue_client *q)
{
	if (q->keeper.fd < 0 && !connect_keeper(q)) {
		trouble(q, QUEUE_CONNECT);
		return;
	}
	q->streaming = 1;
	if (!put_pieces(q, SUBMIT_MESSAGE, &q->message) || !put_pieces(q, SUBMIT_ENVELOPE, &q->envelope))
		trouble(q, QUEUE_NO_MEMORY);
	else if (!flush(q))
		trouble(q, code_of_wait(errno));
	q->message.len = q->envelope.len = 0;
}

/* Waits for the keeper's frame: 1, or 0 with q->code set (QUEUE_TALK: the connection ended first). */
static int
await_result(struct queue_client *q, struct queue_result *result)
{
	uint64_t until = wait_end(q);
	struct channel_frame f;
	int r;

	while ((r = channel_next(&q->keeper, &f)) == 0) {
		if (!wait_for(q->keeper.fd, POLLIN, until)) {
			q->code = code_of_wait(errno);
			return 0;
		}
		if (channel_receive(&q->keeper) < 0)
			break;
	}
	if (r != 1 || f.type != SUBMIT_RESULT || f.len != 17) {
		q->code = QUEUE_TALK;
		return 0;
	}
	result->code = (unsigned char)f.s[0];
	uint64_unpack_big(f.s + 1, &result->number);
	uint64_unpack_big(f.s + 9, &result->time);
	return 1;
}

/* One attempt to hand on the rest and to get the answer. */
static int
finish_with_keeper(struct queue_client *q, struct queue_result *result)
{
	if (q->keeper.fd < 0 && !connect_keeper(q)) {
		q->code = QUEUE_CONNECT;
		return 0;
	}
	if (!put_pieces(q, SUBMIT_MESSAGE, &q->message) || !put_pieces(q, SUBMIT_ENVELOPE, &q->envelope) ||
	    !channel_put1(&q->keeper, SUBMIT_END, "", 0)) {
		q->code = QUEUE_NO_MEMORY;
		return 0;
	}
	/* a keeper that refuses early has written its answer before it hangs up */
	if (!flush(q) && errno != EPIPE && errno != ECONNRESET) {
		q->code = code_of_wait(errno);
		return 0;
	}
	return await_result(q, result);
}

static void
end_with_keeper(struct queue_client *q, struct queue_result *result)
{
	if (q->code)
		return;
	if (finish_with_keeper(q, result))
		return;
	channel_free(&q->keeper);
	/* the keeper was restarted under our hands: a message that is still whole here is sent again. A keeper that is being
	 * killed loses its connections before it stops listening: the next connection may be one to it, too */
	for (int i = 0; i < RESENDS && q->code == QUEUE_TALK && !q->streaming; i++) {
		poll(NULL, 0, RETRY_MS);
		q->code = 0;
		if (finish_with_keeper(q, result))
			return;
		channel_free(&q->keeper);
	}
}

/* --- a program instead ------------------------------------------------------- */

/* Returns 1 with our ends in ours, q->pid and, where a runner started it, q->status_fd. */
static int
start_by_runner(struct queue_client *q, int ours[RUNNER_PIPES])
{
	q->status_fd = runner_run(q->runner, ours, &q->pid);
	return q->status_fd >= 0;
}

static int
start_by_fork(struct queue_client *q, int ours[RUNNER_PIPES])
{
	int theirs[RUNNER_PIPES];

	if (!runner_pipes(ours, theirs))
		return 0;
	signal(SIGCHLD, SIG_DFL);	/* whoever started us may have ignored it, and the status would be lost */
	q->pid = fork();
	if (q->pid == 0)
		runner_become(q->program.s, q->home, theirs);
	for (int i = 0; i < RUNNER_PIPES; i++) {
		close(theirs[i]);
		if (q->pid < 0)
			close(ours[i]);
	}
	return q->pid > 0;
}

static void
start_program(struct queue_client *q)
{
	int ours[RUNNER_PIPES];

	if (!(q->runner >= 0 ? start_by_runner(q, ours) : start_by_fork(q, ours))) {
		q->pid = 0;
		trouble(q, QUEUE_NO_MEMORY);
		return;
	}
	fcntl(ours[RUNNER_MESSAGE], F_SETFL, O_NONBLOCK);
	fcntl(ours[RUNNER_ENVELOPE], F_SETFL, O_NONBLOCK);
	q->message_fd = ours[RUNNER_MESSAGE];
	q->envelope_fd = ours[RUNNER_ENVELOPE];
	q->error_fd = ours[RUNNER_ERROR];
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Writes all octets. Returns 1, or 0: the program stopped reading, or takes too long (q->code). */
static int
write_all(struct queue_client *q, int fd, const char *octets, size_t len)
{
	uint64_t until = wait_end(q);

	while (len) {
		ssize_t n = write(fd, octets, len);

		if (n > 0) {
			octets += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN && !wait_for(fd, POLLOUT, until)) {
			trouble(q, QUEUE_TIMEOUT);
			return 0;
		} else if (errno != EAGAIN && errno != EINTR)
			return 0;
	}
	return 1;
}

/* Writes to the program without dying of SIGPIPE. A program that stopped reading says why by its exit code. */
static void
write_to_program(struct queue_client *q, int *fd, stralloc *octets)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old;

	sigaction(SIGPIPE, &ignore, &old);
	if (*fd >= 0 && !write_all(q, *fd, octets->s, octets->len)) {
		/* one that wants no envelope may be there to make mail vanish; one that wants no message cannot have it */
		q->unread |= fd == &q->message_fd;
		close_fd(fd);
	}
	sigaction(SIGPIPE, &old, NULL);
	octets->len = 0;
}

/* The program's wait status, or -1. */
static int
await_program(struct queue_client *q)
{
	int status;
	pid_t r;

	if (q->status_fd >= 0) {
		status = runner_wait(q->status_fd);
		q->status_fd = -1;
		return status;
	}
	do
		r = waitpid(q->pid, &status, 0);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -1 : status;
}

static int
wait_program(struct queue_client *q)
{
	int status;

	if (q->status_fd >= 0 && !wait_for(q->status_fd, POLLIN, wait_end(q))) {	/* it goes on */
		close_fd(&q->status_fd);
		q->pid = 0;
		return QUEUE_TIMEOUT;
	}
	status = await_program(q);
	q->pid = 0;
	return status < 0 || !WIFEXITED(status) ? QUEUE_BUG : WEXITSTATUS(status);
}

/* The program's own words; it has ended, so what it wrote is in the pipe (a child that it left behind may hold the
 * pipe open, so its end is not awaited). */
static void
read_own_text(struct queue_client *q)
{
	ssize_t n;

	fcntl(q->error_fd, F_SETFL, O_NONBLOCK);
	n = read(q->error_fd, q->text, QUEUE_ERROR_TEXT_MAX);
	q->with_text = n > 2 && (q->text[0] == 'D' || q->text[0] == 'Z');
	q->text[n > 0 ? n : 0] = '\0';
}

static void
end_with_program(struct queue_client *q, struct queue_result *result)
{
	pid_t pid = q->pid;

	if (!pid)
		return;
	if (q->code) {	/* our own trouble: the program must not see a whole envelope */
		queue_client_abandon(q);
		return;
	}
	write_to_program(q, &q->message_fd, &q->message);
	close_fd(&q->message_fd);
	write_to_program(q, &q->envelope_fd, &q->envelope);
	close_fd(&q->envelope_fd);
	if (q->code)
		return;
	result->code = (unsigned int)wait_program(q);
	if (result->code == QUEUE_OK && q->unread)
		result->code = QUEUE_READ;
	if (result->code == QUEUE_OWN_TEXT || result->code == QUEUE_OWN_TEXT_OLD)
		read_own_text(q);
	close_fd(&q->error_fd);
	result->number = (uint64_t)pid;
	result->time = (uint64_t)time(NULL);
}

/* --- both ----------------------------------------------------------------------- */

void
queue_client_open_keeper(struct queue_client *q, int home)
{
	*q = (struct queue_client){ .home = home, .patience = QUEUE_ANSWER_WAIT, .message_fd = -1, .envelope_fd = -1, .error_fd = -1, .status_fd = -1, .runner = -1 };
	channel_init(&q->keeper, -1, 0);
}

void
queue_client_open(struct queue_client *q, int home)
{
	const char *program = getenv("QMAILQUEUE");

	queue_client_open_keeper(q, home);
	if (!program || !*program) {
		int r = is_replaced(home, "qmail-queue");

		program = r ? "bin/qmail-queue" : NULL;
		q->unusable = r < 0 ? QUEUE_HOME : 0;
	}
	/* in doubt nothing is sent at all: the program that was asked for must not be gone around */
	if (program && (!stralloc_sets(&q->program, program) || !stralloc_0(&q->program)))
		q->unusable = QUEUE_NO_MEMORY;
}

int
queue_client_start_runner(struct queue_client *q)
{
	errno = q->unusable == QUEUE_NO_MEMORY ? ENOMEM : EIO;
	if (q->unusable)
		return 0;
	if (!q->program.len)
		return 1;
	q->runner = runner_start(q->program.s, q->home);
	return q->runner >= 0;
}

void
queue_client_begin(struct queue_client *q)
{
	q->message.len = q->envelope.len = 0;
	q->code = 0;
	q->streaming = q->with_text = q->unread = 0;
	if (q->unusable)
		trouble(q, q->unusable);
	else if (q->program.len)
		start_program(q);
	else if (q->keeper.fd >= 0 && !still_connected(q))
		channel_free(&q->keeper);
}

static void
gather(struct queue_client *q, stralloc *to, const char *s, size_t len)
{
	if (q->code)
		return;
	if (!stralloc_catb(to, s, len)) {
		trouble(q, QUEUE_NO_MEMORY);
		return;
	}
	if (to->len < PIECE)
		return;
	if (!q->program.len)
		stream(q);
	else if (to == &q->message)
		write_to_program(q, &q->message_fd, to);
	else {
		/* the program reads the envelope once the message has ended */
		write_to_program(q, &q->message_fd, &q->message);
		close_fd(&q->message_fd);
		write_to_program(q, &q->envelope_fd, to);
	}
}

void
queue_client_message(struct queue_client *q, const char *s, size_t len)
{
	gather(q, &q->message, s, len);
}

void
queue_client_envelope(struct queue_client *q, const char *s, size_t len)
{
	gather(q, &q->envelope, s, len);
}

static void
put_address(struct queue_client *q, char kind, const char *s, size_t len)
{
	if (memchr(s, '\0', len))
		trouble(q, QUEUE_ENVELOPE);
	else if (len > QUEUE_ADDRESS_MAX)
		trouble(q, QUEUE_ADDRESS_TOO_LONG);
	queue_client_envelope(q, &kind, 1);
	queue_client_envelope(q, s, len);
	queue_client_envelope(q, "", 1);
}

void
queue_client_sender(struct queue_client *q, const char *s, size_t len)
{
	put_address(q, 'F', s, len);
}

void
queue_client_recipient(struct queue_client *q, const char *s, size_t len)
{
	put_address(q, 'T', s, len);
}

/* The keeper checks their form. */
static void
put_parameters(struct queue_client *q, const char *parameters)
{
	size_t len = strlen(parameters);

	if (!len || q->program.len)
		return;
	if (len > QUEUE_PARAMETERS_MAX)
		trouble(q, QUEUE_REFUSED);
	queue_client_envelope(q, "P", 1);
	queue_client_envelope(q, parameters, len + 1);
}

void
queue_client_sender_parameters(struct queue_client *q, const char *parameters)
{
	put_parameters(q, parameters);
}

void
queue_client_recipient_parameters(struct queue_client *q, const char *parameters)
{
	put_parameters(q, parameters);
}

void
queue_client_end(struct queue_client *q, int terminate, struct queue_result *result)
{
	*result = (struct queue_result){ .code = 0 };
	if (terminate)
		queue_client_envelope(q, "", 1);
	if (q->program.len)
		end_with_program(q, result);
	else
		end_with_keeper(q, result);
	if (q->code) {
		result->code = q->code;
		queue_client_abandon(q);
	}
	q->idle_since = monotonic_ms() / 1000;
	q->message.len = q->envelope.len = 0;
	result->text = q->with_text ? q->text + 1 : queue_exit_text(result->code);
	result->permanent = q->with_text ? q->text[0] == 'D' : queue_exit_is_permanent(result->code);
}

void
queue_client_abandon(struct queue_client *q)
{
	/* a program sees the end of its input before the end of the envelope, and queues nothing */
	close_fd(&q->message_fd);
	close_fd(&q->envelope_fd);
	close_fd(&q->error_fd);
	if (q->pid > 0)
		wait_program(q);
	q->message.len = q->envelope.len = 0;
	channel_free(&q->keeper);
}

void
queue_client_rest(struct queue_client *q)
{
	if (q->keeper.fd >= 0 && monotonic_ms() / 1000 >= q->idle_since + QUEUE_KEEP)
		channel_free(&q->keeper);
}

void
queue_client_close(struct queue_client *q)
{
	queue_client_abandon(q);
	close_fd(&q->runner);
	stralloc_free(&q->message);
	stralloc_free(&q->envelope);
	stralloc_free(&q->program);
}

int
queue_exit_is_permanent(unsigned int code)
{
	return (code >= 11 && code <= 40) || code == QUEUE_ADDRESS_TOO_LONG_OLD;
}

const char *
queue_exit_text(unsigned int code)
{
	switch (code) {
	case QUEUE_OK: return "";
	case QUEUE_ADDRESS_TOO_LONG: case QUEUE_ADDRESS_TOO_LONG_OLD: return "envelope address too long for qq (#5.1.3)";
	case QUEUE_REFUSED: return "mail server permanently rejected message (#5.3.0)";
	case QUEUE_NO_MEMORY: return "qq out of memory (#4.3.0)";
	case QUEUE_TIMEOUT: return "qq timeout (#4.3.0)";
	case QUEUE_WRITE: return "qq write error or disk full (#4.3.0)";
	case QUEUE_READ: return "qq read error (#4.3.0)";
	case QUEUE_CONFIG: return "qq unable to read configuration (#4.3.0)";
	case QUEUE_NETWORK: return "qq trouble making network connection (#4.3.0)";
	case QUEUE_HOME: return "qq trouble in home directory (#4.3.0)";
	case 63: case 64: case 65: case 66: return "qq trouble creating files in queue (#4.3.0)";
	case QUEUE_CONNECT: return "qq: the queue does not answer (#4.3.0)";
	case 71: return "mail server temporarily rejected message (#4.3.0)";
	case 72: return "connection to mail server timed out (#4.4.1)";
	case 73: return "connection to mail server rejected (#4.4.1)";
	case QUEUE_TALK: return "communication with mail server failed (#4.4.2)";
	case QUEUE_BUG: return "qq crashed (#4.3.0)";
	case QUEUE_ENVELOPE: return "qq: the envelope is malformed (#4.3.0)";
	case QUEUE_EXEC: return "unable to exec qq (#4.3.0)";
	default:
		return queue_exit_is_permanent(code) ? "qq permanent problem (#5.3.0)" : "qq temporary problem (#4.3.0)";
	}
}
