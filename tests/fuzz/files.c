/* Files that programs read again, given any octets. The first octet of an input says which (enum file), and the rest is the file, or goes
 * into it. */
#include <assert.h>
#include <time.h>
#include <skalibs/stralloc.h>
#include <skalibs/types.h>
#include "bin-src/lib/maildir_quota.c"	/* NOLINT(bugprone-suspicious-include): what reads its file is static there */
#include "bin-src/local/mbox.h"
#include "bin-src/pop3d/known_sizes.h"
#include "bin-src/remote/tcpto.c"	/* NOLINT(bugprone-suspicious-include): so is what is in the file */
#include "bin-src/remote/tlsclientcert.h"
#include "bin-src/smtpd/account_limits.h"
#include "bin-src/smtpd/address_pattern.h"
#include "control/control.h"
#include "given.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int __real_control_list(stralloc *list, const char *file);
int __wrap_control_list(stralloc *list, const char *file);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);

enum file { SIZES = 's', MBOX = 'm', QUOTA = 'q', TCPTO = 't', LIMITS = 'l', CERTIFICATES = 'c' };

static struct given_file file;
static uint64_t seconds;

int
__wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	(void)clock;
	*t = (struct timespec){ .tv_sec = (time_t)seconds };
	return 0;
}

/* Any list is the file. */
int
__wrap_control_list(stralloc *list, const char *name)
{
	(void)name;
	return __real_control_list(list, file.path);
}

/* --- pop3-sizes -------------------------------------------------------------------------------------------- */

/* Reads the file, and puts what it says into again. Returns how many messages that is. */
static size_t
read_sizes(struct known_sizes *again)
{
	struct known_sizes k = { .at = 0 };
	struct known_name name, last = { .name = "" };
	uint64_t size;
	size_t n = 0;

	known_sizes_read(&k, file.fd);
	again->state = k.state;
	known_sizes_begin(again);
	for (; known_sizes_next(&k, &name, &size); n++) {
		assert(*name.name && name.len <= strlen(name.name) && !memchr(name.name, ':', name.len));
		assert(!n || known_name_compare(&last, &name) < 0);
		assert(name.name >= k.text.s && name.name + strlen(name.name) < k.text.s + k.text.len);
		known_sizes_add(again, &name, size);
		last = name;
	}
	known_sizes_free(&k);
	return n;
}

/* Lines of any octets, with the digest that they should have. What they say is written, and read again the same; damaged, they say nothing. */
static void
take_sizes(struct given g)
{
	struct known_sizes k = { .at = 0 }, said = { .at = 0 }, same = { .at = 0 };
	size_t at = given_number(&g, 2), n;
	char octet;

	known_sizes_begin(&k);
	assert(!g.len || stralloc_catb(&k.text, (const char *)g.s, g.len));
	given_write(&file, "", 0);
	known_sizes_write(&k, file.fd);
	n = read_sizes(&said);
	if (k.text.len) {
		at %= k.text.len;
		octet = (char)(k.text.s[at] ^ 1);
		assert(pwrite(file.fd, &octet, 1, (off_t)at) == 1 && !read_sizes(&same));
	}
	known_sizes_write(&said, file.fd);
	same.text.len = 0;
	assert(read_sizes(&same) == n && (!n || (same.text.len == said.text.len &&
	    memcmp(same.text.s + 16, said.text.s + 16, said.text.len - 16) == 0)));
	known_sizes_free(&k), known_sizes_free(&said), known_sizes_free(&same);
}

/* --- mbox ---------------------------------------------------------------------------------------------------- */

static const char from_line[] = "From a@x.test Thu Jan  1 00:00:00 1970\n";

/* The message as it has to be, line by line. */
static void
quote_lines(stralloc *to, struct given g)
{
	int is_ended = g.len == 0 || g.s[g.len - 1] == '\n';

	to->len = 0;
	assert(stralloc_cats(to, from_line));
	while (g.len) {
		struct given line = given_until(&g, '\n');
		size_t marks = 0;

		while (marks < line.len && line.s[marks] == '>')
			marks++;
		if (line.len - marks >= 5 && memcmp(line.s + marks, "From ", 5) == 0)
			assert(stralloc_append(to, '>'));
		assert(stralloc_catb(to, (const char *)line.s, line.len) && (!(g.len || is_ended) || stralloc_append(to, '\n')));
	}
	assert(stralloc_cats(to, is_ended ? "\n" : "\n\n"));
}

static void
take_mbox(struct given g)
{
	static stralloc want, is;
	struct mbox m = { .is_regular = 1 };
	size_t piece = 1 + given_number(&g, 1) * 97;

	quote_lines(&want, g);
	given_write(&file, "", 0);
	m.fd = file.fd;
	assert(mbox_begin(&m, from_line, sizeof from_line - 1));
	while (g.len) {
		struct given some = given_piece(&g, piece);

		assert(mbox_message(&m, (const char *)some.s, some.len));
	}
	assert(mbox_end(&m) && stralloc_ready(&is, want.len + 1));
	assert(pread(file.fd, is.s, want.len + 1, 0) == (ssize_t)want.len && memcmp(is.s, want.s, want.len) == 0);
}

/* --- maildirsize ----------------------------------------------------------------------------------------------- */

/* The first line is the quota; what the others say is added up, and a line more is one more. */
static void
take_quota(struct given g)
{
	struct maildir_quota q = { .root = -1 }, more = { .root = -1 };
	char *text = given_string(g), *words = strndup(text, strcspn(text, "\n")), *longer;

	if (parse_words(&q, words)) {
		assert(strlen(words) && strlen(words) <= MAILDIR_QUOTA_WORDS_MAX && strcmp(q.words, words) == 0);
		more = q;
		assert(asprintf(&longer, "%s5 1\n", text) > 0);
		if (parse_file(&q, text)) {
			assert(q.octets <= INT64_MAX && q.messages <= INT64_MAX);
			if (q.octets <= INT64_MAX - 5 && q.messages < INT64_MAX)
				assert(parse_file(&more, longer) && more.octets == q.octets + 5 && more.messages == q.messages + 1);
		}
		free(longer);
	}
	free(text), free(words);
}

/* --- tcpto ------------------------------------------------------------------------------------------------------- */

/* Entries, each address and state, with its digest or without. Whatever is there, an address that times out is skipped, and no more once it
 * answers. */
static void
take_tcpto(struct given g)
{
	static struct tcpto t;
	static const char four[4] = { 1, 2, 3, 4 };
	ip46 ip, other;
	uint64_t age;
	unsigned int count;

	memset(&t, 0, sizeof t);
	seconds = 1000000;
	ip46_from_ip4(&ip, four);
	for (unsigned int i = 0; g.len; i++) {
		unsigned int where = (unsigned int)given_number(&g, 1);
		struct given key = given_piece(&g, 16);
		unsigned char octets[16] = { 0 };
		struct entry *e;
		uint64_t state;

		if (where & 1)
			expand(octets, &ip);
		else if (key.len)
			memcpy(octets, key.s, key.len);
		e = set_of(&t, octets) + where / 2 % TCPTO_WAYS;
		memcpy(e->ip, octets, 16);
		state = given_number(&g, 8);
		atomic_store(&e->state, where & 16 ? (state & ~UINT64_C(0xffff)) | (digest(octets) & 0xffff) : state);
	}
	for (size_t i = 0; i < TCPTO_ENTRIES; i++)
		if (tcpto_entry(&t, i, &other, &age, &count))
			assert(count && count <= TCPTO_COUNT_MAX && age <= seconds + 1);
	/* it may be there more than once, and for a moment in the place that counts if that says what was not yet true before */
	for (int i = 0; !tcpto_is_dead(&t, &ip) && i < TCPTO_WAYS * (TCPTO_COUNT_SKIP + 1); i++) {
		tcpto_timed_out(&t, &ip);
		seconds += TCPTO_INTERVAL;
	}
	assert(tcpto_is_dead(&t, &ip));
	for (int i = 0; i < TCPTO_WAYS; i++)
		tcpto_answered(&t, &ip);
	assert(!tcpto_is_dead(&t, &ip));
}

/* --- lists in control/ ---------------------------------------------------------------------------------------------- */

/* Numbers that a line has, or else those for all. */
static struct allowance_limits
limits_of_line(const char *line, struct allowance_limits all)
{
	const char *messages = strchr(line, ':') + 1, *recipients = strchr(messages, ':') + 1;

	if (*messages != ':')
		all.messages = strtoul(messages, NULL, 10);
	if (*recipients)
		all.recipients = strtoul(recipients, NULL, 10);
	all.messages = all.messages < ACCOUNT_LIMITS_MAX ? all.messages : ACCOUNT_LIMITS_MAX;
	all.recipients = all.recipients < ACCOUNT_LIMITS_MAX ? all.recipients : ACCOUNT_LIMITS_MAX;
	return all;
}

/* The first line counts that means the account. */
static void
take_limits(struct given g)
{
	struct account_limits l = { .table = STRALLOC_ZERO };
	char *account = given_string(given_until(&g, '\n'));
	const char *name;
	struct allowance_limits is, want;

	given_write(&file, g.s, g.len);
	if (account_limits_read(&l, &name)) {
		is = account_limits_of(&l, account);
		want = l.all;
		for (size_t at = 0; at < l.table.len; at += strlen(l.table.s + at) + 1) {
			const char *line = l.table.s + at, *colon = strchr(line, ':');

			assert(colon && strspn(colon + 1, "0123456789:") == strlen(colon + 1) && strchr(colon + 1, ':') == strrchr(line, ':'));
			if (!address_pattern_has(line, (size_t)(colon - line), account))
				continue;
			want = limits_of_line(line, l.all);
			break;
		}
		assert(is.messages == want.messages && is.recipients == want.recipients);
		account_limits_free(&l);
	}
	free(account);
}

/* A name is that of a line; the one for all relays is for nobody else. */
static void
take_certificates(struct given g)
{
	struct tlsclientcerts c;
	char *domain = given_string(given_until(&g, '\n')), *text = given_string(g);

	given_write(&file, g.s, g.len);
	if (tlsclientcerts_read(&c)) {
		for (int is_relay = 0; is_relay < 2; is_relay++) {
			const char *name = tlsclientcert_find(&c, domain, domain, is_relay);
			const char *all = control_map_find(&c.map, "", 0);

			assert(name && (!*name || memmem(g.s, g.len, name, strlen(name))));
			assert(is_relay || !*name || name != all);
		}
		tlsclientcerts_free(&c);
	}
	free(domain), free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	enum file which = (enum file)given_number(&g, 1);

	switch (which) {
	case SIZES: take_sizes(g); break;
	case MBOX: take_mbox(g); break;
	case QUOTA: take_quota(g); break;
	case TCPTO: take_tcpto(g); break;
	case LIMITS: take_limits(g); break;
	case CERTIFICATES: take_certificates(g); break;
	}
	return 0;
}
