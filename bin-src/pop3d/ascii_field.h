/* ascii_field: a header field for a client that takes ASCII only, RFC 6858 section 2.
 * As it is     a field that is ASCII; one with other octets that are not UTF-8 either, which RFC 6532 does not know and clients guess at
 * Addresses    those that are not ASCII become <invalid@internationalized-address.invalid>, with what they were as the display name;
 *              other display names are encoded (RFC 2047) (section 2.1)
 * Parameters   of Content-Type and Content-Disposition: encoded (RFC 2231 section 4), so that attachments keep their names, which
 *              section 2.2 would leave out; left out where that is not possible
 * Text         Subject, and others without grammar, are encoded (RFC 2047) (section 2.3)
 * All others   are left out (section 2.4)
 * Trust        the field is hostile: any octet may occur. Time and memory are in proportion to it; no recursion */
#ifndef ASCII_FIELD_H
#define ASCII_FIELD_H
#include <stddef.h>
#include <skalibs/stralloc.h>

/* Appends a field, len octets with its line ends, which are CR LF, as ASCII to *to; nothing where it is left out. Returns 1, or 0 with
 * errno ENOMEM. */
int ascii_field(stralloc *to, const char *field, size_t len);

#endif
