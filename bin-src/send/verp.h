/* verp: variable envelope return paths (interfaces section 6.4).
 * An envelope sender "list-@host-@[]" stands for one of its own for each recipient: "list-box=dom@host" for box@dom. */
#ifndef VERP_H
#define VERP_H
#include <skalibs/stralloc.h>

/* 1 if each recipient of this sender (NUL-terminated) gets a sender of its own. */
int verp_is(const char *sender);

/* The envelope sender under which recipient gets the message, NUL-terminated, in *out; sender itself if it is none of
 * that form or recipient has no '@'. Returns 1, or 0 (ENOMEM). */
int verp_sender(stralloc *out, const char *sender, const char *recipient);

/* The address to which a bounce for sender goes, NUL-terminated, in *out: "list-@host" for "list-@host-@[]".
 * Returns 1, or 0 (ENOMEM). */
int verp_return(stralloc *out, const char *sender);

#endif
