#include <stdint.h>
#include <string.h>
#include "smtp_login.h"

int
smtp_login_encode(char text[SMTP_LOGIN_TEXT_MAX], const char *s, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *in = (const unsigned char *)s;

	if (len > 2 * SMTP_LOGIN_MAX + 2)
		return 0;
	for (size_t at = 0; at < len; at += 3) {
		size_t left = len - at;
		uint32_t bits = (uint32_t)in[at] << 16 | (left > 1 ? (uint32_t)in[at + 1] << 8 : 0) | (left > 2 ? in[at + 2] : 0);

		*text++ = digits[bits >> 18];
		*text++ = digits[bits >> 12 & 63];
		*text++ = left > 1 ? digits[bits >> 6 & 63] : '=';
		*text++ = left > 2 ? digits[bits & 63] : '=';
	}
	*text = '\0';
	return 1;
}

int
smtp_login_plain(char text[SMTP_LOGIN_TEXT_MAX], const char *user, const char *password)
{
	size_t user_len = strlen(user), password_len = strlen(password);
	char octets[2 * SMTP_LOGIN_MAX + 2];
	int ok;

	if (user_len > SMTP_LOGIN_MAX || password_len > SMTP_LOGIN_MAX)
		return 0;
	/* nobody to act for, who it is, what he knows */
	octets[0] = '\0';
	memcpy(octets + 1, user, user_len + 1);
	memcpy(octets + 2 + user_len, password, password_len);
	ok = smtp_login_encode(text, octets, 2 + user_len + password_len);
	explicit_bzero(octets, sizeof octets);
	return ok;
}
