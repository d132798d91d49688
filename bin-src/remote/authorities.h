/* authorities: the file of the certificate authorities that are believed, in PEM form: the one that control/tlscafile names, or
 * AUTHORITIES_FILE.
 * Shut in  it is opened before sandbox_enter, and read when a server's certificate counts: most are never looked at */
#ifndef AUTHORITIES_H
#define AUTHORITIES_H
#include <skalibs/stralloc.h>

#define AUTHORITIES_FILE "/etc/ssl/certs/ca-certificates.crt"

enum { AUTHORITIES_OCTETS = 8 << 20 };	/* of a file that is read */

/* Opens it: *fd is a descriptor, or -1 where there is no such file or it cannot be opened, so that nobody is believed. Returns 1, or 0
 * with errno: control/tlscafile cannot be read. */
int authorities_open(int *fd);

/* Appends what it holds to text, and closes it. Returns 1, or 0 with errno. */
int authorities_read(stralloc *text, int fd);

#endif
