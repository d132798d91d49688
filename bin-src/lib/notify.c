#include <string.h>
#include <strings.h>
#include "notify.h"
#include "queue/envelope.h"

static const struct { const char *name; unsigned int event; } events[] = {
	{ "SUCCESS", NOTIFY_SUCCESS }, { "FAILURE", NOTIFY_FAILURE }, { "DELAY", NOTIFY_DELAY },
};

static unsigned int
event_of(const char *s, size_t len)
{
	for (unsigned int i = 0; i < sizeof events / sizeof *events; i++)
		if (strlen(events[i].name) == len && strncasecmp(events[i].name, s, len) == 0)
			return events[i].event;
	return 0;
}

unsigned int
notify_events(const char *parameters)
{
	size_t len;
	const char *s = envelope_parameter(parameters, "NOTIFY=", &len), *end;
	unsigned int all = 0;

	if (!s)
		return NOTIFY_FAILURE;
	if (len == 5 && strncasecmp(s, "NEVER", 5) == 0)
		return 0;
	for (end = s + len; s <= end;) {
		const char *comma = memchr(s, ',', (size_t)(end - s));
		const char *last = comma ? comma : end;
		unsigned int event = event_of(s, (size_t)(last - s));

		if (!event)
			return NOTIFY_FAILURE;
		all |= event;
		s = last + 1;
	}
	return all;
}

/* Adds the parameter of keyword, if there is one. */
static int
carry(stralloc *out, const char *parameters, const char *keyword)
{
	size_t len;
	const char *value = envelope_parameter(parameters, keyword, &len);

	return !value || (stralloc_catb(out, " ", out->len ? 1 : 0) && stralloc_cats(out, keyword) &&
	    stralloc_catb(out, value, len));
}

int
notify_carry_sender(stralloc *out, const char *parameters, int is_list)
{
	out->len = 0;
	return carry(out, parameters, "BODY=") && carry(out, parameters, "SMTPUTF8") &&
	    (is_list || (carry(out, parameters, "RET=") && carry(out, parameters, "ENVID=")));
}

int
notify_carry_recipient(stralloc *out, const char *parameters, int is_list)
{
	unsigned int left = notify_events(parameters) & ~(unsigned int)NOTIFY_SUCCESS;
	size_t len;

	out->len = 0;
	if (is_list)
		return 1;
	if (envelope_parameter(parameters, "NOTIFY=", &len)) {
		if (!stralloc_cats(out, left ? "NOTIFY=" : "NOTIFY=NEVER"))
			return 0;
		for (unsigned int i = 0; i < sizeof events / sizeof *events; i++)
			if (left & events[i].event && (!stralloc_cats(out, out->s[out->len - 1] == '=' ? "" : ",") ||
			    !stralloc_cats(out, events[i].name)))
				return 0;
	}
	return carry(out, parameters, "ORCPT=");
}

/* Reads a number and the octet after it; 0 if there is none. */
static int
take_count(const char **s, const char *end, char after, int *is_zero)
{
	const char *from = *s;

	*is_zero = 1;
	for (; *s < end && **s >= '0' && **s <= '9'; ++*s)
		*is_zero &= **s == '0';
	if (*s == from || *s == end || **s != after)
		return 0;
	++*s;
	return 1;
}

enum notify_action
notify_action(int is_remote, const char *text, size_t len)
{
	const char *end = text + len, *line = NULL, *s = text;
	int no_files, no_forwards, no_programs;

	if (is_remote)
		return NOTIFY_RELAYED;
	/* programs may have said anything before */
	while (s && end - s > 4) {
		if (memcmp(s, "did ", 4) == 0)
			line = s + 4;
		s = memchr(s, '\n', (size_t)(end - s));
		s = s ? s + 1 : NULL;
	}
	if (line && take_count(&line, end, '+', &no_files) && take_count(&line, end, '+', &no_forwards) &&
	    take_count(&line, end, '\n', &no_programs) && no_files && !no_forwards && no_programs)
		return NOTIFY_EXPANDED;
	return NOTIFY_DELIVERED;
}
