/* What our services answer, as their clients hear it, given any octets. The first octet of an input says who asks (enum asker), and then
 * come pieces, each after its length of two octets: packets of a service; or of the keeper of the queue what it says on one connection.
 * What is believed was said, in the form of the header that defines it. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <skalibs/uint32.h>
#include <skalibs/uint64.h>
#include "bin-src/queue/listing.h"
#include "bin-src/remote/sts_client.h"
#include "bin-src/smtpd/rcptcheck.h"
#include "given.h"
#include "key_client.h"
#include "login_client.h"
#include "queue/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);
int __real_poll(struct pollfd *p, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);
int __wrap_service_socket_connect(int home, const char *path, unsigned int wait_ms);

enum asker { RCPTCHECK = 'r', LOGIN = 'l', CHAIN = 'c', PAIR = 'p', SIGNATURE = 's', STS = 't', QUEUE = 'q', LISTING = 'i' };
enum { PACKETS_MAX = 20 };

/* --- a service ----------------------------------------------------------------------------------------- */

static struct { struct given rest; int end; } service = { .end = -1 };

static void
say(struct given s)
{
	if (s.len)
		assert(send(service.end, s.s, s.len, MSG_NOSIGNAL) == (ssize_t)s.len);
}

static void
hang_up(void)
{
	if (service.end >= 0)
		close(service.end);
	service.end = -1;
}

/* All that it will say is there at once, and then its end. */
int
__wrap_service_socket_connect(int home, const char *path, unsigned int wait_ms)
{
	struct given g = service.rest;
	int pair[2];

	assert(home == -1 && *path && wait_ms);
	hang_up();
	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	service.end = pair[1];
	for (int i = 0; i < PACKETS_MAX && g.len; i++)
		say(given_piece(&g, given_number(&g, 2)));
	assert(shutdown(pair[1], SHUT_WR) == 0);
	return pair[0];
}

/* The keeper of the queue: a piece is a connection. */
int
__wrap_connect(int fd, const struct sockaddr *address, socklen_t len)
{
	int pair[2];

	assert(address->sa_family == AF_UNIX && len);
	hang_up();
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	assert(dup2(pair[0], fd) == fd);
	close(pair[0]);
	service.end = pair[1];
	say(given_piece(&service.rest, given_number(&service.rest, 2)));
	assert(shutdown(pair[1], SHUT_WR) == 0);
	return 0;
}

/* Nobody waits for what does not come. */
int
__wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	return p ? __real_poll(p, n, timeout < 10 ? timeout : 10) : 0;
}

/* The first packet that is not empty: what comes behind it is not read. 0: there is none. */
static struct given
first_packet(struct given g)
{
	struct given packet = { (const unsigned char *)"", 0 };

	for (int i = 0; i < PACKETS_MAX && g.len && !packet.len; i++)
		packet = given_piece(&g, given_number(&g, 2));
	return packet;
}

static void
check_printable(const char *s)
{
	for (; *s; s++)
		assert(*s >= ' ' && *s <= '~');
}

/* --- who asks ------------------------------------------------------------------------------------------- */

/* Anything but "cannot know" is a packet with the number of the question; the numbers begin with 1, and another one is passed over. */
static void
ask_rcptd(void)
{
	struct rcptcheck r;
	struct given g = service.rest;
	enum rcpt_answer answer, want = RCPT_CANNOT_KNOW;

	for (int i = 0; i < PACKETS_MAX && g.len; i++) {
		struct given packet = given_piece(&g, given_number(&g, 2));

		if (!packet.len)
			continue;
		if (packet.len < 5 || packet.len > 5 + RCPTCHECK_TEXT_MAX || !strchr("KU?RT", packet.s[4]) || !packet.s[4])
			break;
		if (memcmp(packet.s, "\0\0\0\1", 4) == 0) {
			want = (enum rcpt_answer)packet.s[4];
			break;
		}
	}
	rcptcheck_init(&r, -1);
	r.has_said = 1;
	answer = rcptcheck_ask(&r, "a@x.test", 8);
	assert(answer == want && *r.text && strlen(r.text) <= RCPTCHECK_TEXT_MAX);
	check_printable(r.text);
	rcptcheck_close(&r);
}

static void
ask_authd(void)
{
	static struct login_client c;
	struct given packet = first_packet(service.rest);
	enum login_client_answer answer = login_client_session(&c, -1, -1, "login", "secret", "");

	if (answer == LOGIN_CLIENT_RIGHT) {
		assert(packet.s[0] == LOGIN_IS_RIGHT && packet.len > 1 && strlen(c.account) == packet.len - 1 && c.control >= 0);
		assert(memcmp(c.account, packet.s + 1, packet.len - 1) == 0);
		for (const char *s = c.account; *s; s++)
			assert((unsigned char)*s > ' ' && *s != 127);
		login_client_await_end(&c);
	} else if (answer == LOGIN_CLIENT_WRONG)
		assert(packet.len && packet.s[0] == LOGIN_IS_WRONG);
	else
		check_printable(c.text);
	assert(c.control < 0);
}

static void
ask_keyd(enum asker asker)
{
	static struct key_client k;
	static const unsigned char octets[KEY_HASH_MAX];
	unsigned char signature[KEY_SIGNATURE_MAX];
	const unsigned char *chain;
	struct given packet = first_packet(service.rest);
	size_t n;

	assert(key_client_connect(&k));
	if (asker == SIGNATURE) {
		n = key_client_sign(&k, KEY_ALGORITHM_RSA, octets, sizeof octets, signature);
		assert(n <= sizeof signature);
		assert(!n || (packet.s[0] == 'S' && packet.len == 1 + n && memcmp(signature, packet.s + 1, n) == 0));
	} else {
		chain = asker == CHAIN ? key_client_chain(&k, KEY_RSA | KEY_P256, "x.test") : key_client_pair(&k, "name");
		assert(!chain || (packet.s[0] == (asker == CHAIN ? 'C' : 'P') && packet.len == 6 + k.chain_len && k.chain_len));
		assert(!chain || memcmp(chain, packet.s + 6, k.chain_len) == 0);
	}
	key_client_close(&k);
}

static void
ask_mtastsd(void)
{
	struct sts_policy policy, again;
	struct given packet = first_packet(service.rest);
	enum sts_answer answer = sts_client_ask(sts_client_connect(), "x.test", "id", &policy);

	if (answer == STS_POLICY)
		assert(packet.s[0] == 'P' && !sts_policy_parse(&again, (const char *)packet.s + 1, packet.len - 1) &&
		    again.len == policy.len && again.mode == policy.mode && again.max_age == policy.max_age);
	else
		assert(answer != STS_NO_POLICY || (packet.len == 1 && packet.s[0] == 'N'));
}

/* --- who asks the keeper of the queue ----------------------------------------------------------------------- */

/* Whether a connection has begun with this answer. */
static int
was_said(struct given g, const struct queue_result *result)
{
	char want[CHANNEL_HEADER + 17] = { 0, 0, 0, 17, SUBMIT_RESULT, (char)result->code };

	uint64_pack_big(want + CHANNEL_HEADER + 1, result->number);
	uint64_pack_big(want + CHANNEL_HEADER + 9, result->time);
	while (g.len) {
		struct given said = given_piece(&g, given_number(&g, 2));

		if (said.len >= sizeof want && memcmp(said.s, want, sizeof want) == 0)
			return 1;
	}
	return 0;
}

/* A message is in the queue if the keeper says so, and never otherwise. */
static void
submit(void)
{
	static struct queue_client q;
	struct given said = service.rest;
	struct queue_result result;

	queue_client_open_keeper(&q, -1);
	for (int i = 0; i < 2; i++) {
		queue_client_begin(&q);
		queue_client_message(&q, "x\n", 2);
		queue_client_sender(&q, "s@x.test", 8);
		queue_client_recipient(&q, "r@x.test", 8);
		queue_client_end(&q, 1, &result);
		assert(result.code <= 255 && (result.code == 0 || *result.text));
		assert(result.permanent == queue_exit_is_permanent(result.code));
		assert(result.code || was_said(said, &result));
	}
	queue_client_close(&q);
}

/* Recipients are of a message, and strings in their frame. */
static void
list(void)
{
	struct listing l;
	struct listing_item item;
	enum listing_kind kind;
	int is_in_message = 0;

	assert(listing_open(&l));
	while ((kind = listing_next(&l, &item)) != LISTING_TROUBLE && kind != LISTING_ALL) {
		assert(is_in_message == (kind != LISTING_MESSAGE));
		is_in_message = kind != LISTING_OVER;
		if (kind != LISTING_RECIPIENT)
			continue;
		assert(strchr("TKD", item.recipient.state) && item.recipient.state);
		assert(item.recipient.address + strlen(item.recipient.address) < l.end);
		assert(!*item.recipient.text || item.recipient.text + strlen(item.recipient.text) < l.end);
	}
	assert(kind != LISTING_ALL || !is_in_message);
	listing_close(&l);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	enum asker asker = (enum asker)given_number(&g, 1);

	service.rest = g;
	switch (asker) {
	case RCPTCHECK: ask_rcptd(); break;
	case LOGIN: ask_authd(); break;
	case CHAIN: case PAIR: case SIGNATURE: ask_keyd(asker); break;
	case STS: ask_mtastsd(); break;
	case QUEUE: submit(); break;
	case LISTING: list(); break;
	}
	hang_up();
	return 0;
}
