#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "monotonic.h"
#include "recipient_checks.h"

static int
refuse(struct recipient_refusal *why, unsigned int code, const char *enhanced, const char *text)
{
	*why = (struct recipient_refusal){ .code = code, .text = text };
	snprintf(why->enhanced, sizeof why->enhanced, "%s", enhanced);
	return 0;
}

/* --- DNS lists --------------------------------------------------------------------------- */

int
recipient_checks_ask_lists(struct recipient_checks *c, int may_relay, struct recipient_refusal *why, const char **log)
{
	const char *text;

	if (may_relay || !c->lists || !dnsbl_has_lists(c->lists))
		return 1;
	switch (dnsbl_finish(c->lists, DNSBL_WAIT_MS, &text, log)) {
	case DNSBL_DEFER:
		return refuse(why, 451, "4.7.1", text);
	case DNSBL_REJECT:
		return refuse(why, 553, "5.7.1", text);
	case DNSBL_ACCEPT:
		break;
	}
	return 1;
}

/* --- RCPTCHECK --------------------------------------------------------------------------- */

enum { CLOSES = 421 };	/* the code that ends a session, and that no other end has (RFC 5321 section 3.8) */

/* How many octets of set text begins with, if one space ends them; else 0. */
static size_t
leading_word(const char *text, const char *set)
{
	size_t n = strspn(text, set);

	return text[n] == ' ' ? n : 0;
}

/* What the program answered, with its own text and, where that begins with one of the same class, its own codes. Whether the
 * session goes on is its exit code's to say. */
static int
refuse_as_program(struct recipient_checks *c, struct recipient_refusal *why, unsigned int code, const char *enhanced, const char *text)
{
	size_t n;

	refuse(why, code, enhanced, text);
	if (!c->text.len || !stralloc_0(&c->text))
		return 0;
	text = c->text.s;
	if (leading_word(text, "0123456789") == 3 && text[0] == (char)('0' + code / 100)) {
		unsigned int own = code / 100 * 100 + (unsigned int)(text[1] - '0') * 10 + (unsigned int)(text[2] - '0');

		if ((own == CLOSES) == (code == CLOSES))
			why->code = own;
		text += 4;
	}
	n = leading_word(text, "0123456789.");
	if (n >= 5 && n < sizeof why->enhanced && text[0] == enhanced[0] && text[1] == '.') {
		memcpy(why->enhanced, text, n);
		why->enhanced[n] = '\0';
		text += n + 1;
	}
	why->text = text;
	return 0;
}

int
recipient_checks_ask_program(struct recipient_checks *c, int may_relay, const char *sender, const char *address, const char *helo,
    struct recipient_refusal *why)
{
	if (!checkprogram_applies(&c->program, may_relay))
		return -1;
	switch (checkprogram_ask(&c->program, sender, address, helo, &c->text)) {
	case CHECKPROGRAM_ACCEPT:
		return 1;
	case CHECKPROGRAM_IGNORE:
		return -1;
	case CHECKPROGRAM_REJECT:
		return refuse_as_program(c, why, 550, "5.1.1", "sorry, no mailbox here by that name");
	case CHECKPROGRAM_OVER_LIMIT:
		refuse_as_program(c, why, 421, "4.7.1", "over limit");
		why->is_over_limit = 1;
		return 0;
	case CHECKPROGRAM_DEFER:
		break;
	case CHECKPROGRAM_FAILED:
		refuse(why, 451, "4.3.0", "unable to check the recipient");
		why->trouble = c->program.trouble ? c->program.trouble : "";
		why->troubled = "RCPTCHECK";
		return 0;
	}
	return refuse_as_program(c, why, 451, "4.3.0", "unable to check the recipient");
}

/* --- qmail-rcptd --------------------------------------------------------------------------- */

/* Where an address, or '@' and a domain, is remembered if it is known; NULL: nowhere, it is too long for that. */
static struct recipient_known *
known_place(struct recipient_checks *c, const char *name)
{
	size_t hash = 5381, len = strlen(name);

	for (size_t i = 0; i < len; i++)
		hash = hash * 33 + (unsigned char)name[i];
	if (!c->known)
		c->known = calloc(RECIPIENT_KNOWN, sizeof *c->known);
	/* -Wanalyzer-malloc-leak: it is of the session, to its end */
	return c->known && len < RECIPIENT_KNOWN_MAX ? &c->known[hash % RECIPIENT_KNOWN] : NULL;
}

static int
is_known(struct recipient_checks *c, const char *name, uint64_t now)
{
	const struct recipient_known *known = known_place(c, name);

	return known && now < known->until && strcmp(known->name, name) == 0;
}

static void
remember(struct recipient_checks *c, const char *name, uint64_t now)
{
	struct recipient_known *known = known_place(c, name);

	if (!known)
		return;
	snprintf(known->name, sizeof known->name, "%s", name);
	known->until = now + RECIPIENT_KNOWN_MS;
}

int
recipient_checks_ask_accounts(struct recipient_checks *c, const char *address, size_t len, struct recipient_refusal *why)
{
	/* one in a domain of others tells of all of them, but for those that percenthack may make another domain's */
	const char *at = memrchr(address, '@', len), *domain = at && !memchr(address, '%', (size_t)(at - address)) ? at : address;
	uint64_t now = monotonic_ms();

	if (is_known(c, address, now) || (domain != address && is_known(c, domain, now)))
		return 1;
	switch (rcptcheck_ask(&c->accounts, address, len)) {
	case RCPT_UNKNOWN:
		return refuse(why, 550, "5.1.1", "sorry, no mailbox here by that name");
	case RCPT_TEMPORARY:
		refuse(why, 451, "4.3.5", "the users of this host are not known now");
		why->trouble = c->accounts.text;
		why->troubled = "qmail-rcptd";
		return 0;
	case RCPT_NOT_LOCAL:
		remember(c, domain, now);
		return 1;
	case RCPT_DELIVERS:
	case RCPT_CANNOT_KNOW:
		break;
	}
	if (*address != '@')	/* without local part it reads as a domain, of which an answer about a domain alone may tell */
		remember(c, address, now);
	return 1;
}

/* --- before and after the sessions --------------------------------------------------------- */

int
recipient_checks_start(struct recipient_checks *c, const struct peer *peer, int needs_login)
{
	c->program.fd = -1;
	rcptcheck_init(&c->accounts, -1);
	if (peer->is_known && !needs_login && !getenv("RELAYCLIENT")) {
		c->lists = dnsbl_open();
		if (!c->lists)
			return 0;
		dnsbl_start(c->lists, &peer->address);
	}
	c->helo_counts = !getenv("NOBADHELO");
	return checkprogram_start(&c->program);
}

int
recipient_checks_are_reusable(const struct recipient_checks *c)
{
	return c->program.fd < 0;	/* it was told of the first connection's port */
}

void
recipient_checks_end(struct recipient_checks *c)
{
	if (c->lists)
		dnsbl_close(c->lists);
	checkprogram_close(&c->program);
	rcptcheck_close(&c->accounts);
	stralloc_free(&c->text);
	free(c->known);
	c->known = NULL;
}
