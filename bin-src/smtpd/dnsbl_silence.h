/* dnsbl_silence: what it means that DNS lists do not answer: nothing, or, with DNSBLFAILCLOSED or control/dnsblfailclosed, that the client is
 * in them. For qmail-dnsbl of each list, for a session of all, where qmail-dnsbl fails. */
#ifndef DNSBL_SILENCE_H
#define DNSBL_SILENCE_H

/* Whether it defers mail: the variable says so, else the file below control/ of the current directory, by a number other than 0. Returns 1,
 * 0, or -1 with errno set: the file cannot be read. */
int dnsbl_silence_defers(void);

#endif
