/* qmail-tcpto: say which addresses timed out lately.
 * Trust: run/tcpto is qmailr's; whatever it holds prints as addresses and numbers. Writes nothing. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "home.h"
#include "sandbox.h"
#include "tcpto.h"

#define USAGE "qmail-tcpto"

static const struct sandbox shut_in = { .calls = &sandbox_reader };

int
main(int argc, const char *const *argv)
{
	struct tcpto *t;
	char text[IP46_FMT];
	unsigned int count;
	uint64_t age;
	ip46 ip;

	(void)argv;
	PROG = "qmail-tcpto";
	if (argc != 1)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	t = tcpto_open(0);
	if (!t && errno != ENOENT)
		strerr_diefusys(EXIT_TEMP, "read run/tcpto");
	if (sandbox_enter(&shut_in) < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
	for (size_t i = 0; i < TCPTO_ENTRIES; i++) {
		if (!tcpto_entry(t, i, &ip, &age, &count))
			continue;
		text[ip46_fmt(text, &ip)] = 0;
		printf("%s timed out %" PRIu64 " seconds ago; # recent timeouts: %u\n", text, age, count);
	}
	if (fflush(stdout) != 0)
		strerr_diefusys(EXIT_TEMP, "write");
	return EXIT_OK;
}
