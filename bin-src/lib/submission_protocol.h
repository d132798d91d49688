/* submission_protocol: what is said to qmail-submitd, which knows whose senders and how many messages are whose, over its socket
 * (lib/service_socket.h). A connection is one session of qmail-smtpd:
 *
 *   qmail-authd   'L', account      this login was right: comes over the session's connection, which the session lends to qmail-authd
 *                                   with its question. The kernel says who has sent it, so a session cannot say it of itself, and
 *                                   one that was taken over speaks for no other account
 *   session       'S', sender       may the account send as this envelope sender? "" is the null sender
 *                 'M', number       a message to so many recipients, in decimal digits: counted, if there is room
 *   answer        'Y'               yes
 *                 'N', text         no
 *                 'F', text         not now: the account has had its share of an hour
 *                 'T', text         it cannot be known: no login, or something malformed
 *   'L' has no answer, each of the others has one. Texts are printable ASCII. */
#ifndef SUBMISSION_PROTOCOL_H
#define SUBMISSION_PROTOCOL_H

#define SUBMISSION_SOCKET "run/qmail-submitd/socket"
enum {
	SUBMISSION_PACKET_MAX = 1024,	/* octets: an account has 512 at most, a sender 900 */
	SUBMISSION_TEXT_MAX = 100,
};

enum submission_question { SUBMISSION_LOGIN = 'L', SUBMISSION_SENDER = 'S', SUBMISSION_MESSAGE = 'M' };
enum submission_answer { SUBMISSION_YES = 'Y', SUBMISSION_NO = 'N', SUBMISSION_FULL = 'F', SUBMISSION_UNKNOWN = 'T' };

#endif
