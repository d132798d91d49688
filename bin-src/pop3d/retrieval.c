#include <unistd.h>
#include "retrieval.h"
#include "top.h"

void
retrieval_open(struct retrieval *r, int fd, uint64_t size)
{
	*r = (struct retrieval){ .fd = fd, .size = size };
	mail_data_init(&r->data, NULL, fd, size);
}

/* Begins with the first octets octets of the file. */
static int
begin(struct retrieval *r, int is_utf8, uint64_t octets, uint64_t lines)
{
	r->data.size = octets;
	return surrogate_begin(&r->text, &r->data, is_utf8, lines);
}

int
retrieval_begin(struct retrieval *r, int is_utf8)
{
	return begin(r, is_utf8, r->size, SURROGATE_ALL_LINES);
}

int
retrieval_begin_top(struct retrieval *r, int is_utf8, uint64_t lines)
{
	uint64_t end;

	return top_end(r->fd, r->size, lines, &end) && begin(r, is_utf8, end, SURROGATE_ALL_LINES) &&
	    (r->text.is_as_it_is || begin(r, is_utf8, r->size, lines));
}

int
retrieval_send(struct retrieval *r, struct output *o)
{
	ssize_t n;

	do {
		size_t room;
		char *place = output_room(o, &room);

		n = place ? surrogate_next(&r->text, place, room) : 0;
		if (n > 0)
			output_filled(o, (size_t)n);
	} while (n > 0);
	return n == 0;
}

void
retrieval_close(struct retrieval *r)
{
	surrogate_free(&r->text);
	mail_data_free(&r->data);
	close(r->fd);
}
