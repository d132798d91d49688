/* What a server that asks for a certificate is shown, and the signature that goes with it. This test is qmail-keyd, and BearSSL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bin-src/remote/client_certificate.h"

#define CHAIN "\0\0\2ab\0\0\1c"
#define OCTETS(s) s, sizeof s - 1

static struct client_certificate c;
static br_ssl_client_context context;
static int keyd;

static int
set_up(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	client_certificate_init(&c);
	c.key.fd = fd[0];
	keyd = fd[1];
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	key_client_close(&c.key);
	close(keyd);
	return 0;
}

static void
answers(const char *s, size_t len)
{
	assert_int_equal(send(keyd, s, len, 0), len);
}

static void
was_asked(const char *s, size_t len)
{
	char question[1000];

	assert_int_equal(recv(keyd, question, sizeof question, 0), len);
	assert_memory_equal(question, s, len);
}

/* kind: of the key. */
static void
take(char kind)
{
	char answer[] = "P\0\0\0\0\5" CHAIN;

	answer[1] = kind;
	answers(answer, sizeof answer - 1);
	assert_int_equal(client_certificate_take(&c, "name"), 1);
	was_asked(OCTETS("Pname"));
	client_certificate_set(&c, &context);
}

/* --- taking it ----------------------------------------------------------------------------------------------------- */

static void
the_chain_is_asked_for_once(void **state)
{
	(void)state;
	take(KEY_RSA);
	assert_int_equal(c.chain_len, 2);
	assert_memory_equal(c.chain[0].data, "ab", 2);
	assert_int_equal(c.chain[1].data_len, 1);
	assert_int_equal(client_certificate_take(&c, "name"), 1);
	answers(OCTETS("N"));
	assert_int_equal(client_certificate_take(&c, "other"), 0);
	was_asked(OCTETS("Pother"));
	take(KEY_RSA);
}

static const struct broken { const char *rule, *answer; size_t len; } broken[] = {
	{ "an end", "", 0 },
	{ "nonsense", OCTETS("X") },
	{ "an answer to something else", OCTETS("C\1\0\0\0\0" CHAIN) },
	{ "no kind of key", OCTETS("P\0\0\0\0\0" CHAIN) },
	{ "no chain", OCTETS("P\1\0\0\0\0") },
	{ "a certificate that is cut", OCTETS("P\1\0\0\0\0" "\0\0\2a") },
	{ "an octet too many", OCTETS("P\1\0\0\0\0" CHAIN "x") },
	{ "too many certificates", OCTETS("P\1\0\0\0\0" "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0") },
};
enum { BROKEN = sizeof broken / sizeof *broken };

static void
a_qmail_keyd_that_makes_no_sense_is_left(void **state)
{
	const struct broken *row = *state;

	if (row->len)
		answers(row->answer, row->len);
	else
		shutdown(keyd, SHUT_RDWR);
	assert_int_equal(client_certificate_take(&c, "name"), -1);
	assert_int_equal(c.key.fd, -1);
	assert_int_equal(client_certificate_take(&c, "name"), -1);
}

static void
a_name_that_no_question_holds(void **state)
{
	char name[KEY_NAME_MAX + 2];

	(void)state;
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	assert_int_equal(client_certificate_take(&c, name), 0);
	assert_true(c.key.fd >= 0);
}

/* --- showing it ---------------------------------------------------------------------------------------------------- */

#define RSA(hash) (1u << (hash))
#define ECDSA(hash) (1u << (8 + (hash)))
enum { MD5 = 1, SHA1 = 2, SHA224 = 3 };

/* hash: what is signed; 0: the certificate is empty. */
static const struct choice { const char *rule; char kind; uint32_t takes; int type, hash; } choices[] = {
	{ "RSA", KEY_RSA, RSA(KEY_SHA256) | RSA(KEY_SHA384) | ECDSA(KEY_SHA256), BR_AUTH_RSA, KEY_SHA256 },
	{ "ECDSA", KEY_P256, RSA(KEY_SHA256) | ECDSA(KEY_SHA256), BR_AUTH_ECDSA, KEY_SHA256 },
	{ "P-384", KEY_P384, ECDSA(KEY_SHA384), BR_AUTH_ECDSA, KEY_SHA384 },
	{ "P-521", KEY_P521, ECDSA(KEY_SHA512) | ECDSA(SHA1), BR_AUTH_ECDSA, KEY_SHA512 },
	{ "RSA and SHA-512", KEY_RSA, RSA(KEY_SHA512), BR_AUTH_RSA, KEY_SHA512 },
	{ "RSA, and the server takes ECDSA", KEY_RSA, ECDSA(KEY_SHA256), 0, 0 },
	{ "ECDSA, and the server takes RSA", KEY_P256, RSA(KEY_SHA256) | RSA(KEY_SHA384) | RSA(KEY_SHA512), 0, 0 },
	{ "weak hashes", KEY_RSA, RSA(MD5) | RSA(SHA1) | RSA(SHA224), 0, 0 },
	{ "weak hashes of ECDSA", KEY_P256, ECDSA(SHA1) | ECDSA(SHA224), 0, 0 },
	{ "static ECDH", KEY_P256, 3u << 16, 0, 0 },
	{ "nothing", KEY_RSA, 0, 0, 0 },
};
enum { CHOICES = sizeof choices / sizeof *choices };

static void
choice_is_right(void **state)
{
	const struct choice *row = *state;
	br_ssl_client_certificate chosen = { .chain_len = 9 };

	take(row->kind);
	c.class->choose(&c.class, &context, row->takes, &chosen);
	if (!row->hash) {
		assert_null(chosen.chain);
		assert_int_equal(chosen.chain_len, 0);
		return;
	}
	assert_int_equal(chosen.auth_type, row->type);
	assert_int_equal(chosen.hash_id, row->hash);
	assert_ptr_equal(chosen.chain, c.chain);
	assert_int_equal(chosen.chain_len, 2);
}

static const struct signed_row { const char *rule; char kind; int hash; size_t hash_len; const char *head; } signed_rows[] = {
	{ "RSA", KEY_RSA, KEY_SHA256, 32, "H\0\0\0\5\4\1" },
	{ "ECDSA", KEY_P384, KEY_SHA384, 48, "H\0\0\0\5\5\3" },
	{ "SHA-512", KEY_P521, KEY_SHA512, 64, "H\0\0\0\5\6\3" },
};
enum { SIGNED = sizeof signed_rows / sizeof *signed_rows };

static void
the_hash_is_signed(void **state)
{
	const struct signed_row *row = *state;
	unsigned char data[512];
	char question[7 + 64];

	take(row->kind);
	memset(data, 'h', sizeof data);
	memcpy(question, row->head, 7);
	memset(question + 7, 'h', row->hash_len);
	answers(OCTETS("Hsignature"));
	assert_int_equal(c.class->do_sign(&c.class, row->hash, row->hash_len, data, sizeof data), 9);
	assert_memory_equal(data, "signature", 9);
	was_asked(question, 7 + row->hash_len);
	assert_null(c.trouble);
}

static const struct unsigned_row { const char *rule, *answer; size_t len; const char *trouble; } unsigned_rows[] = {
	{ "a refusal", OCTETS("N"), "qmail-keyd did not sign" },
	{ "nonsense", OCTETS("Sx"), "qmail-keyd does not answer" },
	{ "an empty signature", OCTETS("H"), "qmail-keyd does not answer" },
	{ "an end", "", 0, "qmail-keyd does not answer" },
};
enum { UNSIGNED = sizeof unsigned_rows / sizeof *unsigned_rows };

/* The handshake fails then, and the next one does without. */
static void
no_signature(void **state)
{
	const struct unsigned_row *row = *state;
	unsigned char data[512] = { 0 };

	take(KEY_RSA);
	if (row->len)
		answers(row->answer, row->len);
	else
		shutdown(keyd, SHUT_RDWR);
	assert_int_equal(c.class->do_sign(&c.class, KEY_SHA256, 32, data, sizeof data), 0);
	assert_string_equal(c.trouble, row->trouble);
	assert_int_equal(c.key.fd, -1);
	assert_int_equal(client_certificate_take(&c, "name"), -1);
}

static void
a_signature_without_room(void **state)
{
	unsigned char data[40] = { 0 };

	(void)state;
	take(KEY_RSA);
	answers(OCTETS("Hsignature, and more than there is room for"));
	assert_int_equal(c.class->do_sign(&c.class, KEY_SHA256, 32, data, sizeof data), 0);
	assert_int_equal(data[0], 0);
}

int
main(void)
{
	struct CMUnitTest tests[BROKEN + CHOICES + SIGNED + UNSIGNED + 3] = {
		cmocka_unit_test_setup_teardown(the_chain_is_asked_for_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_name_that_no_question_holds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_signature_without_room, set_up, tear_down),
	}, *next = tests + 3;

	for (size_t i = 0; i < BROKEN; i++)
		*next++ = (struct CMUnitTest){ broken[i].rule, a_qmail_keyd_that_makes_no_sense_is_left, set_up, tear_down, (void *)(uintptr_t)&broken[i] };
	for (size_t i = 0; i < CHOICES; i++)
		*next++ = (struct CMUnitTest){ choices[i].rule, choice_is_right, set_up, tear_down, (void *)(uintptr_t)&choices[i] };
	for (size_t i = 0; i < SIGNED; i++)
		*next++ = (struct CMUnitTest){ signed_rows[i].rule, the_hash_is_signed, set_up, tear_down, (void *)(uintptr_t)&signed_rows[i] };
	for (size_t i = 0; i < UNSIGNED; i++)
		*next++ = (struct CMUnitTest){ unsigned_rows[i].rule, no_signature, set_up, tear_down, (void *)(uintptr_t)&unsigned_rows[i] };
	return cmocka_run_group_tests_name("client_certificate", tests, NULL, NULL);
}
