/* Where a recipient goes, and what programs are told of him, given any octets. The input is the recipient, and then control/locals,
 * percenthack, virtualdomains and the users of the machine, each behind an empty line. The route is that of the definition in
 * bin-src/send/route.h, read line by line; whose a local part is, that of users/passwd.h; variables are those of the list. */
#include <assert.h>
#include <strings.h>
#include "bin-src/local/environment.h"
#include "bin-src/send/route.h"
#include "given_list.h"
#include "users/account.h"
#include "users/passwd.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

enum { LOCALS, PERCENTHACK, VIRTUALDOMAINS, USERS, LISTS };

static stralloc lists[LISTS];		/* entries, each ended by NUL */

/* The value of the last line of this key, "" where lines have none; NULL: there is no such line. */
static const char *
value_of(const stralloc *list, const char *key, int with_values)
{
	const char *found = NULL;

	for (size_t at = 0; at < list->len; at += strlen(list->s + at) + 1) {
		const char *line = list->s + at, *colon = with_values ? strchr(line, ':') : line + strlen(line);

		if (colon && (size_t)(colon - line) == strlen(key) && strncasecmp(line, key, strlen(key)) == 0)
			found = *colon ? colon + 1 : colon;
	}
	return found;
}

/* --- routes --------------------------------------------------------------------------------------------- */

static const char *
prepend_of(const char *address)
{
	const char *domain = strrchr(address, '@') + 1, *found = value_of(lists + VIRTUALDOMAINS, address, 1);

	if (!found)
		found = value_of(lists + VIRTUALDOMAINS, domain, 1);
	for (const char *dot = strchr(domain, '.'); !found && dot; dot = strchr(dot + 1, '.'))
		found = value_of(lists + VIRTUALDOMAINS, dot, 1);
	return found ? found : value_of(lists + VIRTUALDOMAINS, "", 1);
}

/* Rules 1 and 2. The caller frees it. */
static char *
rewrite(const char *recipient)
{
	char *address, *at, *percent;

	assert(asprintf(&address, "%s%s", recipient, strchr(recipient, '@') ? "" : "@no.test") >= 0);
	while (value_of(lists + PERCENTHACK, (at = strrchr(address, '@')) + 1, 0)) {
		*at = '\0';
		percent = strrchr(address, '%');
		if (!percent) {
			*at = '@';
			break;
		}
		*percent = '@';
	}
	return address;
}

static void
build(struct control_map *map, const stralloc *list, int with_values)
{
	stralloc entries = STRALLOC_ZERO;

	assert(!list->len || stralloc_catb(&entries, list->s, list->len));
	assert(control_map_build(map, &entries, with_values));
	stralloc_free(&entries);
}

static void
check_route(const char *recipient)
{
	static stralloc address;
	struct route_rules rules = { .envnoathost = { 0 } };
	struct route route;
	char *want = rewrite(recipient);
	int is_local = value_of(lists + LOCALS, strrchr(want, '@') + 1, 0) != NULL;
	const char *prepend = is_local ? NULL : prepend_of(want);

	build(&rules.locals, lists + LOCALS, 0);
	build(&rules.percenthack, lists + PERCENTHACK, 0);
	build(&rules.virtualdomains, lists + VIRTUALDOMAINS, 1);
	assert(stralloc_catb(&rules.envnoathost, "no.test", 7));
	assert(route_find(&rules, recipient, &address, &route));
	assert(strlen(address.s) + 1 == address.len && address.s[route.at] == '@' && strrchr(address.s, '@') == address.s + route.at);
	assert(strcmp(address.s + route.prepended, want) == 0);
	assert((route.channel == ROUTE_LOCAL) == (is_local || (prepend && *prepend)));
	if (prepend && *prepend)
		assert(route.prepended == strlen(prepend) + 1 && strncmp(address.s, prepend, strlen(prepend)) == 0 &&
		    address.s[strlen(prepend)] == '-');
	else
		assert(!route.prepended);
	route_free(&rules);
	free(want);
}

/* --- users -------------------------------------------------------------------------------------------------- */

/* Lines of USERS: name:uid */
static int
by_name(void *context, const char *name, struct passwd *pw)
{
	static char home[] = "/home";
	const char *uid = NULL;

	(void)context;
	for (size_t at = 0; at < lists[USERS].len && !uid; at += strlen(lists[USERS].s + at) + 1) {
		char *line = lists[USERS].s + at;
		size_t len = strcspn(line, ":");

		if (line[len] && strlen(name) == len && strncmp(line, name, len) == 0)
			uid = line + len + 1;
	}
	*pw = (struct passwd){ .pw_name = (char *)(uintptr_t)name, .pw_dir = home, .pw_gid = 1 };
	if (uid)
		pw->pw_uid = (uid_t)strtoul(uid, NULL, 10) & 0xffff;	/* (uid_t)-1 is nobody */
	return uid != NULL;
}

static int
owns(void *context, uid_t uid, const char *directory)
{
	(void)context;
	assert(uid && *directory);
	return uid % 4 == 3 ? -1 : uid % 4 != 2;
}

/* The account is a user who may be one, and his name with the extension is the local part. */
static void
check_user(const char *local)
{
	static stralloc fields;
	struct passwd_source source = { .by_name = by_name, .owns = owns };
	struct account account = { .user = NULL };
	enum passwd_result r = passwd_find(&fields, &source, local);
	struct passwd pw;
	size_t n;

	if (r == PASSWD_NO_ALIAS)
		assert(!by_name(NULL, "alias", &pw));
	if (r != PASSWD_FOUND)
		return;
	if (!account_parse(&account, fields.s, fields.len))
		assert(!"six fields");
	n = strlen(account.user);
	assert(by_name(NULL, account.user, &pw) && pw.pw_uid == account.uid && n <= PASSWD_USER_MAX);
	if (strncasecmp(local, account.user, n) == 0 && (!local[n] || local[n] == PASSWD_BREAK) && strcmp(account.ext, local) != 0)
		assert(account.uid && strcmp(account.ext, local[n] ? local + n + 1 : "") == 0 && strcmp(account.dash, local[n] ? "-" : "") == 0);
	else
		assert(strcmp(account.user, "alias") == 0 && strcmp(account.ext, local) == 0 && strcmp(account.dash, "-") == 0);
	account_free(&account);
}

/* --- variables ------------------------------------------------------------------------------------------------ */

/* Each variable once, and none that an old shell takes for a function. */
static void
check_environment(const char *s, const char *host)
{
	static const char *const base[] = { "PATH=/bin", "EXT=old", "DEFAULT=old", "HOST4=old", NULL };
	static const char *const names[] = { "USER", "HOME", "SENDER", "NEWSENDER", "RECIPIENT", "LOCAL", "HOST", "HOST2", "HOST3", "HOST4", "EXT",
	    "EXT2", "EXT3", "EXT4", "DEFAULT", "DTLINE", "RPLINE", "UFLINE", "PATH" };
	enum { NAMES = sizeof names / sizeof *names };
	static stralloc variables;
	struct environment_values v = { .user = "u", .home = "/h", .sender = s, .new_sender = s, .local = s, .ext = s, .host = host,
		.rest = *host ? s : NULL, .delivered_to = s, .return_path = s, .from_line = s };
	unsigned int times[NAMES] = { 0 }, all = 0;
	char **merged;

	assert(environment_build(&variables, &v));
	merged = environment_merge(base, &variables);
	assert(merged);
	for (; merged[all]; all++) {
		size_t len = strcspn(merged[all], "=");

		assert(merged[all][len] && strncmp(merged[all] + len + 1, "()", 2) != 0);
		for (size_t i = 0; i < NAMES; i++)
			times[i] += strlen(names[i]) == len && strncmp(merged[all], names[i], len) == 0;
	}
	assert(all == (v.rest ? NAMES : NAMES - 1));
	for (size_t i = 0; i < NAMES; i++)
		assert(times[i] == 1 || (!v.rest && strcmp(names[i], "DEFAULT") == 0 && !times[i]));
	free(merged);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	char *recipient = given_string(given_until(&g, '\n')), *host;

	for (int i = 0; i < LISTS; i++)
		given_list(lists + i, given_section(&g));
	check_route(recipient);
	check_user(recipient);
	host = strrchr(recipient, '@');
	check_environment(recipient, host ? host + 1 : "");
	free(recipient);
	return 0;
}
