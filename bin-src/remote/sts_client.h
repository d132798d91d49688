/* sts_client: asks qmail-mtastsd for the policy of MTA-STS of a domain.
 * Wire     one question a connection over STS_SOCKET, a Unix SOCK_SEQPACKET socket, in one packet, and one answer:
 *            domain NUL id       the domain as sts_cache_is_domain has it, or with octets that no host has in its name; the id of its TXT
 *                                record, or "" where there is none
 *                'P' text        the policy, as it was fetched (sts_policy.h)
 *                'N'             none is known, or there can be none
 * Trust    qmail-mtastsd is believed; its packets are checked and bounded
 * Waits    qmail-mtastsd answers within STS_ANSWER_MS by what it knows then; a client gives it a little more
 * Sandbox  once connected: sending and receiving */
#ifndef STS_CLIENT_H
#define STS_CLIENT_H
#include "sts_policy.h"
#include "sts_record.h"

#define STS_SOCKET "run/qmail-mtastsd/socket"

enum { STS_ANSWER_MS = 10000, STS_PATIENCE_MS = 15000, STS_QUESTION_MAX = 253 + 1 + STS_ID_MAX };

enum sts_answer { STS_POLICY, STS_NO_POLICY, STS_NO_ANSWER };

/* A connection. -1: there is no qmail-mtastsd here, or with errno other than ENOENT it does not serve now. */
int sts_client_connect(void);

/* Asks, waits, and closes fd. STS_POLICY: *policy is filled, its text stays until the next call. */
enum sts_answer sts_client_ask(int fd, const char *domain, const char *id, struct sts_policy *policy);

#endif
