/* qmail-pw2u, given any lines: the input is users/mailnames, the passwd file and users/subusers, with an empty line between them. Each line that
 * it makes is one that qmail-newu takes, of a user of the passwd file who is not root. */
#include <assert.h>
#include "given_list.h"
#include "users/assign.h"
#define main pw2u_main
#include "bin-src/users/qmail-pw2u.c"	/* NOLINT(bugprone-suspicious-include): what makes lines is static there */
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int __wrap_buffer_puts(buffer *b, const char *s);

static stralloc table;

int
__wrap_buffer_puts(buffer *b, const char *s)
{
	assert(b == buffer_1 && stralloc_catb(&table, s, strlen(s)));
	return (int)strlen(s);
}

static void
check_table(void)
{
	static struct assign_entry e;
	struct given g = { (const uint8_t *)table.s, table.len };

	while (g.len) {
		struct given line = given_until(&g, '\n');
		const char *uid;

		assert(assign_parse(&e, (const char *)line.s, line.len) == ASSIGN_ENTRY && e.usable);
		uid = e.value.s + strlen(e.value.s) + 1;
		assert(*e.value.s && strtoul(uid, NULL, 10) != 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len }, passwd;
	struct maker m = { .break_char = '-', .dash = "-", .home_rule = HOME_ANY };
	stralloc list = STRALLOC_ZERO;
	struct control_map accounts;

	(void)pw2u_main;
	table.len = 0;
	if (given_number(&g, 1) == 'C')
		m.break_char = '\0';
	given_list(&list, given_section(&g));
	assert(control_map_build(&m.mailnames, &list, 1));
	passwd = given_section(&g);
	while (passwd.len) {
		char *line = given_string(given_until(&passwd, '\n'));

		add_user(&m, line);
		free(line);
	}
	assert(control_map_build(&accounts, &m.accounts, 1));
	given_list(&list, g);
	for (size_t at = 0, next; at < list.len; at = next) {
		next = at + strlen(list.s + at) + 1;
		add_subuser(&m, &accounts, list.s + at);
	}
	check_table();
	control_map_free(&accounts), control_map_free(&m.mailnames);
	stralloc_free(&m.accounts), stralloc_free(&list);
	return 0;
}
