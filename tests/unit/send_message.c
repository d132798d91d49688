/* The messages in qmail-send's memory: the table against a plain list, recipients in order, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bin-src/send/message.h"

static struct message_table table;
static struct message_draft draft;

static int
put(struct message_draft *d, uint32_t index, const char *address, struct text *text)
{
	return message_draft_recipient(d, &(struct message_draft_recipient){ .index = index, .address = address,
	    .state = text ? RECIPIENT_FAILED : RECIPIENT_TODO, .text = text });
}

static struct message *
add(uint64_t number, uint32_t recipients, enum queue_place_kind kind)
{
	struct queue_notice n = {
		.number = number, .birth = 1000, .size = 77, .recipients = recipients, .sender = "sender@example.org",
		.place = { .kind = kind, .offset = 4096 * number },
	};
	char address[40];

	assert_int_equal(message_draft_notice(&draft, &n), 1);
	for (uint32_t i = 0; i < recipients; i++) {
		snprintf(address, sizeof address, "recipient-%u@example.net", i);
		assert_int_equal(put(&draft, i, address, NULL), 1);
	}
	return message_new(&table, &draft);
}

static void
like_a_list(void **state)
{
	enum { NUMBERS = 2000, STEPS = 60000 };
	static struct message *there[NUMBERS];
	uint32_t count = 0, at = 0, seen = 0;
	struct message *m;

	(void)state;
	srand(2);
	for (unsigned int step = 0; step < STEPS; step++) {
		/* numbers with equal low bits, to have long runs in the table */
		unsigned int i = (unsigned int)rand() % NUMBERS;
		uint64_t number = 1 + (uint64_t)i * 256;

		assert_ptr_equal(message_find(&table, number), there[i]);
		if (there[i]) {
			message_free(&table, there[i]);
			there[i] = NULL;
			count--;
		} else if (rand() % 3) {
			there[i] = add(number, 1, i % 2 ? PLACE_RING : PLACE_FILE);
			count++;
		}
		assert_int_equal(table.count, count);
	}
	for (unsigned int i = 0; i < NUMBERS; i++)
		assert_ptr_equal(message_find(&table, 1 + (uint64_t)i * 256), there[i]);
	while ((m = message_next(&table, &at)))
		seen++;
	assert_int_equal(seen, count);
	for (unsigned int i = 0; i < NUMBERS; i++)
		if (there[i])
			message_free(&table, there[i]);
	assert_int_equal(table.count, 0);
}

static void
facts_and_recipients(void **state)
{
	struct message *m = add(5, 3, PLACE_RING);

	(void)state;
	assert_int_equal(m->number, 5);
	assert_int_equal(m->size, 77);
	assert_int_equal(m->place->offset, 4096 * 5);
	assert_string_equal(message_sender(m), "sender@example.org");
	assert_int_equal(m->todo, 3);
	for (uint32_t i = 0; i < 3; i++) {
		struct recipient *r = message_recipient(m, i);
		char want[40];

		snprintf(want, sizeof want, "recipient-%u@example.net", i);
		assert_string_equal(recipient_address(r), want);
		assert_ptr_equal(recipient_message(r), m);
		assert_int_equal(r->state, RECIPIENT_TODO);
	}
	assert_null(message_recipient(m, 3));
	message_free(&table, m);
}

static void
some_are_done_or_failed(void **state)
{
	struct queue_notice n = { .number = 9, .sender = "", .place = { .kind = PLACE_FILE } };
	struct message *m;

	(void)state;
	assert_int_equal(message_draft_notice(&draft, &n), 1);
	/* in no order, with gaps */
	put(&draft, 70, "z@x", text_new("no such user", 12));
	put(&draft, 3, "a@x", NULL);
	put(&draft, 20, "m@x", NULL);
	m = message_new(&table, &draft);
	assert_null(m->place);
	assert_int_equal(m->todo, 2);
	assert_int_equal(m->has_failed, 1);
	assert_string_equal(recipient_address(&m->recipients[0]), "a@x");
	assert_string_equal(recipient_address(message_recipient(m, 70)), "z@x");
	assert_int_equal(message_recipient(m, 70)->text->len, 12);
	assert_int_equal(message_recipient(m, 70)->position, 2);
	assert_null(message_recipient(m, 4));
	message_free(&table, m);
	/* a draft that is not used gives its texts back */
	message_draft_notice(&draft, &n);
	put(&draft, 0, "a@x", text_new("x", 1));
	message_draft_begin(&draft);
}

static void
what_many_recipients_needed_goes_back(void **state)
{
	(void)state;
	message_free(&table, add(5, 10, PLACE_RING));
	assert_non_null(draft.strings.s);
	message_free(&table, add(6, MESSAGE_DRAFT_KEPT, PLACE_RING));
	assert_null(draft.strings.s);
	assert_null(draft.recipients.s);
}

static void
texts_are_bounded(void **state)
{
	enum { COUNT = 10000, LONG = 10000 };
	static char s[LONG];
	struct queue_notice n = { .number = 10, .sender = "", .place = { .kind = PLACE_FILE } };
	struct message *m;
	size_t total = 0;

	(void)state;
	message_draft_notice(&draft, &n);
	for (uint32_t i = 0; i < COUNT; i++) {
		struct text *t = text_new(s, sizeof s);

		total += t->len;
		put(&draft, i, "a@x", t);
	}
	m = message_new(&table, &draft);
	assert_true(total <= TEXTS_MAX + LONG + (size_t)COUNT * TEXT_SHORT);
	message_free(&table, m);
	/* and there is room again */
	message_draft_notice(&draft, &n);
	put(&draft, 0, "a@x", text_new(s, sizeof s));
	m = message_new(&table, &draft);
	assert_int_equal(m->recipients[0].text->len, LONG);
	message_free(&table, m);
}

static void
lists(void **state)
{
	struct recipient r[4];
	struct recipient_list l = { .first = NULL };

	(void)state;
	assert_null(recipient_list_take(&l));
	recipient_list_append(&l, &r[1]);
	recipient_list_append(&l, &r[2]);
	recipient_list_prepend(&l, &r[0]);
	for (unsigned int i = 0; i < 3; i++)
		assert_ptr_equal(recipient_list_take(&l), &r[i]);
	assert_null(recipient_list_take(&l));
	recipient_list_prepend(&l, &r[3]);
	recipient_list_append(&l, &r[0]);
	assert_ptr_equal(recipient_list_take(&l), &r[3]);
	assert_ptr_equal(recipient_list_take(&l), &r[0]);
}

static int
clean(void **state)
{
	(void)state;
	message_draft_free(&draft);
	free(table.slots);
	return 0;
}

/* Parameters are found, and cost nothing where there are none; states and texts. */
static void
parameters(void **state)
{
	struct queue_notice n = { .number = 11, .sender = "s@x", .parameters = "RET=FULL", .place = { .kind = PLACE_FILE } };
	struct message_draft_recipient with = { .index = 0, .address = "a@x", .parameters = "NOTIFY=DELAY", .was_delayed = 1 };
	struct message_draft_recipient done = { .index = 1, .address = "b@x", .state = RECIPIENT_SUCCEEDED, .text = text_new("d", 1) };
	struct message *m;

	(void)state;
	assert_int_equal(message_draft_notice(&draft, &n), 1);
	assert_int_equal(message_draft_recipient(&draft, &with), 1);
	assert_int_equal(message_draft_recipient(&draft, &done), 1);
	m = message_new(&table, &draft);
	assert_non_null(m);
	assert_string_equal(message_sender(m), "s@x");
	assert_string_equal(message_parameters(m), "RET=FULL");
	assert_string_equal(recipient_address(&m->recipients[0]), "a@x");
	assert_string_equal(recipient_parameters(&m->recipients[0]), "NOTIFY=DELAY");
	assert_string_equal(recipient_address(&m->recipients[1]), "b@x");
	assert_string_equal(recipient_parameters(&m->recipients[1]), "");
	assert_int_equal(m->todo, 1);
	assert_true(m->owes_report && m->recipients[0].was_delayed && recipient_is_waiting(&m->recipients[0]));
	recipient_set(&m->recipients[0], RECIPIENT_DELAYED, text_new("later", 5));
	assert_true(recipient_is_waiting(&m->recipients[0]));
	recipient_set(&m->recipients[0], RECIPIENT_BUSY, NULL);
	recipient_set(&m->recipients[1], RECIPIENT_DONE, NULL);	/* ASan sees a text that is lost */
	message_free(&table, m);
	n.parameters = NULL;
	message_draft_notice(&draft, &n);
	put(&draft, 0, "a@x", NULL);
	assert_int_equal(draft.strings.len, 8);
	m = message_new(&table, &draft);
	assert_string_equal(message_parameters(m), "");
	message_free(&table, m);
	assert_int_equal(sizeof(struct recipient), 24);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(like_a_list),
		cmocka_unit_test(facts_and_recipients),
		cmocka_unit_test(some_are_done_or_failed),
		cmocka_unit_test(what_many_recipients_needed_goes_back),
		cmocka_unit_test(texts_are_bounded),
		cmocka_unit_test(lists),
		cmocka_unit_test(parameters),
	};

	return cmocka_run_group_tests_name("send_message", tests, NULL, clean);
}
