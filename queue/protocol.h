/* protocol: what is said on the keeper's two sockets. Frames of lib/channel; numbers are most significant octet first.
 *
 * 1. QUEUE_SUBMIT_SOCKET (mode 0666): any local process submits messages, one after another on one connection.
 *    The keeper learns who calls from SO_PEERCRED alone.
 *
 *      submitter    SUBMIT_MESSAGE   octets of the message, any number of frames
 *                   SUBMIT_ENVELOPE  octets of the envelope as on qmail-queue's descriptor 1, any number of frames
 *                   SUBMIT_END       empty: the message is complete
 *      keeper       SUBMIT_RESULT    exit code of qmail-queue (1 octet), number (8), wall clock in seconds (8)
 *
 *    Message frames come before envelope frames. The next message begins after the result; a submitter that breaks
 *    the rules, or goes away before SUBMIT_END, leaves nothing behind.
 *
 * 2. QUEUE_SEND_SOCKET (in queue/, which only qmail-send's group can enter): one qmail-send at a time; a new
 *    connection that says SEND_LIST replaces the old one. Besides it at most 64 connections: readers, which leave one of them free,
 *    and those that say nothing, for 60 seconds. A message is known by its number for ever; recipients of a message are counted
 *    from 0 in the order of the envelope.
 *
 *      keeper       NOTICE_HELLO     at once: wall clock at which deliveries may last have been tried (8): attempts
 *                                    before the connection were not later than this
 *                   NOTICE_MESSAGE   a live message begins: struct queue_notice as below
 *                   NOTICE_RCPT      some of its recipients, each: index (4), state (1: 'T' to do, 'W' the same, and its
 *                                    delay was reported, 'D' failed, 'S' done, and a report of that is owed), address
 *                                    NUL, and for 'D' and 'S' the text NUL; those done ('K') are not said. A state in
 *                                    lower case: the parameters NUL stand between address and text
 *                   NOTICE_OVER      number (8): all recipients of this message were said
 *                   NOTICE_ALL       empty: every message that was live at SEND_LIST has been said
 *                   NOTICE_CONFIRM   number (8), index (4): this SEND_DONE or SEND_END is on disk
 *                   NOTICE_PLACE     number (8), struct queue_place as below: the answer to SEND_WHERE
 *      qmail-send   SEND_LIST        empty: say every live message, and from then on each new one. Before it, a
 *                                    qmail-send that was connected to an earlier keeper repeats what was not confirmed
 *                   SEND_READ        empty, from a reader such as qmail-qread: say every live message and NOTICE_ALL,
 *                                    with the recipients that are done too (state 'K'); nothing else is sent later
 *                   SEND_DONE        number (8), index (4), result (1: one of enum queue_outcome), text: what became of
 *                                    this recipient; the last result counts. Text: that of the failure; for 'S' what
 *                                    the report has to say; for the others empty. It ends at its first NUL
 *                   SEND_END         number (8): nothing is left to do for the message; its octets may go
 *                   SEND_DEFERRED    number (8): the message has to wait; never confirmed
 *                   SEND_WHERE       number (8): its octets were not where the notice said
 *                   SEND_DAMAGED     number (8), place as last told: the octets there are not the message. The keeper
 *                                    looks for itself and answers with NOTICE_PLACE (of kind PLACE_NONE if it sets
 *                                    the message aside)
 *
 *    A new keeper confirms also what it does not know (any more). A qmail-send that does not read what it is
 *    told, or reports more than can be flushed, is not heard meanwhile. */
#ifndef QUEUE_PROTOCOL_H
#define QUEUE_PROTOCOL_H
#include <stdint.h>

/* relative to the home */
#define QUEUE_SUBMIT_SOCKET "run/qmail-queued"
#define QUEUE_SEND_SOCKET "queue/qmail-send"
#define QUEUE_RING_DIR "queue/journal"

enum {
	QUEUE_FRAME_MAX = 128 * 1024,	/* octets of payload of every frame on both sockets */
	QUEUE_ADDRESS_MAX = 1002,	/* octets of an address in an envelope, without its NUL */
	QUEUE_PARAMETERS_MAX = 1000,	/* octets of the parameters of an address (queue/envelope.h), without the NUL */
	QUEUE_ENVELOPE_MAX = 16 << 20,	/* octets of an envelope; more is refused for good (exit 31) */
	QUEUE_INLINE_MAX = 256 * 1024,	/* message and envelope together: above, the message has a file of its own */
	QUEUE_TEXT_MAX = 10000,		/* octets of a failure text; qmail-send cuts */
	QUEUE_SPLIT = 23,		/* folders below mess/ and info/ */
	QUEUE_DIGEST = 32,		/* octets of the digest of a file: queue/digest.h */
	QUEUE_KEY = 16, QUEUE_KEYED_DIGEST = 8,	/* the same of the ring */
};

enum queue_submit_frame { SUBMIT_MESSAGE = 'M', SUBMIT_ENVELOPE = 'E', SUBMIT_END = '.', SUBMIT_RESULT = 'R' };

enum queue_send_frame {
	NOTICE_HELLO = 'H', NOTICE_MESSAGE = 'N', NOTICE_RCPT = 'R', NOTICE_OVER = 'O', NOTICE_ALL = 'A',
	NOTICE_CONFIRM = 'C', NOTICE_PLACE = 'P',
	SEND_LIST = 'L', SEND_READ = 'Q', SEND_DONE = 'D', SEND_END = 'X', SEND_DEFERRED = 'W', SEND_WHERE = '?', SEND_DAMAGED = 'B',
};

/* What became of a recipient: also in the ring and in info files. */
enum queue_outcome {
	OUTCOME_DONE = 'K',		/* nothing is left to do */
	OUTCOME_FAILED = 'D',		/* nothing but the bounce */
	OUTCOME_SUCCEEDED = 'S',	/* delivered; the report that its sender asked for (RFC 3461) is not yet made */
	OUTCOME_DELAYED = 'W',		/* still to do; its delay was reported */
};
int queue_outcome_is(char result);	/* 1 if it is one of them */
int queue_outcome_has_text(char result);

#define QUEUE_INDEX_END UINT32_C(0xffffffff)	/* index in NOTICE_CONFIRM of a SEND_END */

/* Exit codes of qmail-queue that the keeper gives; the others are the client's own. */
enum queue_exit {
	QUEUE_OK = 0, QUEUE_ADDRESS_TOO_LONG = 11, QUEUE_REFUSED = 31, QUEUE_NO_MEMORY = 51, QUEUE_TIMEOUT = 52,
	QUEUE_WRITE = 53, QUEUE_READ = 54, QUEUE_CONFIG = 55, QUEUE_NETWORK = 56, QUEUE_HOME = 61, QUEUE_CONNECT = 62,
	QUEUE_TALK = 74, QUEUE_BUG = 81, QUEUE_OWN_TEXT = 82, QUEUE_OWN_TEXT_OLD = 88, QUEUE_ENVELOPE = 91,
	QUEUE_ADDRESS_TOO_LONG_OLD = 115, QUEUE_EXEC = 120,
};

/* Where the octets of a message lie. On the wire: kind (1), offset (8), len (4), message_at (4), digest (8).
 *   PLACE_RING   at octet offset of the ring file (it may go on at the ring's start), a record of len octets whose
 *                digest is digest; it begins with queue/record.h's header, which holds the number; the message
 *                is what lies from octet message_at to the end of the record
 *   PLACE_FILE   queue/mess/(number mod 23)/number; length and digest are in its info file (queue/info.h)
 *   PLACE_NONE   nowhere: forget the message */
enum queue_place_kind { PLACE_NONE = 0, PLACE_RING = 1, PLACE_FILE = 2 };
struct queue_place {
	enum queue_place_kind kind;
	uint64_t offset;
	uint32_t len, message_at;
	char digest[QUEUE_KEYED_DIGEST];
};
enum { QUEUE_PLACE_PACK = 1 + 8 + 4 + 4 + QUEUE_KEYED_DIGEST };
void queue_place_pack(char *s, const struct queue_place *place);
int queue_place_unpack(struct queue_place *place, const char *s);	/* 0: no such kind */

/* On the wire: number (8), birth (8), size (8), uid (4), recipients (4), tried (1), place, sender NUL, and if it has any its
 * parameters NUL */
struct queue_notice {
	uint64_t number;	/* never 0, never used twice */
	uint64_t birth;		/* wall clock in seconds at which it was accepted */
	uint64_t size;		/* octets of the message, the keeper's Received field included */
	uint32_t uid;		/* who submitted it */
	uint32_t recipients;	/* of the whole envelope, done or not */
	uint8_t tried;		/* 1: there was an attempt at it, and it was deferred; 0: perhaps none */
	struct queue_place place;
	const char *sender;	/* NUL-terminated, in the caller's frame */
	const char *parameters;	/* of the sender, the same; NULL: none */
};
enum { QUEUE_NOTICE_PACK = 8 + 8 + 8 + 4 + 4 + 1 + QUEUE_PLACE_PACK };	/* octets before the sender */
void queue_notice_pack(char *s, const struct queue_notice *notice);	/* without the sender */
int queue_notice_unpack(struct queue_notice *notice, const char *s, uint32_t len);	/* 0: malformed */

#endif
