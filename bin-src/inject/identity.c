#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "control/control.h"
#include "identity.h"
#include "stralloc_set.h"

static const struct source { const char *variable, *file; } sources[IDENTITY_HOSTS] = {
	[ADDRESS822_DEFAULTHOST] = { "QMAILDEFAULTHOST", "control/defaulthost" },
	[ADDRESS822_PLUSDOMAIN] = { "QMAILPLUSDOMAIN", "control/plusdomain" },
	[ADDRESS822_DEFAULTDOMAIN] = { "QMAILDEFAULTDOMAIN", "control/defaultdomain" },
	[IDENTITY_IDHOST] = { "QMAILIDHOST", "control/idhost" },
};

static const char *
host_value(struct identity *id, unsigned int which)
{
	const struct source *source = &sources[which];
	stralloc *host = &id->host[which];
	const char *value = getenv(source->variable);
	int r;

	if (value)
		return value;
	if (host->len)
		return host->s;
	r = control_line_or_me(host, source->file);
	/* where even "me" is missing, qmail's word for it is the name of the file */
	if (r < 0 || (r == 0 && !stralloc_sets(host, strchr(source->file, '/') + 1)) || !stralloc_0(host)) {
		host->len = 0;
		id->trouble = source->file;
		return NULL;
	}
	return host->s;
}

static const char *
get_default(void *data, enum address822_default which)
{
	return host_value(data, which);
}

const char *
identity_idhost(struct identity *id)
{
	return host_value(id, IDENTITY_IDHOST);
}

void
identity_init(struct identity *id)
{
	*id = (struct identity){ .defaults = { .get = get_default, .data = id } };
}

int
identity_load(struct identity *id)
{
	for (unsigned int i = 0; i < IDENTITY_HOSTS; i++)
		if (!host_value(id, i))
			return 0;
	return 1;
}

/* The first of these variables that is set (and not empty, if wanted so), or NULL. */
static const char *
first_set(const char *const *names, int not_empty)
{
	for (; *names; names++) {
		const char *value = getenv(*names);

		if (value && (*value || !not_empty))
			return value;
	}
	return NULL;
}

const char *
identity_name(void)
{
	static const char *const names[] = { "QMAILNAME", "MAILNAME", "NAME", NULL };
	const char *name = first_set(names, 0);

	return name && *name ? name : NULL;
}

static const char *
user_name(void)
{
	static const char *const names[] = { "QMAILUSER", "MAILUSER", "USER", "LOGNAME", NULL };
	const char *name = first_set(names, 1);

	return name ? name : "anonymous";
}

/* The host of the user, or NULL: the default host. */
static const char *
user_host(void)
{
	static const char *const names[] = { "QMAILHOST", "MAILHOST", NULL };

	return first_set(names, 0);
}

struct one_address { struct identity *id; stralloc *to; unsigned int count; };

static int
take_one(void *data, stralloc *address)
{
	struct one_address *one = data;

	if (one->count++)
		return 1;
	return address822_complete(address, &one->id->defaults) && stralloc_cat(one->to, address);
}

int
identity_address(struct identity *id, stralloc *to, const char *s, size_t len)
{
	struct one_address one = { .id = id, .to = to };
	int r = address822_read(s, len, take_one, &one, NULL);

	return r == 1 ? one.count <= 1 : r;
}

/* user, suffix and host to one address. */
static int
make_address(struct identity *id, stralloc *to, const char *user, const char *suffix, const char *host)
{
	stralloc local = STRALLOC_ZERO, text = STRALLOC_ZERO;
	size_t before = to->len;
	int r = -1;

	if (stralloc_sets(&local, user) && stralloc_cats(&local, suffix) &&
	    address822_quote(&text, local.s, local.len) &&
	    (!host || (stralloc_append(&text, '@') && stralloc_cats(&text, host)))) {
		r = identity_address(id, to, text.s, text.len);
		if (r == 1 && to->len == before)
			r = 0;
	}
	stralloc_free(&local);
	stralloc_free(&text);
	return r;
}

int
identity_from(struct identity *id, stralloc *to)
{
	return make_address(id, to, user_name(), "", user_host());
}

int
identity_sender(struct identity *id, stralloc *to, const char *suffix)
{
	const char *user = getenv("QMAILSUSER"), *host = getenv("QMAILSHOST");

	return make_address(id, to, user && *user ? user : user_name(), suffix, host ? host : user_host());
}
