#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <skalibs/env.h>
#include "environment.h"
#include "stralloc_set.h"

enum { PARTS = 3 };	/* HOST2 to HOST4, EXT2 to EXT4 */

static int
add(stralloc *variables, const char *name, const char *value, size_t len)
{
	size_t start;

	if (!stralloc_cats(variables, name) || !stralloc_append(variables, '='))
		return 0;
	start = variables->len;
	if (!stralloc_catb(variables, value, len) || !stralloc_0(variables))
		return 0;
	if (len >= 2 && value[0] == '(' && value[1] == ')')
		variables->s[start] = '_';
	return 1;
}

static int
adds(stralloc *variables, const char *name, const char *value)
{
	return add(variables, name, value, strlen(value));
}

/* HOST2, HOST3, HOST4: host cut at its last dot, the one before, and the one before that. */
static int
add_hosts(stralloc *variables, const char *host)
{
	static const char *const names[PARTS] = { "HOST2", "HOST3", "HOST4" };
	size_t len = strlen(host);

	for (int i = 0; i < PARTS; i++) {
		const char *dot = memrchr(host, '.', len);

		if (dot)
			len = (size_t)(dot - host);
		if (!add(variables, names[i], host, len))
			return 0;
	}
	return 1;
}

/* EXT2, EXT3, EXT4: what follows the first, second and third dash of ext. */
static int
add_extensions(stralloc *variables, const char *ext)
{
	static const char *const names[PARTS] = { "EXT2", "EXT3", "EXT4" };

	for (int i = 0; i < PARTS; i++) {
		const char *dash = strchr(ext, '-');

		ext = dash ? dash + 1 : ext + strlen(ext);
		if (!adds(variables, names[i], ext))
			return 0;
	}
	return 1;
}

static int
add_recipient(stralloc *variables, const char *local, const char *host)
{
	stralloc recipient = STRALLOC_ZERO;
	int ok = stralloc_sets(&recipient, local) && stralloc_append(&recipient, '@') && stralloc_cats(&recipient, host) &&
	    add(variables, "RECIPIENT", recipient.s, recipient.len);

	stralloc_free(&recipient);
	return ok;
}

int
environment_build(stralloc *variables, const struct environment_values *v)
{
	variables->len = 0;
	return adds(variables, "USER", v->user) && adds(variables, "HOME", v->home) && adds(variables, "SENDER", v->sender) &&
	    adds(variables, "NEWSENDER", v->new_sender) && add_recipient(variables, v->local, v->host) &&
	    adds(variables, "LOCAL", v->local) && adds(variables, "HOST", v->host) && add_hosts(variables, v->host) &&
	    adds(variables, "EXT", v->ext) && add_extensions(variables, v->ext) &&
	    (v->rest ? adds(variables, "DEFAULT", v->rest) : stralloc_catb(variables, "DEFAULT", sizeof "DEFAULT")) &&
	    adds(variables, "DTLINE", v->delivered_to) && adds(variables, "RPLINE", v->return_path) &&
	    adds(variables, "UFLINE", v->from_line);
}

char **
environment_merge(const char *const *base, const stralloc *variables)
{
	size_t n = env_len(base), changes = 0;
	const char **envp;

	for (size_t i = 0; i < variables->len; i++)
		changes += variables->s[i] == '\0';
	envp = malloc((n + changes + 1) * sizeof *envp);
	if (envp)
		env_mergen(envp, n + changes + 1, base, n, variables->s, variables->len, changes);
	return (char **)(uintptr_t)envp;
}
