#include <string.h>
#include "ip_address.h"
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

	if (*s->peer.local_ip && ip46_scan(s->peer.local_ip, &local) == strlen(s->peer.local_ip) && ip_address_is_same(&local, ip))
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

/* Answers and logs what a check says. */
static int
refuse_as(struct session *s, const struct path *path, const struct recipient_refusal *why)
{
	if (why->is_over_limit)
		session_close(s, SESSION_REFUSED, "RCPTCHECK says: over limit");
	refuse(s, path, why->code, why->enhanced, why->text);
	if (why->trouble)
		session_log_refusal(s, why->troubled, path->address, why->trouble);
	return 0;
}

/* All but relaying. */
static int
passes_checks(struct session *s, const struct path *path)
{
	struct recipient_refusal why;
	int may_relay = s->relayclient != NULL, r;

	if (!passes_lists(s, path))
		return 0;
	if (!recipient_checks_ask_lists(s->checks, may_relay, &why, &s->dns_lists))
		return refuse_as(s, path, &why);
	r = recipient_checks_ask_program(s->checks, may_relay, s->mail.sender.s, path->address, s->helo.len ? s->helo.s : "", &why);
	if (r >= 0)
		return r || refuse_as(s, path, &why);
	/* where RELAYCLIENT makes another address of it, that one is meant */
	return (may_relay && *s->relayclient) || recipient_checks_ask_accounts(s->checks, path->address, path->len, &why) ||
	    refuse_as(s, path, &why);
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
