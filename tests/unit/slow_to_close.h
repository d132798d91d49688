/* slow_to_close: passes what a hostile user may: a TCP socket whose last close would wait for SLOW_TO_CLOSE seconds. */
#ifndef SLOW_TO_CLOSE_H
#define SLOW_TO_CLOSE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SLOW_TO_CLOSE = 3 };

/* Says one octet on the Unix socket, with the last holding of such a TCP socket. Returns its peer, which has to stay open meanwhile. */
static inline int
slow_to_close_pass(int to)
{
	static const char octets[65536];
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), other;
	union { struct cmsghdr align; char octets[CMSG_SPACE(sizeof one)]; } control = { .octets = "" };
	struct iovec v = { (char *)(uintptr_t)"x", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	assert_int_equal(bind(listener, (struct sockaddr *)&address, len) | listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len) | connect(one, (struct sockaddr *)&address, len), 0);
	other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	while (send(one, octets, sizeof octets, MSG_DONTWAIT) > 0)
		;
	assert_int_equal(setsockopt(one, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, SLOW_TO_CLOSE }, sizeof(struct linger)), 0);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof one);
	memcpy(CMSG_DATA(c), &one, sizeof one);
	assert_int_equal(sendmsg(to, &m, MSG_NOSIGNAL), 1);
	close(one);
	return other;
}

#endif
