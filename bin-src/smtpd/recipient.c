#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "monotonic.h"
#include "policy.h"
#include "recipient.h"

static int
refuse(struct session *s, const struct path *path, unsigned int code, const char *enhanced, const char *text)
{
	reply_put(&s->reply, code, enhanced, text);
	session_log_refusal(s, "RCPT", path->address, s->reply.last);
	return 0;
}

/* An address of this host: that of the connection, or another one. */
static int
is_own_address(const struct session *s, const ip46 *ip)
{
	ip46 local;

	if (*s->peer.local_ip && ip46_scan(s->peer.local_ip, &local) == strlen(s->peer.local_ip) &&
	    ip46_is6(&local) == ip46_is6(ip) && memcmp(local.ip, ip->ip, ip46_is6(ip) ? 16 : 4) == 0)
		return 1;
	return localaddress_is(s->own, ip);
}

/* user@[own address] is user@localiphost. */
static void
replace_literal(struct session *s, struct path *path)
{
	size_t user = path->at + 1;
	const stralloc *host = &s->settings->localiphost;

	if (!path->has_literal || !host->len || user + host->len > PATH_ADDRESS_MAX || !is_own_address(s, &path->literal))
		return;
	memcpy(path->address + user, host->s, host->len);
	path->len = user + host->len;
	path->address[path->len] = '\0';
	path->has_literal = 0;
}

/* RELAYCLIENT's value stands behind each recipient, as qmail has it. Returns 0 if it does not fit. */
static int
add_relayclient(struct session *s, struct path *path)
{
	size_t len = strlen(s->relayclient);

	if (path->len + len > PATH_ADDRESS_MAX)
		return 0;
	memcpy(path->address + path->len, s->relayclient, len + 1);
	path->len += len;
	return 1;
}

static int
passes_lists(struct session *s, const struct path *path)
{
	int may_relay = s->relayclient != NULL;

	if (policy_is_bad_recipient(s->settings, path->address, path->len, may_relay))
		return refuse(s, path, 553, "5.7.1", "sorry, your envelope recipient is in my badrcptto list");
	if (s->mail.is_bad_sender)
		return refuse(s, path, 553, "5.7.1", "sorry, your envelope sender is in my badmailfrom list");
	if (s->helo.len && s->checks->helo_counts && policy_is_bad_helo(s->settings, s->helo.s, may_relay))
		return refuse(s, path, 553, "5.7.1", "sorry, your HELO host name is in my badhelo list");
	return 1;
}

static int
passes_dns_lists(struct session *s, const struct path *path)
{
	const char *text;

	if (s->relayclient || !s->checks->lists || !dnsbl_has_lists(s->checks->lists))
		return 1;
	switch (dnsbl_finish(s->checks->lists, DNSBL_WAIT_MS, &text, &s->dns_lists)) {
	case DNSBL_DEFER:
		return refuse(s, path, 451, "4.7.1", text);
	case DNSBL_REJECT:
		return refuse(s, path, 553, "5.7.1", text);
	case DNSBL_ACCEPT:
		break;
	}
	return 1;
}

/* How many octets of set text begins with, if one space ends them; else 0. */
static size_t
leading_word(const char *text, const char *set)
{
	size_t n = strspn(text, set);

	return text[n] == ' ' ? n : 0;
}

/* What the program answered, with its own text and, where that begins with one of the same class, its own codes. */
static int
refuse_as_program(struct session *s, const struct path *path, unsigned int code, const char *enhanced, const char *text)
{
	stralloc *own = &s->checks->text;
	char own_enhanced[sizeof "5.300.300"];
	size_t n;

	if (!own->len || !stralloc_0(own))
		return refuse(s, path, code, enhanced, text);
	text = own->s;
	if (leading_word(text, "0123456789") == 3 && text[0] == (char)('0' + code / 100)) {
		code = code / 100 * 100 + (unsigned int)(text[1] - '0') * 10 + (unsigned int)(text[2] - '0');
		text += 4;
	}
	n = leading_word(text, "0123456789.");
	if (n >= 5 && n < sizeof own_enhanced && text[0] == enhanced[0] && text[1] == '.') {
		memcpy(own_enhanced, text, n);
		own_enhanced[n] = '\0';
		enhanced = own_enhanced;
		text += n + 1;
	}
	return refuse(s, path, code, enhanced, text);
}

/* Returns 1 accept, 0 refused, -1 no opinion. */
static int
ask_program(struct session *s, const struct path *path)
{
	struct checkprogram *p = &s->checks->program;

	if (!checkprogram_applies(p, s->relayclient != NULL))
		return -1;
	switch (checkprogram_ask(p, s->mail.sender.s, path->address, s->helo.len ? s->helo.s : "", &s->checks->text)) {
	case CHECKPROGRAM_ACCEPT:
		return 1;
	case CHECKPROGRAM_IGNORE:
		return -1;
	case CHECKPROGRAM_REJECT:
		return refuse_as_program(s, path, 550, "5.1.1", "sorry, no mailbox here by that name");
	case CHECKPROGRAM_OVER_LIMIT:
		session_close(s, SESSION_REFUSED, "RCPTCHECK says: over limit");
		return refuse_as_program(s, path, 421, "4.7.1", "over limit");
	case CHECKPROGRAM_DEFER:
		break;
	case CHECKPROGRAM_FAILED:
		s->checks->text.len = 0;
		refuse(s, path, 451, "4.3.0", "unable to check the recipient");
		session_log_refusal(s, "RCPTCHECK", path->address, p->trouble ? p->trouble : "");
		return 0;
	}
	return refuse_as_program(s, path, 451, "4.3.0", "unable to check the recipient");
}

/* Where an address, or '@' and a domain, is remembered if it is known; NULL: nowhere, it is too long for that. */
static struct recipient_known *
known_place(struct session *s, const char *name)
{
	size_t hash = 5381, len = strlen(name);

	for (size_t i = 0; i < len; i++)
		hash = hash * 33 + (unsigned char)name[i];
	if (!s->checks->known)
		s->checks->known = calloc(RECIPIENT_KNOWN, sizeof *s->checks->known);
	/* -Wanalyzer-malloc-leak: it is of the session, to its end */
	return s->checks->known && len < RECIPIENT_KNOWN_MAX ? &s->checks->known[hash % RECIPIENT_KNOWN] : NULL;
}

static int
is_known(struct session *s, const char *name, uint64_t now)
{
	const struct recipient_known *known = known_place(s, name);

	return known && now < known->until && strcmp(known->name, name) == 0;
}

static void
remember(struct session *s, const char *name, uint64_t now)
{
	struct recipient_known *known = known_place(s, name);

	if (!known)
		return;
	snprintf(known->name, sizeof known->name, "%s", name);
	known->until = now + RECIPIENT_KNOWN_MS;
}

static int
exists(struct session *s, const struct path *path)
{
	/* one in a domain of others tells of all of them, but for those that percenthack may make another domain's */
	const char *domain = path->at < path->len && !memchr(path->address, '%', path->at) ? path->address + path->at : path->address;
	uint64_t now = monotonic_ms();

	if (is_known(s, path->address, now) || (domain != path->address && is_known(s, domain, now)))
		return 1;
	switch (rcptcheck_ask(&s->checks->accounts, path->address, path->len)) {
	case RCPT_UNKNOWN:
		return refuse(s, path, 550, "5.1.1", "sorry, no mailbox here by that name");
	case RCPT_TEMPORARY:
		return refuse(s, path, 451, "4.3.5", "the users of this host are not known now");
	case RCPT_NOT_LOCAL:
		remember(s, domain, now);
		return 1;
	case RCPT_DELIVERS:
	case RCPT_CANNOT_KNOW:
		break;
	}
	remember(s, path->address, now);
	return 1;
}

/* All but relaying. */
static int
passes_checks(struct session *s, const struct path *path)
{
	int r;

	if (!passes_lists(s, path) || !passes_dns_lists(s, path))
		return 0;
	r = ask_program(s, path);
	if (r >= 0)
		return r;
	/* where RELAYCLIENT makes another address of it, that one is meant */
	return (s->relayclient && *s->relayclient) || exists(s, path);
}

int
recipient_is_taken(struct session *s, struct path *path)
{
	replace_literal(s, path);
	if (!s->relayclient)
		switch (policy_takes_mail_for(s->settings, path->address, path->len)) {
		case POLICY_YES:
			break;
		case POLICY_NO:
			return refuse(s, path, 553, "5.7.1", "sorry, that domain isn't in my list of allowed rcpthosts");
		case POLICY_TROUBLE:	/* RFC 5321 section 3.8: who says 421 closes */
			session_close(s, SESSION_BROKEN, "unable to read controls");
			return refuse(s, path, 421, "4.3.0", "unable to read controls");
		}
	if (!policy_is_postmaster(path->address, path->len) && !passes_checks(s, path))
		return 0;
	if (s->relayclient && !add_relayclient(s, path))
		return refuse(s, path, 555, "5.1.3", "the address is too long");
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
