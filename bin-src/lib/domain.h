/* domain: domains in the letters of the DNS. An address of RFC 6531 may have a domain in any letters (U-labels); the DNS, and
 * a host without SMTPUTF8, know its form in ASCII (A-labels, "xn--").
 * Grammar   RFC 5891 section 5 and RFC 5895, by libidn2: mapped to lower case and NFC, not transitional
 * Trust     the domain is anybody's. Opens no file and asks nobody */
#ifndef DOMAIN_H
#define DOMAIN_H

enum { DOMAIN_MAX = 255 };	/* octets of a domain in ASCII, RFC 5321 4.5.3.1.2 */
enum { DOMAIN_UTF8_MAX = 1020 };	/* octets of one in UTF-8 that is looked at: four for each octet of ASCII */

/* 1 if all octets of domain are ASCII. */
int domain_is_ascii(const char *domain);

/* Writes the form in ASCII: domain as it is if it is ASCII already, whatever is in it. Returns 1, or 0 if there is none: no
 * UTF-8, letters that may not be in a domain, too long. No such domain can be in the DNS, but for 0 with errno ENOMEM. */
int domain_to_ascii(char ascii[DOMAIN_MAX + 1], const char *domain);

/* The domain without the dot that may end it, which is for the DNS no part of the name: name, or domain itself if there is none. "." and
 * what ends in two dots stay, no domains; and what has more than DOMAIN_UTF8_MAX octets without it. */
const char *domain_without_dot(char name[DOMAIN_UTF8_MAX + 1], const char *domain);

/* The form to look a domain up by that has other letters: in ASCII, without a final dot. Returns ascii, or NULL if domain is ASCII already,
 * or has no such form. */
const char *domain_other_form(char ascii[DOMAIN_MAX + 1], const char *domain);

#endif
