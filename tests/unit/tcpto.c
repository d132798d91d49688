/* The memory of dead hosts: counting, skipping, forgetting, a full table, nonsense in the file. The clock is the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "bin-src/lib/ip_address.h"
#include "bin-src/remote/tcpto.h"

static char directory[] = "/tmp/tcpto-XXXXXX";
static time_t seconds = 1000000;
enum { LONGEST = (60 + 31) * 64, SHORTEST = 60 * 64 };

/* instead of libc's */
int
clock_gettime(clockid_t clock, struct timespec *t)
{
	(void)clock;
	t->tv_sec = seconds;
	t->tv_nsec = 0;
	return 0;
}

static ip46
address(const char *text)
{
	ip46 ip;

	assert_int_equal(ip_address_parse(&ip, text), 1);
	return ip;
}

static struct tcpto *
fresh(void)
{
	struct tcpto *t;

	unlink("run/tcpto");
	assert_int_equal(tcpto_reset(), 1);
	t = tcpto_open(1);
	assert_non_null(t);
	return t;
}

static void
time_out(struct tcpto *t, const ip46 *ip, int times)
{
	for (; times; times--) {
		tcpto_timed_out(t, ip);
		seconds += TCPTO_INTERVAL;
	}
}

static unsigned int
count_of(const struct tcpto *t, const ip46 *ip, uint64_t *age)
{
	unsigned int count;
	ip46 found;

	for (size_t i = 0; i < TCPTO_ENTRIES; i++)
		if (tcpto_entry(t, i, &found, age, &count) && ip46_is6(&found) == ip46_is6(ip) &&
		    !memcmp(found.ip, ip->ip, ip46_is6(ip) ? 16 : 4))
			return count;
	return 0;
}

static void
two_time_outs_make_it_dead(void **state)
{
	static const char *const texts[] = { "192.0.2.1", "2001:db8::1" };
	struct tcpto *t = fresh();

	(void)state;
	for (int i = 0; i < 2; i++) {
		ip46 ip = address(texts[i]), other = address("192.0.2.2");

		assert_int_equal(tcpto_is_dead(t, &ip), 0);
		time_out(t, &ip, 1);
		assert_int_equal(tcpto_is_dead(t, &ip), 0);
		time_out(t, &ip, 1);
		assert_int_equal(tcpto_is_dead(t, &ip), 1);
		assert_int_equal(tcpto_is_dead(t, &other), 0);
	}
	tcpto_close(t);
}

static void
time_outs_at_the_same_moment_are_one(void **state)
{
	struct tcpto *t = fresh();
	ip46 ip = address("192.0.2.1");
	uint64_t age;

	(void)state;
	tcpto_timed_out(t, &ip);
	seconds += TCPTO_INTERVAL - 1;
	tcpto_timed_out(t, &ip);
	assert_int_equal(count_of(t, &ip, &age), 1);
	assert_int_equal(age, TCPTO_INTERVAL - 1);
	seconds++;
	tcpto_timed_out(t, &ip);
	assert_int_equal(count_of(t, &ip, &age), 2);
	assert_int_equal(age, 0);
	tcpto_close(t);
}

static void
it_counts_to_ten(void **state)
{
	struct tcpto *t = fresh();
	ip46 ip = address("192.0.2.1");
	uint64_t age;

	(void)state;
	time_out(t, &ip, 300);
	assert_int_equal(count_of(t, &ip, &age), TCPTO_COUNT_MAX);
	tcpto_close(t);
}

static void
it_is_tried_again_after_an_hour_or_so(void **state)
{
	struct tcpto *t = fresh();
	ip46 ip = address("192.0.2.1");

	(void)state;
	time_out(t, &ip, 2);
	seconds += SHORTEST - TCPTO_INTERVAL - 1;
	assert_int_equal(tcpto_is_dead(t, &ip), 1);
	seconds += LONGEST - SHORTEST + 1;
	assert_int_equal(tcpto_is_dead(t, &ip), 0);
	tcpto_timed_out(t, &ip);	/* and once more is enough to skip it again */
	assert_int_equal(tcpto_is_dead(t, &ip), 1);
	tcpto_close(t);
}

static void
an_answer_forgets_it(void **state)
{
	struct tcpto *t = fresh();
	ip46 ip = address("192.0.2.1"), other = address("192.0.2.2");
	uint64_t age;

	(void)state;
	time_out(t, &ip, 5);
	time_out(t, &other, 5);
	tcpto_answered(t, &ip);
	assert_int_equal(count_of(t, &ip, &age), 0);
	assert_int_equal(tcpto_is_dead(t, &ip), 0);
	assert_int_equal(tcpto_is_dead(t, &other), 1);
	time_out(t, &ip, 1);
	assert_int_equal(count_of(t, &ip, &age), 1);
	tcpto_close(t);
}

static void
all_processes_see_it(void **state)
{
	struct tcpto *t = fresh(), *other = tcpto_open(0);
	ip46 ip = address("192.0.2.1");

	(void)state;
	time_out(t, &ip, 2);
	assert_int_equal(tcpto_is_dead(other, &ip), 1);
	assert_int_equal(tcpto_reset(), 1);	/* while it is mapped */
	assert_int_equal(tcpto_is_dead(t, &ip), 0);
	time_out(t, &ip, 2);
	tcpto_clear(t);
	assert_int_equal(tcpto_is_dead(other, &ip), 0);
	tcpto_close(t);
	tcpto_close(other);
}

static void
a_full_table_keeps_what_counts_most(void **state)
{
	struct tcpto *t = fresh();
	ip46 often = address("192.0.2.1"), ip;
	uint64_t age;
	char text[IP46_FMT];

	(void)state;
	time_out(t, &often, 10);
	for (int i = 0; i < 8 * TCPTO_ENTRIES; i++) {
		ip = address("198.18.0.0");
		ip.ip[2] = (char)(i >> 8);
		ip.ip[3] = (char)i;
		tcpto_timed_out(t, &ip);
		text[ip46_fmt(text, &ip)] = 0;
		assert_int_equal(count_of(t, &ip, &age), 1);
	}
	assert_int_equal(count_of(t, &often, &age), 10);
	tcpto_close(t);
}

static void
nonsense_is_empty(void **state)
{
	struct tcpto *t;
	unsigned char octets[TCPTO_SIZE];
	ip46 ip = address("192.0.2.1");
	unsigned int count;
	uint64_t age;
	size_t n = 0;
	int fd;

	(void)state;
	tcpto_close(fresh());
	srandom(7);
	for (size_t i = 0; i < sizeof octets; i++)
		octets[i] = (unsigned char)random();
	fd = open("run/tcpto", O_WRONLY);
	assert_int_equal(write(fd, octets, sizeof octets), sizeof octets);
	close(fd);
	t = tcpto_open(1);
	for (size_t i = 0; i < TCPTO_ENTRIES; i++)
		n += (size_t)tcpto_entry(t, i, &ip, &age, &count);
	assert_true(n < 4);
	ip = address("192.0.2.1");
	time_out(t, &ip, 2);
	assert_int_equal(tcpto_is_dead(t, &ip), 1);
	tcpto_close(t);
}

static void
before_a_reboot_is_empty(void **state)
{
	struct tcpto *t = fresh();
	ip46 ip = address("192.0.2.1");

	(void)state;
	time_out(t, &ip, 2);
	seconds -= 10 * TCPTO_INTERVAL;
	assert_int_equal(tcpto_is_dead(t, &ip), 0);
	seconds += 10 * TCPTO_INTERVAL;
	tcpto_close(t);
}

static void
without_a_file_nothing_is_known(void **state)
{
	ip46 ip = address("192.0.2.1");
	unsigned int count;
	uint64_t age;

	(void)state;
	unlink("run/tcpto");
	assert_null(tcpto_open(1));
	assert_int_equal(errno, ENOENT);
	tcpto_timed_out(NULL, &ip);
	tcpto_answered(NULL, &ip);
	tcpto_clear(NULL);
	assert_int_equal(tcpto_is_dead(NULL, &ip), 0);
	assert_int_equal(tcpto_entry(NULL, 0, &ip, &age, &count), 0);
	tcpto_close(NULL);
}

static void
a_file_of_another_size_is_none(void **state)
{
	int fd = open("run/tcpto", O_WRONLY | O_CREAT | O_TRUNC, 0644);

	(void)state;
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	assert_null(tcpto_open(1));
	assert_int_equal(errno, EINVAL);
	assert_int_equal(tcpto_reset(), 1);
	tcpto_close(tcpto_open(1));
}

static void
no_link_is_followed(void **state)
{
	(void)state;
	unlink("run/tcpto");
	assert_int_equal(symlink("elsewhere", "run/tcpto"), 0);
	assert_int_equal(tcpto_reset(), 0);
	assert_null(tcpto_open(0));
	assert_int_equal(access("run/elsewhere", F_OK), -1);
}

static int
set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chdir(directory), 0);
	return mkdir("run", 0700);
}

static int
tear_down(void **state)
{
	(void)state;
	unlink("run/tcpto");
	rmdir("run");
	return rmdir(directory);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_time_outs_make_it_dead),
		cmocka_unit_test(time_outs_at_the_same_moment_are_one),
		cmocka_unit_test(it_counts_to_ten),
		cmocka_unit_test(it_is_tried_again_after_an_hour_or_so),
		cmocka_unit_test(an_answer_forgets_it),
		cmocka_unit_test(all_processes_see_it),
		cmocka_unit_test(a_full_table_keeps_what_counts_most),
		cmocka_unit_test(nonsense_is_empty),
		cmocka_unit_test(before_a_reboot_is_empty),
		cmocka_unit_test(without_a_file_nothing_is_known),
		cmocka_unit_test(a_file_of_another_size_is_none),
		cmocka_unit_test(no_link_is_followed),
	};

	return cmocka_run_group_tests_name("tcpto", tests, set_up, tear_down);
}
