/* The Received field of qmail-smtpd: RFC 5321 section 4.4, RFC 3848, RFC 6531 section 4.3; form as in interfaces section 11. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "bin-src/smtpd/received.h"

#define DATE "; 1 Jan 1970 00:00:00 -0000\n"

static const struct received_row {
	const char *rule, *host, *info, *helo; int is_extended, is_smtputf8; const char *tls, *cipher; int is_authenticated; const char *want;
} rows[] = {
	{ "nothing known", "unknown", "", NULL, 0, 0, NULL, NULL, 0, "Received: from unknown (192.0.2.7)\n  by here with SMTP" DATE },
	{ "HELO", "unknown", "", "x", 0, 0, NULL, NULL, 0, "Received: from unknown (HELO x) (192.0.2.7)\n  by here with SMTP" DATE },
	{ "HELO is the host", "a.B", "", "A.b", 1, 0, NULL, NULL, 0, "Received: from a.B (192.0.2.7)\n  by here with ESMTP" DATE },
	{ "info", "a.b", "ana", "a.b", 1, 0, NULL, NULL, 0, "Received: from a.b (ana@192.0.2.7)\n  by here with ESMTP" DATE },
	{ "cleaned", "a(b)", "x y", "a\n\"\\;\xff<>()", 1, 0, NULL, NULL, 0, "Received: from a?b? (HELO a\?\?\?\?\?\?\?\?\?) (x?y@192.0.2.7)\n  by here with ESMTP" DATE },
	{ "TLS", "a", "", "a", 1, 0, "TLSv1.2", "TLS_X_Y", 0, "Received: from a (192.0.2.7)\n  by here with ESMTPS (TLSv1.2) tls TLS_X_Y" DATE },
	{ "a cipher by OpenSSL's name", "a", "", "a", 1, 0, "TLSv1.2", "ECDHE-X", 0, "Received: from a (192.0.2.7)\n  by here with ESMTPS (TLSv1.2 cipher ECDHE-X)" DATE },
	{ "TLS without EHLO", "a", "", "a", 0, 0, "TLSv1.2", "TLS_X", 0, "Received: from a (192.0.2.7)\n  by here with SMTP (TLSv1.2) tls TLS_X" DATE },
	{ "TLS, UTF-8", "a", "", "a", 1, 1, "TLS", "unknown", 0, "Received: from a (192.0.2.7)\n  by here with UTF8SMTPS (TLS cipher unknown)" DATE },
	{ "TLS and AUTH", "a", "", "a", 1, 0, "TLSv1.2", "TLS_X", 1, "Received: from a (192.0.2.7)\n  by here with ESMTPSA (TLSv1.2) tls TLS_X" DATE },
	{ "AUTH", "a", "", "a", 1, 0, NULL, NULL, 1, "Received: from a (192.0.2.7)\n  by here with ESMTPA" DATE },
	{ "both, UTF-8", "a", "", "a", 1, 1, "TLSv1.2", "TLS_X", 1, "Received: from a (192.0.2.7)\n  by here with UTF8SMTPSA (TLSv1.2) tls TLS_X" DATE },
	{ "UTF-8", "a", "", "a", 1, 1, NULL, NULL, 0, "Received: from a (192.0.2.7)\n  by here with UTF8SMTP" DATE },
};
enum { ROWS = sizeof rows / sizeof *rows };

static void
received_row(void **state)
{
	const struct received_row *row = *state;
	struct peer peer = { .ip = "192.0.2.7", .local_host = "here" };
	struct received r = { .peer = &peer, .helo = row->helo, .is_extended = row->is_extended, .is_smtputf8 = row->is_smtputf8,
		.tls = row->tls, .cipher = row->cipher, .is_authenticated = row->is_authenticated };
	stralloc field = STRALLOC_ZERO;

	snprintf(peer.host, sizeof peer.host, "%s", row->host);
	snprintf(peer.info, sizeof peer.info, "%s", row->info);
	assert_int_equal(received_put(&field, &r), 1);
	assert_int_equal(field.len, strlen(row->want));
	assert_memory_equal(field.s, row->want, field.len);
	stralloc_free(&field);
}

int
main(void)
{
	struct CMUnitTest tests[ROWS];

	for (size_t i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].rule, .test_func = received_row,
		    .initial_state = (void *)(uintptr_t)&rows[i] };
	return cmocka_run_group_tests_name("received", tests, NULL, NULL);
}
