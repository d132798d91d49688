#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/bytestr.h>
#include "delivery.h"
#include "job.h"
#include "keeper.h"
#include "octets.h"
#include "pass.h"
#include "stralloc_set.h"
#include "verp.h"
#include "worker.h"

enum {
	VAIN_STEPS = 16,	/* steps in a row that gave nothing: the next turn goes on */
	REFUSED_MAX = 20000,	/* recipients that are deferred at once with a destination */
	REFUSED_FLUSH = 128,	/* the log is written after so many of them */
	STRINGS_MAX = JOB_STRINGS_MAX - 4 * QUEUE_ADDRESS_MAX,	/* octets of strings at which a job takes no more recipients */
};

/* only a line of a control file can make one so long */
static const char too_long[] = "The address is too long for its control file to be right. (#4.3.5)\n";

static const char *const channel_names[] = { [ROUTE_LOCAL] = "local ", [ROUTE_REMOTE] = "remote " };

/* --- log lines ------------------------------------------------------------------------ */

static void
log_start(struct send *s, uint64_t number, const struct message *m, enum route_channel channel, const stralloc *address)
{
	log_text(&s->log, "starting delivery ");
	log_number(&s->log, number);
	log_text(&s->log, ": msg ");
	log_number(&s->log, m->number);
	log_text(&s->log, " to ");
	log_text(&s->log, channel_names[channel]);
	log_quoted(&s->log, address->s, address->len - 1);
	log_end(&s->log);
}

static void
log_outcome(struct send *s, uint64_t number, char letter, const char *text, size_t len)
{
	log_text(&s->log, "delivery ");
	log_number(&s->log, number);
	switch (letter) {
	case 'K': case 'k': log_text(&s->log, ": success: "); break;
	case 'D': log_text(&s->log, ": failure: "); break;
	case 'Z': log_text(&s->log, ": deferral: "); break;
	default: log_text(&s->log, ": report mangled, will defer"); len = 0;
	}
	log_quoted(&s->log, text, len);
	log_end(&s->log);
}

void
delivery_status(struct send *s)
{
	const struct destination_channel *c = s->destinations.channels;
	int changed = s->shown.is_leaving != s->is_leaving;

	for (unsigned int i = 0; i < ROUTE_CHANNELS; i++) {
		changed |= s->shown.busy[i] != c[i].busy || s->shown.limit[i] != c[i].limit;
		s->shown.busy[i] = c[i].busy;
		s->shown.limit[i] = c[i].limit;
	}
	if (!changed)
		return;
	s->shown.is_leaving = s->is_leaving;
	log_text(&s->log, "status: ");
	for (unsigned int i = 0; i < ROUTE_CHANNELS; i++) {
		log_text(&s->log, i ? " " : "");
		log_text(&s->log, channel_names[i]);
		log_number(&s->log, c[i].busy);
		log_text(&s->log, "/");
		log_number(&s->log, c[i].limit);
	}
	log_text(&s->log, s->is_leaving ? " exitasap" : "");
	log_end(&s->log);
}

/* An outcome without a job: both lines, and what follows from it. */
static void
settle_at_once(struct send *s, struct recipient *r, enum route_channel channel, char letter, const char *text, size_t len)
{
	struct message *m = recipient_message(r);
	struct route route;
	uint64_t number = ++s->deliveries;

	if (!route_find(&s->rules, recipient_address(r), &s->address, &route)) {
		pass_return(s, r, channel);
		return;
	}
	log_start(s, number, m, channel, &s->address);
	log_outcome(s, number, letter, text, len);
	pass_outcome(s, r, channel, letter, text, len);
}

/* --- queues ----------------------------------------------------------------------------- */

/* The remote destination of a routed address. NULL: ENOMEM. */
static struct destination *
remote_destination(struct send *s, const struct route *route, const stralloc *address)
{
	struct destination *d;
	int is_relay;

	relays_look(&s->relays, s->clock);
	is_relay = relays_destination(&s->relays, address->s + route->at + 1, &s->name);
	if (is_relay < 0)
		return NULL;
	d = destination_get(&s->destinations, ROUTE_REMOTE, s->name.s, s->name.len - 1);
	if (d)
		d->is_relay = (uint8_t)is_relay;
	return d;
}

static struct destination *
owner_destination(struct send *s, const struct owner *o)
{
	return destination_get(&s->destinations, ROUTE_LOCAL, o->identity, strlen(o->identity));
}

void
delivery_enqueue(struct send *s, struct recipient *r, const struct route *route, const stralloc *address)
{
	struct destination *d;
	struct owner *o;

	if (route->channel == ROUTE_LOCAL && route->at == 0) {
		/* an address without local part: taken, and delivered to nobody (interfaces section 7) */
		settle_at_once(s, r, ROUTE_LOCAL, 'K', "", 0);
		return;
	}
	if (route->channel == ROUTE_REMOTE)
		d = remote_destination(s, route, address);
	else {
		o = owner_known(&s->owners, address->s, route->at, s->clock);
		if (!o) {
			recipient_list_append(&s->unasked, r);
			return;
		}
		d = owner_destination(s, o);
	}
	if (d)
		destination_append(&s->destinations, d, r, s->clock);
	else
		pass_return(s, r, route->channel);
}

/* Asks whose the local part is; r waits for the answer. */
static void
ask_owner(struct send *s, struct recipient *r, const char *local, size_t len, int is_urgent)
{
	struct owner *o = owner_get(&s->owners, local, len);

	if (!o) {
		pass_return(s, r, ROUTE_LOCAL);
		return;
	}
	if (is_urgent)
		o->is_urgent = 1;
	recipient_list_append(&o->waiting, r);
	if (o->is_asked)
		return;
	owner_ask(&s->owners, o);
	if (worker_ask_owner(s, o))
		s->asked++;
	else {
		const char *text = errno == EMSGSIZE ? too_long : "Unable to ask qmail-lspawn. (#4.3.0)\n";

		s->asked++;
		delivery_owner(s, o, SPAWN_TEMP, text, strlen(text));
	}
}

/* Asks for those whose owner is not known, some at a time. */
static void
ask_owners(struct send *s)
{
	struct recipient *r;
	struct route route;

	while (s->asked < WORKER_WHO_MAX && (r = recipient_list_take(&s->unasked))) {
		struct owner *o;
		struct destination *d;

		if (!route_find(&s->rules, recipient_address(r), &s->address, &route)) {
			pass_return(s, r, ROUTE_LOCAL);
			continue;
		}
		if (route.channel != ROUTE_LOCAL) {
			pass_reroute(s, r, ROUTE_LOCAL);
			continue;
		}
		o = owner_known(&s->owners, s->address.s, route.at, s->clock);
		if (!o)
			ask_owner(s, r, s->address.s, route.at, 0);
		else if ((d = owner_destination(s, o)))
			destination_append(&s->destinations, d, r, s->clock);
		else
			pass_return(s, r, ROUTE_LOCAL);
	}
}

/* Moves all of a list to the front of a queue, in order. */
static void
prepend_all(struct send *s, struct destination *d, struct recipient_list *l)
{
	struct recipient_list reverse = { .first = NULL };
	struct recipient *r;

	while ((r = recipient_list_take(l)))
		recipient_list_prepend(&reverse, r);
	while ((r = recipient_list_take(&reverse)))
		destination_prepend(&s->destinations, d, r, s->clock);
}

void
delivery_owner(struct send *s, struct owner *o, char type, const char *text, size_t len)
{
	struct recipient_list waiting = o->waiting;
	int is_urgent = o->is_urgent;
	struct destination *d = NULL;
	struct recipient *r;

	o->waiting = (struct recipient_list){ .first = NULL };
	s->asked--;
	if (type == SPAWN_OK) {
		static const char mangled[] = "The answer of qmail-lspawn cannot be used. (#4.3.0)\n";

		if (owner_answer(&s->owners, o, text, len, s->clock) == 1)
			d = owner_destination(s, o);
		text = mangled;
		len = sizeof mangled - 1;
	}
	if (!d)
		owner_free(&s->owners, o);
	if (d && is_urgent)
		prepend_all(s, d, &waiting);
	while ((r = recipient_list_take(&waiting)))
		if (d)
			destination_append(&s->destinations, d, r, s->clock);
		else
			settle_at_once(s, r, ROUTE_LOCAL, type == SPAWN_PERM ? 'D' : 'Z', text, len);
	owners_trim(&s->owners);
}

/* --- jobs ---------------------------------------------------------------------------------- */

enum gave { GAVE_JOB, GAVE_NOTHING, CANNOT_GIVE };	/* nothing: but the queue moved on */

static enum gave
drop_first(struct send *s, struct destination *d)
{
	pass_return(s, destination_take(d), d->channel);
	return GAVE_NOTHING;
}

/* It belongs to another destination by now. */
static enum gave
reroute_first(struct send *s, struct destination *d)
{
	pass_reroute(s, destination_take(d), d->channel);
	return GAVE_NOTHING;
}

static int
add_string(stralloc *strings, const char *s, size_t len)
{
	return stralloc_catb(strings, s, len) && stralloc_catb(strings, "", 1);
}

static int
add_lower(stralloc *strings, const char *s, size_t len)
{
	size_t start = strings->len;

	if (!add_string(strings, s, len))
		return 0;
	case_lowerb(strings->s + start, len);
	return 1;
}

/* Strings of a local job for the routed address of r in s->address, after the sender. Returns how many there are in all,
 * 0: ENOMEM. */
static uint32_t
add_local_strings(struct send *s, struct recipient *r, const struct route *route, const struct owner *o)
{
	const char *of_sender = message_parameters(recipient_message(r)), *of_recipient = recipient_parameters(r);
	const stralloc *a = &s->address;

	if (!add_string(&s->strings, a->s, route->at) || !add_string(&s->strings, o->dash, strlen(o->dash)) ||
	    !add_string(&s->strings, o->ext, strlen(o->ext)) ||
	    !add_string(&s->strings, a->s + route->at + 1, a->len - route->at - 2))
		return 0;
	if (!*of_sender && !*of_recipient)
		return JOB_LOCAL_STRINGS;
	return add_string(&s->strings, of_sender, strlen(of_sender)) &&
	    add_string(&s->strings, of_recipient, strlen(of_recipient)) ? JOB_LOCAL_STRINGS_ALL : 0;
}

/* Whether the routed address in s->address is d's, a remote one: 1, 0, -1 (ENOMEM). */
static int
belongs_to(struct send *s, const struct destination *d, const struct route *route)
{
	if (route->channel != ROUTE_REMOTE)
		return 0;
	if (relays_destination(&s->relays, s->address.s + route->at + 1, &s->name) < 0)
		return -1;
	return strcmp(s->name.s, d->name) == 0;
}

/* Strings of a remote job for the recipients of one message that stand first in d's queue, after the sender. s->address is
 * that of the first, routed. Returns how many recipients it is for, 0: ENOMEM, or it is d's no more. */
static uint32_t
add_remote_strings(struct send *s, struct destination *d, const struct route *first)
{
	struct recipient *r = d->queue.first;
	struct message *m = recipient_message(r);
	uint32_t count = 0;
	struct route route;

	if (!add_string(&s->strings, message_parameters(m), strlen(message_parameters(m))) ||
	    !add_lower(&s->strings, s->address.s + first->at + 1, s->address.len - first->at - 2))
		return 0;
	for (int more = 1; more; r = r->next) {
		/* without memory, or after a change of the rules: not in this job */
		if (!route_find(&s->rules, recipient_address(r), &s->address, &route) || belongs_to(s, d, &route) != 1)
			break;
		if (!stralloc_catb(&s->strings, s->address.s, s->address.len) ||
		    !add_string(&s->strings, recipient_parameters(r), strlen(recipient_parameters(r))))
			return 0;
		count++;
		more = count < JOB_RECIPIENTS_MAX && s->strings.len < STRINGS_MAX && destination_share_a_job(d, r, r->next);
	}
	return count;
}

/* No job can be made for the first recipient of d's queue. */
static enum gave
refuse_first(struct send *s, struct destination *d)
{
	struct route route;

	if (route_find(&s->rules, recipient_address(d->queue.first), &s->address, &route) && belongs_to(s, d, &route) == 0)
		return reroute_first(s, d);
	return drop_first(s, d);
}

/* The job for the first count recipients of d's queue, which stay there. NULL: ENOMEM. */
static struct delivery *
new_job(struct send *s, struct destination *d, uint32_t count)
{
	struct delivery *job = malloc(sizeof *job + count * sizeof *job->recipients);
	struct recipient *r = d->queue.first;

	if (!job)
		return NULL;
	*job = (struct delivery){
		.first = s->deliveries + 1, .given_at = s->clock, .channel = d->channel, .len = count, .left = count,
	};
	for (uint32_t i = 0; i < count; i++, r = r->next)
		job->recipients[i] = r;
	return job;
}

/* An outcome of the first recipient of d's queue without a job. */
static enum gave
settle_first(struct send *s, struct destination *d, const char *text)
{
	settle_at_once(s, destination_take(d), d->channel, 'Z', text, strlen(text));
	return GAVE_NOTHING;
}

/* Hands a job over whose strings are ready in s->strings. */
static enum gave
hand_over(struct send *s, struct destination *d, struct worker *w, struct message *m, uint32_t count, uint32_t strings_len)
{
	const char *octets = NULL;
	size_t len = 0;
	int fd = -1;
	struct delivery *job;
	enum octets_result found;

	if (s->strings.len > JOB_STRINGS_MAX)
		return settle_first(s, d, too_long);
	found = m->size <= JOB_INLINE_MAX ? octets_whole(s, m, &octets, &len) : octets_open(s, m, &fd);
	if (found == OCTETS_BAD)
		return settle_first(s, d, "The message cannot be found in the queue. (#4.3.0)\n");
	if (found == OCTETS_LATER)
		return drop_first(s, d);
	job = new_job(s, d, count);
	if (!job || !worker_give(s, w, job, strings_len, m->size, octets, fd)) {
		free(job);
		if (fd >= 0)
			close(fd);
		return CANNOT_GIVE;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct route route;

		destination_take(d);
		if (!route_find(&s->rules, recipient_address(job->recipients[i]), &s->address, &route))
			s->address.len = 1;	/* without memory the log line is short of its address */
		log_start(s, ++s->deliveries, m, d->channel, &s->address);
	}
	s->in_jobs += count;
	return GAVE_JOB;
}

/* The owner of the recipient that stands first in d's queue, whose routed address is in s->address. NULL: it is not known
 * any more, or is somebody else; the recipient has left the queue then, to come back when that is known. */
static struct owner *
known_owner(struct send *s, struct destination *d, const struct route *route)
{
	struct owner *o = owner_known(&s->owners, s->address.s, route->at, s->clock);

	if (!o)
		ask_owner(s, destination_take(d), s->address.s, route->at, 1);
	else if (strcmp(o->identity, d->name) != 0) {
		recipient_list_append(&s->unasked, destination_take(d));
		o = NULL;
	}
	return o;
}

/* Gives w the job that stands first in d's queue. */
static enum gave
give(struct send *s, struct destination *d, struct worker *w)
{
	struct recipient *r = d->queue.first;
	struct message *m = recipient_message(r);
	struct owner *o = NULL;
	uint32_t count = 1;
	struct route route;

	if (m->is_lost || (m->size > JOB_INLINE_MAX && !m->is_checked))
		return drop_first(s, d);
	if (worker_is_full(s, w, m->size))
		return CANNOT_GIVE;
	if (!route_find(&s->rules, recipient_address(r), &s->address, &route))
		return CANNOT_GIVE;
	if (route.channel != d->channel)
		return reroute_first(s, d);
	if (d->channel == ROUTE_LOCAL && !(o = known_owner(s, d, &route)))
		return GAVE_NOTHING;
	if (!verp_sender(&s->sender, message_sender(m), s->address.s + route.prepended) ||
	    !stralloc_setb(&s->strings, s->sender.s, s->sender.len))
		return CANNOT_GIVE;
	if (d->channel == ROUTE_LOCAL) {
		uint32_t strings = add_local_strings(s, r, &route, o);

		return strings ? hand_over(s, d, w, m, 1, strings) : CANNOT_GIVE;
	}
	count = add_remote_strings(s, d, &route);
	return count ? hand_over(s, d, w, m, count, job_remote_recipient(count)) : refuse_first(s, d);
}

/* Gives w up to count jobs. Returns 1 if anything moved. */
static int
give_some(struct send *s, struct destination *d, struct worker *w, uint32_t count)
{
	int moved = 0;

	for (uint32_t jobs = 0; jobs < count && d->queued;) {
		enum gave gave = give(s, d, w);

		if (gave == CANNOT_GIVE)
			break;
		moved = 1;
		jobs += gave == GAVE_JOB;
	}
	return moved;
}

/* Asks for a worker, unless the first recipient turns out to belong elsewhere. Returns 1 if anything moved. One for remote mail is told
 * of that recipient's domain, by which it finds its relay. */
static int
start(struct send *s, struct destination *d)
{
	struct route route;

	if (!route_find(&s->rules, recipient_address(d->queue.first), &s->address, &route))
		return 0;
	if (route.channel != d->channel) {
		reroute_first(s, d);
		return 1;
	}
	if (d->channel == ROUTE_REMOTE) {
		case_lowerb(s->address.s + route.at + 1, s->address.len - route.at - 2);
		if (worker_start(s, d, s->address.s + route.at + 1))
			return 1;
		return errno == EMSGSIZE && settle_first(s, d, too_long) == GAVE_NOTHING;
	}
	if (!known_owner(s, d, &route))
		return 1;
	s->address.s[route.at] = '\0';
	return worker_start(s, d, s->address.s);
}

static int
step(struct send *s, struct destination *d, enum destination_step what)
{
	uint32_t room = 0, share = destination_share(&s->destinations, d);
	struct worker *w;

	if (what == DESTINATION_START)
		return start(s, d);
	w = what == DESTINATION_IDLE ? worker_idle(d) : worker_roomy(d, &room);
	if (!w)
		return 0;
	if (what == DESTINATION_FILL && room < share)
		share = room;
	return give_some(s, d, w, share);
}

static void
assign(struct send *s, enum route_channel channel)
{
	struct destination *d;
	enum destination_step what;
	unsigned int vain = 0;

	while (vain < VAIN_STEPS && (what = destination_next(&s->destinations, channel, &d)) != DESTINATION_NOTHING) {
		vain = step(s, d, what) ? 0 : vain + 1;
		destination_update(&s->destinations, d, s->clock);
	}
}

/* Looks whether the user tables changed since the last time. */
static void
look_at_tables(struct send *s)
{
	static const char *const files[TABLES] = { "users/cdb", "users/accounts.cdb", "/etc/passwd" };
	int changed = 0;

	for (unsigned int i = 0; i < TABLES; i++) {
		struct stamp now = stamp_take(files[i]);

		changed |= !stamp_is_same(&now, &s->tables[i]);
		s->tables[i] = now;
	}
	if (!changed)
		return;
	s->owners.generation++;
	worker_wear_out(s);
}

void
delivery_assign(struct send *s)
{
	const struct destination_channel *local = &s->destinations.channels[ROUTE_LOCAL];

	if (s->is_leaving || keeper_is_behind(s))
		return;
	if (local->waiting.first || local->filling.first || s->unasked.first)
		look_at_tables(s);
	ask_owners(s);
	for (unsigned int c = 0; c < ROUTE_CHANNELS; c++)
		assign(s, c);
	/* owners that are not what they were */
	ask_owners(s);
}

/* --- answers ---------------------------------------------------------------------------------- */

/* 1 if the text of a deferral says that no connection to the destination could be had, by our own status code (RFC 3463
 * sections 3.4 and 3.5): the network in general, no answer, no directory (DNS), congestion, a system that takes no mail.
 * Not 4.4.2, a connection that broke: one message alone may bring that about each time. Nor what a server said, which may be about
 * one recipient. */
static int
is_whole_destination(const char *text, size_t len)
{
	static const char *const codes[] = { "4.3.2", "4.4.0", "4.4.1", "4.4.3", "4.4.5" };
	char status[BOUNCE_STATUS_MAX];

	if (bounce_own_status(status, text, len))
		for (unsigned int i = 0; i < sizeof codes / sizeof *codes; i++)
			if (strcmp(status, codes[i]) == 0)
				return 1;
	return 0;
}

/* All that waits for d shares the deferral of the attempt that just failed. */
static void
defer_queue(struct send *s, struct destination *d, const char *text, size_t len)
{
	static const char before[] = "Not tried, as another attempt just failed: ";
	stralloc shared = STRALLOC_ZERO;
	uint32_t count = d->queued < REFUSED_MAX ? d->queued : REFUSED_MAX;

	if (stralloc_setb(&shared, before, sizeof before - 1) && stralloc_catb(&shared, text, len))
		for (uint32_t i = 0; i < count; i++) {
			settle_at_once(s, destination_take(d), d->channel, 'Z', shared.s, shared.len);
			if (i % REFUSED_FLUSH == REFUSED_FLUSH - 1)
				log_flush(&s->log);
		}
	stralloc_free(&shared);
	destination_update(&s->destinations, d, s->clock);
}

/* What an answer means for the others that wait. */
static void
judge_destination(struct send *s, struct destination *d, char letter, const char *text, size_t len)
{
	int was_probe = d->failures && d->not_before <= s->clock;

	/* that a local worker answers at all is what its destination is for */
	if (letter != 'Z' || d->channel == ROUTE_LOCAL) {
		destination_worked(&s->destinations, d, s->clock);
		return;
	}
	if (!is_whole_destination(text, len))
		return;
	destination_failed(&s->destinations, d, s->clock);
	if (was_probe)
		defer_queue(s, d, text, len);
}

void
delivery_answer(struct send *s, struct destination *d, struct delivery *job, uint32_t n, char letter, const char *text,
    size_t len)
{
	struct recipient *r = job->recipients[n];

	len = strnlen(text, len < JOB_TEXT_MAX ? len : JOB_TEXT_MAX);
	log_outcome(s, job->first + n, letter, text, len);
	if (letter == 'k' && job->channel == ROUTE_LOCAL)
		letter = 'K';
	if (letter != 'K' && letter != 'k' && letter != 'D')
		letter = 'Z';
	job->recipients[n] = NULL;
	job->left--;
	s->in_jobs--;
	pass_outcome(s, r, job->channel, letter, text, len);
	judge_destination(s, d, letter, text, len);
}

void
delivery_fail(struct send *s, struct destination *d, struct delivery *job, const char *text)
{
	for (uint32_t i = 0; i < job->len; i++)
		if (job->recipients[i])
			delivery_answer(s, d, job, i, 'Z', text, strlen(text));
}

void
delivery_take_back(struct send *s, struct destination *d, struct delivery *job, const char *text)
{
	for (uint32_t i = job->len; i-- > 0;) {
		log_outcome(s, job->first + i, 'Z', text, strlen(text));
		destination_prepend(&s->destinations, d, job->recipients[i], s->clock);
	}
	s->in_jobs -= job->len;
	job->left = 0;
}

void
delivery_refused(struct send *s, struct destination *d, char letter, const char *text, size_t len)
{
	struct recipient *r;

	if (letter == 'Z') {
		destination_failed(&s->destinations, d, s->clock);
		if (d->queued) {
			settle_at_once(s, destination_take(d), d->channel, 'Z', text, len);
			defer_queue(s, d, text, len);
		}
	} else if ((r = destination_take(d)))
		settle_at_once(s, r, d->channel, 'D', text, len);
	destination_update(&s->destinations, d, s->clock);
}
