#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <skalibs/uint64.h>
#include "directory.h"
#include "queue/protocol.h"
#include "submitted.h"

void
submitted_home(void)
{
	unsetenv("QMAILQUEUE");
	assert_int_equal(mkdir("bin", 0700) | mkdir("libexec", 0700) | mkdir("run", 0700), 0);
	directory_write("bin/qmail-queue", "");
	assert_int_equal(link("bin/qmail-queue", "libexec/qmail-queue"), 0);
}

int
submitted_listen(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = QUEUE_SUBMIT_SOCKET };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unlink(QUEUE_SUBMIT_SOCKET);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

void
submitted_accept(int listener, struct channel *c)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	channel_init(c, fd, QUEUE_FRAME_MAX);
}

static int
terminate(stralloc *s)
{
	return stralloc_readyplus(s, 1) && (s->s[s->len] = '\0', 1);
}

int
submitted_take(struct channel *c, stralloc *message, stralloc *envelope)
{
	struct channel_frame f;

	message->len = envelope->len = 0;
	for (;;) {
		while (channel_next(c, &f) == 0)
			if (channel_receive(c) < 0)
				return 0;
		if (f.type == SUBMIT_END)
			break;
		assert_true(f.type == SUBMIT_MESSAGE || f.type == SUBMIT_ENVELOPE);
		assert_int_equal(stralloc_catb(f.type == SUBMIT_MESSAGE ? message : envelope, f.s, f.len), 1);
	}
	return terminate(message) && terminate(envelope);
}

void
submitted_answer(struct channel *c, unsigned int code, uint64_t number)
{
	char s[17] = { (char)code };

	uint64_pack_big(s + 1, number);
	assert_int_equal(channel_put1(c, SUBMIT_RESULT, s, sizeof s), 1);
	assert_int_equal(channel_flush(c), 1);
}
