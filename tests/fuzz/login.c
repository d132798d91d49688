/* What logins are taken for, given any octets: SASL responses, a line each; the packet that qmail-authd gets; and what a program of the
 * checkpassword interface reads from descriptor 3. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bin-src/users/login.h"
#include "login_protocol.h"
#include "sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int __real_close(int fd);
int __wrap_close(int fd);
ssize_t __real_read(int fd, void *s, size_t len);
ssize_t __wrap_read(int fd, void *s, size_t len);

/* A login that is done has strings of its own, no longer than a response. */
static void
converse(enum sasl_mechanism m, char *lines, int has_initial)
{
	static struct sasl s;
	char *line = strtok(lines, "\n");
	enum sasl_result r = sasl_begin(&s, m, has_initial ? line : NULL);

	if (has_initial && line)
		line = strtok(NULL, "\n");
	for (unsigned int steps = 0; r == SASL_CHALLENGE && line; line = strtok(NULL, "\n")) {
		assert(s.challenge && steps < 2);
		steps++;
		r = sasl_take(&s, line);
	}
	if (r == SASL_DONE)
		assert(strlen(s.login) <= SASL_MAX && strlen(s.secret) <= SASL_MAX);
	sasl_forget(&s);
	for (size_t i = 0; i < sizeof s.first; i++)
		assert(!s.first[i] && !s.second[i]);
}

/* What is taken is strings in the packet, and variables of the list, each once and of fine values. */
static void
take_packet(const char *packet, size_t len)
{
	struct login_request r;
	const char *strings[3];

	if (!login_request_parse(&r, packet, len))
		return;
	strings[0] = r.login, strings[1] = r.secret, strings[2] = r.challenge;
	for (size_t i = 0; i < 3; i++)
		assert(strings[i] > packet && strings[i] + strlen(strings[i]) < packet + len);
	assert((r.question == LOGIN_CHECK || r.question == LOGIN_SESSION) && r.variables_len <= LOGIN_VARIABLES_MAX);
	for (size_t i = 0; i < r.variables_len; i++) {
		const char *value = strchr(r.variables[i], '=');
		size_t found = 0;

		assert(value && login_value_is_fine(value + 1));
		for (const char *const *name = login_variables; *name; name++)
			found += strlen(*name) == (size_t)(value - r.variables[i]) && strncmp(*name, r.variables[i], strlen(*name)) == 0 &&
			    login_request_variable(&r, *name) == value + 1;
		assert(found == 1);
	}
}

/* --- descriptor 3 ------------------------------------------------------------------------------------- */

static struct { const uint8_t *s; size_t len, piece; } pipe_end;

ssize_t
__wrap_read(int fd, void *s, size_t len)
{
	size_t n = len < pipe_end.piece ? len : pipe_end.piece;

	if (fd != LOGIN_FD)
		return __real_read(fd, s, len);
	if (n > pipe_end.len)
		n = pipe_end.len;
	memcpy(s, pipe_end.s, n);
	pipe_end.s += n;
	pipe_end.len -= n;
	return (ssize_t)n;
}

int
__wrap_close(int fd)
{
	return fd == LOGIN_FD ? 0 : __real_close(fd);
}

/* Name and password are the first two strings, neither is empty, and nothing of a login that is too long is taken. */
static void
read_login(const uint8_t *octets, size_t len, size_t piece)
{
	static struct login l;
	size_t nuls = 0, name = strnlen((const char *)octets, len);
	int r;

	for (size_t i = 0; i < len; i++)
		nuls += !octets[i];
	pipe_end.s = octets, pipe_end.len = len, pipe_end.piece = piece;
	r = login_read(&l);
	if (len > LOGIN_MAX)
		assert(r == LOGIN_REFUSED);
	else if (nuls < 2)
		assert(r == LOGIN_MISUSED);
	else if (!name || !octets[name + 1])
		assert(r == LOGIN_REFUSED);
	else
		assert(r == LOGIN_OK && l.len == len && memcmp(l.octets, octets, len) == 0 && strcmp(l.name, (const char *)octets) == 0 &&
		    strcmp(l.password, (const char *)octets + name + 1) == 0);
	login_forget(&l);
	for (size_t i = 0; i < sizeof l.octets; i++)
		assert(!l.octets[i]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	char *copy = malloc(len + 1);

	assert(copy);
	for (int way = 0; way < 4; way++) {
		memcpy(copy, octets, len);
		copy[len] = '\0';
		converse(way & 1 ? SASL_LOGIN : SASL_PLAIN, copy, way & 2);
	}
	free(copy);
	copy = malloc(len ? len : 1);	/* no octet more: what is read beyond is seen */
	assert(copy);
	memcpy(copy, octets, len);
	take_packet(copy, len);
	read_login((const uint8_t *)copy, len, SIZE_MAX);
	read_login((const uint8_t *)copy, len, 1 + len % 7);
	free(copy);
	return 0;
}
