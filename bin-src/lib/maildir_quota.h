/* maildir_quota: how much mail a maildir may hold, as Maildir++ has it: a file maildirsize in the maildir, whose first line is
 * the quota ("OCTETSS,MESSAGESC", one or both); each line after it is what came or went, octets and messages.
 * Counts    what lies in new/ and cur/ of the maildir and of its folders (.NAME/), but not of .Trash, and no message with the
 *           flag T: the octets that a name tells (",S="), else those of the file
 * Fresh     counted anew if there is no such file, if it has another quota, makes no sense or is above
 *           MAILDIR_QUOTA_FILE_MAX; and before mail is refused, if the file is older than MAILDIR_QUOTA_SECONDS
 * Calling order maildir_quota_open, maildir_quota_take for each message, maildir_quota_reserve; then the messages are written,
 *           and what failed is returned by maildir_quota_record. From open to reserve the maildir is locked (flock), so those
 *           of us who deliver at the same time do not fill the same room twice. Others, and a count while somebody writes,
 *           are not exact
 * Trust     the maildir is the user's, and we are the user */
#ifndef MAILDIR_QUOTA_H
#define MAILDIR_QUOTA_H
#include <stdint.h>

enum {
	MAILDIR_QUOTA_FILE_MAX = 5120,	/* octets */
	MAILDIR_QUOTA_SECONDS = 900,
	MAILDIR_QUOTA_WORDS_MAX = 63,	/* octets of the quota */
};

struct maildir_quota {
	int root;			/* the maildir */
	char words[MAILDIR_QUOTA_WORDS_MAX + 1];
	uint64_t octets_max, messages_max;	/* UINT64_MAX: there is no bound */
	uint64_t octets, messages;	/* what is there, and what maildir_quota_take took */
	uint64_t taken_octets, taken_messages;	/* of these */
	int is_old;			/* it may have become less since it was counted */
};

/* Opens and locks the maildir at path, relative to the current directory, or the one that it is a folder of, and counts what
 * is in it.
 * Returns 1; or 0 with errno set (EINVAL: words are no quota). */
int maildir_quota_open(struct maildir_quota *q, const char *path, const char *words);

/* Reads what maildirsize of the maildir at path says, and neither locks nor counts: nothing stays open.
 * Returns 1 and fills octets and messages; or 0 with errno set (ENOENT: there is no such file, or it is to be counted anew). */
int maildir_quota_look(struct maildir_quota *q, const char *path, const char *words);

/* Whether a message of that many octets has room, which is then taken; *never: it would not even alone.
 * Returns 1; 0 it has none; -1 with errno set. */
int maildir_quota_take(struct maildir_quota *q, uint64_t octets, int *never);

/* Writes down what was taken, and unlocks. If that cannot be written, the file will be found old, or not at all. */
void maildir_quota_reserve(struct maildir_quota *q);

/* Writes down that messages came into a maildir, a descriptor of its directory (or went, if negative). Returns 1, or 0 with errno set
 * (ENOENT: it has no quota): then the next one counts anew. */
int maildir_quota_record(int maildir, int64_t octets, int64_t messages);

/* The same in two parts, for who can open nothing for writing when it comes to that. The first returns a descriptor of maildirsize, or -1
 * with errno set (ENOENT: it has no quota). The second takes that, or -1; where it cannot be written, or another file has come into
 * its place meanwhile, it removes what is there and returns 0. */
int maildir_quota_file(int maildir);
int maildir_quota_record_in(int file, int maildir, int64_t octets, int64_t messages);

void maildir_quota_close(struct maildir_quota *q);

#endif
