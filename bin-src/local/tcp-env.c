/* tcp-env: for a program under inetd, the variables that tcpserver sets.
 * Trust: descriptor 0 is a connection from anybody; nothing is read from it. What the client's name server and its ident
 * server say is hostile: a name with other octets than those of a host name is dropped, other octets of the ident answer
 * become '?'. It runs before the program has shut itself in, as the user that inetd gave it. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/exec.h>
#include <skalibs/sgetopt.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "exitcode.h"

#define USAGE "tcp-env [-rR] [-t seconds] program [argument...]"

enum {
	IDENT_PORT = 113,	/* RFC 1413 */
	IDENT_MAX = 1000,	/* octets of an answer */
	INFO_MAX = 100,		/* octets of TCPREMOTEINFO */
	TIMEOUT = 30,		/* seconds */
	NAME_MAX_DNS = 255,
};

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_storage room;
};

struct side {
	union address address;
	socklen_t len;
	char ip[INET6_ADDRSTRLEN];	/* "" if unknown */
	unsigned int port;
	int is_v6;
};

/* Writes ip and port; an IPv4 address in IPv6 clothes is IPv4. Returns 1, or 0 if it is neither. */
static int
describe(struct side *side)
{
	const struct in6_addr *six = &side->address.v6.sin6_addr;
	struct in_addr four;

	if (side->address.any.sa_family == AF_INET) {
		side->port = ntohs(side->address.v4.sin_port);
		return inet_ntop(AF_INET, &side->address.v4.sin_addr, side->ip, sizeof side->ip) != NULL;
	}
	if (side->address.any.sa_family != AF_INET6)
		return 0;
	side->port = ntohs(side->address.v6.sin6_port);
	if (IN6_IS_ADDR_V4MAPPED(six)) {
		memcpy(&four, six->s6_addr + 12, sizeof four);
		return inet_ntop(AF_INET, &four, side->ip, sizeof side->ip) != NULL;
	}
	side->is_v6 = 1;
	return inet_ntop(AF_INET6, six, side->ip, sizeof side->ip) != NULL;
}

static void
set(const char *name, const char *value)
{
	if ((value ? setenv(name, value, 1) : unsetenv(name)) < 0)
		strerr_diefusys(EXIT_TEMP, "set ", name);
}

/* The name that DNS gives to the address, or NULL. */
static const char *
find_name(const struct side *side, char name[NAME_MAX_DNS + 1])
{
	if (getnameinfo(&side->address.any, side->len, name, NAME_MAX_DNS + 1, NULL, 0, NI_NAMEREQD) != 0)
		return NULL;
	for (const char *s = name; *s; s++) {
		int fine = (*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || strchr(".-_", *s);

		if (!fine)
			return NULL;
	}
	return *name ? name : NULL;
}

/* Sets PREFIX (such as "TCPLOCAL") IP, PORT and HOST, and with IPv6 the names that begin "TCP6" too; ip, port and host
 * NULL unset them. */
static void
set_side(const char *which, const struct side *side)
{
	char name[40], port[UINT_FMT], host[NAME_MAX_DNS + 1];
	const char *protocols[] = { "TCP", "TCP6" };
	const char *found = side->ip[0] ? find_name(side, host) : NULL;

	port[uint_fmt(port, side->port)] = '\0';
	for (int i = 0; i < 2; i++) {
		int known = side->ip[0] && (i == 0 || side->is_v6);

		snprintf(name, sizeof name, "%s%sIP", protocols[i], which);
		set(name, known ? side->ip : NULL);
		snprintf(name, sizeof name, "%s%sPORT", protocols[i], which);
		set(name, known ? port : NULL);
		snprintf(name, sizeof name, "%s%sHOST", protocols[i], which);
		set(name, known ? found : NULL);
	}
}

/* --- ident, RFC 1413 ---------------------------------------------------------- */

static long long
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Waits until fd is ready. Returns 1, or 0 when the time is over. */
static int
wait_for(int fd, short events, long long deadline)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		long long left = deadline - monotonic_ms();
		int r = left > 0 ? poll(&p, 1, (int)left) : 0;

		if (r >= 0 || errno != EINTR)
			return r > 0;
	}
}

static void
set_port(union address *address, unsigned int port)
{
	if (address->any.sa_family == AF_INET)
		address->v4.sin_port = htons((uint16_t)port);
	else
		address->v6.sin6_port = htons((uint16_t)port);
}

/* Connects from the address that the client connected to, so that its ident server sees the same pair. */
static int
connect_ident(const struct side *local, const struct side *remote, long long deadline)
{
	union address from = local->address, to = remote->address;
	int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = 0;
	socklen_t len = sizeof error;

	if (fd < 0)
		return -1;
	set_port(&from, 0);
	set_port(&to, IDENT_PORT);
	if (bind(fd, &from.any, local->len) == 0 &&
	    (connect(fd, &to.any, remote->len) == 0 ||
	    (errno == EINPROGRESS && wait_for(fd, POLLOUT, deadline) &&
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0)))
		return fd;
	close(fd);
	return -1;
}

/* Reads one line. Returns its octets, 0 if none came. */
static size_t
read_line(int fd, char line[IDENT_MAX + 1], long long deadline)
{
	size_t len = 0;

	while (len < IDENT_MAX && wait_for(fd, POLLIN, deadline)) {
		ssize_t r = read(fd, line + len, IDENT_MAX - len);
		char *end;

		if (r <= 0)
			break;
		end = memchr(line + len, '\n', (size_t)r);
		len += (size_t)r;
		if (end) {
			len = (size_t)(end - line);
			break;
		}
	}
	line[len] = '\0';
	return len;
}

/* "6193, 23 : USERID : UNIX : stjohns": copies what follows the third colon. Returns 1 if the answer is of that kind. */
static int
read_user(char info[INFO_MAX + 1], char *line)
{
	char *fields[4], *s = line;
	size_t n = 0;

	for (int i = 0; i < 3; i++) {
		fields[i] = s;
		s = strchr(s, ':');
		if (!s)
			return 0;
		*s++ = '\0';
	}
	fields[3] = s;
	fields[1] += strspn(fields[1], " \t");
	if (strncasecmp(fields[1], "USERID", 6) != 0)
		return 0;
	s = fields[3] + strspn(fields[3], " \t");
	for (; *s && *s != '\r' && n < INFO_MAX; s++)
		info[n++] = *s > ' ' && *s < 127 && !strchr("()<>\"'`$\\;&|", *s) ? *s : '?';
	info[n] = '\0';
	return n > 0;
}

/* Asks the client's host whose connection this is. Returns 1 with *info set. */
static int
ask_ident(char info[INFO_MAX + 1], const struct side *local, const struct side *remote, unsigned int timeout)
{
	long long deadline = monotonic_ms() + timeout * 1000LL;
	int fd = connect_ident(local, remote, deadline);
	char line[IDENT_MAX + 1];
	int len, r = 0;

	if (fd < 0)
		return 0;
	len = snprintf(line, sizeof line, "%u , %u\r\n", remote->port, local->port);
	if (send(fd, line, (size_t)len, MSG_NOSIGNAL) == len && read_line(fd, line, deadline))
		r = read_user(info, line);
	close(fd);
	return r;
}

int
main(int argc, const char *const *argv)
{
	subgetopt state = SUBGETOPT_ZERO;
	struct side local = { .len = sizeof local.address }, remote = { .len = sizeof remote.address };
	unsigned int timeout = TIMEOUT;
	char info[INFO_MAX + 1];
	int ask = 1, known, c;

	PROG = "tcp-env";
	while ((c = subgetopt_r(argc, argv, "rRt:", &state)) != -1) {
		switch (c) {
		case 'r': ask = 1; break;
		case 'R': ask = 0; break;
		case 't':
			if (!uint0_scan(state.arg, &timeout) || timeout > 3600)
				strerr_dieusage(EXIT_PERM, USAGE);
			break;
		default: strerr_dieusage(EXIT_PERM, USAGE);
		}
	}
	if (state.ind == argc)
		strerr_dieusage(EXIT_PERM, USAGE);
	known = getsockname(STDIN_FILENO, &local.address.any, &local.len) == 0 && describe(&local) &&
	    getpeername(STDIN_FILENO, &remote.address.any, &remote.len) == 0 && describe(&remote);
	set("PROTO", remote.is_v6 ? "TCP6" : "TCP");
	set_side("LOCAL", &local);
	set_side("REMOTE", &remote);
	set("TCPREMOTEINFO", known && ask && ask_ident(info, &local, &remote, timeout) ? info : NULL);
	set("TCP6REMOTEINFO", known && remote.is_v6 ? getenv("TCPREMOTEINFO") : NULL);
	exec(argv + state.ind);
	strerr_dieexec(EXIT_TEMP, argv[state.ind]);
}
