/* mime_words: the words of a field with parameters, as Content-Type is: RFC 2045 section 5.1, RFC 2183 section 2.
 * Trust     the text is hostile: any octet may occur, and it is not NUL-terminated; it is unfolded
 * Memory    none of its own, no recursion */
#ifndef MIME_WORDS_H
#define MIME_WORDS_H
#include <stddef.h>

/* What is left of the text. */
struct mime_words { const char *s, *end; };

/* Goes over blanks and comments, RFC 5322 section 3.2.2. Returns what stands next, 0 at the end. */
char mime_words_skip(struct mime_words *w);

/* A token. Returns how many octets it has, 0: there is none. */
size_t mime_words_take_token(struct mime_words *w, const char **token);

/* Returns whether c stands next, which is taken then. */
int mime_words_take_octet(struct mime_words *w, char c);

/* The value of a parameter, quoted or not; without quotes any octets up to a blank or ';', as many write them. value has room for as
 * many octets as w has. Returns 1, or 0 if it makes no sense. */
int mime_words_take_value(struct mime_words *w, char *value, size_t *len);

/* Whether a word of len octets at s is word, without regard to case. */
int mime_words_is(const char *s, size_t len, const char *word);

#endif
