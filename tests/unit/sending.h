/* sending: qmail-send without its main, for unit tests: one struct send in a home of its own (directory.h), with clocks that
 * stand still, and a log in a file. The test plays the keeper, the spawners and the workers, each over a real socket.
 * Local are the recipients at here.example; the user is what stands before their first '-'. */
#ifndef UNIT_SENDING_H
#define UNIT_SENDING_H
#include "bin-src/send/send.h"
#include "job.h"

extern struct send *sending;
extern struct channel sending_keeper, sending_spawners[ROUTE_CHANNELS];	/* the test's ends */
enum { SENDING_OCTETS = 17 };
extern const char sending_octets[SENDING_OCTETS + 1];	/* of every message that is made here */

/* Fixtures: of all tests; of each. The keeper is not there until sending_connect. */
int sending_home(void **state);
int sending_begin(void **state);
int sending_end(void **state);

/* One turn of the loop. */
void sending_turn(void);

/* As many as it takes to read so many octets from one socket. */
void sending_turns(size_t octets);

/* Milliseconds, or seconds of the wall clock as well, go by. */
void sending_later(int64_t ms);

/* Octets from the program: the next frame: 1; 0: none, -1: it closed the socket. */
int sending_heard(struct channel *c, struct channel_frame *f);

/* The next frame, which has to be of this type; there has to be none. */
struct channel_frame sending_expect(struct channel *c, char type);
void sending_expect_nothing(struct channel *c);

/* Says a frame to the program. */
void sending_say(struct channel *c, char type, const void *s, size_t len);

/* --- the keeper ------------------------------------------------------------------- */

/* Takes the program's connection; says hello and that there are no messages. */
void sending_accept(void);
void sending_connect(void);

/* Expects what is said of a recipient, or of a whole message; SEND_DONE: returns the text, NUL-terminated. */
const char *sending_expect_outcome(uint64_t number, uint32_t index, char result);
void sending_expect_about(char type, uint64_t number);
void sending_confirm(uint64_t number, uint32_t index);

/* --- messages ------------------------------------------------------------------------- */

/* A draft, which sending_new makes a message of that is in a file and due at once. */
void sending_draft(uint64_t number, const char *sender);
void sending_recipient(const char *address, const char *parameters);
struct message *sending_new(void);

/* The same with its recipients, ended by NULL. */
struct message *sending_message(uint64_t number, const char *sender, ...) __attribute__((sentinel));

/* What is due is attempted: its recipients are busy, and in no queue, as if they were in jobs. */
void sending_attempt(void);

/* --- spawners and workers ---------------------------------------------------------- */

/* Answers the question whose a local part is; the question for a worker, which the test plays then over *worker. */
void sending_answer_who(void);
void sending_start(enum route_channel channel, struct channel *worker);

/* The next job of a worker, whose strings are valid until the next one. */
struct job sending_job(struct channel *worker);
void sending_answer(struct channel *worker, uint32_t id, uint32_t recipient, char letter, const char *text);

/* --- what is left -------------------------------------------------------------------- */

/* How often the text stands in the log. */
unsigned int sending_logged(const char *text);

/* Descriptors that this process has open. */
unsigned int sending_descriptors(void);

#endif
