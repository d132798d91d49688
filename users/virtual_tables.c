#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/buffer.h>
#include <skalibs/skamisc.h>
#include "password.h"
#include "stralloc_set.h"
#include "virtual_tables.h"

static const char out_of_memory[] = "out of memory";

int
virtual_tables_begin(struct virtual_tables *t)
{
	*t = (struct virtual_tables){ .accounts = { .fd = -1 }, .passwords = { .fd = -1 } };
	return table_make(&t->accounts, VIRTUAL_TABLE, VIRTUAL_TABLE_TEMPORARY, 0644);
}

/* The passwords are as much for others to read as the file that has them. */
static const char *
begin_passwords(struct virtual_tables *t, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return strerror(errno);
	if (st.st_mode & (S_IROTH | S_IWOTH))
		return "it holds passwords, and everybody may read or write it: chmod 600 " VIRTUAL_FILE;
	if (!table_make(&t->passwords, VIRTUAL_PASSWORDS, VIRTUAL_PASSWORDS_TEMPORARY, 0600))
		return strerror(errno);
	if ((geteuid() == 0 && fchown(t->passwords.fd, st.st_uid, st.st_gid) < 0) ||
	    fchmod(t->passwords.fd, st.st_mode & 0777) < 0)
		return strerror(errno);
	return NULL;
}

/* Adds to both tables. Returns 1, or 0 with errno set. */
static int
add(struct virtual_tables *t, const char *key, size_t len, const char *value, size_t value_len)
{
	return table_add(&t->accounts, key, len, value, value_len) && table_add(&t->passwords, key, len, value, value_len);
}

/* The keys of a domain. */
static const char *
add_domain(struct virtual_tables *t, const char *domain)
{
	char key[2 + VIRTUAL_DOMAIN_MAX] = { '\0' };
	size_t len = strlen(domain);

	memcpy(key + 1, domain, len);
	if (!table_has(&t->accounts, key, 1 + len) && !add(t, key, 1 + len, "", 0))
		return strerror(errno);
	if (!(t->account.flags & VIRTUAL_CATCHALL))
		return NULL;
	key[1] = '*';
	memcpy(key + 2, domain, len);
	if (table_has(&t->accounts, key, 2 + len))
		return "the domain has a catch-all account already";
	return add(t, key, 2 + len, t->account.address, strlen(t->account.address)) ? NULL : strerror(errno);
}

static int
nobody_logs_in(const char *hash)
{
	return *hash == '*' || *hash == '!';
}

/* Keeps the dearest hash. Returns 1, or 0 (ENOMEM). */
static int
take_sample(struct virtual_tables *t, const char *hash)
{
	uint64_t cost = password_cost(hash);

	if (cost <= t->sample_cost)
		return 1;
	t->sample_cost = cost;
	return stralloc_sets(&t->sample, hash);
}

static const char *
add_account(struct virtual_tables *t)
{
	const struct virtual_account *v = &t->account;
	size_t len = strlen(v->address);

	if (!v->hash[0])
		return "no hash: * for an account without login";
	if (!nobody_logs_in(v->hash) && !password_is_hash(v->hash))
		return "the hash is none that crypt(3) knows";
	if (table_has(&t->accounts, v->address, len))
		return "the address has a line already";
	t->line.len = t->public.len = 0;
	if (!virtual_format(&t->line, v, 1) || !virtual_format(&t->public, v, 0))
		return out_of_memory;
	if (!table_add(&t->accounts, v->address, len, t->public.s, t->public.len) ||
	    !table_add(&t->passwords, v->address, len, t->line.s, t->line.len))
		return strerror(errno);
	if (!take_sample(t, v->hash))
		return out_of_memory;
	return add_domain(t, strchr(v->address, '@') + 1);
}

static const char *
add_line(struct virtual_tables *t)
{
	const char *fault;

	if (!t->line.len || t->line.s[0] == '#')
		return NULL;
	fault = virtual_parse(&t->account, t->line.s, t->line.len);
	return fault ? fault : add_account(t);
}

const char *
virtual_tables_compile(struct virtual_tables *t, int fd)
{
	char room[BUFFER_INSIZE];
	buffer in = BUFFER_INIT(&buffer_read, fd, room, sizeof room);
	const char *fault = begin_passwords(t, fd);
	int r = 1;

	while (!fault && r > 0) {
		t->line.len = 0;
		t->number++;
		r = skagetlnmaxsep(&in, &t->line, VIRTUAL_LINE_MAX + 1, "\n", 1);
		if (r > 0)
			t->line.len--;
		else if (r < 0 && errno != EPIPE)	/* EPIPE: a last line without LF */
			fault = errno == EMSGSIZE ? "too long" : strerror(errno);
		if (!fault)
			fault = add_line(t);
	}
	explicit_bzero(room, sizeof room);
	if (fault)
		return fault;
	t->number = 0;
	if (!table_add(&t->accounts, "", 0, "", 0) || !table_add(&t->passwords, "", 0, t->sample.s ? t->sample.s : "", t->sample.len))
		return strerror(errno);
	/* what can lack room does so before anything has changed */
	return table_flush(&t->passwords) && table_flush(&t->accounts) ? NULL : strerror(errno);
}

static void
release(struct virtual_tables *t)
{
	virtual_free(&t->account);
	stralloc_free(&t->line);
	stralloc_free(&t->public);
	stralloc_free(&t->sample);
}

int
virtual_tables_finish(struct virtual_tables *t)
{
	int ok = table_finish(&t->passwords);

	if (!ok)
		table_abandon(&t->accounts);
	else
		ok = table_finish(&t->accounts);
	release(t);
	return ok;
}

void
virtual_tables_abandon(struct virtual_tables *t)
{
	table_abandon(&t->passwords);
	table_abandon(&t->accounts);
	release(t);
}
