#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <skalibs/strerr.h>
#include "monotonic.h"
#include "settings.h"

#define NO_LIMIT 4294967295ul	/* DATABYTES of qmail: no limit */

static const struct number {
	const char *file, *variable;	/* variable NULL: none */
	unsigned long initial, most;
} numbers[SETTING_NUMBERS] = {
	[NUMBER_TIMEOUT] = { "control/timeoutsmtpd", NULL, 1200, 86400 },
	[NUMBER_SESSION] = { "control/smtpsessiontime", NULL, 14400, 604800 },
	[NUMBER_GREETDELAY] = { "control/greetdelay", "SMTPD_GREETDELAY", 0, 60 },
	[NUMBER_DATABYTES] = { "control/databytes", "DATABYTES", 0, 1ul << 62 },
	[NUMBER_MAXRCPT] = { "control/maxrcpt", "MAXRCPT", 1000, 100000 },
	[NUMBER_MAXMAIL] = { "control/maxmail", NULL, 100000, 1000000000 },
	[NUMBER_MAXHOPS] = { "control/maxhops", NULL, 100, 10000 },
	[NUMBER_MAXERRORS] = { "control/maxsmtperrors", NULL, 20, 1000000 },
	[NUMBER_MAXIDLE] = { "control/maxsmtpidle", NULL, 500, 1000000000 },
	[NUMBER_BRTLIMIT] = { "control/brtlimit", "BRTLIMIT", 100, 1000000000 },
	[NUMBER_TARPITCOUNT] = { "control/tarpitcount", "TARPITCOUNT", 0, 1000000 },
	[NUMBER_TARPITDELAY] = { "control/tarpitdelay", "TARPITDELAY", 5, 600 },
	[NUMBER_REJECTNULL] = { "control/rejectnullsenders", "REJECTNULLSENDERS", 0, 1 },
	[NUMBER_AUTHORS] = { "control/submissionauthors", NULL, AUTHORS_ANY, AUTHORS_FROM },
};

static const char *const lists[SETTING_LISTS] = {
	[LIST_RCPTHOSTS] = "control/rcpthosts",
	[LIST_BADMAILFROM] = "control/badmailfrom",
	[LIST_BADMAILFROM_NORELAY] = "control/badmailfromnorelay",
	[LIST_BADRCPTTO] = "control/badrcptto",
	[LIST_BADRCPTTO_NORELAY] = "control/badrcpttonorelay",
	[LIST_BADHELO] = "control/badhelo",
	[LIST_BADHELO_NORELAY] = "control/badhelonorelay",
};

/* Lines, and what localaddress.h reads when these settings are read. */
static const char *const others[] = { "control/me", "control/smtpgreeting", "control/localiphost", "control/moreipme", "control/notipme" };
enum { OTHERS = sizeof others / sizeof *others };

_Static_assert(SETTINGS_FILES == (int)SETTING_NUMBERS + (int)SETTING_LISTS + OTHERS, "each file is watched");

/* --- watching ----------------------------------------------------------------- */

static const char *
watched(size_t i)
{
	if (i < SETTING_NUMBERS)
		return numbers[i].file;
	i -= SETTING_NUMBERS;
	return i < SETTING_LISTS ? lists[i] : others[i - SETTING_LISTS];
}

static void
take_stamps(struct stamp stamps[SETTINGS_FILES])
{
	for (size_t i = 0; i < SETTINGS_FILES; i++)
		stamps[i] = stamp_take(watched(i));
}

int
settings_have_changed(struct settings *s)
{
	uint64_t now = monotonic_ms();
	struct stamp stamps[SETTINGS_FILES];
	int has_changed;

	if (now < s->looked_at + 1000)
		return 0;
	s->looked_at = now;
	take_stamps(stamps);
	has_changed = !stamps_are_same(stamps, s->stamps, SETTINGS_FILES);
	/* while somebody may be writing, nothing that was whole is given up */
	return stamps_are_fresh(stamps, SETTINGS_FILES, "control") ? s->is_unsettled && has_changed : s->is_unsettled || has_changed;
}

/* --- reading ------------------------------------------------------------------ */

static void
warn_of_expression(void *file, const char *entry, const char *why)
{
	strerr_warnw(file, ": ignored: ", entry, ": ", why);
}

static int
read_list(struct setting_list *list, enum setting_list_name name)
{
	stralloc entries = STRALLOC_ZERO;
	int r = control_list(&entries, lists[name]);
	int of_hosts = name == LIST_BADHELO || name == LIST_BADHELO_NORELAY;

	if (r < 0 || !control_map_build(&list->entries, &entries, 0)) {
		stralloc_free(&entries);
		return 0;
	}
	list->is_there = r > 0;
	return name == LIST_RCPTHOSTS || expressions_read(&list->expressions, list->entries.text.s, list->entries.text.len,
	    of_hosts ? EXPRESSIONS_OF_HOSTS : EXPRESSIONS_OF_ADDRESSES, warn_of_expression, (void *)(uintptr_t)lists[name]);
}

static int
read_lists(struct settings *s, const char **file)
{
	for (size_t i = 0; i < SETTING_LISTS; i++) {
		*file = lists[i];
		if (!read_list(&s->lists[i], i))
			return 0;
	}
	return 1;
}

static int
read_numbers(struct settings *s, const char **file)
{
	for (size_t i = 0; i < SETTING_NUMBERS; i++) {
		s->numbers[i] = numbers[i].initial;
		*file = numbers[i].file;
		if (control_number(&s->numbers[i], numbers[i].file, numbers[i].most) < 0)
			return 0;
	}
	return 1;
}

static int
read_lines(struct settings *s, const char **file)
{
	*file = "control/me";
	if (control_line(&s->me, *file) < 0)
		return 0;
	*file = "control/localiphost";
	if (control_line_or_me(&s->localiphost, *file) < 0)
		return 0;
	*file = "control/smtpgreeting";
	switch (control_line_or_me(&s->greeting, *file)) {
	case 1:
		if (!stralloc_readyplus(&s->greeting, 1))
			return 0;
		s->greeting.s[s->greeting.len] = '\0';
		return 1;
	case 0:
		errno = ENOENT;
	}
	return 0;
}

/* 0 is no limit but ours, as in the patches of qmail that have maxrcpt. */
static const enum setting_number_name limits[] = { NUMBER_SESSION, NUMBER_MAXRCPT, NUMBER_MAXMAIL, NUMBER_MAXHOPS, NUMBER_MAXIDLE };

static void
correct(struct settings *s)
{
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
		if (!s->numbers[limits[i]])
			s->numbers[limits[i]] = numbers[limits[i]].most;
	if (s->numbers[NUMBER_TIMEOUT] < 1)
		s->numbers[NUMBER_TIMEOUT] = 1;
	if (s->numbers[NUMBER_DATABYTES] == NO_LIMIT)
		s->numbers[NUMBER_DATABYTES] = 0;
}

static void
settings_free(struct settings *s)
{
	for (size_t i = 0; i < SETTING_LISTS; i++) {
		control_map_free(&s->lists[i].entries);
		expressions_free(&s->lists[i].expressions);
	}
	stralloc_free(&s->me);
	stralloc_free(&s->greeting);
	stralloc_free(&s->localiphost);
	table_close(&s->morercpthosts);
}

int
settings_read(struct settings *s, const char **file)
{
	struct settings new = { .looked_at = monotonic_ms(), .morercpthosts = { .fd = -1 } };
	int ok, e;

	/* first, so that a change while they are read is seen at the next look */
	take_stamps(new.stamps);
	new.is_unsettled = stamps_are_fresh(new.stamps, SETTINGS_FILES, "control");
	ok = read_numbers(&new, file) && read_lists(&new, file) && read_lines(&new, file);
	e = errno;
	if (ok && s->greeting.s)
		settings_free(s);
	if (!ok)
		settings_free(&new);
	errno = e;
	if (!ok)
		return 0;
	correct(&new);
	*s = new;
	return 1;
}

int
settings_open_table(struct settings *s)
{
	return table_open(&s->morercpthosts, "control/morercpthosts.cdb") >= 0;
}

/* --- the environment ----------------------------------------------------------- */

static void
take_variable(unsigned long *to, const struct number *number)
{
	const char *value = number->variable ? getenv(number->variable) : NULL;
	unsigned long n = 0;

	if (!value || *value < '0' || *value > '9')
		return;
	for (; *value >= '0' && *value <= '9'; value++)
		n = n > number->most / 10 ? number->most : n * 10 + (unsigned long)(*value - '0');
	*to = n > number->most ? number->most : n;
}

void
settings_apply_environment(struct settings *s)
{
	for (size_t i = 0; i < SETTING_NUMBERS; i++)
		take_variable(&s->numbers[i], &numbers[i]);
	if (getenv("DISABLE_MAXRCPT"))
		s->numbers[NUMBER_MAXRCPT] = numbers[NUMBER_MAXRCPT].most;
	if (getenv("DISABLE_BADMAILFROM"))
		s->lists[LIST_BADMAILFROM].is_there = s->lists[LIST_BADMAILFROM_NORELAY].is_there = 0;
	correct(s);
}
