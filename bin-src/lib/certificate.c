#include <errno.h>
#include <string.h>
#include <skalibs/bytestr.h>
#include "certificate.h"

enum tag {
	TAG_OCTET_STRING = 0x04, TAG_OID = 0x06, TAG_SEQUENCE = 0x30, TAG_VERSION = 0xa0, TAG_EXTENSIONS = 0xa3,
	TAG_DNS_NAME = 0x82,	/* of GeneralName */
};

/* What is left to be read. */
struct der { const unsigned char *s; size_t len; };

/* Takes the next element off in, whatever its tag. whole: with header; contents: without it; either may be NULL, neither is in.
 * 1, or 0: there is none, or it is not whole. */
static int
take_any(struct der *in, unsigned char *tag, struct der *whole, struct der *contents)
{
	size_t header = 2, len, digits;

	if (in->len < 2)
		return 0;
	len = in->s[1];
	if (len & 0x80) {
		digits = len & 0x7f;
		if (digits < 1 || digits > 3 || in->len < 2 + digits)
			return 0;
		for (len = 0; digits; digits--)
			len = len << 8 | in->s[header++];
	}
	if (in->len - header < len)
		return 0;
	*tag = in->s[0];
	if (whole)
		*whole = (struct der){ in->s, header + len };
	if (contents)
		*contents = (struct der){ in->s + header, len };
	in->s += header + len;
	in->len -= header + len;
	return 1;
}

/* The same for an element with this tag. */
static int
take(struct der *in, enum tag wanted, struct der *whole, struct der *contents)
{
	unsigned char tag;

	return take_any(in, &tag, whole, contents) && tag == wanted;
}

/* Takes the version away, which may be missing. */
static void
skip_version(struct der *in)
{
	if (in->len && in->s[0] == TAG_VERSION)
		take(in, TAG_VERSION, NULL, NULL);
}

int
certificate_read(struct certificate *c, const unsigned char *der, size_t len)
{
	struct der in = { der, len }, all, to_be_signed, issuer, subject, key, tagged, list;
	unsigned char tag;

	*c = (struct certificate){ .extensions_len = 0 };
	if (!take(&in, TAG_SEQUENCE, NULL, &all) || !take(&all, TAG_SEQUENCE, NULL, &to_be_signed))
		return 0;
	skip_version(&to_be_signed);
	if (!take_any(&to_be_signed, &tag, NULL, NULL) ||	/* serialNumber */
	    !take(&to_be_signed, TAG_SEQUENCE, NULL, NULL) ||	/* signature */
	    !take(&to_be_signed, TAG_SEQUENCE, &issuer, NULL) || !take(&to_be_signed, TAG_SEQUENCE, NULL, NULL) ||	/* validity */
	    !take(&to_be_signed, TAG_SEQUENCE, &subject, NULL) || !take(&to_be_signed, TAG_SEQUENCE, &key, NULL))
		return 0;
	c->issuer = issuer.s;
	c->issuer_len = issuer.len;
	c->subject = subject.s;
	c->subject_len = subject.len;
	c->key = key.s;
	c->key_len = key.len;
	while (to_be_signed.len) {
		if (!take_any(&to_be_signed, &tag, NULL, &tagged))
			return 0;
		if (tag != TAG_EXTENSIONS)
			continue;
		if (!take(&tagged, TAG_SEQUENCE, NULL, &list))
			return 0;
		c->extensions = list.s;
		c->extensions_len = list.len;
	}
	return 1;
}

int
certificate_is_self_signed(const struct certificate *c)
{
	return c->issuer_len == c->subject_len && memcmp(c->issuer, c->subject, c->issuer_len) == 0;
}

static int
is_host(const struct der *name)
{
	for (size_t i = 0; i < name->len; i++)
		if (!name->s[i] || !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*", name->s[i]))
			return 0;
	return name->len > 0;
}

/* Appends the DNS names of a subjectAltName. 1, or 0 with errno. */
static int
add_names(stralloc *names, struct der in)
{
	unsigned char tag;
	struct der list, name;

	if (!take(&in, TAG_SEQUENCE, NULL, &list)) {
		errno = EINVAL;
		return 0;
	}
	while (list.len) {
		if (!take_any(&list, &tag, NULL, &name)) {
			errno = EINVAL;
			return 0;
		}
		if (tag != TAG_DNS_NAME || !is_host(&name))
			continue;
		if (!stralloc_readyplus(names, name.len + 1) || !stralloc_catb(names, (const char *)name.s, name.len))
			return 0;
		case_lowerb(names->s + names->len - name.len, name.len);
		if (!stralloc_0(names))
			return 0;
	}
	return 1;
}

int
certificate_names(stralloc *names, const struct certificate *c)
{
	static const unsigned char subject_alt_name[] = { 0x55, 0x1d, 0x11 };	/* 2.5.29.17 */
	struct der in = { c->extensions, c->extensions_len }, extension, id, value;
	unsigned char tag;

	errno = EINVAL;
	while (in.len) {
		if (!take(&in, TAG_SEQUENCE, NULL, &extension) || !take(&extension, TAG_OID, NULL, &id))
			return 0;
		if (id.len != sizeof subject_alt_name || memcmp(id.s, subject_alt_name, id.len) != 0)
			continue;
		do	/* critical may stand before it */
			if (!take_any(&extension, &tag, NULL, &value))
				return 0;
		while (tag != TAG_OCTET_STRING);
		if (!add_names(names, value))
			return 0;
	}
	return 1;
}

int
certificate_is_for(const stralloc *names, const char *host)
{
	const char *rest = strchr(host, '.');
	int r = 0;

	for (size_t at = 0; at < names->len; at += strlen(names->s + at) + 1) {
		const char *name = names->s + at;

		if (strcmp(name, host) == 0)
			return 2;
		if (rest && rest > host && name[0] == '*' && strcmp(name + 1, rest) == 0)
			r = 1;
	}
	return r;
}
