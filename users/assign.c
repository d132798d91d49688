#include <string.h>
#include <skalibs/bytestr.h>
#include "account.h"
#include "assign.h"
#include "stralloc_set.h"

/* The end of the nth field (from 1) after at, whose fields are ended by colons; 0 if there is none. */
static size_t
field_end(const char *line, size_t len, size_t at, unsigned int n)
{
	for (size_t i = at; i < len; i++)
		if (line[i] == ':' && --n == 0)
			return i;
	return 0;
}

static int
set_key(struct assign_entry *entry, int is_wildcard, const char *name, size_t len)
{
	if (!stralloc_setb(&entry->key, "!", 1) || !stralloc_catb(&entry->key, name, len))
		return 0;
	case_lowerb(entry->key.s, entry->key.len);
	entry->last = is_wildcard && len ? (unsigned char)entry->key.s[len] : -1;
	return is_wildcard || stralloc_append(&entry->key, '\0');
}

static int
set_value(struct assign_entry *entry, const char *fields, size_t len)
{
	struct account account = { .user = NULL };

	if (!stralloc_setb(&entry->value, fields, len))
		return 0;
	for (size_t i = 0; i < len; i++)
		if (entry->value.s[i] == ':')
			entry->value.s[i] = '\0';
	entry->usable = account_parse(&account, entry->value.s, len);
	account_free(&account);
	return 1;
}

enum assign_kind
assign_parse(struct assign_entry *entry, const char *line, size_t len)
{
	size_t name_end, end;

	if (len && line[0] == '.')
		return ASSIGN_END;
	if (len && line[0] == '#')
		return ASSIGN_COMMENT;
	if (len > ASSIGN_LINE_MAX || memchr(line, '\0', len) || !len || (line[0] != '=' && line[0] != '+'))
		return ASSIGN_MALFORMED;
	name_end = field_end(line, len, 1, 1);
	end = name_end ? field_end(line, len, name_end + 1, ACCOUNT_FIELDS) : 0;
	if (!end)
		return ASSIGN_MALFORMED;
	if (!set_key(entry, line[0] == '+', line + 1, name_end - 1)
	    || !set_value(entry, line + name_end + 1, end - name_end - 1))
		return ASSIGN_NO_MEMORY;
	return ASSIGN_ENTRY;
}

void
assign_free(struct assign_entry *entry)
{
	stralloc_free(&entry->key);
	stralloc_free(&entry->value);
}
