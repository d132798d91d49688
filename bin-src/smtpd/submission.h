/* submission: a session's questions to qmail-submitd: whose a sender is, and how much an account may send.
 * Trust     qmail-submitd is believed; its packets are checked and bounded
 * Waits     SUBMISSION_WAIT_MS at most for each answer
 * Sandbox   sandbox_session */
#ifndef SUBMISSION_H
#define SUBMISSION_H
#include "submission_protocol.h"

enum { SUBMISSION_WAIT_MS = 5000 };

/* Connects; the current directory is the home. Returns a descriptor, or -1 with errno set. qmail-authd has to be asked with it (login_client.h). */
int submission_connect(void);

/* Each returns the answer, with why not in text: SUBMISSION_UNKNOWN also if there is none, and then nothing more
 * may be asked: the answer to this would be taken for the answer to that. */
enum submission_answer submission_sender(int fd, const char *sender, char text[SUBMISSION_TEXT_MAX + 1]);
enum submission_answer submission_message(int fd, unsigned long recipients, char text[SUBMISSION_TEXT_MAX + 1]);

#endif
