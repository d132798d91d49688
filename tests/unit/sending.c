#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "bin-src/send/bouncer.h"
#include "bin-src/send/delivery.h"
#include "bin-src/send/keeper.h"
#include "bin-src/send/octets.h"
#include "bin-src/send/pass.h"
#include "bin-src/send/worker.h"
#include "directory.h"
#include "sending.h"
#include "stored.h"

enum { TESTS_MAX = 100, NOW = 1700000000, CLOCK = 1000000000 };

struct send *sending;
struct channel sending_keeper, sending_spawners[ROUTE_CHANNELS];
const char sending_octets[SENDING_OCTETS + 1] = "Subject: x\n\nbody\n";

/* qmail-send never frees what it has at its end: it stays reachable, so that only what a module lost is a leak. */
static struct send *all[TESTS_MAX];
static unsigned int begun;
static int listener;

/* --- fixtures ---------------------------------------------------------------------------- */

int
sending_home(void **state)
{
	if (directory_make(state))
		return -1;
	stored_folders();
	directory_write("control/me", "here.example\n");
	return 0;
}

static void
listen_as_keeper(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = QUEUE_SEND_SOCKET };

	unlink(QUEUE_SEND_SOCKET);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(listener, 8), 0);
}

static void
begin_spawner(enum route_channel which)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	channel_init(&sending_spawners[which], ends[0], QUEUE_FRAME_MAX);
	assert_int_equal(spawner_init(sending, which, ends[1]), 1);
}

int
sending_begin(void **state)
{
	struct send *s = calloc(1, sizeof *s);

	(void)state;
	assert_true(s && begun < TESTS_MAX);
	sending = all[begun++] = s;
	s->now = NOW;
	s->clock = CLOCK;
	s->lifetime = 604800;
	queue_client_open_keeper(&s->bouncer.client, -1);
	s->bouncer.batch = BOUNCER_BATCH;
	assert_true(log_init(&s->log, open("log", O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600)));
	assert_true(loop_init(&s->loop, s) && destinations_init(&s->destinations) && owners_init(&s->owners));
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++) {
		s->destinations.channels[c].limit = 20;
		s->destinations.channels[c].per_destination = c == ROUTE_LOCAL ? DESTINATION_LOCAL : DESTINATION_REMOTE;
	}
	heap_init(&s->due, offsetof(struct message, heap_at));
	assert_null(route_load(&s->rules));
	assert_null(bounce_load(&s->bouncer.settings));
	octets_init(s);
	keeper_init(s);
	listen_as_keeper();
	channel_init(&sending_keeper, -1, 0);
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
		begin_spawner(c);
	return 0;
}

int
sending_end(void **state)
{
	struct send *s = sending;

	(void)state;
	bouncer_kill(s);
	channel_free(&sending_keeper);
	channel_free(&s->keeper.channel);
	close(listener);
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++) {
		channel_free(&sending_spawners[c]);
		channel_free(&s->spawners[c].channel);
	}
	reader_close(&s->octets.reader);
	close(s->loop.fd);
	close(s->log.fd);
	return 0;
}

/* --- turns and frames ----------------------------------------------------------------------- */

void
sending_turn(void)
{
	struct send *s = sending;

	pass_run(s);
	octets_check(s);
	destinations_tick(&s->destinations, s->clock);
	delivery_assign(s);
	bouncer_run(s);
	keeper_tick(s);
	worker_tick(s);
	worker_flush(s);
	keeper_flush(s);
	log_flush(&s->log);
	assert_int_equal(loop_wait(&s->loop, 0), 1);
}

void
sending_turns(size_t octets)
{
	for (size_t read = 0; read <= octets + CHANNEL_READ; read += CHANNEL_READ)
		sending_turn();
}

void
sending_later(int64_t ms)
{
	sending->clock += ms;
	sending->now += ms / 1000;
}

int
sending_heard(struct channel *c, struct channel_frame *f)
{
	int r;

	while ((r = channel_next(c, f)) == 0)
		if ((r = channel_receive(c)) <= 0)
			return r;
	return r;
}

struct channel_frame
sending_expect(struct channel *c, char type)
{
	struct channel_frame f;

	assert_int_equal(sending_heard(c, &f), 1);
	assert_int_equal(f.type, type);
	return f;
}

void
sending_expect_nothing(struct channel *c)
{
	struct channel_frame f;

	assert_int_equal(sending_heard(c, &f), 0);
}

void
sending_say(struct channel *c, char type, const void *s, size_t len)
{
	assert_int_equal(channel_put1(c, type, s, len), 1);
	assert_int_equal(channel_flush(c), 1);
}

/* --- the keeper ------------------------------------------------------------------------------- */

void
sending_accept(void)
{
	int fd;

	keeper_tick(sending);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(fd >= 0);
	channel_free(&sending_keeper);
	channel_init(&sending_keeper, fd, QUEUE_FRAME_MAX);
}

void
sending_connect(void)
{
	char tried[8];

	sending_accept();
	uint64_pack_big(tried, (uint64_t)sending->now);
	sending_say(&sending_keeper, NOTICE_HELLO, tried, sizeof tried);
	sending_turn();
	keeper_flush(sending);
	sending_expect(&sending_keeper, SEND_LIST);
	sending_say(&sending_keeper, NOTICE_ALL, "", 0);
	sending_turn();
}

const char *
sending_expect_outcome(uint64_t number, uint32_t index, char result)
{
	static char text[QUEUE_FRAME_MAX + 1];
	struct channel_frame f = sending_expect(&sending_keeper, SEND_DONE);
	uint64_t n;
	uint32_t i;

	assert_true(f.len >= 13);
	uint64_unpack_big(f.s, &n);
	uint32_unpack_big(f.s + 8, &i);
	assert_int_equal(n, number);
	assert_int_equal(i, index);
	assert_int_equal(f.s[12], result);
	memcpy(text, f.s + 13, f.len - 13);
	text[f.len - 13] = '\0';
	return text;
}

void
sending_expect_about(char type, uint64_t number)
{
	struct channel_frame f = sending_expect(&sending_keeper, type);
	uint64_t n;

	assert_true(f.len >= 8);
	uint64_unpack_big(f.s, &n);
	assert_int_equal(n, number);
}

void
sending_confirm(uint64_t number, uint32_t index)
{
	char s[12];

	uint64_pack_big(s, number);
	uint32_pack_big(s + 8, index);
	sending_say(&sending_keeper, NOTICE_CONFIRM, s, sizeof s);
}

/* --- messages ------------------------------------------------------------------------------------ */

static struct message_draft draft;
static uint32_t drafted;

void
sending_draft(uint64_t number, const char *sender)
{
	struct queue_notice n = { .number = number, .birth = (uint64_t)sending->now, .size = SENDING_OCTETS,
		.place = { .kind = PLACE_FILE }, .sender = sender };

	stored_in_files(number, sending_octets, sending_octets, SENDING_OCTETS);
	assert_int_equal(message_draft_notice(&draft, &n), 1);
	drafted = 0;
}

void
sending_recipient(const char *address, const char *parameters)
{
	struct message_draft_recipient r = { .index = drafted++, .address = address, .parameters = parameters };

	assert_int_equal(message_draft_recipient(&draft, &r), 1);
}

struct message *
sending_new(void)
{
	struct queue_notice n = draft.notice;
	struct message *m;

	n.recipients = drafted;
	assert_true(heap_reserve(&sending->due, sending->messages.count + 1));
	m = message_new(&sending->messages, &draft);
	assert_non_null(m);
	message_draft_free(&draft);
	pass_new(sending, m, &n);
	return m;
}

struct message *
sending_message(uint64_t number, const char *sender, ...)
{
	const char *address;
	va_list addresses;

	sending_draft(number, sender);
	va_start(addresses, sender);
	while ((address = va_arg(addresses, const char *)))
		sending_recipient(address, NULL);
	va_end(addresses);
	return sending_new();
}

void
sending_attempt(void)
{
	struct destinations *d = &sending->destinations;

	while (pass_run(sending))
		;
	while (recipient_list_take(&sending->unasked))
		;
	for (uint32_t i = 0; i <= d->mask; i++)
		for (struct destination *one = d->slots[i]; one; one = one->hash_next)
			while (destination_take(one))
				;
}

/* --- spawners and workers --------------------------------------------------------------------------- */

/* What qmail-lspawn says of the local part that the request f asks about, after its id. */
static size_t
facts(char *s, const struct channel_frame *f)
{
	size_t len = f->len - 4, user = 0, n = 4;

	memcpy(s, f->s, 4);
	while (user < len && f->s[4 + user] != '-')
		user++;
	memcpy(s + n, f->s + 4, user);
	n += user;
	memcpy(s + n, "\0001000\0001000\000/home/x", sizeof "\0001000\0001000\000/home/x");
	n += sizeof "\0001000\0001000\000/home/x";
	if (user < len)
		s[n++] = '-';
	s[n++] = '\0';
	if (user < len)
		memcpy(s + n, f->s + 4 + user + 1, len - user - 1);
	n += user < len ? len - user - 1 : 0;
	s[n++] = '\0';
	return n;
}

void
sending_answer_who(void)
{
	struct channel *spawner = &sending_spawners[ROUTE_LOCAL];
	struct channel_frame f = sending_expect(spawner, SPAWN_WHO);
	static char s[2 * QUEUE_FRAME_MAX];
	size_t len = facts(s, &f);

	sending_say(spawner, SPAWN_OK, s, len);
}

void
sending_start(enum route_channel channel, struct channel *worker)
{
	struct channel *spawner = &sending_spawners[channel];
	struct channel_frame f = sending_expect(spawner, SPAWN_START);
	static char s[2 * QUEUE_FRAME_MAX];
	size_t len = facts(s, &f);
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	channel_init(worker, ends[0], JOB_FRAME_MAX);
	assert_int_equal(channel_put_fd(spawner, SPAWN_OK, s, channel == ROUTE_LOCAL ? len : 4, ends[1]), 1);
	assert_int_equal(channel_flush(spawner), 1);
	sending_turn();
}

struct job
sending_job(struct channel *worker)
{
	struct channel_frame f;
	struct job job;

	assert_int_equal(sending_heard(worker, &f), 1);
	assert_int_equal(job_parse(&job, worker, &f), 1);
	return job;
}

void
sending_answer(struct channel *worker, uint32_t id, uint32_t recipient, char letter, const char *text)
{
	assert_int_equal(job_answer(worker, id, recipient, letter, text, strlen(text)), 1);
	assert_int_equal(channel_flush(worker), 1);
}

/* --- what is left ------------------------------------------------------------------------------------- */

unsigned int
sending_logged(const char *text)
{
	struct stat st;
	unsigned int count = 0;
	char *s;

	assert_int_equal(log_flush(&sending->log), 1);
	assert_int_equal(fstat(sending->log.fd, &st), 0);
	s = test_malloc((size_t)st.st_size + 1);
	assert_int_equal(pread(sending->log.fd, s, (size_t)st.st_size, 0), st.st_size);
	s[st.st_size] = '\0';
	for (const char *at = s; (at = strstr(at, text)); at += strlen(text))
		count++;
	test_free(s);
	return count;
}

unsigned int
sending_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}
