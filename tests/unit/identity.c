/* Who somebody is to qmail-inject: variables in their order, control files, what is no part of an address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/inject/identity.h"
#include "directory.h"

static const char *const variables[] = { "QMAILUSER", "MAILUSER", "USER", "LOGNAME", "QMAILHOST", "MAILHOST", "QMAILSUSER", "QMAILSHOST",
	"QMAILNAME", "MAILNAME", "NAME", "QMAILDEFAULTHOST", "QMAILDEFAULTDOMAIN", "QMAILPLUSDOMAIN", "QMAILIDHOST" };
enum { VARIABLES = sizeof variables / sizeof *variables };

enum asked { FROM, SENDER, NAME, IDHOST };

/* environment: variables of the row, parted by blanks; want NULL: there is none. */
static const struct row { const char *rule; enum asked asked; const char *environment, *want; } rows[] = {
	{ "nobody says", FROM, "", "anonymous@default.test" },
	{ "LOGNAME", FROM, "LOGNAME=l", "l@default.test" },
	{ "USER before LOGNAME", FROM, "USER=u LOGNAME=l", "u@default.test" },
	{ "MAILUSER before USER", FROM, "MAILUSER=m USER=u", "m@default.test" },
	{ "QMAILUSER before MAILUSER", FROM, "QMAILUSER=q MAILUSER=m", "q@default.test" },
	{ "an empty one is passed over", FROM, "QMAILUSER= USER=u", "u@default.test" },
	{ "MAILHOST", FROM, "USER=u MAILHOST=m.test", "u@m.test" },
	{ "QMAILHOST before MAILHOST", FROM, "USER=u QMAILHOST=q.test MAILHOST=m.test", "u@q.test" },
	{ "a host without a dot", FROM, "USER=u QMAILHOST=q", "u@q.domain.test" },
	{ "a host that ends in a plus", FROM, "USER=u QMAILHOST=q+", "u@q.plus.test" },
	{ "QMAILDEFAULTHOST", FROM, "USER=u QMAILDEFAULTHOST=d.test", "u@d.test" },
	{ "a user who needs quotes", FROM, "USER=a\tb", "\"a\tb\"@default.test" },
	{ "two addresses in a host", FROM, "USER=u QMAILHOST=a.test,b@c.test", NULL },
	{ "a newline in a host", FROM, "USER=u QMAILHOST=a.test\nBcc:x", NULL },
	{ "the sender is the same", SENDER, "USER=u QMAILHOST=q.test", "u-suffix@q.test" },
	{ "QMAILSUSER and QMAILSHOST", SENDER, "USER=u QMAILSUSER=s QMAILSHOST=s.test", "s-suffix@s.test" },
	{ "an empty QMAILSUSER is passed over", SENDER, "USER=u QMAILSUSER= QMAILSHOST=s.test", "u-suffix@s.test" },
	{ "no name", NAME, "", NULL },
	{ "NAME", NAME, "NAME=N", "N" },
	{ "QMAILNAME before MAILNAME before NAME", NAME, "QMAILNAME=Q MAILNAME=M NAME=N", "Q" },
	{ "an empty name says that there is none", NAME, "QMAILNAME= NAME=N", NULL },
	{ "idhost", IDHOST, "", "me.test" },
	{ "QMAILIDHOST", IDHOST, "QMAILIDHOST=i.test", "i.test" },
};

static void
set_environment(const char *text)
{
	char copy[200], *rest = copy, *word;

	for (size_t i = 0; i < VARIABLES; i++)
		unsetenv(variables[i]);
	snprintf(copy, sizeof copy, "%s", text);
	while ((word = strsep(&rest, " ")))
		if (*word) {
			char *equals = strchr(word, '=');

			*equals = '\0';
			assert_int_equal(setenv(word, equals + 1, 1), 0);
		}
}

static void
identity_row(void **state)
{
	const struct row *row = *state;
	struct identity id;
	stralloc address = STRALLOC_ZERO;
	const char *s = NULL;

	set_environment(row->environment);
	identity_init(&id);
	assert_int_equal(identity_load(&id), 1);
	if (row->asked == NAME)
		s = identity_name();
	else if (row->asked == IDHOST)
		s = identity_idhost(&id);
	else if (row->asked == FROM ? identity_from(&id, &address) : identity_sender(&id, &address, "-suffix")) {
		assert_int_equal(stralloc_0(&address), 1);
		s = address.s;
	}
	if (row->want)
		assert_string_equal(s, row->want);
	else
		assert_null(s);
	stralloc_free(&address);
	for (int i = 0; i < IDENTITY_HOSTS; i++)
		stralloc_free(&id.host[i]);
}

static void
a_control_file_that_cannot_be_read(void **state)
{
	struct identity id;

	(void)state;
	set_environment("");
	assert_int_equal(mkdir("control/idhost", 0700), 0);
	identity_init(&id);
	assert_null(identity_idhost(&id));
	assert_string_equal(id.trouble, "control/idhost");
	assert_int_equal(identity_load(&id), 0);
	assert_int_equal(rmdir("control/idhost"), 0);
	for (int i = 0; i < IDENTITY_HOSTS; i++)
		stralloc_free(&id.host[i]);
}

static int
set_up(void **state)
{
	if (directory_make(state))
		return -1;
	directory_write("control/me", "me.test\n");
	directory_write("control/defaulthost", "default.test\n");
	directory_write("control/defaultdomain", "domain.test\n");
	directory_write("control/plusdomain", "plus.test\n");
	return 0;
}

int
main(void)
{
	enum { ROWS = sizeof rows / sizeof *rows };
	struct CMUnitTest tests[ROWS + 1];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].rule, identity_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(a_control_file_that_cannot_be_read);
	return cmocka_run_group_tests_name("identity", tests, set_up, directory_remove);
}
