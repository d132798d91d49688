#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include "control.h"

/* The whole file: 1, 0 absent, -1 error. */
static int
slurp(stralloc *text, const char *file)
{
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int e = 0;

	text->len = 0;
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (fstat(fd, &st) < 0)
		e = errno;
	else if (!S_ISREG(st.st_mode))
		e = EINVAL;
	else if (st.st_size > CONTROL_FILE_MAX)
		e = EFBIG;
	else if (!stralloc_ready(text, (size_t)st.st_size + 1))
		e = ENOMEM;
	else {
		errno = 0;
		text->len = allread(fd, text->s, (size_t)st.st_size);
		if (text->len < (size_t)st.st_size && errno && errno != EPIPE)
			e = errno;
	}
	close(fd);
	errno = e;
	return e ? -1 : 1;
}

/* Length of the line at s, its end included in *next; trailing blanks and CR are not counted. */
static size_t
line_length(const char *s, size_t len, size_t *next)
{
	const char *lf = memchr(s, '\n', len);
	size_t n = lf ? (size_t)(lf - s) : len;

	*next = lf ? n + 1 : n;
	while (n && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r'))
		n--;
	return n;
}

int
control_line(stralloc *value, const char *file)
{
	size_t next;
	int r = slurp(value, file);

	value->len = r == 1 ? line_length(value->s, value->len, &next) : 0;
	return r;
}

int
control_line_or_me(stralloc *value, const char *file)
{
	int r = control_line(value, file);

	return r ? r : control_line(value, "control/me");
}

int
control_number(unsigned long *value, const char *file, unsigned long max)
{
	stralloc line = STRALLOC_ZERO;
	unsigned long n = 0;
	size_t i;
	int r = control_line(&line, file);

	if (r == 1) {
		for (i = 0; line.s && i < line.len && line.s[i] >= '0' && line.s[i] <= '9'; i++) {
			unsigned int digit = (unsigned int)(line.s[i] - '0');

			n = n > (ULONG_MAX - digit) / 10 ? ULONG_MAX : n * 10 + digit;
		}
		if (i)
			*value = n > max ? max : n;
		r = i > 0;
	}
	stralloc_free(&line);
	return r;
}

int
control_list(stralloc *entries, const char *file)
{
	int r = slurp(entries, file);
	size_t from, to = 0, next;

	if (r != 1)
		return r;
	for (from = 0; from < entries->len; from += next) {
		size_t n = line_length(entries->s + from, entries->len - from, &next);

		if (!n || entries->s[from] == '#')
			continue;
		/* in place: an entry and its NUL are never longer than its line, but for a last line without LF;
		 * slurp left room for that one octet */
		memmove(entries->s + to, entries->s + from, n);
		to += n;
		entries->s[to++] = '\0';
	}
	entries->len = to;
	return 1;
}

static unsigned char
lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static size_t
hash(const char *s, size_t len)
{
	uint64_t h = 14695981039346656037u;	/* FNV-1a */

	for (size_t i = 0; i < len; i++)
		h = (h ^ lower(s[i])) * 1099511628211u;
	return (size_t)(h ^ (h >> 32));
}

/* The slot of key, or the empty slot where it would go. */
static size_t *
slot_of(const struct control_map *map, const char *key, size_t len)
{
	size_t i = hash(key, len) & map->mask;

	for (; map->slots[i]; i = (i + 1) & map->mask) {
		const char *k = map->text.s + map->slots[i] - 1;

		if (!strncasecmp(k, key, len) && !k[len] && !memchr(key, '\0', len))
			break;
	}
	return &map->slots[i];
}

int
control_map_build(struct control_map *map, stralloc *entries, int with_values)
{
	size_t count = 0, size = 8, pos, next;

	*map = (struct control_map){ .text = *entries, .with_values = with_values };
	*entries = (stralloc)STRALLOC_ZERO;
	for (pos = 0; pos < map->text.len; pos++)
		count += map->text.s[pos] == '\0';
	while (size < count * 2)
		size *= 2;
	map->slots = calloc(size, sizeof *map->slots);
	map->mask = size - 1;
	if (!map->slots) {
		control_map_free(map);
		errno = ENOMEM;
		return 0;
	}
	for (pos = 0; pos < map->text.len; pos = next) {
		char *entry = map->text.s + pos;
		char *colon = strchr(entry, ':');

		next = pos + strlen(entry) + 1;
		if (with_values && !colon)
			continue;
		if (with_values)
			*colon = '\0';
		*slot_of(map, entry, strlen(entry)) = pos + 1;
	}
	return 1;
}

const char *
control_map_find(const struct control_map *map, const char *key, size_t len)
{
	size_t pos;
	const char *k;

	if (!map->slots || !(pos = *slot_of(map, key, len)))
		return NULL;
	k = map->text.s + pos - 1;
	return k + strlen(k) + (map->with_values ? 1 : 0);
}

void
control_map_free(struct control_map *map)
{
	stralloc_free(&map->text);
	free(map->slots);
	*map = (struct control_map){ .slots = NULL };
}
