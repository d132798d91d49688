/* The writers and the jobs that they get: the order of their steps (rule 6 of queue/README.md), what becomes of a message whose
 * step failed, and writers that die. Steps are noted in the writer itself, and fail there when the test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "queue_keeper.h"
#include "queue/reader.h"
#include "unsendable.h"

enum { FIRST = 1000 };	/* number of the first message; its folder is 1000 mod 23 */

static struct channel c, send_side;
static struct channel_frame f;

/* Between the test and its writers. */
static struct shared {
	char steps[4000];
	size_t steps_len;
	char fail[80];		/* the step that fails with EIO */
} *shared;

/* --- steps ------------------------------------------------------------------------------------- */

static int
step(const char *what, const char *path)
{
	char s[200];
	int n = snprintf(s, sizeof s, "%s %s\n", what, path);

	if (shared->steps_len + (size_t)n < sizeof shared->steps)
		memcpy(shared->steps + shared->steps_len, s, (size_t)n);
	shared->steps_len += (size_t)n;
	if (!*shared->fail || strncmp(s, shared->fail, strlen(shared->fail)))
		return 0;
	errno = EIO;
	return -1;
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int
__wrap_rename(const char *from, const char *to)
{
	return step("rename", to) < 0 ? -1 : __real_rename(from, to);
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int
__wrap_unlink(const char *path)
{
	/* of files that are being made there may be one, or none */
	return strncmp(path, "queue/new/", 10) && step("unlink", path) < 0 ? -1 : __real_unlink(path);
}

static int receive_fails;	/* errno with which the keeper's reads fail, 0: they do not */

int __real_channel_receive(struct channel *from);
int __wrap_channel_receive(struct channel *from);
int
__wrap_channel_receive(struct channel *from)
{
	errno = receive_fails;
	return receive_fails ? -1 : __real_channel_receive(from);
}

static int reallocs_fail;

void *__real_realloc(void *old, size_t len);
void *__wrap_realloc(void *old, size_t len);
void *
__wrap_realloc(void *old, size_t len)
{
	errno = ENOMEM;
	return reallocs_fail ? NULL : __real_realloc(old, len);
}

static int
note_flush(int fd)
{
	char link[40], target[200], *queue;
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, target, sizeof target - 1);
	assert_true(n > 0);
	target[n] = '\0';
	queue = strstr(target, "queue/");
	return step("flush", queue ? queue : target);
}

static void
forget_steps(void)
{
	memset(shared, 0, sizeof *shared);
}

/* How often a step was taken. */
static int
taken(const char *s)
{
	int n = 0;

	for (const char *at = shared->steps; (at = strstr(at, s)); at++)
		n++;
	return n;
}

/* --- messages and jobs ------------------------------------------------------------------------------ */

static int
set_up(void **state)
{
	keeper_set_up(state);
	keeper_fsync = note_flush;
	forget_steps();
	keeper_connect(&c, &keeper.submit_listener);
	channel_init(&send_side, -1, 0);
	assert_int_equal(keeper.next_number, FIRST);
	return !writers_start(&keeper);
}

static int
tear_down(void **state)
{
	channel_free(&c);
	channel_free(&send_side);
	return keeper_tear_down(state);
}

/* A message in the ring. */
static struct message *
message(void)
{
	struct message *m;
	uint64_t number;

	keeper_submit(&c, 10);
	flush_turn(&keeper);
	assert_true(keeper_answered(&c, QUEUE_OK, &number));
	assert_true(ledger_find(&keeper.ledger, number, &m));
	return m;
}

/* Qmail-send, which has asked for the list and heard what there is. */
static void
connect_send(void)
{
	keeper_peer = keeper.qmails;
	keeper_connect(&send_side, &keeper.send_listener);
	keeper_say(&send_side, SEND_LIST, "", 0);
	keeper_events();
	notices_pump(&keeper);
	while (keeper_hears(&send_side, &f) > 0)
		;
}

static void
say_report(char type, uint64_t number, char result, const char *text)
{
	char s[40];

	uint64_pack_big(s, number);
	uint32_pack_big(s + 8, 0);
	s[12] = result;
	strcpy(s + 13, text);
	keeper_say(&send_side, type, s, type == SEND_DONE ? 13 + strlen(text) : 8);
	keeper_events();
}

/* The same, flushed and confirmed. */
static void
report(char type, uint64_t number, char result, const char *text)
{
	say_report(type, number, result, text);
	keeper.now_ms += OUTCOME_WAIT_MS;
	flush_turn(&keeper);
	notices_pump(&keeper);
	for (int heard; (heard = keeper_hears(&send_side, &f)) != NOTICE_CONFIRM; )	/* new messages come first */
		assert_true(heard > 0);
}

static unsigned int
running(void)
{
	return keeper.writers[0].jobs_len + keeper.writers[1].jobs_len;
}

/* Gives out what is wanted, and waits for it. */
static void
work(void)
{
	writers_turn(&keeper);
	while (running())
		keeper_event();
}

/* The same without what w has to do. */
static void
work_but(const struct writer *w)
{
	writers_turn(&keeper);
	while (running() > w->jobs_len)
		keeper_event();
}

/* The same until nothing is wanted any more. */
static void
work_it_off(void)
{
	do
		work();
	while (keeper.wanted_len);
}

static void
without_room_for_jobs(void)
{
	free(keeper.wanted);
	keeper.wanted = NULL;
	keeper.wanted_len = keeper.wanted_done = keeper.wanted_room = 0;
}

static int
exists(const char *kind, uint64_t number)
{
	char path[INFO_PATH_MAX];
	struct stat st;

	info_path(path, kind, number);
	return stat(path, &st) == 0;
}

static void
assert_moved(uint64_t number)
{
	stralloc got = STRALLOC_ZERO;
	struct message *m;

	assert_true(ledger_find(&keeper.ledger, number, &m));
	assert_null(m);
	assert_int_equal(reader_file_whole(number, &got, 1000), READER_OK);
	stralloc_free(&got);
}

/* --- order ----------------------------------------------------------------------------------------------- */

static void
a_move_puts_the_message_in_place_then_its_info(void **state)
{
	(void)state;
	writers_defer(&keeper, message());
	work();
	assert_string_equal(shared->steps,
	    "flush queue/new/mess.1000\n" "flush queue/new/info.1000\n" "rename queue/mess/11/1000\n" "flush queue/mess/11\n"
	    "rename queue/info/11/1000\n" "flush queue/info/11\n");
	assert_moved(FIRST);
}

static void
an_end_takes_the_info_away_then_the_message(void **state)
{
	(void)state;
	connect_send();
	writers_defer(&keeper, message());
	work();
	forget_steps();
	report(SEND_END, FIRST, 0, "");
	work();
	assert_string_equal(shared->steps, "unlink queue/info/11/1000\n" "flush queue/info/11\n" "unlink queue/mess/11/1000\n");
	assert_int_equal(keeper.ledger.used, 0);
	assert_false(exists("mess", FIRST));
}

static void
messages_of_a_folder_share_its_flush(void **state)
{
	(void)state;
	/* they go to the two writers in turn */
	for (int i = 0; i < 3; i++) {
		keeper.next_number = FIRST + QUEUE_SPLIT * (uint64_t)i + (i == 1);
		writers_defer(&keeper, message());
	}
	work();
	assert_int_equal(taken("rename queue/mess/11/"), 2);
	assert_int_equal(taken("flush queue/mess/11\n"), 1);
	assert_int_equal(taken("flush queue/info/11\n"), 1);
	assert_int_equal(taken("flush queue/info/12\n"), 1);
}

static void
a_writer_has_at_most_a_batch(void **state)
{
	(void)state;
	for (int i = 0; i < WRITERS * WRITER_BATCH + 1; i++)
		writers_defer(&keeper, message());
	writers_turn(&keeper);
	assert_int_equal(running(), WRITERS * WRITER_BATCH);
	while (running() == WRITERS * WRITER_BATCH)
		keeper_event();
	work_it_off();
	for (int i = 0; i < WRITERS * WRITER_BATCH + 1; i++)
		assert_moved(FIRST + (uint64_t)i);
}

/* --- what is in the files ------------------------------------------------------------------------------------ */

/* The outcomes of the info, "RECIPIENT RESULT TEXT;" each. */
static void
assert_info(uint64_t number, unsigned int tried, const char *want)
{
	stralloc file = STRALLOC_ZERO;
	char got[200] = "";
	struct info info;
	const char *at;

	assert_int_equal(info_read(&info, &file, number), 1);
	assert_int_equal(info.tried, tried);
	at = info.outcomes;
	for (uint32_t i = 0; i < info.outcomes_len; i++) {
		struct info_outcome o;
		size_t len = strlen(got);

		info_outcome_next(&o, &at);
		snprintf(got + len, sizeof got - len, "%u %c %.*s;", o.recipient, o.result, (int)o.text_len, o.text);
	}
	stralloc_free(&file);
	assert_string_equal(got, want);
}

static void
press(void)
{
	keeper.ring.tail_block = (keeper.ring.head + 1) % ring_blocks(&keeper.ring);	/* nearly full */
}

static void
what_became_of_a_message_goes_into_its_info(void **state)
{
	char s[8];
	struct message *m;

	(void)state;
	connect_send();
	message();
	report(SEND_DONE, FIRST, OUTCOME_FAILED, "why");
	uint64_pack_big(s, FIRST);
	keeper_say(&send_side, SEND_DEFERRED, s, sizeof s);
	keeper_events();
	work();
	assert_moved(FIRST);
	assert_info(FIRST, 1, "0 D why;");
	report(SEND_DONE, FIRST, OUTCOME_DONE, "");
	assert_true(ledger_find(&keeper.ledger, FIRST, &m));
	press();
	work();
	assert_moved(FIRST);
	assert_info(FIRST, 1, "0 D why;0 K ;");
	assert_int_equal(taken("rename queue/mess/11/1000"), 1);	/* only the info was made anew */
}

/* Qmail-send says so once, and each new one would take the message for a new one. */
static void
that_a_message_was_deferred_is_in_its_info_whenever_it_got_one(void **state)
{
	enum { BEFORE, MEANWHILE, WITHOUT_MEMORY, ROWS };
	char s[8];

	uint64_pack_big(s, FIRST);
	for (int when = BEFORE; when < ROWS; when++) {
		connect_send();
		message();
		press();
		writers_turn(&keeper);
		while (when != MEANWHILE && running())
			keeper_event();
		if (when == WITHOUT_MEMORY)
			without_room_for_jobs();
		reallocs_fail = when == WITHOUT_MEMORY;
		keeper_say(&send_side, SEND_DEFERRED, s, sizeof s);
		keeper_events();
		reallocs_fail = 0;
		work();
		keeper.now_ms += 1000 * JOB_RETRY;
		work_it_off();
		assert_moved(FIRST);
		assert_info(FIRST, 1, "");
		assert_int_equal(taken("rename queue/mess/11/1000"), 1);
		assert_int_equal(taken("rename queue/info/11/1000"), 2);
		tear_down(state);
		set_up(state);
	}
}

static void
a_ring_more_than_half_full_is_emptied_from_its_tail(void **state)
{
	uint32_t blocks = ring_blocks(&keeper.ring), block;

	(void)state;
	message();
	message();
	keeper.ring.head = (keeper.ring.tail_block + blocks / 2) % blocks;
	work();
	assert_int_equal(keeper.ledger.unmoved, 2);
	keeper.ring.head++;
	work();
	assert_int_equal(keeper.ledger.unmoved, 0);
	assert_int_equal(ledger_tail(&keeper.ledger, &block), 0);
	assert_moved(FIRST);
	assert_moved(FIRST + 1);
}

/* --- what happens meanwhile ------------------------------------------------------------------------------------- */

static void
an_end_overtakes_a_move(void **state)
{
	(void)state;
	connect_send();
	writers_defer(&keeper, message());
	report(SEND_END, FIRST, 0, "");
	work();
	assert_string_equal(shared->steps, "");
	assert_int_equal(keeper.ledger.used, 0);
}

static void
an_end_waits_for_the_move_that_runs(void **state)
{
	(void)state;
	connect_send();
	writers_defer(&keeper, message());
	writers_turn(&keeper);
	say_report(SEND_END, FIRST, 0, "");
	keeper.now_ms += OUTCOME_WAIT_MS;
	flush_turn(&keeper);
	assert_true(keeper.ledger.used == 1 || running() == 0);
	while (running())
		keeper_event();
	work_it_off();
	assert_int_equal(keeper.ledger.used, 0);
	assert_false(exists("info", FIRST) || exists("mess", FIRST));
}

/* --- steps that fail ------------------------------------------------------------------------------------------------ */

static void
a_step_of_a_move_that_fails_leaves_the_message_in_the_ring_and_is_tried_again(void **state)
{
	static const char *const steps[] = { "flush queue/new/mess.1000", "flush queue/new/info.1000", "rename queue/mess/11/1000",
		"flush queue/mess/11\n", "rename queue/info/11/1000", "flush queue/info/11\n" };

	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		struct message *m = message();

		strcpy(shared->fail, steps[i]);
		writers_defer(&keeper, m);
		work();
		assert_string_equal(keeper_said, "unable to write files of the queue, trying again; message");
		assert_true(keeper.disk_trouble);
		assert_true(ledger_find(&keeper.ledger, FIRST, &m));
		assert_non_null(m);
		assert_true(m->batch && m->files && !m->moved);
		assert_int_equal(exists("info", FIRST), i == 5);	/* else it could be taken for whole */
		keeper.now_ms += 1000 * JOB_RETRY - 1;
		forget_steps();
		work();
		assert_string_equal(shared->steps, "");
		keeper.now_ms++;
		work();
		assert_false(keeper.disk_trouble);
		assert_moved(FIRST);
		tear_down(state);
		set_up(state);
	}
}

static void
a_step_of_an_unlink_that_fails_is_tried_again(void **state)
{
	static const char *const steps[] = { "unlink queue/info/11/1000", "flush queue/info/11\n", "unlink queue/mess/11/1000" };

	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		uint32_t block;

		connect_send();
		writers_defer(&keeper, message());
		work();
		report(SEND_END, FIRST, 0, "");
		strcpy(shared->fail, steps[i]);
		work();
		assert_true(ledger_tail(&keeper.ledger, &block) > 0);	/* the end is still needed */
		assert_true(exists("mess", FIRST));
		forget_steps();
		keeper.now_ms += 1000 * JOB_RETRY;
		work();
		assert_int_equal(keeper.ledger.used, 0);
		assert_false(exists("info", FIRST) || exists("mess", FIRST));
		tear_down(state);
		set_up(state);
	}
}

static void
a_folder_whose_flush_fails_concerns_its_messages_alone(void **state)
{
	struct message *m;

	(void)state;
	strcpy(shared->fail, "flush queue/mess/12\n");
	for (int i = 0; i < 4; i++)
		writers_defer(&keeper, message());
	work();
	for (uint64_t n = FIRST; n < FIRST + 4; n++)
		if (n != FIRST + 1)
			assert_moved(n);
	assert_true(ledger_find(&keeper.ledger, FIRST + 1, &m));
	assert_true(m->batch);
}

/* A job that found no memory is not forgotten: an end whose files stay would hold the ring's tail for ever. */
static void
a_job_for_which_there_was_no_memory_is_found_later(void **state)
{
	struct message *left;
	uint32_t block;

	(void)state;
	connect_send();
	writers_defer(&keeper, message());
	work();
	left = ledger_message(&keeper.ledger, FIRST + 1);	/* as the child of a large message leaves it */
	left->files = left->known = left->ended = 1;
	without_room_for_jobs();
	say_report(SEND_END, FIRST, 0, "");
	keeper.now_ms += OUTCOME_WAIT_MS;
	reallocs_fail = 1;
	flush_turn(&keeper);
	writers_unlink(&keeper, left);
	reallocs_fail = 0;
	assert_string_equal(keeper_said, "no memory for a job; message");
	work();
	assert_int_equal(keeper.ledger.used, 2);
	keeper.now_ms += 1000 * JOB_RETRY;
	work_it_off();
	assert_int_equal(keeper.ledger.used, 0);
	assert_int_equal(ledger_tail(&keeper.ledger, &block), 0);
	assert_false(exists("info", FIRST) || exists("mess", FIRST));
}

/* --- damage ----------------------------------------------------------------------------------------------------------- */

/* What qmail-send is told of the message's place: its kind, -1 if nothing. */
static int
place_told(uint64_t number)
{
	struct queue_place place;
	uint64_t told;

	notices_pump(&keeper);
	if (keeper_hears(&send_side, &f) != NOTICE_PLACE)
		return -1;
	uint64_unpack_big(f.s, &told);
	assert_int_equal(told, number);
	assert_true(queue_place_unpack(&place, f.s + 8));
	return (int)place.kind;
}

static void
hear_all(void)
{
	notices_pump(&keeper);
	while (keeper_hears(&send_side, &f) > 0)
		;
}

static void
complain(uint64_t number)
{
	char s[8];

	uint64_pack_big(s, number);
	keeper_say(&send_side, SEND_DAMAGED, s, sizeof s);
	keeper_events();
}

static void
damage_record(const struct message *m)
{
	assert_int_equal(pwrite(keeper.ring.fd, "!", 1, (off_t)(m->place.offset + m->place.len - 1)), 1);
}

static void
a_record_that_is_damaged_is_set_aside(void **state)
{
	struct message *m;
	struct stat st;
	uint32_t len;

	/* whoever finds it: qmail-send, or a writer that was to move it */
	for (int by_move = 0; by_move < 2; by_move++) {
		connect_send();
		m = message();
		hear_all();
		len = m->place.len;
		damage_record(m);
		if (by_move)
			writers_defer(&keeper, m);
		else
			writers_verify(&keeper, m);
		work_it_off();
		assert_string_equal(keeper_said, "damaged, set aside in queue/damaged: message");
		assert_int_equal(stat("queue/damaged/1000.record", &st), 0);
		assert_int_equal(st.st_size, len);
		assert_int_equal(keeper.ledger.used, 0);
		assert_int_equal(place_told(FIRST), PLACE_NONE);
		assert_int_equal(taken("flush queue/damaged\n"), 1);
		tear_down(state);
		set_up(state);
	}
}

static void
files_that_are_damaged_are_set_aside(void **state)
{
	char path[INFO_PATH_MAX];
	struct stat st;

	(void)state;
	connect_send();
	writers_defer(&keeper, message());
	work();
	hear_all();
	info_path(path, "mess", FIRST);
	assert_int_equal(truncate(path, 3), 0);
	writers_verify(&keeper, ledger_message(&keeper.ledger, FIRST));
	work();
	assert_string_equal(keeper_said, "damaged, set aside in queue/damaged: message");
	assert_int_equal(stat("queue/damaged/1000.mess", &st), 0);
	assert_int_equal(stat("queue/damaged/1000.info", &st), 0);
	assert_false(exists("info", FIRST) || exists("mess", FIRST));
	assert_int_equal(keeper.ledger.used, 0);
	assert_int_equal(place_told(FIRST), PLACE_NONE);
}

static void
what_seemed_damaged_and_is_whole_stays(void **state)
{
	struct message *m;

	(void)state;
	connect_send();
	m = message();
	hear_all();
	writers_verify(&keeper, m);
	work();
	assert_int_equal(place_told(FIRST), PLACE_RING);
	writers_defer(&keeper, m);
	work();
	writers_verify(&keeper, ledger_message(&keeper.ledger, FIRST));
	work();
	assert_int_equal(place_told(FIRST), PLACE_FILE);
	assert_moved(FIRST);
}

/* Qmail-send does nothing with the message before it has an answer. */
static void
a_complaint_is_answered_after_the_job_that_runs(void **state)
{
	(void)state;
	connect_send();
	writers_defer(&keeper, message());
	hear_all();
	writers_turn(&keeper);
	assert_int_equal(running(), 1);
	complain(FIRST);
	while (running())
		keeper_event();
	assert_int_equal(place_told(FIRST), -1);
	work_it_off();
	assert_int_equal(place_told(FIRST), PLACE_FILE);
	assert_moved(FIRST);
	/* or after the one that was to run */
	writers_defer(&keeper, ledger_message(&keeper.ledger, FIRST));
	complain(FIRST);
	work_it_off();
	assert_int_equal(place_told(FIRST), PLACE_FILE);
	assert_moved(FIRST);
}

static void
a_complaint_does_not_wait_for_a_job_that_fails_again_and_again(void **state)
{
	(void)state;
	connect_send();
	writers_defer(&keeper, message());
	hear_all();
	strcpy(shared->fail, "flush queue/mess/11\n");
	complain(FIRST);
	work();
	assert_int_equal(place_told(FIRST), PLACE_RING);
	forget_steps();
	keeper.now_ms += 1000 * JOB_RETRY;
	work_it_off();
	assert_int_equal(place_told(FIRST), -1);
	assert_moved(FIRST);
}

static void
a_complaint_for_which_there_was_no_memory_is_answered_later(void **state)
{
	(void)state;
	connect_send();
	message();
	hear_all();
	without_room_for_jobs();
	reallocs_fail = 1;
	complain(FIRST);
	reallocs_fail = 0;
	keeper.now_ms += 1000 * JOB_RETRY;
	work_it_off();
	assert_int_equal(place_told(FIRST), PLACE_RING);
}

/* --- writers that die ------------------------------------------------------------------------------------------------ */

/* Until the keeper has seen that a writer died. */
static void
see_one_die(void)
{
	do {
		keeper_said[0] = '\0';
		keeper_event();
	} while (!strstr(keeper_said, "writer"));
}

static void
kill_writers(void)
{
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(kill(keeper.writers[i].pid, SIGKILL), 0);
	for (int i = 0; i < WRITERS; i++)
		see_one_die();
}

static void
what_a_killed_writer_was_at_is_done_by_another(void **state)
{
	(void)state;
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(kill(keeper.writers[i].pid, SIGSTOP), 0);
	for (int i = 0; i < 10; i++)
		writers_defer(&keeper, message());
	writers_turn(&keeper);
	assert_int_equal(running(), 10);
	kill_writers();
	assert_int_equal(running(), 0);
	assert_int_equal(keeper.wanted_len, 10);
	keeper.now_ms += 1000;
	work_it_off();
	for (uint64_t n = FIRST; n < FIRST + 10; n++)
		assert_moved(n);
}

/* It ends, as one that waited for the rest of its jobs would wait for ever. */
static void
what_cannot_be_said_to_a_writer_is_done_by_another(void **state)
{
	struct writer *w = &keeper.writers[0];

	(void)state;
	writers_defer(&keeper, message());
	unsendable = w->channel.fd;
	unsendable_times = -1;
	writers_turn(&keeper);
	unsendable = -1;
	assert_int_equal(w->jobs_len, 1);
	see_one_die();
	assert_int_equal(w->jobs_len, 0);
	keeper.now_ms += 1000;
	work_it_off();
	assert_moved(FIRST);
}

/* It may still be at work, and two must not be at one message. */
static void
the_jobs_of_a_writer_that_cannot_be_heard_wait_for_its_end(void **state)
{
	struct writer *w = &keeper.writers[0];

	(void)state;
	assert_int_equal(kill(w->pid, SIGSTOP), 0);
	writers_defer(&keeper, message());
	writers_turn(&keeper);
	assert_int_equal(w->jobs_len, 1);
	receive_fails = ENOMEM;
	w->source.ready(&keeper, &w->source, EPOLLIN);
	receive_fails = 0;
	for (int i = 0; i < 2; i++) {
		keeper.now_ms += 60000;
		writers_defer(&keeper, message());
		work_but(w);
		assert_moved(FIRST + 1 + (uint64_t)i);	/* by the other one */
		assert_int_equal(w->jobs_len, 1);
		assert_false(exists("info", FIRST));
	}
	assert_int_equal(kill(w->pid, SIGCONT), 0);
	see_one_die();
	assert_int_equal(w->jobs_len, 0);
	keeper.now_ms += 1000;
	work_it_off();
	assert_moved(FIRST);
	assert_true(w->pid > 0);
}

static void
a_writer_that_could_not_be_started_is_started_later(void **state)
{
	(void)state;
	kill_writers();
	keeper_forks_fail = 1;
	writers_defer(&keeper, message());
	keeper.now_ms += 1000;
	writers_turn(&keeper);
	assert_string_equal(keeper_said, "unable to start a writer");
	assert_int_equal(running(), 0);	/* nobody is there to do it */
	assert_int_equal(keeper.wanted_len, 1);
	keeper_forks_fail = 0;
	keeper.now_ms += 1000 * JOB_RETRY;
	work_it_off();
	assert_moved(FIRST);
	assert_true(keeper.writers[0].pid > 0 && keeper.writers[1].pid > 0);
}

/* --- files ------------------------------------------------------------------------------------------------------------- */

static int
io_error(int fd)
{
	(void)fd;
	errno = EIO;
	return -1;
}

static void
a_file_is_made_anew_or_not_at_all(void **state)
{
	struct rlimit old, low;
	struct stat before, after;

	(void)state;
	assert_int_equal(writer_make_file("file", "octets", 6), 1);
	assert_int_equal(stat("file", &before), 0);
	assert_int_equal(link("file", "held"), 0);
	assert_int_equal(writer_make_file("file", "octet", 5), 1);
	assert_int_equal(stat("file", &after), 0);
	assert_int_equal(after.st_size, 5);
	assert_true(before.st_ino != after.st_ino);	/* never the old file again */
	keeper_fsync = io_error;
	errno = 0;
	assert_int_equal(writer_make_file("file", "octets", 6), 0);
	assert_int_equal(errno, EIO);
	assert_int_equal(stat("file", &after), -1);
	keeper_fsync = NULL;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = (struct rlimit){ .rlim_cur = 4, .rlim_max = old.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	errno = 0;
	assert_int_equal(writer_make_file("file", "octets", 6), 0);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(stat("file", &after), -1);
	assert_int_equal(writer_make_file("nowhere/file", "octets", 6), 0);
	assert_int_equal(errno, ENOENT);
}

static void
a_folder_is_flushed_or_errno_says_why_not(void **state)
{
	(void)state;
	keeper_fsync = NULL;
	assert_int_equal(writer_sync_dir("queue"), 1);
	assert_int_equal(writer_sync_dir("nowhere"), 0);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(writer_make_file("file", "", 0), 1);
	assert_int_equal(writer_sync_dir("file"), 0);
	assert_int_equal(errno, ENOTDIR);
	keeper_fsync = io_error;
	assert_int_equal(writer_sync_dir("queue"), 0);
	assert_int_equal(errno, EIO);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_move_puts_the_message_in_place_then_its_info), TEST(an_end_takes_the_info_away_then_the_message),
		TEST(messages_of_a_folder_share_its_flush), TEST(a_writer_has_at_most_a_batch), TEST(what_became_of_a_message_goes_into_its_info),
		TEST(that_a_message_was_deferred_is_in_its_info_whenever_it_got_one),
		TEST(a_ring_more_than_half_full_is_emptied_from_its_tail), TEST(an_end_overtakes_a_move), TEST(an_end_waits_for_the_move_that_runs),
		TEST(a_step_of_a_move_that_fails_leaves_the_message_in_the_ring_and_is_tried_again),
		TEST(a_step_of_an_unlink_that_fails_is_tried_again), TEST(a_folder_whose_flush_fails_concerns_its_messages_alone),
		TEST(a_job_for_which_there_was_no_memory_is_found_later), TEST(a_record_that_is_damaged_is_set_aside),
		TEST(files_that_are_damaged_are_set_aside),
		TEST(what_seemed_damaged_and_is_whole_stays), TEST(a_complaint_is_answered_after_the_job_that_runs),
		TEST(a_complaint_does_not_wait_for_a_job_that_fails_again_and_again),
		TEST(a_complaint_for_which_there_was_no_memory_is_answered_later), TEST(what_a_killed_writer_was_at_is_done_by_another),
		TEST(what_cannot_be_said_to_a_writer_is_done_by_another),
		TEST(the_jobs_of_a_writer_that_cannot_be_heard_wait_for_its_end),
		TEST(a_writer_that_could_not_be_started_is_started_later), TEST(a_file_is_made_anew_or_not_at_all),
		TEST(a_folder_is_flushed_or_errno_says_why_not),
	};

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return shared == MAP_FAILED ? 1 : cmocka_run_group_tests_name("writers", tests, NULL, NULL);
}
