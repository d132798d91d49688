#include <string.h>
#include <strings.h>
#include "mime_words.h"

char
mime_words_skip(struct mime_words *w)
{
	unsigned int comments = 0;

	for (; w->s < w->end; w->s++)
		if (*w->s == '(')
			comments++;
		else if (comments && *w->s == ')')
			comments--;
		else if (comments && *w->s == '\\' && w->s + 1 < w->end)
			w->s++;
		else if (!comments && *w->s != ' ' && *w->s != '\t')
			return *w->s;
	return 0;
}

size_t
mime_words_take_token(struct mime_words *w, const char **token)
{
	mime_words_skip(w);
	*token = w->s;
	while (w->s < w->end && *w->s > 32 && *w->s < 127 && !strchr("()<>@,;:\\\"/[]?=", *w->s))
		w->s++;
	return (size_t)(w->s - *token);
}

int
mime_words_take_octet(struct mime_words *w, char c)
{
	if (mime_words_skip(w) != c)
		return 0;
	w->s++;
	return 1;
}

int
mime_words_is(const char *s, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(s, word, len) == 0;
}

int
mime_words_take_value(struct mime_words *w, char *value, size_t *len)
{
	int is_quoted = mime_words_skip(w) == '"';

	*len = 0;
	if (!is_quoted) {
		while (w->s < w->end && !strchr(" \t;\"", *w->s))
			value[(*len)++] = *w->s++;
		return *len > 0;
	}
	for (w->s++; w->s < w->end && *w->s != '"'; w->s++) {
		if (*w->s == '\\' && w->s + 1 < w->end)
			w->s++;
		value[(*len)++] = *w->s;
	}
	return w->s++ < w->end;
}
