/* become: give up one's rights for good. */
#ifndef BECOME_H
#define BECOME_H
#include <sys/types.h>

/* Becomes uid with the one group gid: no supplementary groups, real, effective and saved ids, and looks whether it is
 * true and cannot be undone. Never uid 0. A process that is not root can only stay what it is: it must have uid
 * already, and keeps its groups. Returns 1, or 0 with errno set; the caller must then do nothing but exit. */
int become(uid_t uid, gid_t gid);

/* The ids of a user of the mail system, by /etc/passwd alone: no module of the name service, which a static program could not load
 * and root need not. 1, 0 there is no such user, -1 with errno set. */
int become_find_user(const char *name, uid_t *uid, gid_t *gid);

/* The same for a group, by /etc/group. */
int become_find_group(const char *name, gid_t *gid);

#endif
