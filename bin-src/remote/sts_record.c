#include <string.h>
#include "sts_record.h"

static const char version[] = "v=STSv1;";

static size_t
blanks(const char *s, const char *end)
{
	size_t n = 0;

	while (s + n < end && (s[n] == ' ' || s[n] == '\t'))
		n++;
	return n;
}

static size_t
alphanumerics(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z') || (s[n] >= '0' && s[n] <= '9')))
		n++;
	return n;
}

/* A field: NAME=VALUE. Returns 1, or 0 if it is none; the first id counts. */
static int
take_field(char id[STS_ID_MAX + 1], const char *s, size_t len)
{
	const char *equals = memchr(s, '=', len);
	size_t name_len = equals ? (size_t)(equals - s) : 0, value_len = len - name_len - 1;

	if (!name_len || !value_len)
		return 0;
	for (size_t i = 0; i < len; i++)
		if (s[i] < 0x21 || s[i] > 0x7e)
			return 0;
	if (name_len != 2 || memcmp(s, "id", 2) != 0 || *id)
		return 1;
	if (value_len > STS_ID_MAX || alphanumerics(equals + 1, value_len) != value_len)
		return 0;
	memcpy(id, equals + 1, value_len);
	id[value_len] = '\0';
	return 1;
}

/* What follows the version: fields, parted by ';', which may stand at the end. Returns 1, or 0. */
static int
take_fields(char id[STS_ID_MAX + 1], const char *s, const char *end)
{
	while ((s += blanks(s, end)) < end) {
		const char *semicolon = memchr(s, ';', (size_t)(end - s)), *stop = semicolon ? semicolon : end;
		size_t len = (size_t)(stop - s);

		while (len && (s[len - 1] == ' ' || s[len - 1] == '\t'))
			len--;
		if (!take_field(id, s, len))
			return 0;
		s = semicolon ? semicolon + 1 : end;
	}
	return *id != '\0';
}

void
sts_record_id(char id[STS_ID_MAX + 1], const struct dns_question *q)
{
	const struct dns_record *only = NULL;
	int is_one = 1;

	*id = '\0';
	for (size_t i = 0; q->kind == DNS_FOUND && i < q->records_len; i++) {
		const struct dns_record *r = &q->records[i];

		if (r->len < sizeof version - 1 || memcmp(r->text, version, sizeof version - 1) != 0)
			continue;
		is_one = !only;
		only = r;
	}
	if (!only || !is_one || !take_fields(id, only->text + sizeof version - 1, only->text + only->len))
		*id = '\0';
}
