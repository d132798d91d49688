/* Whole sessions of qmail-pop3d with clients that send any octets, without waiting for a reply, over four messages. */
#include <assert.h>
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/pop3d/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { MESSAGES = 4 };
static const char *const texts[MESSAGES] = { "A: b\n\n.\n..x\nlast", "", "A: b\r\nC: d\r\n\r\n.\r\n\n\n",
    "Subject: \303\244\nTo: \303\244@b\n\n.\n" };
static int replies;
static struct maildrop maildrop;

/* --- a maildrop that changes nothing on disk ------------------------------------------------ */

size_t
maildrop_update(struct maildrop *m)
{
	size_t left = 0;

	for (size_t i = 0; i < m->count; i++)
		left += !m->messages[i].is_deleted;
	assert(left == m->left && m->count == MESSAGES);
	return 0;
}

void
maildrop_delete(struct maildrop *m, size_t i)
{
	assert(i < MESSAGES && !m->messages[i].is_deleted);
	m->messages[i].is_deleted = 1;
	m->left--;
	m->octets -= m->messages[i].size;
}

void
maildrop_undelete(struct maildrop *m)
{
	m->left = m->count = MESSAGES;
	m->octets = 0;
	for (size_t i = 0; i < MESSAGES; i++) {
		m->messages[i].is_deleted = 0;
		m->octets += m->messages[i].size = strlen(texts[i]);
	}
}

int
maildrop_file(struct maildrop *m, size_t i, uint64_t *size)
{
	int fd = memfd_create("message", MFD_CLOEXEC);

	assert(i < MESSAGES && !m->messages[i].is_deleted && fd >= 0);
	*size = strlen(texts[i]);
	assert(pwrite(fd, texts[i], *size, 0) == (ssize_t)*size);
	return fd;
}

size_t
maildrop_uid(const struct maildrop *m, size_t i, char uid[MAILDROP_UID_MAX + 1])
{
	assert(i < MESSAGES && !m->messages[i].is_deleted);
	return (size_t)sprintf(uid, "uid-%zu", i);
}

/* --- the session ------------------------------------------------------------------------------ */

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	maildrop.messages = calloc(MESSAGES, sizeof *maildrop.messages);
	replies = memfd_create("replies", MFD_CLOEXEC);
	if (!maildrop.messages || replies < 0)
		err(1, "prepare");
	return 0;
}

/* A reply begins with +OK or -ERR; every line ends with CRLF, and no octet of what was sent is in it. */
static void
check_replies(enum session_end end)
{
	static char text[8 << 20];
	ssize_t len = pread(replies, text, sizeof text, 0);

	assert(end != SESSION_GOES_ON && end != SESSION_BROKEN && len > 2 && len < (ssize_t)sizeof text && memcmp(text, "+OK ", 4) == 0);
	assert(text[len - 1] == '\n');
	for (ssize_t i = 0; i < len; i++) {
		assert(text[i] != '\n' || text[i - 1] == '\r');
		assert(text[i] != '\0' && (unsigned char)text[i] < 127);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static const struct session_settings settings = { .timeout = 5, .session = 10 };
	static struct session session;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || ftruncate(replies, 0) || lseek(replies, 0, SEEK_SET) ||
	    write(pair[1], octets, len) != (ssize_t)len || shutdown(pair[1], SHUT_WR))
		err(1, "give octets");
	memset(&session, 0, sizeof session);
	maildrop_undelete(&maildrop);
	session.settings = &settings;
	session.maildrop = &maildrop;
	check_replies(session_run(&session, pair[0], replies));
	close(pair[0]);
	close(pair[1]);
	return 0;
}
