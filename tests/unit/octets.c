/* The octets of a message: found where they are now, never another one's, and asked for where they are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "bin-src/send/keeper.h"
#include "bin-src/send/octets.h"
#include "bin-src/send/pass.h"
#include "bin-src/send/places.h"
#include "directory.h"
#include "sending.h"
#include "stored.h"

enum { LEN = SENDING_OCTETS, LARGE = 2 * OCTETS_SLICE + 100 };

static char large[LARGE], damaged[LARGE] = "x";	/* of the same length */

/* A message that is nowhere, which the keeper was said to have. */
static struct message *
missing(uint64_t number)
{
	struct message *m;

	sending_connect();
	m = sending_message(number, "s@x", "a@far.example", NULL);
	stored_remove(number);
	return m;
}

static void
in_ring(struct message *m)
{
	struct queue_place place = stored_in_ring(m->number, sending_octets, LEN);

	place_free(m->place);
	m->place = place_new(&place);
	assert_non_null(m->place);
}

static void
in_files(struct message *m)
{
	stored_in_files(m->number, sending_octets, sending_octets, LEN);
}

static void
assert_there(struct message *m)
{
	const char *s = NULL;
	size_t len = 0;

	assert_int_equal(octets_whole(sending, m, &s, &len), OCTETS_OK);
	assert_int_equal(len, LEN);
	assert_memory_equal(s, sending_octets, LEN);
	assert_int_equal(m->misfits, 0);
}

static enum octets_result
whole(struct message *m)
{
	const char *s;
	size_t len;

	return octets_whole(sending, m, &s, &len);
}

/* --- small messages -------------------------------------------------------------------- */

static void
from_where_the_keeper_said(void **state)
{
	struct message *m = missing(1);

	(void)state;
	in_ring(m);
	assert_there(m);
	sending_expect_nothing(&sending_keeper);
}

static void
one_that_was_moved_meanwhile_is_in_its_file(void **state)
{
	struct message *m = missing(1);

	(void)state;
	in_ring(m);
	stored_in_ring(2, sending_octets, LEN);	/* written over */
	in_files(m);
	assert_there(m);
	sending_expect_nothing(&sending_keeper);
}

/* The ring that is open is that of the earlier keeper. */
static void
a_new_ring_is_opened(void **state)
{
	struct message *m = missing(1), *n = sending_message(2, "s@x", "a@far.example", NULL);

	(void)state;
	in_ring(n);
	assert_there(n);
	in_ring(m);
	assert_there(m);
}

static void
the_last_message_is_not_read_again(void **state)
{
	struct message *m = missing(1);

	(void)state;
	in_files(m);
	assert_there(m);
	stored_remove(1);
	assert_there(m);
	/* but after another one */
	m = sending_message(2, "s@x", "a@far.example", NULL);
	assert_there(m);
	assert_int_equal(whole(message_find(&sending->messages, 1)), OCTETS_LATER);
}

/* Two numbers are never the same message, but octets of another length are not what the keeper told of. */
static void
octets_of_another_length_are_not_the_message(void **state)
{
	struct message *m = missing(1);

	(void)state;
	in_files(m);
	m->size = LEN - 1;
	assert_int_equal(whole(m), OCTETS_LATER);
	assert_int_equal(m->misfits, 1);
	assert_int_equal(sending->octets.number, 0);
}

/* --- what is not where it should be ------------------------------------------------------- */

static void
it_is_asked_for_once(void **state)
{
	struct message *m = missing(1);

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(whole(m), OCTETS_LATER);
	assert_int_equal(octets_missing(sending, m), OCTETS_LATER);
	keeper_flush(sending);
	sending_expect_about(SEND_WHERE, 1);
	sending_expect_nothing(&sending_keeper);
	assert_int_equal(m->misfits, 1);
	/* even if it is there by now: the answer may be that it is lost */
	in_files(m);
	assert_int_equal(whole(m), OCTETS_LATER);
	m->is_sought = 0;
	assert_there(m);
}

static void
a_keeper_that_insists_is_believed_for_a_while(void **state)
{
	static const char asked[PASS_MISFITS_MAX] = { SEND_WHERE, SEND_DAMAGED, SEND_DAMAGED };
	struct message *m = missing(1);

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < PASS_MISFITS_MAX; i++) {
			assert_int_equal(whole(m), OCTETS_LATER);
			keeper_flush(sending);
			sending_expect_about(asked[i], 1);
			m->is_sought = 0;	/* it says the same again */
		}
		assert_int_equal(whole(m), OCTETS_BAD);
		keeper_flush(sending);
		sending_expect_nothing(&sending_keeper);
		assert_int_equal(sending_logged("alert: msg 1 is not where the queue says it is\n"), round + 1);
	}
}

/* Without descriptors nothing can be said about the message: the keeper is not asked. */
static void
trouble_of_this_system_is_no_misfit(void **state)
{
	struct message *m = missing(1);
	struct rlimit files, few;
	int fd;

	(void)state;
	in_files(m);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	few = files;
	few.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	m->is_checked = 1;
	assert_int_equal(whole(m), OCTETS_LATER);
	assert_int_equal(octets_open(sending, m, &fd), OCTETS_LATER);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	assert_int_equal(fd, -1);
	assert_int_equal(m->misfits, 0);
	assert_int_equal(m->is_sought, 0);
	assert_int_equal(m->is_checked, 1);
	assert_int_equal(sending_logged("warning: unable to read msg 1: Too many open files; trying again later\n"), 2);
	assert_there(m);
}

/* --- large messages ------------------------------------------------------------------------- */

/* A large message in files, in which octets stand. */
static struct message *
large_message(uint64_t number, const char *octets)
{
	struct message *m = missing(number);

	m->size = LARGE;
	stored_in_files(number, large, octets, LARGE);
	return m;
}

static void
each_delivery_has_a_descriptor_of_its_own(void **state)
{
	struct message *m = large_message(1, large);
	int fds[2];
	char c;

	(void)state;
	assert_int_equal(octets_open(sending, m, &fds[0]), OCTETS_OK);
	assert_int_equal(read(fds[0], &c, 1), 1);
	assert_int_equal(octets_open(sending, m, &fds[1]), OCTETS_OK);
	assert_int_equal(lseek(fds[1], 0, SEEK_CUR), 0);
	assert_int_equal(lseek(fds[0], 0, SEEK_CUR), 1);
	assert_int_equal(write(fds[0], "x", 1), -1);
	close(fds[0]);
	close(fds[1]);
}

static void
a_file_of_another_length_is_checked_again(void **state)
{
	struct message *m = large_message(1, large);
	unsigned int descriptors = sending_descriptors();
	int fd;

	(void)state;
	m->is_checked = 1;
	assert_int_equal(truncate(stored_path("mess", 1), LARGE - 1), 0);
	assert_int_equal(octets_open(sending, m, &fd), OCTETS_LATER);
	assert_int_equal(m->is_checked, 0);
	assert_int_equal(m->is_sought, 1);
	assert_int_equal(sending_descriptors(), descriptors);
}

static void
a_check_takes_a_slice_a_turn(void **state)
{
	struct message *m = large_message(1, large);
	unsigned int descriptors = sending_descriptors();

	(void)state;
	heap_remove(&sending->due, m);
	octets_check_later(sending, m);
	assert_int_equal(octets_check(sending), 1);	/* opens it */
	for (int slices = 2; slices; slices--) {
		assert_int_equal(octets_check(sending), 1);
		assert_int_equal(m->is_checked, 0);
		assert_int_equal(pass_next(sending), INT64_MAX);
	}
	assert_int_equal(octets_check(sending), 0);
	assert_int_equal(m->is_checked, 1);
	assert_int_equal(pass_next(sending), sending->now);
	assert_int_equal(sending_descriptors(), descriptors);
	assert_int_equal(octets_check(sending), 0);
}

static void
one_after_another_is_checked(void **state)
{
	struct message *m[3];

	(void)state;
	sending_connect();
	for (unsigned int i = 0; i < 3; i++) {
		m[i] = sending_message(1 + i, "s@x", "a@far.example", NULL);
		m[i]->size = LARGE;
		stored_in_files(1 + i, large, i == 1 ? damaged : large, LARGE);
		octets_check_later(sending, m[i]);
	}
	while (octets_check(sending))
		;
	assert_int_equal(m[0]->is_checked, 1);
	assert_int_equal(m[1]->is_checked, 0);
	assert_int_equal(m[2]->is_checked, 1);
}

static void
a_damaged_one_is_asked_for(void **state)
{
	struct message *m = large_message(1, damaged);
	unsigned int descriptors = sending_descriptors();

	(void)state;
	octets_check_later(sending, m);
	while (octets_check(sending))
		;
	assert_int_equal(m->is_checked, 0);
	assert_int_equal(m->is_sought, 1);
	assert_int_equal(sending_descriptors(), descriptors);
	keeper_flush(sending);
	sending_expect_about(SEND_WHERE, 1);
}

static void
one_that_is_gone_meanwhile_holds_nobody_up(void **state)
{
	struct message *m = large_message(1, large), *n;

	(void)state;
	n = sending_message(2, "s@x", "a@far.example", NULL);
	n->size = LARGE;
	stored_in_files(2, large, large, LARGE);
	octets_check_later(sending, m);
	octets_check_later(sending, n);
	heap_remove(&sending->due, m);
	message_free(&sending->messages, m);
	while (octets_check(sending))
		;
	assert_int_equal(n->is_checked, 1);
	/* the same in the middle of its check */
	n->is_checked = 0;
	octets_check_later(sending, n);
	assert_int_equal(octets_check(sending), 1);
	assert_int_equal(octets_check(sending), 1);
	heap_remove(&sending->due, n);
	message_free(&sending->messages, n);
	while (octets_check(sending))
		;
	assert_int_equal(sending->octets.check_fd, -1);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, sending_begin, sending_end)
	const struct CMUnitTest tests[] = {
		TEST(from_where_the_keeper_said), TEST(one_that_was_moved_meanwhile_is_in_its_file), TEST(a_new_ring_is_opened),
		TEST(the_last_message_is_not_read_again), TEST(octets_of_another_length_are_not_the_message),
		TEST(it_is_asked_for_once), TEST(a_keeper_that_insists_is_believed_for_a_while),
		TEST(trouble_of_this_system_is_no_misfit), TEST(each_delivery_has_a_descriptor_of_its_own),
		TEST(a_file_of_another_length_is_checked_again), TEST(a_check_takes_a_slice_a_turn),
		TEST(one_after_another_is_checked), TEST(a_damaged_one_is_asked_for),
		TEST(one_that_is_gone_meanwhile_holds_nobody_up),
	};

	return cmocka_run_group_tests_name("octets", tests, sending_home, directory_remove);
}
