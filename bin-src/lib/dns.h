/* dns: questions to the resolvers of this host, several at once, none of which waits for another.
 * Library     c-ares; the questions go to the name servers of control/dnsservers ("IP", "IP:PORT" or "[IPv6]:PORT", one
 *             a line), or without that file to those of /etc/resolv.conf. They resolve for us: this is a stub (RFC 1034
 *             5.3.1). UDP with EDNS of 1,232 octets, TCP where an answer is longer; a question is repeated to each
 *             server. Neither /etc/hosts nor a search list counts: names are taken as they are
 * Trust       answers are hostile. Only records count whose owner is the name that was asked for, or where its CNAMEs
 *             lead (RFC 1034 3.6.2); names are refused that are no host names where host names belong, NUL octets and
 *             NUL labels above all; a damaged answer is DNS_TEMPORARY
 * Limits      DNS_RECORDS_MAX records and DNS_TEXT_MAX octets of an answer, more are left out (and is_cut says so);
 *             DNS_LINKS_MAX CNAMEs; DNS_QUESTIONS_MAX questions at the same time; the caller's deadline for time
 * Shut in     dns_open reads the files, so it comes before sandbox_enter, and the filter has to have internet sockets
 *             (sandbox_remote); struct sandbox.network is set. No thread, and no file is opened after dns_open
 * Permanent?  DNS_NO_NAME and DNS_NO_DATA are statements of the server. All else is DNS_TEMPORARY: silence, SERVFAIL,
 *             REFUSED, damage, CNAME loops, an answer of other records alone without an SOA, no memory. Nobody bounces
 *             for it */
#ifndef DNS_H
#define DNS_H
#include <stddef.h>
#include <stdint.h>

enum {
	DNS_NAME_MAX = 253,		/* octets of a name, without the final dot */
	DNS_RECORDS_MAX = 1024,		/* of an answer */
	DNS_TEXT_MAX = 128 * 1024,	/* octets of all texts of an answer, each one's final NUL included */
	DNS_LINKS_MAX = 16,		/* CNAMEs from the name asked for to the records */
	DNS_QUESTIONS_MAX = 256,	/* pending at the same time */
};

enum dns_type {
	DNS_A = 1, DNS_CNAME = 5, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_TLSA = 52,
};

enum dns_kind {
	DNS_PENDING,	/* no answer yet */
	DNS_FOUND,	/* there are records; but records_len is 0 if none of them is usable */
	DNS_NO_NAME,	/* there is no such name (NXDOMAIN), or it cannot be one: too long, empty label, odd octet */
	DNS_NO_DATA,	/* the name exists, or may, but has no record of this type */
	DNS_TEMPORARY,	/* nobody knows now; trouble says why */
};

/* A record. A: text is 4 octets, AAAA: 16, the address. MX, PTR, CNAME: a host name of RFC 1123 2.1 (and '_'), lower
 * case, without the final dot; "" is the root, which in MX means null MX (RFC 7505). TXT: its strings joined, any octet
 * may occur. TLSA: the RDATA as it is (RFC 6698 2.1). A NUL follows every text. */
struct dns_record {
	uint16_t preference;	/* MX */
	uint32_t ttl;		/* seconds, at most a week; the smallest of the CNAMEs' and its own */
	const char *text;	/* owned by the question */
	size_t len;
};

/* A question and its answer. The caller's memory, all zero at first; it stays where it is until it is answered. */
struct dns_question {
	enum dns_kind kind;
	enum dns_type type;
	char name[DNS_NAME_MAX + 1];	/* lower case; after an answer, where its CNAMEs led */
	unsigned int links;		/* how many CNAMEs were followed; a name without any has no alias */
	int is_authentic;		/* every server that answered had set the AD bit (RFC 4035 3.2.3). Worth something
					 * only if dns_is_local() and the way there is trusted, RFC 7672 2.2 */
	int is_cut;			/* there were more records than the limits allow, or some that were unusable */
	uint32_t ttl;			/* smallest of all records, seconds */
	const struct dns_record *records;	/* records_len of them, in the order of the answer */
	size_t records_len;
	const char *trouble;		/* DNS_TEMPORARY: a static phrase, such as "no server answered in time" */
	void *state;			/* of this module */
};

struct dns;	/* the resolvers and what is pending */

/* Reads control/dnsservers (of the current directory) or /etc/resolv.conf. Returns NULL with errno set on trouble, EINVAL
 * if dnsservers makes no sense; the caller's trouble is then temporary. */
struct dns *dns_open(void);

/* Cancels what is pending (DNS_TEMPORARY), closes the sockets and frees d; NULL is allowed. */
void dns_close(struct dns *d);

/* Asks for the records of type at name (with or without a final dot) and sends the question; q is DNS_PENDING, or answered
 * already (no such name possible, too many questions, no memory). What q held before is freed. */
void dns_ask(struct dns *d, struct dns_question *q, const char *name, enum dns_type type);

/* Takes and repeats what there is to take and to repeat, and waits for the rest, until every question is answered
 * (returns 1) or the clock of monotonic.h shows deadline, in milliseconds (returns 0). A deadline that is over already
 * only takes what has come. May be called again: nothing is lost by a deadline. */
int dns_wait(struct dns *d, uint64_t deadline);

/* Every question that is still pending becomes DNS_TEMPORARY. */
void dns_cancel(struct dns *d);

/* dns_wait, then dns_cancel. */
void dns_finish(struct dns *d, uint64_t deadline);

/* 1 if every server is on the loopback interface, so that its AD bit came over no network. */
int dns_is_local(const struct dns *d);

/* Frees the answer and makes q all zero; not for one that is pending. */
void dns_free(struct dns_question *q);

#endif
