/* job: what qmail-send and a worker (qmail-local, qmail-remote) say to each other over the worker's socket, and what
 * qmail-send and a spawner (qmail-lspawn, qmail-rspawn) say. Frames of lib/channel; numbers most significant first.
 *
 * 1. Worker. qmail-send hands over up to JOB_BATCH jobs at once; each is answered once for each of its recipients,
 *    in any order. A worker ends when its socket does. Everything in an answer is believed about this job only.
 *
 *      qmail-send   JOB        id (4), strings (4), message size (8), the strings each ended by NUL, the message.
 *                   JOB_FILE   the same without the message: it is the file whose descriptor rides on the frame,
 *                              opened for this job alone, read-only, at offset 0; its length is the message size
 *      worker       JOB_DONE   id (4), recipient (4), letter (1: K delivered, k handed to a host that sees to the
 *                              delivery reports of RFC 3461 itself, Z deferred, D failed, and of local workers
 *                              JOB_BACK: not begun, for another job runs a program that takes long), text
 *
 *    Strings of a local job    sender, local, dash, ext, domain                (one recipient, number 0); and if there
 *                              are any, the sender's parameters, the recipient's parameters
 *    Strings of a remote job   sender, its parameters, host, then for each recipient: recipient, its parameters
 *                              (recipients counted from 0; job_remote_recipient)
 *    Parameters are those of queue/envelope.h, empty if there are none.
 *
 * 2. Spawner, on descriptor 3 of the spawner.
 *
 *      qmail-send   SPAWN_WHO    id (4), local part: whose is it? (qmail-lspawn only)
 *                   SPAWN_START  id (4), local part or host: start a worker for it. It has at most JOB_STRINGS_MAX octets
 *                   SPAWN_KILL   id (4): kill the worker that SPAWN_START id started, it does not answer
 *      spawner      SPAWN_OK     id (4), and from qmail-lspawn the user, uid, gid, home, dash and ext each ended by
 *                                NUL; the answer to SPAWN_START carries the worker's socket
 *                   SPAWN_TEMP   id (4), text: not now
 *                   SPAWN_PERM   id (4), text: never */
#ifndef JOB_H
#define JOB_H
#include <stddef.h>
#include <stdint.h>
#include "channel.h"

enum {
	JOB_BATCH = 48,			/* jobs handed to a worker that it has not answered */
	JOB_INLINE_MAX = 256 * 1024,	/* octets of a message that is sent in its frame */
	JOB_STRINGS_MAX = 64 * 1024,	/* octets of all strings of a job */
	JOB_RECIPIENTS_MAX = 100,	/* recipients of a remote job, RFC 5321 section 4.5.3.1.8 */
	JOB_FRAME_MAX = 16 + JOB_STRINGS_MAX + JOB_INLINE_MAX,
	JOB_TEXT_MAX = 10000,		/* octets of an answer's text; longer ones are cut by the worker */
	JOB_WORKER_FD = 3,		/* a worker's socket, and a spawner's */
	JOB_WORKER_JOBS = 1000,		/* a worker is thrown away after as many messages */
	JOB_PATIENCE_MS = 2 * 1000,	/* a program of one local job runs so long: then the worker gives the others back */
	JOB_WORKER_SECONDS = 600,	/* or gets no more after this time; it ends by itself when it has got none for as long */
};

enum job_local_string {
	JOB_LOCAL_SENDER, JOB_LOCAL_PART, JOB_LOCAL_DASH, JOB_LOCAL_EXT, JOB_LOCAL_DOMAIN, JOB_LOCAL_STRINGS,
	JOB_LOCAL_SENDER_PARAMETERS = JOB_LOCAL_STRINGS, JOB_LOCAL_PARAMETERS, JOB_LOCAL_STRINGS_ALL,
};
enum job_remote_string {
	JOB_REMOTE_SENDER, JOB_REMOTE_SENDER_PARAMETERS, JOB_REMOTE_HOST, JOB_REMOTE_FIRST_RECIPIENT,
};

enum job_frame { JOB = 'J', JOB_FILE = 'F', JOB_DONE = 'A' };
enum job_letter { JOB_BACK = 'B' };
enum spawn_frame {
	SPAWN_WHO = '?', SPAWN_START = 'S', SPAWN_KILL = 'X', SPAWN_OK = 'K', SPAWN_TEMP = 'Z', SPAWN_PERM = 'D',
};

struct job {
	uint32_t id;
	uint32_t strings_len;	/* number of strings */
	const char *strings;	/* the first one; each is followed by the next */
	uint64_t size;		/* octets of the message */
	const char *message;	/* NULL: in the file fd */
	int fd;			/* JOB_FILE: the caller closes it; else -1 */
};

/* Reads a frame of type JOB or JOB_FILE that came over c. Returns 1 and fills *job, whose pointers are valid until the
 * next channel_receive; 0 if it is malformed (the caller closes the channel). */
int job_parse(struct job *job, struct channel *c, const struct channel_frame *f);

/* The nth string (from 0) of a job, NUL-terminated; NULL if there are not as many. */
const char *job_string(const struct job *job, uint32_t n);

/* Recipients of a remote job; 0 if its strings are not those of one, or of more than JOB_RECIPIENTS_MAX. */
uint32_t job_remote_recipients(const struct job *job);

/* The place of the nth recipient (from 0) among the strings of a remote job; its parameters are in the next one. */
uint32_t job_remote_recipient(uint32_t n);

/* Takes the recipients of a remote job apart: job_remote_recipients of them, whose strings are the job's. The host of the first and
 * of those of the same domain is JOB_REMOTE_HOST, that of others what is behind their last '@'. Other domains are in a job if their mail
 * went to the same relay by control/smtproutes when qmail-send looked: the worker has its own look. */
struct job_recipient { const char *address, *parameters, *host; };
void job_remote_take(const struct job *job, struct job_recipient to[JOB_RECIPIENTS_MAX]);

/* Queues a job for a worker. strings: strings_len strings, each ended by NUL, strings_size octets in all. message NULL:
 * fd is sent (and closed by the channel). Returns 1, or 0 with errno set (fd stays the caller's). */
int job_put(struct channel *c, uint32_t id, const char *strings, uint32_t strings_len, size_t strings_size,
    uint64_t size, const char *message, int fd);

/* Queues a worker's answer; text is cut at JOB_TEXT_MAX. Returns 1, or 0 with errno set. */
int job_answer(struct channel *c, uint32_t id, uint32_t recipient, char letter, const char *text, size_t len);

#endif
