/* given_list: what a target is given, as the entries of a control file. */
#ifndef FUZZ_GIVEN_LIST_H
#define FUZZ_GIVEN_LIST_H
#include <assert.h>
#include "control/control.h"
#include "given.h"

/* In place of what the list held. */
static inline void
given_list(stralloc *list, struct given g)
{
	static struct given_file file;

	given_write(&file, g.s, g.len);
	list->len = 0;
	assert(control_list(list, file.path) == 1);
}

#endif
