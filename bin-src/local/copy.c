#include <stdlib.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include <skalibs/uint64.h>
#include "copy.h"
#include "exitcode.h"
#include "resend.h"

const char *
copy_variable(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		strerr_dief(EXIT_PERM, name, " is not set: this program is for dot-qmail files");
	return value;
}

void
copy_message(int home, const char *sender, const stralloc *recipients)
{
	struct resend r = { .home = home, .line = copy_variable("DTLINE"), .sender = sender, .recipients = recipients };
	struct report report = { .text = STRALLOC_ZERO };
	char digits[UINT64_FMT];
	struct message m;
	uint64_t number;
	enum exitcode code;

	if (home < 0)
		strerr_diefusys(EXIT_TEMP, "find the qmail home");
	if (!message_of_input(&m, STDIN_FILENO))
		strerr_diefusys(EXIT_TEMP, "read the message on descriptor 0");
	code = resend_message(&r, &m, &report, &number);
	if (code != EXIT_OK) {
		allwrite(STDERR_FILENO, report.text.s, report.text.len);
		_exit((int)code);
	}
	digits[uint64_fmt(digits, number)] = '\0';
	strerr_warn(PROG, ": qp ", digits);
}
