/* Info files, records and notices: what was written is read; anything cut, changed or lengthened is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "queue/info.h"
#include "queue/record.h"

static const char envelope[] = "Fs@x\0Ta@y\0Tb@y\0";	/* its last NUL is the string's own */

static struct info
sample(stralloc *outcomes)
{
	struct info_outcome failed = { .recipient = 1, .result = 'D', .text = "no such\nuser", .text_len = 12 };
	struct info_outcome done = { .recipient = 0, .result = 'K', .text = "", .text_len = 0 };
	struct info info = { .number = 77, .birth = 1000, .size = 5, .uid = 12, .recipients = 2, .tried = 1,
	    .envelope = envelope, .envelope_len = sizeof envelope, .outcomes_len = 2 };

	memset(info.digest, 9, sizeof info.digest);
	assert_true(info_outcome_put(outcomes, &failed));
	assert_true(info_outcome_put(outcomes, &done));
	info.outcomes = outcomes->s;
	return info;
}

static void
round_trip(void **state)
{
	stralloc outcomes = STRALLOC_ZERO, file = STRALLOC_ZERO;
	struct info info = sample(&outcomes), got;
	struct info_outcome o;
	const char *at;

	(void)state;
	assert_true(info_encode(&file, &info, outcomes.len));
	assert_true(info_decode(&got, file.s, file.len));
	assert_int_equal(got.number, 77);
	assert_int_equal(got.birth, 1000);
	assert_int_equal(got.size, 5);
	assert_int_equal(got.uid, 12);
	assert_int_equal(got.recipients, 2);
	assert_int_equal(got.tried, 1);
	assert_memory_equal(got.envelope, envelope, sizeof envelope);
	at = got.outcomes;
	info_outcome_next(&o, &at);
	assert_int_equal(o.recipient, 1);
	assert_memory_equal(o.text, "no such\nuser", 12);
	info_outcome_next(&o, &at);
	assert_int_equal(o.result, 'K');
	stralloc_free(&outcomes);
	stralloc_free(&file);
}

static void
every_octet_counts(void **state)
{
	stralloc outcomes = STRALLOC_ZERO, file = STRALLOC_ZERO;
	struct info info = sample(&outcomes), got;

	(void)state;
	assert_true(info_encode(&file, &info, outcomes.len));
	for (size_t i = 0; i < file.len; i++) {
		char *s = memcpy(test_malloc(file.len), file.s, file.len);

		s[i] = (char)(s[i] ^ 1);
		assert_false(info_decode(&got, s, file.len));
		test_free(s);
		s = memcpy(test_malloc(i + 1), file.s, i);	/* cut: ASan sees over-reads */
		assert_false(info_decode(&got, s, i));
		test_free(s);
	}
	stralloc_free(&outcomes);
	stralloc_free(&file);
}

static void
names(void **state)
{
	char path[INFO_PATH_MAX];

	(void)state;
	info_path(path, "mess", UINT64_MAX);
	assert_string_equal(path, "queue/mess/5/18446744073709551615");
	assert_int_equal(info_name("18446744073709551616"), 0);	/* does not fit */
	assert_int_equal(info_name("99999999999999999999999"), 0);
	assert_int_equal(info_name("42"), 42);
	assert_int_equal(info_name("042"), 0);
	assert_int_equal(info_name("4x"), 0);
	assert_int_equal(info_name(""), 0);
	assert_int_equal(info_name("."), 0);
}

static void
message_record(void **state)
{
	struct record r = { .type = RECORD_MESSAGE, .number = 5, .birth = 6, .uid = 7, .recipients = 2,
	    .envelope_len = sizeof envelope }, got;
	char s[RECORD_MESSAGE_HEADER + sizeof envelope + 4];

	(void)state;
	record_message_header(s, &r);
	memcpy(s + RECORD_MESSAGE_HEADER, envelope, sizeof envelope);
	memcpy(s + RECORD_MESSAGE_HEADER + sizeof envelope, "body", 4);
	assert_true(record_parse(&got, s, sizeof s));
	assert_int_equal(got.message_len, 4);
	assert_memory_equal(got.message, "body", 4);
	/* too short for its envelope, or with another number of recipients than the envelope has */
	for (size_t len = 0; len < RECORD_MESSAGE_HEADER + sizeof envelope; len++) {
		char *cut = memcpy(test_malloc(len + 1), s, len);

		assert_false(record_parse(&got, cut, len));
		test_free(cut);
	}
	r.recipients = 3;
	record_message_header(s, &r);
	assert_false(record_parse(&got, s, sizeof s));
}

static void
outcome_and_end_records(void **state)
{
	struct record r = { .number = 5, .recipient = 3, .result = 'D' }, got;
	char s[RECORD_OUTCOME_HEADER + QUEUE_TEXT_MAX + 1] = { 0 };

	(void)state;
	record_outcome_header(s, &r);
	assert_true(record_parse(&got, s, RECORD_OUTCOME_HEADER + QUEUE_TEXT_MAX));
	assert_int_equal(got.text_len, QUEUE_TEXT_MAX);
	assert_false(record_parse(&got, s, sizeof s));
	assert_false(record_parse(&got, s, RECORD_OUTCOME_HEADER - 1));
	s[13] = 'Z';
	assert_false(record_parse(&got, s, RECORD_OUTCOME_HEADER));
	record_end(s, 5);
	assert_true(record_parse(&got, s, RECORD_END_SIZE));
	assert_false(record_parse(&got, s, RECORD_END_SIZE + 1));
	record_end(s, 0);
	assert_false(record_parse(&got, s, RECORD_END_SIZE));
	s[0] = '?';
	assert_false(record_parse(&got, s, RECORD_END_SIZE));
}

static void
notices(void **state)
{
	struct queue_notice n = { .number = 1, .birth = 2, .size = 3, .uid = 4, .recipients = 5, .tried = 1,
	    .place = { .kind = PLACE_RING, .offset = 6, .len = 7, .message_at = 8 } }, got;
	char s[QUEUE_NOTICE_PACK + 4] = { 0 };

	(void)state;
	queue_notice_pack(s, &n);
	memcpy(s + QUEUE_NOTICE_PACK, "a@b", 4);
	assert_true(queue_notice_unpack(&got, s, sizeof s));
	assert_string_equal(got.sender, "a@b");
	assert_int_equal(got.place.message_at, 8);
	assert_false(queue_notice_unpack(&got, s, sizeof s - 1));	/* sender without its NUL */
	assert_null(got.parameters);
	s[QUEUE_NOTICE_PACK + 1] = '\0';
	assert_true(queue_notice_unpack(&got, s, sizeof s));		/* parameters behind the sender */
	assert_string_equal(got.sender, "a");
	assert_string_equal(got.parameters, "b");
	s[QUEUE_NOTICE_PACK + 2] = '\0';
	assert_false(queue_notice_unpack(&got, s, sizeof s));		/* octets behind the parameters */
	s[33] = 9;
	assert_false(queue_notice_unpack(&got, s, QUEUE_NOTICE_PACK + 2));	/* no such place */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(every_octet_counts),
		cmocka_unit_test(names),
		cmocka_unit_test(message_record),
		cmocka_unit_test(outcome_and_end_records),
		cmocka_unit_test(notices),
	};

	return cmocka_run_group_tests_name("info", tests, NULL, NULL);
}
