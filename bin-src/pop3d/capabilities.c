#include "capabilities.h"
#include "control/control.h"

enum { SECONDS_MAX = 30 * 86400, DAYS_MAX = 36500 };

int
capabilities_read(struct capabilities *c)
{
	unsigned long delay = 0, days = DAYS_MAX + 1UL;

	if (control_number(&delay, "control/pop3logindelay", SECONDS_MAX) < 0 || control_number(&days, "control/pop3expire", DAYS_MAX) < 0)
		return 0;
	c->login_delay = delay;
	c->expire = days > DAYS_MAX ? CAPABILITIES_EXPIRE_NEVER : days;
	return 1;
}

static void
say_number(struct output *out, const char *before, uint64_t number)
{
	output_text(out, before);
	output_number(out, number);
	output_text(out, "\r\n");
}

void
capabilities_say_logins(struct output *out)
{
	output_text(out, "USER\r\nSASL PLAIN LOGIN\r\n");
}

void
capabilities_say(const struct capabilities *c, struct output *out)
{
	output_text(out, "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8\r\n");
	if (c->expire == CAPABILITIES_EXPIRE_NEVER)
		output_text(out, "EXPIRE NEVER\r\n");
	else
		say_number(out, "EXPIRE ", c->expire);
	if (c->login_delay)
		say_number(out, "LOGIN-DELAY ", c->login_delay);
	output_text(out, "IMPLEMENTATION tambo\r\n");
}
