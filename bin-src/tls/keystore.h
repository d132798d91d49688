/* keystore: the chains and keys of a directory, and which of them is for whom.
 * Files   those that end in ".pem" and do not begin with '.', each as keypair.h has it; the DNS names in its certificate say
 *         for which hosts it is
 * Order   where several have a name: those that another has signed before those that sign themselves; then ECDSA before RSA; then
 *         as the file names sort */
#ifndef KEYSTORE_H
#define KEYSTORE_H
#include <stddef.h>
#include <skalibs/stralloc.h>
#include "keypair.h"

enum { KEYSTORE_MAX = 1000, KEYSTORE_FILE_MAX = 256 << 10 };	/* keypairs; octets of a file */

struct keystore {
	stralloc me;		/* the host's own name, lower case, NUL-terminated */
	unsigned int len;
	struct keystore_entry { struct keypair *pair; char *file; } *entries;
};

/* Reads the directory. me: for clients that name no host, or one that there is no chain for. Returns 1; 0 with a text for the log
 * in *trouble, NUL-terminated: what cannot be read or used, and no memory; then *k is empty. */
int keystore_load(struct keystore *k, const char *directory, const char *me, stralloc *trouble);

/* The keypair for host (NUL-terminated, any octets) with a key of one of the kinds: the first that has the name as it is, or by a '*'; else
 * for k->me; else the first. Returns its number, or -1 if none has such a key. */
int keystore_find(const struct keystore *k, unsigned int kinds, const char *host);

/* The number of the keypair of the file NAME.pem, name having len octets, or -1. */
int keystore_find_file(const struct keystore *k, const char *name, size_t len);

void keystore_free(struct keystore *k);

#endif
