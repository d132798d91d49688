/* kept_getpw: processes of qmail-getpw that answer one question after another, so that not every address costs a process start.
 * Used while bin/qmail-getpw is the same file as libexec/qmail-getpw; else lookup.h runs the administrator's own for each.
 * Socket   SOCK_SEQPACKET; a question is a number of four octets, most significant first, and the local part; its answer the
 *          number, an octet, 0 or one of enum getpw_exit, and the fields
 * Trust    it runs as qmailp, and sees what anybody wrote as local part; its answers are bounded and checked
 * Ahead    a user database that answers at once is asked up to KEPT_GETPW_AHEAD questions at a time, because a wake-up costs
 *          more than an answer; one that does not, one question a process, and more processes: what lies behind a question
 *          that takes long is asked elsewhere
 * Bounds   KEPT_GETPW_MAX processes; a process ends after KEPT_GETPW_QUESTIONS, or when it had none for KEPT_GETPW_SECONDS.
 *          One more is started only when the others were silent for KEPT_GETPW_MS: a slow user database holds nobody up, and a
 *          fast one costs one process */
#ifndef KEPT_GETPW_H
#define KEPT_GETPW_H
#include <stdint.h>
#include <sys/types.h>
#include <skalibs/iopause.h>
#include <skalibs/stralloc.h>
#include <skalibs/tai.h>

enum {
	KEPT_GETPW_MAX = 32,
	KEPT_GETPW_QUESTIONS = 1000,
	KEPT_GETPW_SECONDS = 10,
	KEPT_GETPW_MS = 100,
	KEPT_GETPW_AHEAD = 16,
	KEPT_GETPW_AT_ONCE_MS = 5,	/* an answer that came within it came at once */
};

struct kept_getpw {
	struct kept_getpw_process {
		pid_t pid;		/* 0: none */
		int fd;			/* -1: it has been told to end, or is of no use */
		unsigned int open;	/* questions that it has not answered */
		unsigned int questions;
		tain since;		/* it works on its oldest question, or has none */
	} processes[KEPT_GETPW_MAX];
	int is_slow;		/* the last answer did not come at once */
	tain moved;		/* when the last answer came, or the last process or the first question since then was begun */
};

/* Gives local, which is not empty, to a process, or to a new one (as uid and gid, if we are root). Returns its index; -1:
 * not now, *until tells when it is worth asking again before an answer has come; -2 with errno set: it is impossible. */
int kept_getpw_ask(struct kept_getpw *k, uint32_t number, const char *local, uid_t uid, gid_t gid, tain *until);

/* Fills x with what to wait for, an entry for each of the KEPT_GETPW_MAX processes (its descriptor is -1 where there is
 * nothing), ends those that had nothing to do for long, and moves *deadline to when this is to be called again. */
void kept_getpw_prepare(struct kept_getpw *k, iopause_fd *x, tain *deadline);

/* Takes an answer of process i. Returns the octet and fills *number and *fields; -1: there is none now; -2: it is of no use
 * any more, and what it was asked has no answer. */
int kept_getpw_take(struct kept_getpw *k, int i, uint32_t *number, stralloc *fields);

/* Whether process i is silent for so long that what lies behind its oldest question is better asked of another. */
int kept_getpw_is_late(const struct kept_getpw *k, int i);

/* Kills process i: it takes too long. */
void kept_getpw_kill(struct kept_getpw *k, int i);

/* A child of ours has ended. */
void kept_getpw_reaped(struct kept_getpw *k, pid_t pid);

#endif
