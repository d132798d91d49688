#include <skalibs/types.h>
#include "service_socket.h"
#include "service_users.h"

int
service_users_put(struct service_users *u, uid_t uid)
{
	if (u->len == SERVICE_USERS_MAX)
		return 0;
	u->uids[u->len++] = uid;
	return 1;
}

int
service_users_add(struct service_users *u, const char *digits)
{
	unsigned int uid;

	return uint0_scan(digits, &uid) && service_users_put(u, uid);
}

int
service_users_have(const struct service_users *u, uid_t uid)
{
	return service_socket_allows(u->uids, u->len, uid);
}
