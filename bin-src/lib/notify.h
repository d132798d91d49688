/* notify: of what the sender of a message wants to hear, RFC 3461 section 4.1, and what there is to tell of a success.
 * Trust     the values come from the network: what makes no sense counts as absent */
#ifndef NOTIFY_H
#define NOTIFY_H
#include <stddef.h>
#include <skalibs/stralloc.h>

enum notify_event { NOTIFY_SUCCESS = 1, NOTIFY_FAILURE = 2, NOTIFY_DELAY = 4 };

/* The events (bits) in the NOTIFY parameter of a recipient's parameters (queue/envelope.h); without one, or with one that
 * makes no sense, NOTIFY_FAILURE. NEVER: 0. */
unsigned int notify_events(const char *parameters);

/* The parameters of a copy that qmail-local sends on, without NUL, "" if there are none, in *out. RFC 3461 section 5.2.7:
 * SMTPUTF8 and BODY belong to the message. The rest is carried on to what an alias stands for, where the sender stays
 * the same; but SUCCESS is not, because that is reported here as "expanded" or "delivered". A mailing list, which gives its
 * copies a sender of its own (is_list), carries nothing else on. Return 1, or 0 (ENOMEM). */
int notify_carry_sender(stralloc *out, const char *parameters, int is_list);
int notify_carry_recipient(stralloc *out, const char *parameters, int is_list);

/* What a report of success says, RFC 3464 section 2.3.3. It is the first octet of the recipient's text. */
enum notify_action { NOTIFY_DELIVERED = 'd', NOTIFY_RELAYED = 'r', NOTIFY_EXPANDED = 'e' };

/* The action for a delivery with the text of its worker.
 *   remote   relayed: the next host does not know the parameters
 *   local    by the line "did FILES+FORWARDS+PROGRAMS" at the end of qmail-local's text: expanded if the message was only
 *            forwarded, which RFC 3461 section 5.2.7.3 calls an alias; else delivered */
enum notify_action notify_action(int is_remote, const char *text, size_t len);

#endif
