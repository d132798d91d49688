#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <skalibs/uint64.h>
#include "monotonic.h"
#include "output.h"
#include "timed_write.h"

void
output_start(struct output *o)
{
	int yes = 1;

	/* what is no TCP connection does not wait for acknowledgements */
	setsockopt(o->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	timed_write_start(o->fd, o->timeout_ms);
	o->is_broken = 0;
	o->len = 0;
}

void
output_flush(struct output *o)
{
	uint64_t until = monotonic_ms() + o->timeout_ms;

	if (until > o->session_end)
		until = o->session_end;
	if (!o->is_broken && o->len)
		o->is_broken = !timed_write(o->fd, o->s, o->len, until);
	o->len = 0;
}

void
output_put(struct output *o, const char *s, size_t len)
{
	while (len) {
		size_t n = OUTPUT_SIZE - o->len;

		if (n > len)
			n = len;
		memcpy(o->s + o->len, s, n);
		o->len += n;
		s += n;
		len -= n;
		if (o->len == OUTPUT_SIZE)
			output_flush(o);
	}
}

void
output_text(struct output *o, const char *text)
{
	output_put(o, text, strlen(text));
}

void
output_number(struct output *o, uint64_t number)
{
	char digits[UINT64_FMT];

	output_put(o, digits, uint64_fmt(digits, number));
}

char *
output_room(struct output *o, size_t *room)
{
	if (OUTPUT_SIZE - o->len < OUTPUT_ROOM)
		output_flush(o);
	*room = OUTPUT_SIZE - o->len;
	return o->is_broken ? NULL : o->s + o->len;
}

void
output_filled(struct output *o, size_t len)
{
	o->len += len;
}
