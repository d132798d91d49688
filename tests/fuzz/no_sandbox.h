/* no_sandbox: for a target that includes a whole program, and whose input reaches nothing that shuts it in. */
#ifndef FUZZ_NO_SANDBOX_H
#define FUZZ_NO_SANDBOX_H
#include <stdlib.h>
#include "bin-src/lib/sandbox.h"

int
sandbox_enter(const struct sandbox *s)
{
	(void)s;
	abort();
}

void
sandbox_warn(int lack)
{
	(void)lack;
	abort();
}

#endif
