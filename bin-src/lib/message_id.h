/* message_id: the message identifiers that this system makes, RFC 5322 section 3.6.4. */
#ifndef MESSAGE_ID_H
#define MESSAGE_ID_H
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <skalibs/stralloc.h>

/* Appends "<YYYYMMDDhhmmss.SERIAL.qmail@HOST>", the time in UTC. serial: what tells apart the messages that this host
 * makes within a second, such as a process id. A time outside the years 1900 to 9999 is taken as 0.
 * Returns 1, or 0 with errno ENOMEM. */
int message_id_append(stralloc *to, time_t when, uint64_t serial, const char *host, size_t host_len);

#endif
