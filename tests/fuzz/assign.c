/* users/assign and a local part, given any octets: what qmail-newu makes of the lines, and what qmail-lspawn finds in that. The input is
 * the local part, a NUL, and the lines. */
#include <assert.h>
#include <cdb.h>
#include <errno.h>
#include <strings.h>
#include "control/table.h"
#include "given.h"
#include "users/account.h"
#include "users/assign.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* What is known of the answer, by the definition: a whole name comes before prefixes, the longer before the shorter, the earlier line
 * before the later. */
struct want {
	const char *local;
	size_t len;
	size_t matched;		/* octets of the name or prefix */
	int is_whole, is_found, is_usable;
	stralloc value;
};

static void
expect(struct want *w, const char *line, const struct assign_entry *e)
{
	size_t n = e->key.len - 1 - (*line == '=');

	if (n > w->len || strncasecmp(e->key.s + 1, w->local, n) != 0 || (*line == '=' && n != w->len) || w->is_whole)
		return;
	if (*line == '+' && w->is_found && w->matched >= n)
		return;
	w->is_whole = *line == '=';
	w->is_found = 1;
	w->matched = n;
	w->value.len = 0;
	assert(stralloc_catb(&w->value, e->value.s, e->value.len));
}

static void
take_line(struct want *w, struct table_maker *m, const char *line, const struct assign_entry *e, stralloc *last)
{
	assert(e->key.len && e->key.s[0] == '!' && (*line == '=' || *line == '+'));
	assert((*line == '=') == (e->key.s[e->key.len - 1] == '\0') && (*line == '=' ? e->last < 0 : 1));
	assert(table_add(m, e->key.s, e->key.len, e->value.s, e->value.len));
	if (e->last >= 0)
		assert(stralloc_append(last, (char)e->last));
	expect(w, line, e);
}

/* Compiles the lines as qmail-newu does. */
static void
compile(struct want *w, struct given_file *file, struct given g)
{
	static struct assign_entry entry;
	static stralloc last;
	struct cdb_make cdb;
	struct table_maker m = { .cdb = &cdb };
	enum assign_kind kind = ASSIGN_COMMENT;

	given_write(file, "", 0);
	m.fd = file->fd;
	last.len = 0;
	assert(cdb_make_start(&cdb, m.fd) == 0);
	while (g.len && kind != ASSIGN_END) {
		struct given piece = given_until(&g, '\n');
		char *line = given_copy(piece.s, piece.len);

		kind = assign_parse(&entry, line, piece.len);
		assert(kind != ASSIGN_NO_MEMORY);
		if (kind == ASSIGN_ENTRY)
			take_line(w, &m, line, &entry, &last);
		free(line);
	}
	assert(table_add(&m, "", 0, last.s, last.len) && cdb_make_finish(&cdb) == 0);
}

/* The account is the one of the line that counts, with the rest of the local part behind its extension; a line that makes no sense is
 * neither found nor absent. */
static void
find(struct want *w, const char *path)
{
	static struct account a, want;
	int absent, r;

	if (!w->is_whole && w->is_found)
		assert(stralloc_catb(&w->value, w->local + w->matched, w->len - w->matched));
	w->is_usable = w->is_found && account_parse(&want, w->value.s, w->value.len);
	r = account_find(&a, path, w->local, w->len, &absent);
	assert(!absent && r == (!w->is_found ? 0 : w->is_usable ? 1 : -1) && (r >= 0 || errno == EPROTO));
	if (r != 1)
		return;
	assert(a.uid == want.uid && a.gid == want.gid && strcmp(a.user, want.user) == 0 && strcmp(a.home, want.home) == 0 &&
	    strcmp(a.dash, want.dash) == 0 && strcmp(a.ext, want.ext) == 0 && !a.is_virtual && !*a.quota);
	assert(a.uid != (uid_t)-1 && a.gid != (gid_t)-1 && *a.user && *a.home);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct given_file file;
	static struct want w;
	struct given g = { octets, len };
	char *local = given_string(given_until(&g, '\0'));

	w = (struct want){ .local = local, .len = strlen(local), .value = w.value };
	w.value.len = 0;
	compile(&w, &file, g);
	find(&w, file.path);
	free(local);
	return 0;
}
