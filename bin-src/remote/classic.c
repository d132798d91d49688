#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/stralloc.h>
#include "classic.h"
#include "exitcode.h"
#include "job.h"
#include "remote_report.h"
#include "replaced.h"
#include "spawner.h"

#define REMOTE "bin/qmail-remote"

struct worker {
	struct channel channel;
	stralloc report, text;
	struct job_recipient recipients[JOB_RECIPIENTS_MAX];	/* of the job */
};

static void
defer_recipient(struct worker *w, const struct job *job, unsigned int n, const char *text)
{
	if (!job_answer(&w->channel, job->id, n, 'Z', text, strlen(text)))
		_exit(EXIT_TEMP);
}

/* Which program, and whether it is one that may be given several recipients. */
static const char *
choose_program(int *is_ours)
{
	const char *program = getenv("QMAILREMOTE");

	if (program && !*program)
		program = NULL;
	*is_ours = !program && is_replaced(-1, "qmail-remote") == 0;
	return program ? program : REMOTE;
}

int
classic_is_ours(void)
{
	int is_ours;

	choose_program(&is_ours);
	return is_ours;
}

/* The message of a job as a file at its start, which the caller closes; -1 if that is impossible now. */
static int
message_file(const struct job *job)
{
	int fd;

	if (!job->message)
		return job->fd;
	fd = memfd_create("message", MFD_CLOEXEC);
	if (fd >= 0 && allwrite(fd, job->message, (size_t)job->size) < job->size) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void
exec_program(const char *program, const char *const *argv, int message, int out)
{
	if (lseek(message, 0, SEEK_SET) == 0 && dup2(message, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0) {
		execv(program, (char *const *)(uintptr_t)argv);
		spawner_log("alert", "unable to exec", program);
	}
	_exit(EXIT_TEMP);
}

/* All that comes out of in, up to CLASSIC_REPORT_MAX octets. Returns 0 on trouble. */
static int
read_report(stralloc *report, int in)
{
	char octets[8192];
	ssize_t r;

	report->len = 0;
	while ((r = read(in, octets, sizeof octets)) != 0) {
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 || report->len + (size_t)r > CLASSIC_REPORT_MAX || !stralloc_catb(report, octets, (size_t)r))
			return 0;
	}
	return 1;
}

/* Runs the program; its report is in w->report. Returns NULL, or why there is none. */
static const char *
run(struct worker *w, const char *program, const char *const *argv, int message)
{
	int pipe_fds[2], wstat, whole;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return "Unable to make a pipe for qmail-remote. (#4.3.0)\n";
	pid = fork();
	if (pid == 0)
		exec_program(program, argv, message, pipe_fds[1]);
	close(pipe_fds[1]);
	if (pid < 0) {
		close(pipe_fds[0]);
		return "Unable to fork for qmail-remote. (#4.3.0)\n";
	}
	whole = read_report(&w->report, pipe_fds[0]);
	close(pipe_fds[0]);
	if (!whole)
		kill(pid, SIGKILL);
	while (waitpid(pid, &wstat, 0) < 0)
		if (errno != EINTR)
			return "Unable to wait for qmail-remote. (#4.3.0)\n";
	if (!whole)
		return "The report of qmail-remote is too long. (#4.3.0)\n";
	if (!WIFEXITED(wstat))
		return "qmail-remote crashed. (#4.3.0)\n";
	return WEXITSTATUS(wstat) ? "Unable to run qmail-remote. (#4.3.0)\n" : NULL;
}

/* Runs the program for the count recipients from first on, and answers for each. argv has room for them at its end. */
static void
deliver(struct worker *w, const struct job *job, const char *program, const char **argv, unsigned int first,
    unsigned int count, int message)
{
	const char *trouble;

	argv[1] = w->recipients[first].host;
	for (unsigned int i = 0; i < count; i++)
		argv[3 + i] = w->recipients[first + i].address;
	argv[3 + count] = NULL;
	trouble = run(w, program, argv, message);
	for (unsigned int i = 0; i < count; i++) {
		char letter;

		if (trouble) {
			defer_recipient(w, job, first + i, trouble);
			continue;
		}
		letter = remote_report_merge(&w->text, w->report.s, w->report.len, count, i);
		if (!job_answer(&w->channel, job->id, first + i, letter, w->text.s, w->text.len))
			_exit(EXIT_TEMP);
	}
}

/* How many of the len recipients at r have, one after another, the host of the first. */
static unsigned int
same_host(const struct job_recipient *r, unsigned int len)
{
	unsigned int n = 1;

	while (n < len && strcasecmp(r[n].host, r->host) == 0)
		n++;
	return n;
}

static void
do_job(struct worker *w, const struct job *job)
{
	const char *argv[3 + JOB_RECIPIENTS_MAX + 1] = { "qmail-remote", NULL, job_string(job, JOB_REMOTE_SENDER) };
	unsigned int recipients = job_remote_recipients(job);
	int is_ours;
	const char *program = choose_program(&is_ours);
	unsigned int step;
	int message = message_file(job);

	job_remote_take(job, w->recipients);
	for (unsigned int n = 0; n < recipients; n += step) {
		step = is_ours ? same_host(w->recipients + n, recipients - n) : 1;
		if (message >= 0)
			deliver(w, job, program, argv, n, step, message);
		else
			for (unsigned int i = n; i < n + step; i++)
				defer_recipient(w, job, i, "Unable to keep the message for qmail-remote. (#4.3.0)\n");
	}
	if (message >= 0)
		close(message);
}

/* Returns 0 if qmail-send broke the rules. */
static int
do_jobs(struct worker *w)
{
	struct channel_frame f;
	struct job job;
	int n;

	while ((n = channel_next(&w->channel, &f)) == 1) {
		if (!job_parse(&job, &w->channel, &f) || !job_remote_recipients(&job))
			return 0;
		do_job(w, &job);
		if (channel_flush(&w->channel) < 0)
			_exit(EXIT_OK);
	}
	return n == 0;
}

void
classic_serve(void)
{
	struct worker w = { .report = STRALLOC_ZERO };

	channel_init(&w.channel, JOB_WORKER_FD, JOB_FRAME_MAX);
	fcntl(JOB_WORKER_FD, F_SETFD, FD_CLOEXEC);
	while (channel_receive(&w.channel) >= 0)
		if (!do_jobs(&w)) {
			spawner_log("alert", "qmail-send made no sense to a worker", NULL);
			_exit(EXIT_TEMP);
		}
	_exit(EXIT_OK);
}
