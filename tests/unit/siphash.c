/* The test vectors of the paper: key 00 01 ... 0f, octets 00 01 02 ... */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "siphash.h"

static void
vectors(void **state)
{
	const struct siphash_key key = { UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908) };
	unsigned char octets[15];

	(void)state;
	for (unsigned char i = 0; i < sizeof octets; i++)
		octets[i] = i;
	assert_true(siphash(&key, octets, 0) == UINT64_C(0x726fdb47dd0e0e31));
	assert_true(siphash(&key, octets, 8) == UINT64_C(0x93f5f5799a932462));
	assert_true(siphash(&key, octets, 15) == UINT64_C(0xa129ca6149be45e5));
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(vectors) };

	return cmocka_run_group_tests_name("siphash", tests, NULL, NULL);
}
