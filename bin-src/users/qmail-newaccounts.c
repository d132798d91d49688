/* qmail-newaccounts: compile users/accounts into users/accounts.cdb and users/passwords.cdb.
 * Trust: the list is the administrator's. The old tables stay in use until the new ones are whole and on disk. */
#include <fcntl.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "exitcode.h"
#include "home.h"
#include "users/virtual_tables.h"

int
main(void)
{
	struct virtual_tables tables;
	char number[UINT_FMT];
	const char *fault;
	int fd;

	PROG = "qmail-newaccounts";
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (!virtual_tables_begin(&tables))
		strerr_diefusys(EXIT_TEMP, "make " VIRTUAL_TABLE_TEMPORARY);
	fd = open(VIRTUAL_FILE, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		virtual_tables_abandon(&tables);
		strerr_diefusys(EXIT_TEMP, "read " VIRTUAL_FILE);
	}
	fault = virtual_tables_compile(&tables, fd);
	if (fault) {
		number[uint_fmt(number, tables.number)] = '\0';
		virtual_tables_abandon(&tables);
		strerr_dief(EXIT_TEMP, VIRTUAL_FILE, tables.number ? ", line " : "", tables.number ? number : "", ": ", fault);
	}
	if (!virtual_tables_finish(&tables))
		strerr_diefusys(EXIT_TEMP, "write " VIRTUAL_TABLE " and " VIRTUAL_PASSWORDS);
	return EXIT_OK;
}
