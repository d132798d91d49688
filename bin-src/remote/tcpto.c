/* The file: TCPTO_ENTRIES entries of 24 octets, in the machine's order of octets, since nobody keeps it.
 *   16 octets   the address; an IPv4 address as ::ffff:a.b.c.d
 *    8 octets   one number: 40 bits seconds of the monotonic clock at the last time-out, 8 bits count, 16 bits of a digest
 *               of the address; 0: empty
 * An address lies in the TCPTO_WAYS entries of its set, which its digest chooses. The number is written in one piece and
 * the digest in it belongs to the address, so an entry that two processes write at the same time is empty to everyone. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "monotonic.h"
#include "tcpto.h"

#define TCPTO_FILE "run/tcpto"

struct entry {
	unsigned char ip[16];
	_Atomic uint64_t state;
};

struct tcpto { struct entry entries[TCPTO_ENTRIES]; };

_Static_assert(sizeof (struct tcpto) == TCPTO_SIZE, "the size of the file");
_Static_assert(TCPTO_ENTRIES % TCPTO_WAYS == 0, "whole sets");

/* What an entry says. */
struct state { uint64_t time; unsigned int count; };

static uint64_t
now(void)
{
	return monotonic_ms() / 1000 + 1;	/* never 0 */
}

/* FNV-1a, folded. */
static uint32_t
digest(const unsigned char ip[16])
{
	uint32_t h = 2166136261u;

	for (int i = 0; i < 16; i++)
		h = (h ^ ip[i]) * 16777619u;
	return h ^ h >> 16;
}

static void
expand(unsigned char to[16], const ip46 *ip)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (ip46_is6(ip)) {
		memcpy(to, ip->ip, 16);
	} else {
		memcpy(to, mapped, 12);
		memcpy(to + 12, ip->ip, 4);
	}
}

static uint64_t
pack(const unsigned char ip[16], struct state s)
{
	return s.time << 24 | (uint64_t)s.count << 16 | (digest(ip) & 0xffff);
}

/* Returns 1 and what the entry says, or 0: it is empty, or says nothing that can be true. */
static int
unpack(const struct entry *e, struct state *s)
{
	uint64_t state = atomic_load_explicit(&e->state, memory_order_acquire);

	if (!state || (state & 0xffff) != (digest(e->ip) & 0xffff))
		return 0;
	s->time = state >> 24;
	s->count = state >> 16 & 0xff;
	return s->count && s->count <= TCPTO_COUNT_MAX && s->time <= now();
}

static struct entry *
set_of(const struct tcpto *t, const unsigned char ip[16])
{
	size_t set = (digest(ip) >> 16 ^ digest(ip)) % (TCPTO_ENTRIES / TCPTO_WAYS);

	return (struct entry *)(uintptr_t)&t->entries[set * TCPTO_WAYS];
}

/* The entry of an address and what it says, or NULL. */
static struct entry *
find(const struct tcpto *t, const unsigned char ip[16], struct state *s)
{
	struct entry *set = set_of(t, ip);

	for (int i = 0; i < TCPTO_WAYS; i++)
		if (!memcmp(set[i].ip, ip, 16) && unpack(&set[i], s))
			return &set[i];
	return NULL;
}

/* The entry to be overwritten: an empty one, or the one whose time-outs are fewest and longest ago. */
static struct entry *
victim(const struct tcpto *t, const unsigned char ip[16])
{
	struct entry *set = set_of(t, ip), *least = set;
	uint64_t least_worth = UINT64_MAX, worth;
	struct state s;

	for (int i = 0; i < TCPTO_WAYS; i++) {
		if (!unpack(&set[i], &s))
			return &set[i];
		worth = s.time + 1024 * s.count;
		if (worth < least_worth) {
			least_worth = worth;
			least = &set[i];
		}
	}
	return least;
}

int
tcpto_is_dead(const struct tcpto *t, const ip46 *ip)
{
	unsigned char key[16];
	struct state s;

	if (!t)
		return 0;
	expand(key, ip);
	return find(t, key, &s) && s.count >= TCPTO_COUNT_SKIP &&
	    now() - s.time < (60 + (uint64_t)getpid() % 32) * 64;
}

void
tcpto_timed_out(struct tcpto *t, const ip46 *ip)
{
	unsigned char key[16];
	struct state s;
	struct entry *e;

	if (!t)
		return;
	expand(key, ip);
	e = find(t, key, &s);
	if (e) {
		if (now() - s.time < TCPTO_INTERVAL)
			return;
		s.count += s.count < TCPTO_COUNT_MAX;
	} else {
		s.count = 1;
		e = victim(t, key);
		atomic_store_explicit(&e->state, 0, memory_order_release);
		memcpy(e->ip, key, 16);
	}
	s.time = now();
	atomic_store_explicit(&e->state, pack(key, s), memory_order_release);
}

void
tcpto_answered(struct tcpto *t, const ip46 *ip)
{
	unsigned char key[16];
	struct state s;
	struct entry *e;

	if (!t)
		return;
	expand(key, ip);
	e = find(t, key, &s);
	if (e)
		atomic_store_explicit(&e->state, 0, memory_order_release);
}

int
tcpto_entry(const struct tcpto *t, size_t i, ip46 *ip, uint64_t *age, unsigned int *count)
{
	struct state s;

	if (!t || i >= TCPTO_ENTRIES || !unpack(&t->entries[i], &s))
		return 0;
	ip46_from_ip6(ip, (const char *)t->entries[i].ip);
	if (!memcmp(ip->ip, "\0\0\0\0\0\0\0\0\0\0\377\377", 12)) {
		char four[4];

		memcpy(four, ip->ip + 12, 4);
		ip46_from_ip4(ip, four);
	}
	*age = now() - s.time;
	*count = s.count;
	return 1;
}

void
tcpto_clear(struct tcpto *t)
{
	for (size_t i = 0; t && i < TCPTO_ENTRIES; i++)
		atomic_store_explicit(&t->entries[i].state, 0, memory_order_release);
}

/* Maps an open file, which is closed. A file of another size is none (EINVAL): beyond its end a map is a trap. An empty
 * one, as qmail-setup makes it, is as if it were not there (ENOENT). */
static struct tcpto *
map(int fd, int write)
{
	struct stat st;
	void *t = MAP_FAILED;
	int error;

	errno = EINVAL;
	if (fstat(fd, &st) < 0)
		st.st_mode = 0;
	if (S_ISREG(st.st_mode) && !st.st_size)
		errno = ENOENT;
	else if (S_ISREG(st.st_mode) && st.st_size == TCPTO_SIZE)
		t = mmap(NULL, TCPTO_SIZE, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	error = errno;
	close(fd);
	errno = error;
	return t == MAP_FAILED ? NULL : t;
}

struct tcpto *
tcpto_open(int write)
{
	int fd = open(TCPTO_FILE, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd < 0 ? NULL : map(fd, write);
}

int
tcpto_reset(void)
{
	int fd = open(TCPTO_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
	struct tcpto *t;

	if (fd < 0)
		return 0;
	if (ftruncate(fd, TCPTO_SIZE) < 0) {	/* never shorter in between: others may have mapped it */
		int error = errno;

		close(fd);
		errno = error;
		return 0;
	}
	t = map(fd, 1);
	if (!t)
		return 0;
	tcpto_clear(t);
	tcpto_close(t);
	return 1;
}

void
tcpto_close(struct tcpto *t)
{
	if (t)
		munmap(t, TCPTO_SIZE);
}
