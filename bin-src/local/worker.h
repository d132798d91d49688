/* worker: qmail-local as a kept worker of its user; lib/job.h says how it is talked to.
 * Trust    qmail-send is believed; what it hands over is as hostile as any message
 * Bounds   JOB_BATCH jobs in memory, their frames WORKER_BATCH_OCTETS and at most a frame more (JOB_FRAME_MAX); what else
 *          was handed over stays in the socket until these are answered */
#ifndef WORKER_H
#define WORKER_H
#include "delivery.h"

enum { WORKER_BATCH_OCTETS = 4 * 1024 * 1024 };

/* Takes jobs from descriptor JOB_WORKER_FD until it ends, JOB_WORKER_JOBS jobs were taken or none came for JOB_WORKER_SECONDS.
 * Each job that came is done, or is answered.
 * classic: each job is handed to bin/qmail-local of the qmail home. Returns an exit status. */
int worker_run(const struct delivery_account *account, int classic);

#endif
