/* qmail-qstat: count the messages in the queue.
 * Trust: only the form of what the keeper says matters, and it is checked. Reads no file. */
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "home.h"
#include "listing.h"
#include "sandbox.h"

#define USAGE "qmail-qstat"

static const struct sandbox shut_in = { .calls = &sandbox_client };

int
main(int argc, const char *const *argv)
{
	uintmax_t messages = 0, untried = 0;
	struct listing_item item;
	enum listing_kind kind;
	struct listing l;

	(void)argv;
	PROG = "qmail-qstat";
	if (argc != 1)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (sandbox_enter(&shut_in) < 0)
		strerr_diefusys(EXIT_TEMP, "shut itself in");
	if (!listing_open(&l))
		strerr_diefusys(EXIT_TEMP, "ask qmail-queued");
	while ((kind = listing_next(&l, &item)) != LISTING_ALL) {
		if (kind == LISTING_TROUBLE)
			strerr_diefusys(EXIT_TEMP, "read the whole list");
		if (kind == LISTING_MESSAGE) {
			messages++;
			untried += !item.notice.tried;
		}
	}
	printf("messages in queue: %ju\nmessages in queue but not yet preprocessed: %ju\n", messages, untried);
	if (fflush(stdout) != 0)
		strerr_diefusys(EXIT_TEMP, "write");
	return EXIT_OK;
}
