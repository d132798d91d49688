/* qmail-newu: compile users/assign into users/cdb.
 * Trust: the table is the administrator's. The old table stays in use until the new one is whole and on disk. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/buffer.h>
#include <skalibs/djbunix.h>
#include <skalibs/skamisc.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "control/table.h"
#include "exitcode.h"
#include "home.h"
#include "users/account.h"
#include "users/assign.h"

#define ASSIGN "users/assign"
#define TEMPORARY "users/cdb.tmp"

struct compiler {
	struct table_maker table;
	stralloc last;		/* octets that wildcards' prefixes end with */
	struct assign_entry entry;
	unsigned int number;	/* of the line, from 1 */
};

static void
die(struct compiler *c, const char *what)
{
	char number[UINT_FMT];

	table_abandon(&c->table);
	number[uint_fmt(number, c->number)] = '\0';
	strerr_dief(EXIT_TEMP, ASSIGN ", line ", number, ": ", what);
}

static void
die_write(struct compiler *c)
{
	table_abandon(&c->table);
	strerr_diefusys(EXIT_TEMP, "write " TEMPORARY);
}

static void
warn_unusable(const struct compiler *c)
{
	char number[UINT_FMT];

	number[uint_fmt(number, c->number)] = '\0';
	strerr_warnw(ASSIGN ", line ", number, ": mail for this entry will be deferred: "
	    "it needs a user, a uid and a gid in digits, and a home");
}

static void
add_entry(struct compiler *c)
{
	const struct assign_entry *e = &c->entry;

	if (!e->usable)
		warn_unusable(c);
	if (!table_add(&c->table, e->key.s, e->key.len, e->value.s, e->value.len))
		die_write(c);
	if (e->last >= 0 && !(c->last.len && memchr(c->last.s, e->last, c->last.len))
	    && !stralloc_append(&c->last, (char)e->last))
		die(c, "out of memory");
}

/* Returns 0 at the line that ends the table. */
static int
add_line(struct compiler *c, const char *line, size_t len)
{
	switch (assign_parse(&c->entry, line, len)) {
	case ASSIGN_END:
		return 0;
	case ASSIGN_COMMENT:
		break;
	case ASSIGN_ENTRY:
		add_entry(c);
		break;
	case ASSIGN_MALFORMED:
		die(c, "not =local:user:uid:gid:home:dash:ext: or +prefix:user:uid:gid:home:dash:pre:");
		break;
	case ASSIGN_NO_MEMORY:
		die(c, "out of memory");
	}
	return 1;
}

static void
compile(struct compiler *c, buffer *in)
{
	stralloc line = STRALLOC_ZERO;
	int r;

	do {
		line.len = 0;
		c->number++;
		r = skagetlnmaxsep(in, &line, ASSIGN_LINE_MAX + 1, "\n", 1);
		if (r < 0 && errno == EPIPE && line.len)
			;	/* a last line without LF */
		else if (r < 0 && errno == EMSGSIZE)
			die(c, "line too long");
		else if (r < 0)
			die(c, strerror(errno));
		else if (r == 0)
			die(c, "the line \".\" that ends the table is missing");
		else
			line.len--;
	} while (add_line(c, line.s, line.len));
	stralloc_free(&line);
}

int
main(void)
{
	static char room[BUFFER_INSIZE];
	struct compiler c = { .table = { .fd = -1 } };
	buffer in;
	int fd;

	PROG = "qmail-newu";
	if (!fd_sanitize())	/* or the table could be descriptor 2, and a warning be written into it */
		strerr_diefusys(EXIT_TEMP, "open /dev/null");
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	/* its turn first: what was opened before may be replaced by now, and its table be written over a newer one */
	if (!table_make(&c.table, ACCOUNT_TABLE, TEMPORARY, 0644))
		strerr_diefusys(EXIT_TEMP, "make " TEMPORARY);
	fd = open(ASSIGN, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		table_abandon(&c.table);
		strerr_diefusys(EXIT_TEMP, "read " ASSIGN);
	}
	buffer_init(&in, buffer_read, fd, room, sizeof room);
	compile(&c, &in);
	if (!table_add(&c.table, "", 0, c.last.s ? c.last.s : "", c.last.len))
		die_write(&c);
	if (!table_finish(&c.table))
		strerr_diefusys(EXIT_TEMP, "write " ACCOUNT_TABLE);
	return EXIT_OK;
}
