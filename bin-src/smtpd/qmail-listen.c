/* qmail-listen: makes listening sockets, drops root, runs a network server on them.
 * Trust: its arguments are the administrator's. It is the one part of a network server that may run as root; it accepts
 * nothing and reads nothing, and is gone before the first connection. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/exec.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "become.h"
#include "exitcode.h"
#include "listener.h"

#define USAGE "qmail-listen [ -u user ] [ -b backlog ] address[,address...] port program [ argument... ]"

enum {
	BACKLOG = 1024,		/* connections that wait to be accepted; the kernel's net.core.somaxconn may be less */
	FIRST_EXTRA = 16,	/* descriptors below are left to others, such as the one for readiness */
	ADDRESS_MAX = 64,	/* octets of one address */
};

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

/* Reads "192.0.2.1", "2001:db8::1", or "0": all addresses of both kinds. */
static void
read_address(union address *address, const char *text, unsigned int port)
{
	memset(address, 0, sizeof *address);
	if (inet_pton(AF_INET, text, &address->four.sin_addr) == 1) {
		address->four.sin_family = AF_INET;
		address->four.sin_port = htons((uint16_t)port);
		return;
	}
	address->six.sin6_family = AF_INET6;
	address->six.sin6_port = htons((uint16_t)port);
	if (strcmp(text, "0") != 0 && inet_pton(AF_INET6, text, &address->six.sin6_addr) != 1)
		strerr_dief(EXIT_PERM, "this is no address: ", text);
}

static int
bind_socket(const union address *address, int is_both)
{
	int on = 1, only = !is_both;
	socklen_t len = address->any.sa_family == AF_INET ? sizeof address->four : sizeof address->six;
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), e;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
	    (address->any.sa_family == AF_INET || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) == 0) &&
	    bind(fd, &address->any, len) == 0)
		return fd;
	e = errno;
	close(fd);
	errno = e;
	return -1;
}

static int
make_socket(const char *text, unsigned int port, unsigned int backlog)
{
	union address address;
	int fd, is_both = strcmp(text, "0") == 0;

	read_address(&address, text, port);
	fd = bind_socket(&address, is_both);
	if (fd < 0 && is_both && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
		read_address(&address, "0.0.0.0", port);	/* a kernel without IPv6 */
		fd = bind_socket(&address, 0);
	}
	if (fd < 0 || listen(fd, (int)backlog) < 0)
		strerr_diefusys(EXIT_TEMP, "listen at ", text);
	return fd;
}

/* Listens at each address of the list: the first socket goes to descriptor 0, LISTEN_EXTRA names the others. */
static void
make_sockets(const char *list, unsigned int port, unsigned int backlog)
{
	stralloc extra = STRALLOC_ZERO;
	unsigned int made = 0;

	for (;;) {
		size_t n = strcspn(list, ",");
		char address[ADDRESS_MAX], number[UINT_FMT];
		int fd;

		if (!n || n >= sizeof address || made == LISTENER_SOCKETS_MAX)
			strerr_dief(EXIT_PERM, "malformed list of addresses");
		memcpy(address, list, n);
		address[n] = '\0';
		fd = fcntl(make_socket(address, port, backlog), F_DUPFD, FIRST_EXTRA);
		if (fd < 0 || (made == 0 && dup2(fd, STDIN_FILENO) < 0))
			strerr_diefusys(EXIT_TEMP, "arrange the sockets");
		if (made++ == 0)
			close(fd);
		else if (!stralloc_cats(&extra, extra.len ? " " : "") ||
		    !stralloc_catb(&extra, number, uint_fmt(number, (unsigned int)fd)))
			strerr_diefusys(EXIT_TEMP, "list the sockets");
		if (!list[n])
			break;
		list += n + 1;
	}
	if (!stralloc_0(&extra) || (made > 1 ? setenv("LISTEN_EXTRA", extra.s, 1) : unsetenv("LISTEN_EXTRA")) < 0)
		strerr_diefusys(EXIT_TEMP, "set the environment");
	stralloc_free(&extra);
}

static unsigned int
read_port(const char *text)
{
	unsigned int port;
	const struct servent *service;

	if (uint0_scan(text, &port)) {
		if (port < 1 || port > 65535)
			strerr_dief(EXIT_PERM, "a port is a number from 1 to 65535");
		return port;
	}
	service = getservbyname(text, "tcp");
	if (!service)
		strerr_dief(EXIT_PERM, "unknown service: ", text);
	return ntohs((uint16_t)service->s_port);
}

/* Finds the user before anything is done. */
static void
find_user(const char *name, uid_t *uid, gid_t *gid)
{
	int r = become_find_user(name, uid, gid);

	if (r < 0)
		strerr_diefusys(EXIT_TEMP, "look up the user ", name);
	if (r == 0)
		strerr_dief(EXIT_TEMP, "there is no user ", name);
}

int
main(int argc, char *const *argv)
{
	const char *user = NULL;
	unsigned int port, backlog = BACKLOG;
	uid_t uid = 0;
	gid_t gid = 0;
	int c;

	PROG = "qmail-listen";
	while ((c = getopt(argc, argv, "+b:u:")) >= 0)
		switch (c) {
		case 'b':
			if (!uint0_scan(optarg, &backlog) || backlog < 1 || backlog > 65535)
				strerr_dief(EXIT_PERM, "the backlog is a number from 1 to 65535");
			break;
		case 'u': user = optarg; break;
		default: strerr_dieusage(EXIT_PERM, USAGE);
		}
	if (argc - optind < 3)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (user)
		find_user(user, &uid, &gid);
	port = read_port(argv[optind + 1]);
	make_sockets(argv[optind], port, backlog);
	if (user && !become(uid, gid))
		strerr_diefusys(EXIT_TEMP, "become the user ", user);
	exec((const char *const *)argv + optind + 2);
	strerr_dieexec(EXIT_TEMP, argv[optind + 2]);
}
