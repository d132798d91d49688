/* maildir: writes messages into a maildir, and names them; see maildir(5).
 * Names     TIME.MmicrosecondsPpidQdelivery.HOST in tmp/, and the same with ",S=octets" in new/
 * Promise   a message is in new/ only when all its octets are on disk, and maildir_sync makes the name durable too.
 *           The way is tmp/, flush, rename: a file without a name (O_TMPFILE) that is linked into new/ is lost in a power
 *           cut on ext4 without a journal, where syncing the directory does not write the file's link count
 * Trust     the maildir is the user's, and we are the user
 * Errors    functions return 1, or 0 with errno set, which is the user's or the disk's and always temporary */
#ifndef MAILDIR_H
#define MAILDIR_H
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
	MAILDIR_HOST_MAX = 128,		/* octets of the host in a name, as escaped; a longer one is cut */
	MAILDIR_NAME_MAX = 255,		/* octets of any name in a maildir */
	MAILDIR_TRIES = 5,		/* names that are tried if one exists already */
};

struct maildir {
	int tmp, new;	/* directories */
	char host[MAILDIR_HOST_MAX + 1];
};

struct maildir_file {
	int fd;		/* -1: none */
	int is_public;	/* it is in new/ */
	uint64_t size;
	char name[MAILDIR_NAME_MAX + 1];
};

/* Opens an existing maildir. path is relative to the current directory. */
int maildir_open(struct maildir *m, const char *path);
void maildir_close(struct maildir *m);

/* Begins a message: an empty file of mode 0600 in tmp/. */
int maildir_create(struct maildir *m, struct maildir_file *f);

/* Adds the octets of n vectors. */
int maildir_write(struct maildir_file *f, const struct iovec *v, unsigned int n);

/* Starts writing out what was added, and does not wait: of several files, all are then flushed with one commit. */
void maildir_start_flush(struct maildir_file *f);

/* Waits until all its octets are on disk. */
int maildir_flush(struct maildir_file *f);

/* Moves it from tmp/ to new/. It is not yet certain to survive a power cut. */
int maildir_publish(struct maildir *m, struct maildir_file *f);

/* Makes all that was moved to new/ survive. */
int maildir_sync(struct maildir *m);

/* Removes the message wherever it is, and closes it. */
void maildir_abandon(struct maildir *m, struct maildir_file *f);

/* Closes it; to be called once it is published and synced. */
void maildir_finish(struct maildir_file *f);

/* Writes a fresh unique name for tmp/ into name. host: escaped. */
void maildir_name(char name[MAILDIR_NAME_MAX + 1], const char *host);

/* Writes host into escaped, as it stands in names: '/', ':', ',' and control characters as a backslash and three octal
 * digits, cut at MAILDIR_HOST_MAX octets; "localhost" if it is empty. */
void maildir_escape_host(char escaped[MAILDIR_HOST_MAX + 1], const char *host);

/* The octets of the message called name as its name tells: the number after ",S=" before any ':'. Returns 1, or 0 if the
 * name does not say. */
int maildir_name_size(const char *name, uint64_t *size);

/* The same of ",W=", which other programs put into names: the octets once every line ends with CR LF. */
int maildir_name_wire_size(const char *name, uint64_t *size);

/* Whether the flags of a name have T, trashed: Maildir++ does not count such a message for the quota. */
int maildir_name_is_trashed(const char *name);

/* Moves the file old of the open directory from to new in the directory to, without replacing a file that is there where the
 * file system can see to that. Returns 1, or 0 with errno set. */
int maildir_move(int from, const char *old, int to, const char *new);

/* Makes a maildir: path, path/tmp, path/new, path/cur, mode 0700. */
int maildir_make(const char *path);

/* Makes those of its directories that are missing; the maildir itself is there. */
int maildir_complete(const char *path);

/* The names of these directories. */
enum { MAILDIR_FOLDERS = 3 };
extern const char *const maildir_folders[MAILDIR_FOLDERS];

#endif
