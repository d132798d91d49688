/* keeper: the state of qmail-queued, and what its parts call of each other.
 *   qmail-queued.c  start, lock, sockets, the loop
 *   submit.c        submitters: from octets on a socket to a complete message
 *   large.c         a child that makes the files of a message too large for the ring
 *   flush.c         one batch: compose, write, flush, then answer and tell
 *   notices.c       qmail-send: what it is told, what it reports
 *   writers.c       jobs for the writers, and what they report; writer.c is the writer itself
 *   survey.c        children that read the directories: at start, and to list what waits
 * One loop, one thread: a part is called with what just happened, and never waits for another process. The only wait
 * is the flush. */
#ifndef KEEPER_H
#define KEEPER_H
#include <stdint.h>
#include <sys/types.h>
#include "channel.h"
#include "ledger.h"
#include "queue/envelope.h"
#include "queue/info.h"
#include "queue/record.h"
#include "queue/ring.h"

enum {
	SUBMITTERS_MAX = 1250,		/* connections at once */
	SUBMITTERS_NETWORK_MAX = 1000,	/* of them by qmaild, whose clients may be many and slow */
	SUBMITTERS_UID_MAX = 250,	/* of them by one uid that is none of the mail system's */
	LARGE_MAX = 320,		/* children that make large messages */
	LARGE_NETWORK_MAX = 256,	/* of them for qmaild: more than one network may have */
	LARGE_UID_MAX = 64,		/* of them for one uid that is none of the mail system's */
	SUBMIT_IDLE = 300,		/* seconds between two messages on a connection */
	SUBMIT_STALL = 3600,		/* seconds without an octet within a message */
	NEWCOMERS_MAX = 64,		/* readers, and who has said nothing yet at qmail-send's socket */
	NEWCOMER_SILENT = 60,		/* seconds until it has said what it is */
	ROOM_WAIT = 60,			/* seconds that a message waits for room in the ring, or for a child */
	OUTCOME_WAIT_MS = 200,		/* what became of a message is on disk after this time */
	TELL_GATHER_MS = 10,		/* after qmail-send was told something, what comes next is gathered for so long */
	TELL_HELD_MAX = 32 << 10,	/* octets that are gathered */
	SEND_UNSENT_MAX = 1 << 20,	/* octets that may wait for qmail-send to read them */
	REPORTS_MAX = 4096,		/* reports that may wait for a flush: no more are read meanwhile */
	WRITERS = 2,
	WRITER_BATCH = 64,		/* jobs that a writer does with common flushes of directories */
	JOB_RETRY = 5,			/* seconds after a job that failed */
	SAY_RETRY = 60,			/* seconds after which is told what could not be said */
	CHILD_FRAME_MAX = 64 << 20,	/* octets of a frame between keeper and its children */
};

struct keeper;

/* Something with a descriptor that the loop watches; the first member of what it belongs to. */
struct source {
	int fd;
	uint32_t watched;	/* events that the loop waits for; 0: none */
	void (*ready)(struct keeper *k, struct source *s, uint32_t events);
};

enum submitter_state { SUBMIT_READING, SUBMIT_IS_COMPLETE, SUBMIT_IS_LARGE, SUBMIT_IS_DEAD };

struct submitter {
	struct source source;
	struct submitter *next, *previous;	/* all of them */
	struct submitter *next_complete;	/* those whose message waits for the next batch */
	struct channel channel;
	uid_t uid;
	enum submitter_state state;
	stralloc message, envelope;
	struct envelope_check check;
	unsigned int code;		/* why the message will be refused; its rest is read and dropped */
	int error;			/* errno of a child that could not make the files; 0 none */
	int begun;			/* a frame of a message came */
	uint64_t heard;			/* monotonic ms of the last octet, or of becoming complete */
	uint64_t number;		/* while it is being flushed, or made by a child */
	uint32_t record;		/* index in the batch */
	struct source report;		/* of the child that makes a large message; fd -1 */
	struct channel report_channel;
	uint64_t birth;			/* as the child reports it */
	struct channel relay;		/* what it says for qmail-send, until a message is whole; fd -1 */
	int made, told;			/* the child has reported; qmail-send was told the whole message */
};

/* A connection to qmail-send's socket whose first frame has not come; or a reader: one that waits for the scan of the
 * start, then the child that answers it. */
struct newcomer {
	struct source source;
	struct channel channel;		/* to the peer; once it is answered, to the child, which says nothing but that it ends */
	uint64_t came;			/* monotonic ms */
	int is_reader, is_answered;
	struct newcomer *next;
};

/* An outcome or end that qmail-send reported, until it is flushed and confirmed. */
struct report {
	uint64_t number;
	uint32_t recipient;		/* QUEUE_INDEX_END: the end */
	char result;
	stralloc text;
};

struct wanted { uint64_t number; char job; };	/* job: enum writer_job */

struct writer {
	struct source source;
	struct channel channel;
	pid_t pid;
	int is_dismissed;		/* told to end, and not heard any more */
	unsigned int jobs_len;
	struct wanted jobs[WRITER_BATCH];	/* that it works on */
};

/* A child that reads info files and says what qmail-send is to be told. */
struct survey {
	struct source source;
	struct channel channel;
	pid_t pid;
	int scan;			/* the one of the start, which finds the numbers as well */
	int finished;			/* it said that it came to its end */
	int unwanted;			/* a list whose qmail-send has gone */
	uint64_t batch;			/* the first that its memory, that of the fork, does not have */
	struct channel relay;		/* the message that it is saying, until it is whole; fd -1 */
	struct survey *next;
};

struct keeper {
	int epoll;
	int lock;
	uint64_t ring_size;		/* of a ring that has to be made */
	struct ring ring;
	struct ledger ledger;
	uint64_t first_number;		/* of this keeper: what is below may have files of an earlier one */
	uint64_t next_number;
	int scanned;			/* the names in the directories are known */
	uid_t alias, qmaild, qmails;	/* (uid_t)-1: no such user */
	uint64_t now_ms;		/* monotonic, at the start of the turn */

	struct source submit_listener, send_listener, signals;
	struct submitter *submitters;
	unsigned int submitters_len, large_len;
	int accepting;			/* the listeners are watched */
	int is_short;			/* of descriptors or memory for connections; it was said */
	struct submitter *complete, **complete_end;
	int lacks_room;			/* in the ring, for what is complete or reported */

	struct report *reports;		/* not yet flushed */
	size_t reports_len, reports_room;
	uint64_t reports_since;		/* monotonic ms of the oldest */

	struct source send;		/* qmail-send's connection; fd -1: none */
	struct channel send_channel;
	struct newcomer *newcomers;
	unsigned int newcomers_len;
	int listing;			/* it asked for the list: new messages are told */
	int list_wanted;		/* it asked, and reports from before come first */
	int list_running;		/* NOTICE_ALL is owed */
	uint64_t tried_until;		/* wall clock: NOTICE_HELLO's */
	uint64_t tell_from;		/* monotonic ms: until then what is to be said is gathered */
	int has_told;			/* in this turn */
	uint64_t *tell;			/* numbers to tell once it reads again */
	size_t tell_len, tell_done, tell_room;
	stralloc unsaid;		/* numbers (8 octets each) that could not be said */
	uint64_t unsaid_from;		/* monotonic ms: they are told */

	struct writer writers[WRITERS];
	struct wanted *wanted;	/* jobs not yet given to a writer */
	size_t wanted_len, wanted_done, wanted_room;
	uint64_t missed_at;		/* monotonic ms: jobs that found no memory, or another job, are looked for; 0: there are none */
	uint64_t jobs_from;		/* monotonic ms: no new job before, since one failed */
	int disk_trouble;		/* the last job failed: room in the ring may not come */

	struct survey *surveys;
	uint64_t *later;		/* moved numbers that a survey is to list */
	size_t later_len, later_room;
	int stop;			/* SIGTERM came */
};

/* --- qmail-queued.c */
int keeper_watch(struct keeper *k, struct source *s, uint32_t events);	/* adds or changes; 1, or 0 with errno */
void keeper_unwatch(struct keeper *k, struct source *s);	/* and closes nothing */
void keeper_log(const char *kind, const char *text, uint64_t number, int error);	/* "warning", "alert", "info"; number or
										 * error 0: not said. Drops the line if the log is not read */
/* A child of the keeper with a channel to it: 0 in the child, whose end is *fd; in the parent its pid, and *fd is the
 * parent's end, non-blocking. -1 with errno. Of the keeper's connections, sockets and other children's channels the child
 * has none but the client keep (-1: none), or a peer would not see that the keeper closed its end. */
pid_t keeper_fork(struct keeper *k, int *fd, int keep);
uint64_t keeper_take_number(struct keeper *k);

/* --- submit.c */
void submit_accept(struct keeper *k, struct source *s, uint32_t events);
void submit_run_short(struct keeper *k);	/* no more connections for a moment, because of errno */
void submit_answer(struct keeper *k, struct submitter *s, unsigned int code, uint64_t number, uint64_t time);
void submit_refuse_for_memory(struct keeper *k, struct submitter *s);	/* for now, and the log says so */
void submit_next(struct keeper *k, struct submitter *s);	/* goes on reading after an answer */
void submit_expire(struct keeper *k);	/* now and then: cuts off who stalls, starts what could not start */
void submit_free_dead(struct keeper *k);
/* How much of something a uid may have at once. */
unsigned int submit_share(const struct keeper *k, uid_t uid, unsigned int of_user, unsigned int of_network, unsigned int all);
void submit_kill(struct keeper *k, struct submitter *s);	/* gone at the end of the turn */
size_t submit_received_field(char *out, size_t room, const struct keeper *k, uid_t uid, uint64_t number, uint64_t now);

/* --- large.c */
int large_start(struct keeper *k, struct submitter *s);	/* 1; 0: no child now, try again */
void large_start_waiting(struct keeper *k);

/* --- flush.c */
int flush_due(const struct keeper *k, uint64_t *at);	/* 1: at (monotonic ms) something has to be flushed */
void flush_turn(struct keeper *k);
int flush_empty(struct keeper *k);			/* a batch of its own for tail and limit; 1, 0 */

/* --- notices.c */
void notices_accept(struct keeper *k, struct source *s, uint32_t events);
void notices_tell(struct keeper *k, uint64_t number, const struct record *r, const struct queue_place *place);
void notices_tell_later(struct keeper *k, uint64_t number);	/* once qmail-send reads, as it is then */
void notices_put_off(struct keeper *k, uint64_t number);	/* it could not be said: tell it later */
void notices_pump(struct keeper *k);		/* says what is owed, and flushes */
void notices_flush(struct keeper *k);		/* what was put for qmail-send since, if it is time */
int notices_due(const struct keeper *k, uint64_t *at);	/* 1: at (monotonic ms) notices_flush has something to say */
void notices_answer_readers(struct keeper *k);	/* the scan has ended */
void notices_expire(struct keeper *k);		/* now and then: cuts off who does not say what it is */
void notices_confirm(struct keeper *k, const struct report *r);
void notices_place(struct keeper *k, uint64_t number, const struct queue_place *place);
void notices_place_of(struct keeper *k, uint64_t number);
void notices_relay(struct keeper *k, struct channel *whole, const struct channel_frame *f);
void notices_close(struct keeper *k);
int notices_full(const struct keeper *k);	/* qmail-send does not read: wait */
int notices_is_report_pending(const struct keeper *k, uint64_t number);
/* Frames that say a message: NOTICE_MESSAGE, NOTICE_RCPT..., NOTICE_OVER. outcomes: those known, in any order; with_done:
 * also those delivered. Returns 1, or 0 (ENOMEM). */
int notices_put(struct channel *c, const struct queue_notice *n, const char *envelope,
    const struct info_outcome *outcomes, uint32_t outcomes_len, int with_done);

/* --- writers.c */
int writers_start(struct keeper *k);
void writers_turn(struct keeper *k);		/* gives out jobs */
void writers_defer(struct keeper *k, struct message *m);	/* it gets files, or an info that says so */
void writers_unlink(struct keeper *k, struct message *m);
void writers_verify(struct keeper *k, struct message *m);	/* then tells its place, or sets it aside */

/* --- writer.c: the child */
void writer_run(struct channel *keeper, const struct ring *ring) __attribute__((noreturn));
enum writer_job { WRITER_NONE = 0, WRITER_MOVE = 'M', WRITER_INFO = 'I', WRITER_UNLINK = 'U', WRITER_VERIFY = 'V', WRITER_ASIDE = 'S',
	WRITER_REPORT = 'r' };
int writer_sync_dir(const char *path);		/* 1, or 0 with errno */
/* Writes and flushes a new file whole; there may be an old one of an earlier attempt. 1, or 0 with errno, no file left. */
int writer_make_file(const char *path, const char *s, size_t len);

/* --- survey.c */
/* number (8), but for the last, which is empty; notices come between them */
enum survey_frame { SURVEY_FOUND = 'f', SURVEY_DAMAGED = 'd', SURVEY_RUBBISH = 'u', SURVEY_FINISHED = 'e' };
int survey_scan(struct keeper *k);
int survey_list(struct keeper *k, const uint64_t *numbers, size_t len);
int survey_reader(struct keeper *k, const struct channel *c);	/* a child that answers SEND_READ to the peer of c: the descriptor
						 * whose end tells the child's; -1 and a line in the log: it cannot be made */
int survey_later(struct keeper *k, uint64_t number);	/* list this one too; 1, or 0 (ENOMEM) */
void survey_start_later(struct keeper *k);
void survey_resume(struct keeper *k);		/* qmail-send reads again */
void survey_end_lists(struct keeper *k);	/* qmail-send has gone */
/* Say one message, in its files or in the ring: 1; 0 not there or damaged; -1 with errno. */
int survey_say(struct channel *c, uint64_t number, const struct keeper *k, int with_done);
int survey_say_ring(struct channel *c, const struct keeper *k, const struct message *m, int with_done);

#endif
