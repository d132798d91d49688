/* classic: a worker that delivers remote jobs by running qmail-remote(8) as qmail does, message on descriptor 0 and report
 * on 1: `bin/qmail-remote host sender recipient ...`, or the program that QMAILREMOTE names.
 * A program that is not ours gets one recipient at a time, which is all that qmail ever gave it.
 * Trust    the worker is qmailr; message and texts are anybody's octets and only passed on
 * Bounds   one job at a time; CLASSIC_REPORT_MAX octets of report, a program that prints more is killed. How long a
 *          program may take is qmail-send's to decide, which has the worker's process group killed. */
#ifndef CLASSIC_H
#define CLASSIC_H

enum { CLASSIC_REPORT_MAX = 2 << 20 };	/* octets: 100 recipients with a long text each */

/* 1 if the program that jobs are to be given to is our own qmail-remote: bin/qmail-remote and libexec/qmail-remote of the current
 * directory are one file, and QMAILREMOTE names no other. It can be a kept worker then, which needs nothing of this. */
int classic_is_ours(void);

/* Serves the jobs that come on descriptor 3 until its end, then exits. */
_Noreturn void classic_serve(void);

#endif
