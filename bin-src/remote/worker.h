/* worker: qmail-remote as a kept worker for one host; lib/job.h says how it is talked to.
 * Session  stays open for the next message, as long as the worker lives and the server likes it; one that the server ended
 *          meanwhile is begun anew without harm to the job
 * Trust    qmail-send is believed; messages and servers are anybody's. What this process sent is all that a server which
 *          took it over can see, and all it can lie about
 * Bounds   a frame of at most JOB_FRAME_MAX octets at a time, JOB_WORKER_JOBS jobs, JOB_WORKER_SECONDS seconds
 *          without one */
#ifndef WORKER_H
#define WORKER_H
#include "dial.h"

/* Takes jobs from descriptor JOB_WORKER_FD until it ends. trouble: NULL, or why every job is to be deferred, without a
 * full stop; it ends after the first ones then. Returns an exit status. */
int worker_run(struct dial *d, const char *trouble);

#endif
