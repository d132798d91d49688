/* qmail-newmrh: compile control/morercpthosts into control/morercpthosts.cdb.
 * Trust: the list is the administrator's. The old table stays in use until the new one is whole and on disk. */
#include <string.h>
#include <skalibs/bytestr.h>
#include <skalibs/stralloc.h>
#include <skalibs/strerr.h>
#include "control/control.h"
#include "control/table.h"
#include "exitcode.h"
#include "home.h"

#define LIST "control/morercpthosts"
#define TABLE LIST ".cdb"
#define TEMPORARY LIST ".tmp"

int
main(void)
{
	struct table_maker table;
	stralloc hosts = STRALLOC_ZERO;
	int r;

	PROG = "qmail-newmrh";
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	/* its turn first: what was read before may be replaced by now, and its table be written over a newer one */
	if (!table_make(&table, TABLE, TEMPORARY, 0644))
		strerr_diefusys(EXIT_TEMP, "make " TEMPORARY);
	r = control_list(&hosts, LIST);
	if (r <= 0)
		table_abandon(&table);
	if (r < 0)
		strerr_diefusys(EXIT_TEMP, "read " LIST);
	if (r == 0)
		strerr_dief(EXIT_TEMP, "there is no " LIST);
	if (hosts.len)
		case_lowerb(hosts.s, hosts.len);
	for (size_t at = 0; at < hosts.len; at += strlen(hosts.s + at) + 1)
		if (!table_add(&table, hosts.s + at, strlen(hosts.s + at), "", 0)) {
			table_abandon(&table);
			strerr_diefusys(EXIT_TEMP, "write " TEMPORARY);
		}
	if (!table_finish(&table))
		strerr_diefusys(EXIT_TEMP, "write " TABLE);
	return EXIT_OK;
}
