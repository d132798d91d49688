/* info: the file queue/info/N/NUMBER of a message that waits, and the names of a message's files.
 * The file   "tambo info 1\n", number (8), birth (8), size (8), uid (4), recipients (4), tried (1), digest of the
 *            message (32), octets of the envelope (4), outcomes (4), the envelope, the outcomes: recipient (4), result
 *            (1), octets of the text (4), text; last the digest of all that (32)
 * Never changed in place: a new one is made in queue/new/ and renamed over it. */
#ifndef INFO_H
#define INFO_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "queue/protocol.h"

struct info_outcome {
	uint32_t recipient;
	char result;		/* enum queue_outcome; of several of a recipient the last counts */
	const char *text;	/* not NUL-terminated */
	uint32_t text_len;
};

struct info {
	uint64_t number, birth, size;
	uint32_t uid, recipients;
	uint8_t tried;
	char digest[QUEUE_DIGEST];	/* of the message, size octets */
	const char *envelope;		/* complete, as qmail-queue takes it */
	uint32_t envelope_len;
	uint32_t outcomes_len;		/* number of outcomes */
	const char *outcomes;		/* packed as in the file; see info_outcome_next */
};

/* Reads the outcome at *at (start with info->outcomes) and moves *at to the next. */
void info_outcome_next(struct info_outcome *o, const char **at);

/* Appends the packed form of o to outcomes. Returns 1, or 0 (ENOMEM). */
int info_outcome_put(stralloc *outcomes, const struct info_outcome *o);

/* Octets of a packed outcome whose text has text_len octets. */
enum { INFO_OUTCOME_HEADER = 4 + 1 + 4 };

/* Writes the whole file's octets into *file; outcomes_size octets stand at info->outcomes. Returns 1, or 0 (ENOMEM). */
int info_encode(stralloc *file, const struct info *info, size_t outcomes_size);

/* Reads the octets of an info file. Returns 1 and fills *info (pointers into s), or 0: not a whole info file. */
int info_decode(struct info *info, const char *s, size_t len);

/* Opens a regular file of the queue for reading. Returns a descriptor that the caller closes, and *size in octets; -1 with
 * errno: ENOENT; EPROTO: something there that is no regular file; or what open and fstat say. */
int info_open_file(const char *path, uint64_t *size);

/* Opens and reads the info of number into *file. Returns 1; 0 if there is none; -1 with errno (EPROTO: not whole). */
int info_read(struct info *info, stralloc *file, uint64_t number);

enum { INFO_PATH_MAX = 64 };

/* The path of a message's file below the home: kind is "mess" or "info". */
void info_path(char path[INFO_PATH_MAX], const char *kind, uint64_t number);

/* The folder of that file, and the name under which it is made. */
void info_folder(char path[INFO_PATH_MAX], const char *kind, uint64_t number);
void info_temporary(char path[INFO_PATH_MAX], const char *kind, uint64_t number);

/* The number that a file name stands for, 0 if it is not the canonical name of a number. */
uint64_t info_name(const char *name);

#endif
