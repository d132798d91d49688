/* mbox: appends a message to an mbox file; see mbox(5).
 * Locks     flock(2), then fcntl(2) on the whole file, so that readers that know only one of them are kept out
 * Promise   after mbox_finish the message is on disk, and the file's name too if we made it; after any failure the file
 *           is as it was
 * Trust     the file is the user's, and we are the user; the octets are hostile: no line of them can begin a message */
#ifndef MBOX_H
#define MBOX_H
#include <stddef.h>
#include <stdint.h>

enum {
	MBOX_LOCK_WAIT = 30,	/* seconds */
	MBOX_BUFFER = 8192,	/* octets */
};

struct mbox {
	int fd;
	int is_regular;		/* else a character device such as /dev/null */
	int is_new;		/* its directory has to be flushed as well */
	int64_t start;		/* octets before the message; -1: not known, and nothing was written */
	/* the line being written */
	int undecided;		/* it may still turn out to be ">...>From " */
	uint64_t quotes;	/* '>' at its start, not yet written */
	size_t matched;		/* octets of "From " after them, not yet written */
	char last;		/* the last octet of the message so far */
	size_t buffered;
	char buffer[MBOX_BUFFER];
};

/* Opens the file, making it (mode 0600) if it is absent, and locks it. What is neither a regular file nor a character
 * device is refused (errno EINVAL). Returns 1, or 0 with errno set: EAGAIN, it was locked for MBOX_LOCK_WAIT seconds. */
int mbox_open(struct mbox *m, const char *path);

/* Begins a message: from_line, then other lines, which are written as they are. An unfinished last line, as a crash may
 * leave it, is ended first. Returns 1, or 0 with errno set. */
int mbox_begin(struct mbox *m, const char *from_line, size_t len);
int mbox_header(struct mbox *m, const char *s, size_t len);

/* Adds octets of the message: '>' is put before each line that matches ^>*From and a blank. Returns 1, or 0 with errno. */
int mbox_message(struct mbox *m, const char *s, size_t len);

/* Ends the message: a newline if its last line lacks one, and an empty line. Returns 1, or 0 with errno set. */
int mbox_end(struct mbox *m);

/* Puts all that was written on disk. Returns 1, or 0 with errno set. path: as given to mbox_open. */
int mbox_flush(struct mbox *m, const char *path);

/* Cuts the file to what it was before mbox_begin. */
void mbox_undo(struct mbox *m);

/* Closes and so unlocks it. */
void mbox_close(struct mbox *m);

#endif
