/* smtp_login: what a client says to log in (RFC 4954): PLAIN (RFC 4616) and LOGIN. */
#ifndef SMTP_LOGIN_H
#define SMTP_LOGIN_H
#include <stddef.h>

enum {
	SMTP_LOGIN_MAX = 255,	/* octets of a user, of a password */
	SMTP_LOGIN_TEXT_MAX = 4 * ((2 * SMTP_LOGIN_MAX + 2 + 2) / 3) + 1,
};

/* s, len octets, in base64 (RFC 4648 section 4), NUL-terminated. Returns 1, or 0 if len is more than 2 * SMTP_LOGIN_MAX + 2. */
int smtp_login_encode(char text[SMTP_LOGIN_TEXT_MAX], const char *s, size_t len);

/* The response of PLAIN, encoded. Returns 1, or 0 if user or password are too long. */
int smtp_login_plain(char text[SMTP_LOGIN_TEXT_MAX], const char *user, const char *password);

#endif
