#include <errno.h>
#include <string.h>
#include <skalibs/types.h>
#include "account_limits.h"
#include "address_pattern.h"
#include "control/control.h"

/* Takes a number, or none, and what has to be behind it, which is gone over. NULL: it is something else. */
static const char *
take_number(const char *s, char end, unsigned long *number)
{
	unsigned long n;
	size_t len = ulong_scan(s, &n);

	if (len)
		*number = n < ACCOUNT_LIMITS_MAX ? n : ACCOUNT_LIMITS_MAX;
	return s[len] == end ? s + len + 1 : NULL;
}

/* The octets of the login of a line, whose numbers replace those of *limits; 0: it is malformed. */
static size_t
parse(const char *line, struct allowance_limits *limits)
{
	size_t login = strcspn(line, ":");
	const char *s = line[login] ? take_number(line + login + 1, ':', &limits->messages) : NULL;

	return s && take_number(s, '\0', &limits->recipients) ? login : 0;
}

static int
is_well_formed(const stralloc *table)
{
	struct allowance_limits limits;

	for (size_t at = 0; at < table->len; at += strlen(table->s + at) + 1)
		if (!parse(table->s + at, &limits)) {
			errno = EINVAL;
			return 0;
		}
	return 1;
}

int
account_limits_read(struct account_limits *l, const char **file)
{
	l->all = (struct allowance_limits){ ACCOUNT_LIMITS_MESSAGES, ACCOUNT_LIMITS_RECIPIENTS };
	if (control_number(&l->all.messages, *file = "control/submissionmessages", ACCOUNT_LIMITS_MAX) >= 0 &&
	    control_number(&l->all.recipients, *file = "control/submissionrecipients", ACCOUNT_LIMITS_MAX) >= 0 &&
	    control_list(&l->table, *file = "control/submissionlimits") >= 0 && is_well_formed(&l->table))
		return 1;
	account_limits_free(l);
	return 0;
}

struct allowance_limits
account_limits_of(const struct account_limits *l, const char *account)
{
	for (size_t at = 0; at < l->table.len; at += strlen(l->table.s + at) + 1) {
		const char *line = l->table.s + at;
		struct allowance_limits limits = l->all;
		size_t login = parse(line, &limits);

		if (address_pattern_has(line, login, account))
			return limits;
	}
	return l->all;
}

void
account_limits_free(struct account_limits *l)
{
	stralloc_free(&l->table);
	*l = (struct account_limits){ .table = STRALLOC_ZERO };
}
