#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/types.h>
#include <skalibs/uint64.h>
#include "decimal.h"
#include "known_sizes.h"
#include "siphash.h"

enum { DIGEST = 8, LENGTH = 8, STATE = 3 * 8, HEADER = DIGEST + LENGTH + STATE };

int
known_name_compare(const struct known_name *a, const struct known_name *b)
{
	int r;

	if (a->time != b->time)
		return a->time < b->time ? -1 : 1;
	r = memcmp(a->name, b->name, a->len < b->len ? a->len : b->len);
	return r ? r : (a->len > b->len) - (a->len < b->len);
}

int
known_sizes_open(int maildir)
{
	int fd = openat(maildir, "pop3-sizes", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

void
known_sizes_free(struct known_sizes *k)
{
	stralloc_free(&k->text);
	k->has_next = 0;
}

/* It finds what is torn or mixed; against forgery there is nothing to be gained here, so the key is known. */
static void
digest(char value[DIGEST], const char *s, size_t len)
{
	static const struct siphash_key key = { 0, 0 };

	uint64_pack_big(value, siphash(&key, s, len));
}

/* --- reading ------------------------------------------------------------------------------ */

/* A number and the blank behind it. Returns their length, or 0. */
static size_t
scan(const char *s, uint64_t *number)
{
	size_t len = decimal_scan(s, number);

	return len && s[len] == ' ' ? len + 1 : 0;
}

/* Takes the next line, behind which there is a NUL, apart. */
static void
advance(struct known_sizes *k)
{
	const char *line = k->text.s + k->at, *end = k->at < k->text.len ? memchr(line, '\0', k->text.len - k->at) : NULL;
	struct known_name last = k->next;
	int has_last = k->has_next;
	size_t time, both;

	k->has_next = 0;
	if (!end)
		return;
	time = scan(line, &k->next.time);
	both = time ? time + scan(line + time, &k->size) : 0;
	k->next.name = line + both;
	k->next.len = strcspn(line + both, ":");
	k->at += (size_t)(end - line) + 1;
	k->has_next = both > time && line[both] && (!has_last || known_name_compare(&last, &k->next) < 0);
}

/* Reads all of it into k->text. Returns 1, or 0: it does not count. */
static int
load(struct known_sizes *k, int fd)
{
	char value[DIGEST];
	struct stat st;
	uint64_t len;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < HEADER || st.st_size > KNOWN_SIZES_MAX ||
	    !stralloc_ready(&k->text, (size_t)st.st_size) || lseek(fd, 0, SEEK_SET) < 0)
		return 0;
	k->text.len = allread(fd, k->text.s, (size_t)st.st_size);
	if (k->text.len < HEADER)
		return 0;
	uint64_unpack_big(k->text.s + DIGEST, &len);
	if (len > k->text.len - HEADER)
		return 0;
	k->text.len = HEADER + (size_t)len;
	digest(value, k->text.s + DIGEST, LENGTH + STATE + (size_t)len);
	return memcmp(value, k->text.s, DIGEST) == 0;
}

static void
unpack_state(struct known_state *state, const char s[STATE])
{
	uint64_unpack_big(s, &state->inode);
	uint64_unpack_big(s + 8, &state->seconds);
	uint64_unpack_big(s + 16, &state->nanoseconds);
}

static void
pack_state(char s[STATE], const struct known_state *state)
{
	uint64_pack_big(s, state->inode);
	uint64_pack_big(s + 8, state->seconds);
	uint64_pack_big(s + 16, state->nanoseconds);
}

struct known_state
known_sizes_state(int fd)
{
	struct known_state state = { .inode = 0 };
	char s[STATE];

	if (fd >= 0 && pread(fd, s, STATE, DIGEST + LENGTH) == STATE)
		unpack_state(&state, s);
	return state;
}

int
known_state_is_same(const struct known_state *a, const struct known_state *b)
{
	return a->inode == b->inode && a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

void
known_sizes_read(struct known_sizes *k, int fd)
{
	k->at = HEADER;
	if (!load(k, fd))
		return;
	unpack_state(&k->state, k->text.s + DIGEST + LENGTH);
	advance(k);
}

int
known_sizes_find(struct known_sizes *k, const struct known_name *name, uint64_t *size)
{
	int r = -1;

	while (k->has_next && (r = known_name_compare(&k->next, name)) < 0)
		advance(k);
	*size = k->size;
	return k->has_next && r == 0;
}

int
known_sizes_next(struct known_sizes *k, struct known_name *name, uint64_t *size)
{
	if (!k->has_next)
		return 0;
	*name = k->next;
	*size = k->size;
	advance(k);
	return 1;
}

stralloc
known_sizes_take_text(struct known_sizes *k)
{
	stralloc text = k->text;

	k->text = (stralloc)STRALLOC_ZERO;
	k->has_next = 0;	/* its name is in there */
	return text;
}

/* --- writing ------------------------------------------------------------------------------ */

/* Without memory nothing is kept, and nothing is written. */
static void
append(struct known_sizes *k, const char *s, size_t len)
{
	if (k->text.len && !stralloc_catb(&k->text, s, len))
		k->text.len = 0;
}

void
known_sizes_begin(struct known_sizes *k)
{
	static const char header[HEADER];

	if (!stralloc_catb(&k->text, header, HEADER))
		k->text.len = 0;
}

static void
append_number(struct known_sizes *k, uint64_t number)
{
	char digits[UINT64_FMT + 1];
	size_t len = uint64_fmt(digits, number);

	digits[len++] = ' ';
	append(k, digits, len);
}

void
known_sizes_add(struct known_sizes *k, const struct known_name *name, uint64_t size)
{
	append_number(k, name->time);
	append_number(k, size);
	append(k, name->name, strlen(name->name) + 1);
}

void
known_sizes_write(struct known_sizes *k, int fd)
{
	if (fd < 0 || k->text.len < HEADER || k->text.len > KNOWN_SIZES_MAX || lseek(fd, 0, SEEK_SET) < 0)
		return;
	uint64_pack_big(k->text.s + DIGEST, k->text.len - HEADER);
	pack_state(k->text.s + DIGEST + LENGTH, &k->state);
	digest(k->text.s, k->text.s + DIGEST, k->text.len - DIGEST);
	allwrite(fd, k->text.s, k->text.len);
}
