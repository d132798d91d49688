#include <stdio.h>
#include <string.h>
#include "dnsbl_list.h"

static int
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Letters, digits, '-' and '_' with single dots between. */
static int
is_zone(const char *s, size_t len)
{
	size_t label = 0;

	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (c == '.') {
			if (!label)
				return 0;
			label = 0;
		} else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_')
			label++;
		else
			return 0;
		if (label > 63)
			return 0;
	}
	return label > 0;
}

/* Appends to text, which has room for DNSBL_TEXT_MAX octets, what is printable; the rest becomes '?'. */
static void
append(char *text, const char *s, size_t len)
{
	size_t n = strlen(text);

	for (; len && n + 1 < DNSBL_TEXT_MAX; s++, len--)
		text[n++] = *s >= ' ' && *s <= '~' ? *s : '?';
	text[n] = '\0';
}

int
dnsbl_list_parse(struct dnsbl_list *list, const char *line)
{
	size_t len = strcspn(line, "#:");	/* in the text behind the colon it begins no comment: "(#5.7.1)" */
	const char *colon;
	size_t zone;

	if (line[len] == ':')
		len = strlen(line);
	while (len && is_blank(line[len - 1]))
		len--;
	while (len && is_blank(*line))
		line++, len--;
	if (!len)
		return 0;
	*list = (struct dnsbl_list){ .kind = DNSBL_BAD_DEFER };
	switch (*line) {
	case '+': list->kind = DNSBL_GOOD; break;
	case '-': list->kind = DNSBL_BAD_REJECT; break;
	case '=': list->kind = DNSBL_LOG_ONLY; break;
	default: line--, len++;
	}
	line++, len--;
	colon = memchr(line, ':', len);
	zone = colon ? (size_t)(colon - line) : len;
	if (zone >= sizeof list->zone || !is_zone(line, zone))
		return -1;
	memcpy(list->zone, line, zone);
	if (!colon)
		return 1;
	colon++;
	len -= zone + 1;
	if (len && *colon == '-') {
		if (list->kind == DNSBL_BAD_DEFER)
			list->kind = DNSBL_BAD_REJECT;
		colon++, len--;
	}
	if (!len)
		return -1;
	append(list->text, colon, len);
	return 1;
}

void
dnsbl_list_name(char *name, const struct dnsbl_list *list, const ip46 *client)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *ip = (const unsigned char *)client->ip;
	size_t n = 0;

	if (ip46_is6(client))
		for (int i = 15; i >= 0; i--) {
			name[n++] = digits[ip[i] & 15];
			name[n++] = '.';
			name[n++] = digits[ip[i] >> 4];
			name[n++] = '.';
		}
	else
		n = (size_t)sprintf(name, "%u.%u.%u.%u.", ip[3], ip[2], ip[1], ip[0]);
	memcpy(name + n, list->zone, strlen(list->zone) + 1);
}

/* Whether one of the addresses means that the list has the client. */
static int
is_listed(const struct dns_question *q)
{
	for (size_t i = 0; i < q->records_len; i++) {
		const unsigned char *ip = (const unsigned char *)q->records[i].text;

		if (q->records[i].len == 4 && ip[0] == 127 && !(ip[1] == 255 && ip[2] == 255))
			return 1;
	}
	return 0;
}

static int
is_known(const struct dns_question *q)
{
	return q->kind != DNS_PENDING && q->kind != DNS_TEMPORARY;
}

enum dnsbl_state
dnsbl_list_judge(const struct dns_question *address, const struct dns_question *txt)
{
	if (address->kind == DNS_NO_NAME || (txt && is_known(txt) && !txt->records_len))
		return DNSBL_ABSENT;
	if (!is_known(address))
		return DNSBL_SILENT;
	if (is_listed(address))
		return DNSBL_PRESENT;
	if (!txt || address->records_len)
		return DNSBL_ABSENT;
	return is_known(txt) ? DNSBL_PRESENT : DNSBL_SILENT;	/* a list of texts only, as rbldns could be made to be */
}

void
dnsbl_list_text(char *text, const struct dnsbl_list *list, const ip46 *client, const struct dns_question *txt)
{
	const char *s = list->text, *mark;
	char ip[IP46_FMT];

	text[0] = '\0';
	if (!*s) {
		if (txt && txt->records_len)
			append(text, txt->records[0].text, txt->records[0].len);
		if (!*text)
			append(text, list->zone, strlen(list->zone));
		return;
	}
	for (; (mark = strstr(s, "%IP%")); s = mark + 4) {
		append(text, s, (size_t)(mark - s));
		append(text, ip, ip46_fmt(ip, client));
	}
	append(text, s, strlen(s));
}
