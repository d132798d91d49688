/* What a server's certificates leave behind, whatever they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "bin-src/remote/server_chain.h"
#include "der.h"
#include "pem.h"

static struct server_chain chain;
static br_ssl_client_context client;
static struct der der;

static int
set_up(void **state)
{
	(void)state;
	memset(&chain, 0, sizeof chain);
	br_ssl_client_zero(&client);
	server_chain_set(&chain, &client.eng);
	der = der_of(PEM_P256);
	chain.class->start_chain(&chain.class, "ignored.example");
	return 0;
}

/* A certificate that says it has len octets, of which some come. */
static void
send_some(const unsigned char *s, size_t len, size_t some)
{
	unsigned char *copy = memcpy(test_malloc(some ? some : 1), s, some);

	chain.class->start_cert(&chain.class, (uint32_t)len);
	for (size_t at = 0; at < some; at += 100)	/* in pieces */
		chain.class->append(&chain.class, copy + at, some - at < 100 ? some - at : 100);
	chain.class->end_cert(&chain.class);
	test_free(copy);
}

static void
send_der(void)
{
	send_some(der.s, der.len, der.len);
}

static unsigned int
end(void)
{
	return chain.class->end_chain(&chain.class);
}

/* --- tests --------------------------------------------------------------------------------------------------------------- */

static void
any_certificate_will_do(void **state)
{
	unsigned int usages;

	(void)state;
	send_der();
	assert_int_equal(end(), 0);
	assert_null(chain.trouble);
	assert_int_equal(chain.len, 1);
	assert_int_equal(chain.certificates[0].len, der.len);
	assert_memory_equal(chain.certificates[0].der, der.s, der.len);
	assert_int_equal(chain.class->get_pkey(&chain.class, &usages)->key_type, BR_KEYTYPE_EC);
	assert_int_equal(usages, BR_KEYTYPE_KEYX | BR_KEYTYPE_SIGN);
}

static void
none_is_refused(void **state)
{
	(void)state;
	assert_int_equal(end(), BR_ERR_X509_EMPTY_CHAIN);
	assert_string_equal(chain.trouble, "its certificate cannot be read");
}

static void
what_is_no_certificate_is_refused(void **state)
{
	(void)state;
	memset(der.s + 4, 0xff, der.len - 4);
	send_der();
	assert_int_not_equal(end(), 0);
	assert_string_equal(chain.trouble, "its certificate cannot be read");
}

static void
one_that_is_not_whole_is_refused(void **state)
{
	(void)state;
	send_some(der.s, der.len, der.len - 1);
	assert_true(chain.is_cut);
	assert_int_not_equal(end(), 0);
}

static void
more_than_were_announced(void **state)
{
	(void)state;
	send_some(der.s, der.len - 50, der.len);
	assert_true(chain.is_cut);
	assert_true(chain.used <= der.len - 50);
}

static void
too_many_are_left_out(void **state)
{
	(void)state;
	for (int i = 0; i < 3 * SERVER_CHAIN_LEN; i++)
		send_der();
	assert_int_equal(end(), 0);
	assert_int_equal(chain.len, SERVER_CHAIN_LEN);
	assert_true(chain.is_cut);
}

static void
too_long_ones_are_left_out(void **state)
{
	static unsigned char large[SERVER_CHAIN_OCTETS];

	(void)state;
	send_der();
	send_some(large, sizeof large, sizeof large);
	send_der();	/* no chain has a gap */
	assert_int_equal(end(), 0);
	assert_int_equal(chain.len, 1);
	assert_true(chain.is_cut);
	assert_int_equal(chain.used, der.len);
}

static void
the_next_chain_starts_anew(void **state)
{
	(void)state;
	too_many_are_left_out(state);
	chain.class->start_chain(&chain.class, NULL);
	send_der();
	assert_int_equal(end(), 0);
	assert_int_equal(chain.len, 1);
	assert_false(chain.is_cut);
}

static const char *
refuse(const struct server_chain *c, const void *of)
{
	assert_int_equal(c->len, 1);
	return of;
}

static void
the_demand_decides(void **state)
{
	static const char why[] = "it is not the one";

	(void)state;
	chain.demand = refuse;
	chain.of = why;
	send_der();
	assert_int_equal(end(), BR_ERR_X509_NOT_TRUSTED);
	assert_string_equal(chain.trouble, why);
	chain.of = NULL;
	assert_int_equal(end(), 0);
	assert_null(chain.trouble);
}

#define T(f) cmocka_unit_test_setup(f, set_up)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		T(any_certificate_will_do), T(none_is_refused), T(what_is_no_certificate_is_refused), T(one_that_is_not_whole_is_refused),
		T(more_than_were_announced), T(too_many_are_left_out), T(too_long_ones_are_left_out), T(the_next_chain_starts_anew),
		T(the_demand_decides),
	};

	return cmocka_run_group_tests_name("server_chain", tests, NULL, NULL);
}
