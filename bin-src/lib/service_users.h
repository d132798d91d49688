/* service_users: the users who may ask a service, as its command line names them by number.
 * Bounds   SERVICE_USERS_MAX */
#ifndef SERVICE_USERS_H
#define SERVICE_USERS_H
#include <sys/types.h>

enum { SERVICE_USERS_MAX = 8 };

/* All zero is a valid empty one. */
struct service_users {
	uid_t uids[SERVICE_USERS_MAX];
	unsigned int len;
};

/* Adds a user. 1, or 0: one too many. */
int service_users_put(struct service_users *u, uid_t uid);

/* Adds the one with this number, in decimal digits. 1, or 0: it is none, or one too many. */
int service_users_add(struct service_users *u, const char *digits);

int service_users_have(const struct service_users *u, uid_t uid);

#endif
