#include "netstring.h"

enum netstring_result
netstring_piece(struct netstring *n, char **s, size_t *len, uint64_t most)
{
	if (!n->left)
		return NETSTRING_MALFORMED;
	n->failure = input_data(n->in);
	if (n->failure != INPUT_OK)
		return NETSTRING_FAILED;
	*s = n->in->buffer + n->in->start;
	*len = n->in->end - n->in->start;
	if (*len > most)
		*len = (size_t)most;
	if (*len > n->left)
		*len = (size_t)n->left;
	input_take(n->in, *len);
	if (n->left != UINT64_MAX)
		n->left -= *len;
	return NETSTRING_OK;
}

enum netstring_result
netstring_length(struct netstring *n, uint64_t *len)
{
	*len = 0;
	for (unsigned int digits = 0;; digits++) {
		enum netstring_result r;
		char *s;
		size_t one;

		r = netstring_piece(n, &s, &one, 1);
		if (r != NETSTRING_OK)
			return r;
		if (*s == ':' && digits)
			break;
		if (*s < '0' || *s > '9' || digits == NETSTRING_DIGITS || (digits && *len == 0))
			return NETSTRING_MALFORMED;
		*len = *len * 10 + (uint64_t)(*s - '0');
	}
	/* its comma, too, has to be within what is around it */
	return *len < n->left ? NETSTRING_OK : NETSTRING_MALFORMED;
}

enum netstring_result
netstring_skip(struct netstring *n, uint64_t len)
{
	while (len) {
		char *s;
		size_t got;
		enum netstring_result r = netstring_piece(n, &s, &got, len);

		if (r != NETSTRING_OK)
			return r;
		len -= got;
	}
	return NETSTRING_OK;
}

enum netstring_result
netstring_comma(struct netstring *n)
{
	char *s;
	size_t one;
	enum netstring_result r = netstring_piece(n, &s, &one, 1);

	return r == NETSTRING_OK && *s != ',' ? NETSTRING_MALFORMED : r;
}

enum netstring_result
netstring_string(struct netstring *n, stralloc *to, size_t most, int *fits)
{
	uint64_t len;
	enum netstring_result r = netstring_length(n, &len);

	to->len = 0;
	if (r != NETSTRING_OK)
		return r;
	if (!stralloc_ready(to, 1))	/* an empty string has a place, too */
		return NETSTRING_NO_MEMORY;
	*fits = len <= most;
	if (!*fits)
		r = netstring_skip(n, len);
	while (r == NETSTRING_OK && *fits && len) {
		char *s;
		size_t got;

		r = netstring_piece(n, &s, &got, len);
		if (r != NETSTRING_OK)
			return r;
		if (!stralloc_catb(to, s, got))
			return NETSTRING_NO_MEMORY;
		len -= got;
	}
	return r == NETSTRING_OK ? netstring_comma(n) : r;
}
