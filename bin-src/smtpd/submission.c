#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "monotonic.h"
#include "service_socket.h"
#include "submission.h"

int
submission_connect(void)
{
	return service_socket_connect(-1, SUBMISSION_SOCKET, SUBMISSION_WAIT_MS);
}

static enum submission_answer
ask(int fd, enum submission_question question, const char *what, char text[SUBMISSION_TEXT_MAX + 1])
{
	char packet[1 + SUBMISSION_TEXT_MAX];
	ssize_t n = -1;

	if (service_socket_say(fd, (char)question, what) && service_socket_wait(fd, monotonic_ms() + SUBMISSION_WAIT_MS))
		n = service_socket_receive(fd, packet, sizeof packet, NULL);
	if (n == 0)
		errno = ECONNRESET;
	if (n <= 0) {
		snprintf(text, SUBMISSION_TEXT_MAX + 1, "qmail-submitd does not answer: %s", strerror(errno));
		return SUBMISSION_UNKNOWN;
	}
	for (ssize_t i = 1; i < n; i++)
		text[i - 1] = packet[i] < ' ' || packet[i] > '~' ? '?' : packet[i];
	text[n - 1] = '\0';
	return strchr("YNF", packet[0]) && packet[0] ? (enum submission_answer)packet[0] : SUBMISSION_UNKNOWN;
}

enum submission_answer
submission_sender(int fd, const char *sender, char text[SUBMISSION_TEXT_MAX + 1])
{
	return ask(fd, SUBMISSION_SENDER, sender, text);
}

enum submission_answer
submission_message(int fd, unsigned long recipients, char text[SUBMISSION_TEXT_MAX + 1])
{
	char digits[24];

	snprintf(digits, sizeof digits, "%lu", recipients);
	return ask(fd, SUBMISSION_MESSAGE, digits, text);
}
