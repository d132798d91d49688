/* maildrop: the messages of a maildir as one POP3 session sees them: RFC 1939 sections 3 to 6, maildir(5).
 * Which    the regular files of new/ and cur/ when the session begins, but for names that begin with a dot. Names that are the
 *          same before their colon are one message: a reader moves it while we look, and cur/ counts
 * Order    by the time that the name begins with, where it has none by the file's; then by name
 * Size     what is told: the name's ",W=", else its ",S=", else the file's size. The file's size, as qmail tells it, lacks the CR
 *          of each line; to know better, every file would have to be read
 * Cost     a file is looked at (stat) only if its name lacks the time or the size, and pop3-sizes (known_sizes.h) the latter; cur/ is
 *          read only if it was changed since pop3-sizes was written, or less than MAILDROP_SETTLE seconds before
 * Others   who delivers, reads or removes at the same time is never in the way: no lock is taken. A message that was moved
 *          is found again; one that vanished stays in the list, and opening it fails
 * Promise  nothing is written, removed or moved but by maildrop_update; maildrop_open makes an empty pop3-sizes
 * Sandbox  what is written is opened by maildrop_open, before; then new/, cur/ and tmp/ are listed, files of new/ and cur/ read, moved and
 *          removed, files of tmp/ and maildirsize removed
 * Trust    names and files are the user's, who may put there what he likes: any octet, links, directories, wrong sizes
 * Errors   functions return 1, or 0 with errno set */
#ifndef MAILDROP_H
#define MAILDROP_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "known_sizes.h"

enum {
	MAILDROP_MESSAGES_MAX = 1000000,	/* of a session; the others are seen once these are gone */
	MAILDROP_UID_MAX = 70,		/* octets of a unique-id, RFC 1939 section 7 */
	MAILDROP_TMP_HOURS = 36,	/* for which nobody wrote to a file in tmp/ that is removed: maildir(5) */
	MAILDROP_TMP_MAX = 1000,	/* files of tmp/ that a session looks at */
	MAILDROP_SETTLE = 2,		/* seconds after which the time of cur/ tells of any further change */
};

#define MAILDROP_SIZE_MAX (UINT64_C(1) << 50)	/* octets; a name that tells more is not believed */

enum maildrop_folder { MAILDROP_NEW, MAILDROP_CUR, MAILDROP_FOLDERS };

struct maildrop_message {
	uint64_t time;		/* seconds */
	uint64_t size;		/* octets that the client is told */
	uint64_t file_size;	/* the file's, which counts for the quota */
	uint32_t name;		/* where in names it begins */
	uint8_t unique;		/* octets of the name before its ':' */
	uint8_t folder;
	uint8_t is_deleted;
	uint8_t is_gone : 1;	/* somebody else removed it, or we did */
	uint8_t is_found : 1;	/* when messages were looked for again */
	uint8_t lacks_size : 1;	/* its name tells the time, but no size */
};

struct maildrop {
	int directory, folders[MAILDROP_FOLDERS];
	int sizes;		/* pop3-sizes, -1 none */
	int quota;		/* maildirsize, -1 none */
	struct known_state cur;	/* of cur/ before it was listed; all zero: it had just been changed */
	int is_listed;		/* pop3-sizes was the list of cur/ */
	stralloc names;		/* each ends with NUL */
	struct maildrop_message *messages;
	size_t count, room;
	size_t left;		/* messages that are not marked as deleted, and their octets */
	uint64_t octets;
	size_t lacking;		/* messages that were found without a size in the name */
	size_t looked_at;	/* files, for their sizes */
	int is_cut;		/* there are more than MAILDROP_MESSAGES_MAX */
};

/* Opens the directories of a maildir. *m is all zero. */
int maildrop_open(struct maildrop *m, const char *path);

/* Reads which messages there are. */
int maildrop_list(struct maildrop *m);

/* Removes what is old in tmp/. */
void maildrop_clean(struct maildrop *m);

/* Opens message i, counted from 0, and tells the file's size. Returns a descriptor, or -1 with errno set: ENOENT where it
 * vanished. */
int maildrop_file(struct maildrop *m, size_t i, uint64_t *size);

/* Writes the unique-id of message i, RFC 1939 section 7: the name before its colon, as qmail has it; a digest of that where it
 * is longer than the RFC allows or has other octets. Returns its length. */
size_t maildrop_uid(const struct maildrop *m, size_t i, char uid[MAILDROP_UID_MAX + 1]);

/* Marks message i, which is not marked, as deleted; takes all marks away. */
void maildrop_delete(struct maildrop *m, size_t i);
void maildrop_undelete(struct maildrop *m);

/* The UPDATE state: removes what is marked, says so in maildirsize, the file of a Maildir++ quota, if there is one (or removes that, if
 * it is not the one of maildrop_open any more: then the next delivery counts anew), and moves
 * all else from new/ to cur/; writes pop3-sizes, if that spares the next session much. Returns how many messages could not be
 * removed, with errno set; those that vanished do not count. */
size_t maildrop_update(struct maildrop *m);

void maildrop_close(struct maildrop *m);

#endif
