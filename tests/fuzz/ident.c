/* What tcp-env hears of a client: the answer of its ident server (RFC 1413), and its name in the DNS, given any octets. The input is the
 * answer, and the name behind a NUL. */
#include <assert.h>
#include "given.h"
#define main tcp_env_main
#include "bin-src/local/tcp-env.c"	/* NOLINT(bugprone-suspicious-include): what reads them is static there */
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int __wrap_getnameinfo(const struct sockaddr *address, socklen_t len, char *host, socklen_t host_len, char *service, socklen_t service_len,
    int flags);

static struct given dns_name;

int
__wrap_getnameinfo(const struct sockaddr *address, socklen_t len, char *host, socklen_t host_len, char *service, socklen_t service_len,
    int flags)
{
	(void)address, (void)len;
	assert(!service && !service_len && flags == NI_NAMEREQD);
	if (dns_name.len >= host_len)
		return EAI_OVERFLOW;
	memcpy(host, dns_name.s, dns_name.len);
	host[dns_name.len] = '\0';
	return 0;
}

/* One line is read, of it the user, who is harmless to a shell and to a header. */
static void
take_answer(struct given g)
{
	char line[IDENT_MAX + 1], info[INFO_MAX + 1];
	int pair[2];
	size_t n, want = strnlen((const char *)g.s, g.len);
	const uint8_t *end = g.len ? memchr(g.s, '\n', g.len) : NULL;

	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	if (g.len)
		assert(send(pair[1], g.s, g.len, 0) == (ssize_t)g.len);
	assert(shutdown(pair[1], SHUT_WR) == 0);
	n = read_line(pair[0], line, monotonic_ms() + 1000);
	assert(n <= IDENT_MAX && line[n] == '\0' && n == (end && end - g.s < IDENT_MAX ? (size_t)(end - g.s) : g.len < IDENT_MAX ? g.len : IDENT_MAX));
	close(pair[0]), close(pair[1]);
	if (!n || !read_user(info, line))
		return;
	assert(*info && strlen(info) <= INFO_MAX && strlen(info) < want);
	for (const char *s = info; *s; s++)
		assert(*s > ' ' && *s < 127 && !strchr("()<>\"'`$\\;&|", *s));
}

/* A name is that of a host, all of it. */
static void
take_name(struct given g)
{
	char name[NAME_MAX_DNS + 1];
	struct side side = { .ip = "192.0.2.1" };
	const char *found;

	dns_name = g;
	found = find_name(&side, name);
	assert(!found || (*found && strspn(found, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == strlen(found)));
	assert(!found || strlen(found) == strnlen((const char *)g.s, g.len));
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	char *answer = given_string(given_until(&g, '\0'));

	(void)tcp_env_main;
	take_answer((struct given){ (const uint8_t *)answer, strlen(answer) });
	take_answer((struct given){ octets, len });
	take_name(g);
	free(answer);
	return 0;
}
