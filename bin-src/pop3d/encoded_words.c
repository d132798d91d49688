#include <string.h>
#include "encoded_words.h"
#include "utf8.h"

#define BEGIN "=?utf-8?q?"
#define END "?="
enum {
	AROUND = sizeof BEGIN - 1 + sizeof END - 1,
	WORD_MAX = 75,		/* octets of an encoded word, section 2 */
	CHARACTER_MAX = 12,	/* octets of an encoded character, which is not cut: section 5 */
};

/* The character at s, which has n octets, encoded. Returns how many octets of out it has. */
static size_t
encode(char out[CHARACTER_MAX], const char *s, size_t n)
{
	static const char hex[] = "0123456789ABCDEF", as_it_is[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/";

	if (*s && strchr(as_it_is, *s))
		out[0] = *s;
	else if (*s == ' ')
		out[0] = '_';
	else {
		for (size_t i = 0; i < n; i++) {
			out[3 * i] = '=';
			out[3 * i + 1] = hex[(unsigned char)s[i] >> 4];
			out[3 * i + 2] = hex[(unsigned char)s[i] & 15];
		}
		return 3 * n;
	}
	return 1;
}

/* One encoded word of as many characters as have room. Returns how many octets of the text it took, 0: ENOMEM. */
static size_t
put_word(stralloc *to, size_t room, const char *text, size_t len)
{
	char word[WORD_MAX], character[CHARACTER_MAX];
	size_t taken = 0, word_len = 0;

	while (taken < len) {
		size_t n = utf8_length(text + taken, len - taken), size;

		n = n ? n : 1;	/* no UTF-8 */
		size = encode(character, text + taken, n);
		if (word_len + size > room - AROUND)
			break;
		memcpy(word + word_len, character, size);
		word_len += size;
		taken += n;
	}
	return stralloc_cats(to, BEGIN) && stralloc_catb(to, word, word_len) && stralloc_cats(to, END) ? taken : 0;
}

int
encoded_words(stralloc *to, size_t *column, const char *text, size_t len)
{
	while (len) {
		size_t room = *column < ENCODED_WORDS_COLUMNS ? ENCODED_WORDS_COLUMNS - *column : 0, before, n;

		if (room < AROUND + CHARACTER_MAX) {
			if (!stralloc_catb(to, "\r\n ", 3))
				return 0;
			*column = 1;
			continue;
		}
		before = to->len;
		n = put_word(to, room < WORD_MAX ? room : WORD_MAX, text, len);
		if (!n)
			return 0;
		*column += to->len - before;
		text += n;
		len -= n;
	}
	return 1;
}
