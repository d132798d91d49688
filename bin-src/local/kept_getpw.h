/* kept_getpw: processes of qmail-getpw that answer one question after another, so that not every address costs a process start.
 * Used while bin/qmail-getpw is the same file as libexec/qmail-getpw; else lookup.h runs the administrator's own for each.
 * Socket   SOCK_SEQPACKET; a question is the local part, its answer an octet, 0 or one of enum getpw_exit, then the fields
 * Trust    it runs as qmailp, and sees what anybody wrote as local part; its answers are bounded and checked
 * Bounds   KEPT_GETPW_MAX processes, one question each at a time; a process ends after KEPT_GETPW_QUESTIONS, or when it had
 *          none for KEPT_GETPW_SECONDS. One more is started only when the others were silent for KEPT_GETPW_MS: a slow user
 *          database holds nobody up, and a fast one costs one process */
#ifndef KEPT_GETPW_H
#define KEPT_GETPW_H
#include <sys/types.h>
#include <skalibs/stralloc.h>
#include <skalibs/tai.h>

enum {
	KEPT_GETPW_MAX = 32,
	KEPT_GETPW_QUESTIONS = 1000,
	KEPT_GETPW_SECONDS = 10,
	KEPT_GETPW_MS = 100,
};

struct kept_getpw {
	struct kept_getpw_process {
		pid_t pid;		/* 0: none */
		int fd;			/* -1: it has been told to end */
		int is_busy;
		unsigned int questions;
		tain idle_until;
	} processes[KEPT_GETPW_MAX];
	unsigned int busy;
	tain moved;		/* when the last answer came, or the last process or the first question since then was begun */
};

/* Whether they may be used: qmail-getpw was not replaced. */
int kept_getpw_is_ours(void);

/* Gives local, which is not empty, to a process that is idle, or to a new one (as uid and gid, if we are root). Returns
 * its index; -1: not now, *until tells when it is worth asking again before an answer has come; -2 with errno set: it is
 * impossible. */
int kept_getpw_ask(struct kept_getpw *k, const char *local, uid_t uid, gid_t gid, tain *until);

/* Takes the answer of process i, whose descriptor is readable. Returns the octet and fills *fields, or -1: it is of no use any
 * more. */
int kept_getpw_take(struct kept_getpw *k, int i, stralloc *fields);

/* Kills process i: it takes too long. */
void kept_getpw_kill(struct kept_getpw *k, int i);

/* A child of ours has ended. */
void kept_getpw_reaped(struct kept_getpw *k, pid_t pid);

/* Ends those that had nothing to do for long; moves *deadline to when the next has. */
void kept_getpw_expire(struct kept_getpw *k, tain *deadline);

#endif
