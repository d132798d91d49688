#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <bearssl.h>
#include "der.h"

static void
append(void *to, const void *s, size_t len)
{
	struct der *der = to;

	assert_true(der->len + len <= sizeof der->s);
	memcpy(der->s + der->len, s, len);
	der->len += len;
}

struct der
der_of(const char *text)
{
	br_pem_decoder_context pem;
	size_t left = strlen(text);
	struct der der = { .len = 0 };

	br_pem_decoder_init(&pem);
	while (left) {
		size_t n = br_pem_decoder_push(&pem, text, left);

		text += n;
		left -= n;
		if (br_pem_decoder_event(&pem) == BR_PEM_BEGIN_OBJ) {
			der.len = 0;
			br_pem_decoder_setdest(&pem, append, &der);
		}
	}
	return der;
}
