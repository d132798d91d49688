/* The policies that are known: how long, how many, and what of them outlives the process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/remote/sts_cache.h"
#include "directory.h"

#define AGED(age) "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: " age "\n"

enum { NOW = 1000000000, DAY = 86400, WEEK = 7 * DAY };

static const char week[] = AGED("604800");
static struct sts_cache cache;

static int write_error;

int __real_fsync(int fd);
int __wrap_fsync(int fd);

int
__wrap_fsync(int fd)
{
	errno = write_error;
	return write_error ? -1 : __real_fsync(fd);
}

static const char *
put(const char *domain, const char *id, const char *text, uint64_t now)
{
	return sts_cache_put(&cache, domain, id, text, strlen(text), now);
}

static void
reopen(uint64_t now)
{
	sts_cache_close(&cache);
	assert_true(sts_cache_open(&cache, "policies", now));
}

static int
set_up(void **state)
{
	write_error = 0;
	return directory_make(state) || !sts_cache_open(&cache, "policies", NOW);
}

static int
tear_down(void **state)
{
	sts_cache_close(&cache);
	return directory_remove(state);
}

/* --- how long ------------------------------------------------------------------------------------------------------------- */

static void
until_it_expires(void **state)
{
	const struct sts_cached *e;

	(void)state;
	assert_null(sts_cache_find(&cache, "x.example", NOW));
	assert_null(put("x.example", "id1", week, NOW));
	e = sts_cache_find(&cache, "x.example", NOW + WEEK - 1);
	assert_non_null(e);
	assert_string_equal(e->id, "id1");
	assert_int_equal(e->policy.mode, STS_ENFORCE);
	assert_true(sts_policy_has(&e->policy, "a.example"));
	assert_null(sts_cache_find(&cache, "x.example", NOW + WEEK));
	assert_null(sts_cache_find(&cache, "y.example", NOW));
	assert_null(sts_cache_find(&cache, "x.exampl", NOW));
}

static void
a_short_one(void **state)
{
	(void)state;
	assert_null(put("x.example", "id1", AGED("0"), NOW));
	assert_non_null(sts_cache_find(&cache, "x.example", NOW + STS_CACHE_LEAST - 1));
	assert_null(sts_cache_find(&cache, "x.example", NOW + STS_CACHE_LEAST));
}

/* A new one counts, its file takes the other's place, and what is none changes nothing. */
static void
a_new_one(void **state)
{
	const struct sts_cached *e;

	(void)state;
	assert_null(put("x.example", "id1", week, NOW));
	assert_null(put("x.example", "id2", AGED("1000"), NOW + 10));
	assert_string_equal(put("x.example", "id3", "mode: enforce\n", NOW + 20), "it has no version");
	e = sts_cache_find(&cache, "x.example", NOW + 1009);
	assert_non_null(e);
	assert_string_equal(e->id, "id2");
	assert_null(sts_cache_find(&cache, "x.example", NOW + 1010));
	assert_int_equal(cache.len, 1);
	assert_int_equal(cache.octets, strlen(AGED("1000")));
	directory_assert_file("policies/x.example", "id2 1000000010\n" AGED("1000"), strlen("id2 1000000010\n" AGED("1000")));
}

static void
refreshed_every_day(void **state)
{
	struct sts_cached *e;

	(void)state;
	assert_null(put("week.example", "id", week, NOW));
	assert_null(put("hour.example", "id", AGED("3600"), NOW));
	assert_null(sts_cache_sweep(&cache, NOW + 1799));
	e = sts_cache_sweep(&cache, NOW + 1800);
	assert_non_null(e);
	assert_string_equal(e->domain, "hour.example");
	e->refresh += 1700;
	assert_null(sts_cache_sweep(&cache, NOW + 1800));
	/* it has expired */
	assert_null(sts_cache_sweep(&cache, NOW + DAY - 1));
	assert_int_equal(cache.len, 1);
	assert_int_equal(access("policies/hour.example", F_OK), -1);
	e = sts_cache_sweep(&cache, NOW + DAY);
	assert_non_null(e);
	assert_string_equal(e->domain, "week.example");
}

/* --- files ---------------------------------------------------------------------------------------------------------------- */

static void
outlives_the_process(void **state)
{
	const struct sts_cached *e;

	(void)state;
	assert_null(put("x.example", "id1", week, NOW));
	assert_null(put("z.example", "id2", AGED("1000"), NOW));
	reopen(NOW + WEEK - 1);
	e = sts_cache_find(&cache, "x.example", NOW + WEEK - 1);
	assert_non_null(e);
	assert_string_equal(e->id, "id1");
	assert_memory_equal(e->policy.text, week, sizeof week - 1);
	assert_null(sts_cache_find(&cache, "x.example", NOW + WEEK));
	assert_null(sts_cache_find(&cache, "z.example", NOW + WEEK - 1));
	assert_int_equal(access("policies/z.example", F_OK), -1);
}

/* A clock that was set back makes no policy longer than it is. */
static void
fetched_in_the_future(void **state)
{
	(void)state;
	assert_null(put("x.example", "id1", week, NOW + 10 * WEEK));
	reopen(NOW);
	assert_non_null(sts_cache_find(&cache, "x.example", NOW + WEEK - 1));
	assert_null(sts_cache_find(&cache, "x.example", NOW + WEEK));
}

static void
files_that_are_of_no_use(void **state)
{
	static const char *const texts[] = {
		"", "id 1000000000", "id 1000000000\n", "id 1000000000\nversion: STSv1\n", "id\n" AGED("604800"), "id x\n" AGED("604800"),
		AGED("604800"), "0123456789012345678901234567890123456789 1000000000\n" AGED("604800"),
		"id 1000000000x\n" AGED("604800"), "id 99999999999999999999\n" AGED("604800"),
	};
	struct stat st;

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		directory_write("policies/x.example", texts[i]);
		reopen(NOW);
		assert_null(sts_cache_find(&cache, "x.example", NOW));
		assert_int_equal(stat("policies/x.example", &st), -1);
	}
	directory_write("policies/X.example", "id 1000000000\n" AGED("604800"));
	directory_write("policies/.new", "id 1000000000\n" AGED("604800"));
	assert_int_equal(symlink("/dev/zero", "policies/y.example"), 0);
	assert_int_equal(mkfifo("policies/z.example", 0600), 0);
	reopen(NOW);
	assert_int_equal(cache.len, 0);
	assert_int_equal(rmdir("policies"), 0);
	assert_int_equal(mkdir("policies", 0700), 0);
}

/* What cannot be written is known all the same, and the file of before stays whole. */
/* What a process without descriptors removed would be gone for as long as the policy says. */
static void
what_cannot_be_read_for_now_is_kept(void **state)
{
	struct rlimit files, few;
	int low;

	(void)state;
	assert_null(put("x.example", "1", week, NOW));
	sts_cache_close(&cache);
	low = dup(0);
	close(low);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	few = (struct rlimit){ .rlim_cur = (rlim_t)low + 2, .rlim_max = files.rlim_max };	/* the directory, twice */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_false(sts_cache_open(&cache, "policies", NOW));
	assert_int_equal(errno, EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	reopen(NOW);
	assert_non_null(sts_cache_find(&cache, "x.example", NOW));
}

static void
a_full_disk(void **state)
{
	(void)state;
	assert_null(put("x.example", "id1", week, NOW));
	write_error = ENOSPC;
	assert_string_equal(put("x.example", "id2", AGED("1000"), NOW), "");
	assert_int_equal(errno, ENOSPC);
	assert_string_equal(sts_cache_find(&cache, "x.example", NOW)->id, "id2");
	assert_int_equal(access("policies/.new", F_OK), -1);
	reopen(NOW);
	assert_string_equal(sts_cache_find(&cache, "x.example", NOW)->id, "id1");
}

static void
no_directory(void **state)
{
	struct sts_cache other;

	(void)state;
	assert_false(sts_cache_open(&other, "nowhere/policies", NOW));
	assert_int_equal(errno, ENOENT);
	directory_write("file", "");
	assert_false(sts_cache_open(&other, "file", NOW));
	assert_int_equal(errno, ENOTDIR);
	assert_int_equal(symlink("policies", "link"), 0);
	assert_false(sts_cache_open(&other, "link", NOW));
}

/* --- how many --------------------------------------------------------------------------------------------------------------- */

/* Long texts: what was not asked about for longest makes room, on disk too. */
static void
octets_are_bounded(void **state)
{
	static char text[STS_POLICY_MAX];
	char domain[32];
	unsigned int most = STS_CACHE_OCTETS / STS_POLICY_MAX;

	(void)state;
	write_error = EIO;	/* not on disk: it is a quarter of a minute */
	memset(text, '\n', sizeof text);
	memcpy(text, week, sizeof week - 1);
	for (unsigned int i = 0; i < most + 2; i++) {
		snprintf(domain, sizeof domain, "%u.example", i);
		assert_string_equal(sts_cache_put(&cache, domain, "id", text, sizeof text, NOW + i), "");
		assert_non_null(sts_cache_find(&cache, "0.example", NOW));
	}
	assert_int_equal(cache.len, most);
	assert_int_equal(cache.octets, STS_CACHE_OCTETS);
	assert_null(sts_cache_find(&cache, "1.example", NOW));
	assert_null(sts_cache_find(&cache, "2.example", NOW));
	assert_non_null(sts_cache_find(&cache, "3.example", NOW));
}

static void
policies_are_bounded(void **state)
{
	char domain[32];

	(void)state;
	assert_null(put("0.example", "id", week, NOW));
	write_error = EIO;
	for (unsigned int i = 1; i <= STS_CACHE_MAX; i++) {
		snprintf(domain, sizeof domain, "%u.example", i);
		put(domain, "id", week, NOW + i);
	}
	assert_int_equal(cache.len, STS_CACHE_MAX);
	assert_null(sts_cache_find(&cache, "0.example", NOW));
	assert_int_equal(access("policies/0.example", F_OK), -1);
	for (unsigned int i = 1; i <= STS_CACHE_MAX; i++) {
		snprintf(domain, sizeof domain, "%u.example", i);
		assert_non_null(sts_cache_find(&cache, domain, NOW));
	}
}

/* --- domains ---------------------------------------------------------------------------------------------------------------- */

static void
domains(void **state)
{
	static const char *const good[] = { "a", "a.b", "xn--4ca.example", "_x.1-2.example" };
	static const char *const bad[] = { "", ".", "..", ".a", "a.", "a..b", "A", "a/b", "a b", "\xc3\xa4", "a\n", "[1.2.3.4]" };
	char longest[STS_DOMAIN_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(sts_cache_is_domain(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(sts_cache_is_domain(bad[i]));
	memset(longest, 'a', sizeof longest);
	longest[STS_DOMAIN_MAX] = '\0';
	assert_true(sts_cache_is_domain(longest));
	longest[STS_DOMAIN_MAX] = 'a';
	longest[STS_DOMAIN_MAX + 1] = '\0';
	assert_false(sts_cache_is_domain(longest));
}

int
main(void)
{
#define ONE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		ONE(until_it_expires), ONE(a_short_one), ONE(a_new_one), ONE(refreshed_every_day), ONE(outlives_the_process),
		ONE(fetched_in_the_future), ONE(files_that_are_of_no_use), ONE(what_cannot_be_read_for_now_is_kept), ONE(a_full_disk), ONE(no_directory), ONE(octets_are_bounded),
		ONE(policies_are_bounded), cmocka_unit_test(domains),
	};

	return cmocka_run_group_tests_name("sts_cache", tests, NULL, NULL);
}
