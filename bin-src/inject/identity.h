/* identity: who submits a message, and what completes addresses: environment first, control files second.
 * Trust    the environment is the caller's, who may say what he likes in his own mail; a name or host that is no part
 *          of an address is refused. Control files are the administrator's; the current directory is the qmail home
 * Reading  a control file is read when it is needed first, or all of them by identity_load */
#ifndef IDENTITY_H
#define IDENTITY_H
#include <skalibs/stralloc.h>
#include "address822.h"

enum { IDENTITY_IDHOST = ADDRESS822_DEFAULTS, IDENTITY_HOSTS };

struct identity {
	stralloc host[IDENTITY_HOSTS];	/* NUL-terminated; empty: not read yet */
	const char *trouble;		/* the control file that could not be read, or NULL */
	struct address822_defaults defaults;	/* data: this */
};

/* *id must stay where it is afterwards. */
void identity_init(struct identity *id);

/* Reads the control files of all hosts that the environment does not give; no file is read afterwards. Returns 1, or 0 with
 * errno and id->trouble set. */
int identity_load(struct identity *id);

/* The host of message identifiers. Returns NULL with errno and id->trouble set if it cannot be read. */
const char *identity_idhost(struct identity *id);

/* The name of a person, or NULL. */
const char *identity_name(void);

/* Appends the address that From is made of. Returns 1, 0 if the environment gives none that can be read, -1 with errno
 * (and id->trouble) set. */
int identity_from(struct identity *id, stralloc *to);

/* Appends the envelope sender; suffix is added to its local-part. Returns as identity_from. */
int identity_sender(struct identity *id, stralloc *to, const char *suffix);

/* Reads one address, or none, and appends it, completed, in header form. Returns 1; 0 if s is not at most one address;
 * -1 with errno (and id->trouble) set. */
int identity_address(struct identity *id, stralloc *to, const char *s, size_t len);

#endif
