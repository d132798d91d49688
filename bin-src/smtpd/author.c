#include <string.h>
#include "address822.h"
#include "author.h"

/* --- taking the fields ----------------------------------------------------------------------- */

void
author_begin(struct author_field *f)
{
	f->count++;
}

void
author_take(struct author_field *f, const char *s, size_t len)
{
	if (f->count > 1 || f->is_too_long)
		return;
	if (len > AUTHOR_OCTETS - f->body.len)
		f->is_too_long = 1;
	else if (!stralloc_catb(&f->body, s, len))
		f->has_no_memory = 1;
}

void
author_free(struct author *a)
{
	stralloc_free(&a->from.body);
	stralloc_free(&a->sender.body);
	*a = (struct author){ .from = { .count = 0 } };
}

/* --- judging ------------------------------------------------------------------------------------ */

struct judgement {
	author_owner *owner;
	void *data;
	unsigned int count;		/* of addresses */
	stralloc address;		/* in the form of envelopes */
	enum submission_answer answer;	/* while a list is read: what it is if reading stops */
};

/* Asks about an address; stops at the first that is not the owner's. */
static int
judge_address(void *data, stralloc *address)
{
	struct judgement *j = data;

	j->address.len = 0;
	if (!address822_unquote(&j->address, address->s, address->len) || !stralloc_0(&j->address))
		return 0;
	if (++j->count > AUTHOR_ADDRESSES_MAX || j->address.len == 1 || j->address.len - 1 > AUTHOR_ADDRESS_MAX ||
	    strlen(j->address.s) < j->address.len - 1)
		j->answer = SUBMISSION_NO;
	else {
		enum submission_answer answer = j->owner(j->data, j->address.s);

		if (answer == SUBMISSION_YES)
			return 1;
		j->answer = answer;
	}
	return 0;
}

static enum submission_answer
judge_field(const struct author_field *f, struct judgement *j)
{
	if (f->count != 1 || f->is_too_long)
		return SUBMISSION_NO;
	if (f->has_no_memory || !f->body.len)
		return SUBMISSION_UNKNOWN;
	switch (address822_read(f->body.s + 1, f->body.len - 1, judge_address, j, NULL)) {
	case 1: return j->count ? SUBMISSION_YES : SUBMISSION_NO;
	case 0: return SUBMISSION_NO;
	default: return j->answer;
	}
}

enum submission_answer
author_judge(const struct author *a, int by_sender, author_owner *owner, void *data)
{
	struct judgement j = { .owner = owner, .data = data, .answer = SUBMISSION_UNKNOWN };
	enum submission_answer answer = judge_field(by_sender && a->sender.count ? &a->sender : &a->from, &j);

	stralloc_free(&j.address);
	return answer;
}
