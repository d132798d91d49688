#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "message.h"
#include "places.h"

/* octets of all texts */
static size_t texts_total;

struct text *
text_new(const char *s, size_t len)
{
	struct text *t;

	if (texts_total > TEXTS_MAX && len > TEXT_SHORT)
		len = TEXT_SHORT;
	t = malloc(sizeof *t + len);
	if (!t)
		return NULL;
	texts_total += sizeof *t + len;
	t->len = (uint32_t)len;
	memcpy(t->s, s, len);
	return t;
}

static void
text_free(struct text *t)
{
	if (t)
		texts_total -= sizeof *t + t->len;
	free(t);
}

static int
has_text(const struct recipient *r)
{
	return r->state == RECIPIENT_FAILED || r->state == RECIPIENT_SUCCEEDED || r->state == RECIPIENT_DELAYED;
}

/* --- drafts -------------------------------------------------------------------- */

static struct recipient *
draft_recipients(const struct message_draft *d)
{
	return (struct recipient *)(void *)d->recipients.s;
}

static size_t
draft_count(const struct message_draft *d)
{
	return d->recipients.len / sizeof(struct recipient);
}

static void
empty(stralloc *buffer)
{
	buffer->len = 0;
	if (buffer->a > MESSAGE_DRAFT_KEPT)
		stralloc_free(buffer);
}

void
message_draft_begin(struct message_draft *d)
{
	for (size_t i = 0; i < draft_count(d); i++)
		if (has_text(&draft_recipients(d)[i]))
			text_free(draft_recipients(d)[i].text);
	d->notice = (struct queue_notice){ .number = 0 };
	empty(&d->strings);
	empty(&d->recipients);
}

void
message_draft_free(struct message_draft *d)
{
	message_draft_begin(d);
	stralloc_free(&d->strings);
	stralloc_free(&d->recipients);
}

/* Adds an address and its parameters. */
static int
add_strings(stralloc *strings, const char *address, const char *parameters)
{
	return stralloc_catb(strings, address, strlen(address) + 1) &&
	    (!parameters || stralloc_catb(strings, parameters, strlen(parameters) + 1));
}

int
message_draft_notice(struct message_draft *d, const struct queue_notice *n)
{
	message_draft_begin(d);
	d->notice = *n;
	d->notice.sender = NULL;
	/* what was said with the notice is gone after it: only whether there is any is kept */
	if (n->parameters)
		d->notice.parameters = "";
	return add_strings(&d->strings, n->sender, n->parameters);
}

int
message_draft_recipient(struct message_draft *d, const struct message_draft_recipient *recipient)
{
	struct recipient r = {
		.index = recipient->index,
		.address = (uint32_t)d->strings.len,
		.state = recipient->state & 7,
		.text = recipient->text,
		.has_parameters = recipient->parameters != NULL,
		.was_delayed = recipient->was_delayed ? 1 : 0,
	};

	if (draft_count(d) < MESSAGE_RECIPIENTS_MAX && stralloc_readyplus(&d->recipients, sizeof r) &&
	    add_strings(&d->strings, recipient->address, recipient->parameters) &&
	    stralloc_catb(&d->recipients, (char *)&r, sizeof r))
		return 1;
	text_free(recipient->text);
	return 0;
}

/* --- the table ------------------------------------------------------------------ */

static uint32_t
home_of(const struct message_table *t, uint64_t number)
{
	return (uint32_t)(number * UINT64_C(0x9e3779b97f4a7c15) >> 32) & t->mask;
}

/* The slot of number, or the free slot where it would go. */
static uint32_t
slot_of(const struct message_table *t, uint64_t number)
{
	uint32_t i = home_of(t, number);

	while (t->slots[i] && t->slots[i]->number != number)
		i = (i + 1) & t->mask;
	return i;
}

/* Makes room for one more: at most seven eighths of the slots are used; numbers in a row spread well. */
static int
table_grow(struct message_table *t)
{
	struct message_table bigger = { .mask = t->slots ? 2 * t->mask + 1 : 255, .count = t->count };

	if (t->slots && t->count < t->mask / 8 * 7)
		return 1;
	bigger.slots = calloc((size_t)bigger.mask + 1, sizeof *bigger.slots);
	if (!bigger.slots)
		return 0;
	for (uint32_t i = 0; t->slots && i <= t->mask; i++)
		if (t->slots[i])
			bigger.slots[slot_of(&bigger, t->slots[i]->number)] = t->slots[i];
	free(t->slots);
	*t = bigger;
	return 1;
}

struct message *
message_find(const struct message_table *t, uint64_t number)
{
	return t->slots ? t->slots[slot_of(t, number)] : NULL;
}

struct message *
message_next(const struct message_table *t, uint32_t *at)
{
	while (t->slots && *at <= t->mask) {
		struct message *m = t->slots[(*at)++];

		if (m)
			return m;
	}
	return NULL;
}

/* Frees slot i and moves up what had been pushed past it. */
static void
table_remove(struct message_table *t, uint32_t i)
{
	for (uint32_t j = (i + 1) & t->mask; t->slots[j]; j = (j + 1) & t->mask) {
		uint32_t home = home_of(t, t->slots[j]->number);

		if (((j - home) & t->mask) >= ((j - i) & t->mask)) {
			t->slots[i] = t->slots[j];
			i = j;
		}
	}
	t->slots[i] = NULL;
	t->count--;
}

/* --- messages ---------------------------------------------------------------------- */

static int
by_index(const void *a, const void *b)
{
	const struct recipient *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

/* Puts the recipients in order, if the keeper did not, and numbers them. */
static void
settle_recipients(struct message *m)
{
	for (uint32_t i = 1; i < m->recipients_len; i++)
		if (m->recipients[i - 1].index > m->recipients[i].index) {
			qsort(m->recipients, m->recipients_len, sizeof *m->recipients, by_index);
			break;
		}
	for (uint32_t i = 0; i < m->recipients_len; i++) {
		m->recipients[i].position = i & 0xffffff;
		if (m->recipients[i].state == RECIPIENT_FAILED)
			m->has_failed = 1;
		else if (m->recipients[i].state == RECIPIENT_SUCCEEDED)
			m->owes_report = 1;
		else
			m->todo++;
	}
}

struct message *
message_new(struct message_table *t, struct message_draft *d)
{
	const struct queue_notice *n = &d->notice;
	struct message *m = NULL;
	struct queue_place *place = NULL;

	if (!table_grow(t) || (n->place.kind == PLACE_RING && !(place = place_new(&n->place))) ||
	    !(m = malloc(sizeof *m + d->recipients.len + d->strings.len))) {
		place_free(place);
		message_draft_begin(d);
		errno = ENOMEM;
		return NULL;
	}
	*m = (struct message){
		.number = n->number,
		.birth = (int64_t)(n->birth & 0x7fffffffff),	/* the next 17,000 years */
		.size = (n->size < MESSAGE_SIZE_MAX ? n->size : MESSAGE_SIZE_MAX) & MESSAGE_SIZE_MAX,
		.place = place,
		.due = { MESSAGE_NEVER, MESSAGE_NEVER },
		.recipients_len = draft_count(d) & 0xffffff,
		.is_named = 1,
		.has_parameters = n->parameters != NULL,
	};
	if (d->recipients.len)
		memcpy(m->recipients, d->recipients.s, d->recipients.len);
	memcpy((char *)m->recipients + d->recipients.len, d->strings.s, d->strings.len);
	settle_recipients(m);
	t->slots[slot_of(t, m->number)] = m;
	t->count++;
	empty(&d->strings);
	empty(&d->recipients);
	return m;
}

void
message_free(struct message_table *t, struct message *m)
{
	for (uint32_t i = 0; i < m->recipients_len; i++)
		if (has_text(&m->recipients[i]))
			text_free(m->recipients[i].text);
	table_remove(t, slot_of(t, m->number));
	place_free(m->place);
	free(m);
}

struct recipient *
message_recipient(struct message *m, uint32_t index)
{
	struct recipient key = { .index = index };

	return bsearch(&key, m->recipients, m->recipients_len, sizeof key, by_index);
}

struct message *
recipient_message(struct recipient *r)
{
	return (struct message *)(void *)((char *)(r - r->position) - offsetof(struct message, recipients));
}

static const char *
strings_of(const struct message *m)
{
	return (const char *)(m->recipients + m->recipients_len);
}

const char *
recipient_address(struct recipient *r)
{
	return strings_of(recipient_message(r)) + r->address;
}

const char *
message_sender(const struct message *m)
{
	return strings_of(m);
}

/* What follows the string s. */
static const char *
after(const char *s)
{
	return s + strlen(s) + 1;
}

const char *
recipient_parameters(struct recipient *r)
{
	return r->has_parameters ? after(recipient_address(r)) : "";
}

const char *
message_parameters(const struct message *m)
{
	return m->has_parameters ? after(message_sender(m)) : "";
}

void
recipient_set(struct recipient *r, enum recipient_state state, struct text *text)
{
	if (has_text(r))
		text_free(r->text);
	r->state = state & 7;
	r->text = text;
}

int
recipient_is_waiting(const struct recipient *r)
{
	return r->state == RECIPIENT_TODO || r->state == RECIPIENT_DELAYED;
}

void
recipient_list_append(struct recipient_list *l, struct recipient *r)
{
	r->next = NULL;
	if (l->first)
		l->last->next = r;
	else
		l->first = r;
	l->last = r;
}

void
recipient_list_prepend(struct recipient_list *l, struct recipient *r)
{
	r->next = l->first;
	if (!l->first)
		l->last = r;
	l->first = r;
}

struct recipient *
recipient_list_take(struct recipient_list *l)
{
	struct recipient *r = l->first;

	if (r)
		l->first = r->next;
	return r;
}
