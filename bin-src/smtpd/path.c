#include <arpa/inet.h>
#include <string.h>
#include <strings.h>
#include "path.h"
#include "utf8.h"

struct scan {
	const char *s;
	size_t at, len;
	struct path *path;
	int too_long;
};

static int
peek(const struct scan *c)
{
	return c->at < c->len ? (unsigned char)c->s[c->at] : -1;
}

static int
take(struct scan *c, char wanted)
{
	if (peek(c) != (unsigned char)wanted)
		return 0;
	c->at++;
	return 1;
}

/* Adds an octet to the address. What does not fit is counted, so that the rest is checked for its form. */
static void
put(struct scan *c, const char *s, size_t len)
{
	if (c->path->len + len > PATH_ADDRESS_MAX)
		c->too_long = 1;
	else {
		memcpy(c->path->address + c->path->len, s, len);
		c->path->len += len;
	}
}

static int
is_blank(int o)
{
	return o == ' ' || o == '\t';
}

static int
is_alphanumeric(int o)
{
	return (o >= '0' && o <= '9') || (o >= 'A' && o <= 'Z') || (o >= 'a' && o <= 'z');
}

/* atext of RFC 5322 section 3.2.3, and the dot. */
static int
is_local_octet(int o)
{
	return is_alphanumeric(o) || (o > 0 && strchr("!#$%&'*+-/=?^_`{|}~.", o));
}

size_t
path_utf8(const char *s, size_t len)
{
	size_t n = len ? utf8_length(s, len) : 0;

	/* U+0080 to U+009F are controls */
	return n < 2 || (n == 2 && (unsigned char)s[0] == 0xc2 && (unsigned char)s[1] < 0xa0) ? 0 : n;
}

/* One character above 127. */
static int
take_utf8(struct scan *c)
{
	size_t n = path_utf8(c->s + c->at, c->len - c->at);

	put(c, c->s + c->at, n);
	c->at += n;
	c->path->is_internationalized |= n > 0;
	return n > 0;
}

/* Quoted-string of RFC 5321 section 4.1.2, behind its first quote. */
static int
take_quoted(struct scan *c)
{
	int o;

	while ((o = peek(c)) != '"') {
		if (o > 127) {
			if (!take_utf8(c))
				return 0;
			continue;
		}
		if (take(c, '\\'))
			o = peek(c);
		if (o < 32 || o > 126)
			return 0;
		put(c, c->s + c->at++, 1);
	}
	c->at++;
	return c->path->len > 0 || c->too_long;
}

static int
take_local_part(struct scan *c)
{
	size_t start = c->at;
	int o;

	if (take(c, '"'))
		return take_quoted(c);
	while (is_local_octet(o = peek(c)) || o > 127)
		if (o <= 127)
			put(c, c->s + c->at++, 1);
		else if (!take_utf8(c))
			return 0;
	return c->at > start;
}

/* sub-domain, or U-label: of that only its form in ASCII, which is not looked for here, has to fit into the DNS. */
static int
take_label(struct scan *c)
{
	size_t start = c->at, most = PATH_LABEL_MAX;
	int o, first = peek(c), last = -1;

	while ((o = peek(c)) > 127 || is_alphanumeric(o) || o == '-' || o == '_') {
		if (o > 127) {
			if (!take_utf8(c))
				return 0;
			most = PATH_ULABEL_MAX;
		} else
			put(c, c->s + c->at++, 1);
		last = o;
	}
	return c->at > start && c->at - start <= most && first != '-' && last != '-';
}

/* What is between the brackets: an IPv4 address, or "IPv6:" and one (RFC 5321 section 4.1.3). */
static int
scan_literal(ip46 *literal, const char *s, size_t len)
{
	char text[INET6_ADDRSTRLEN];
	int six = len > 5 && strncasecmp(s, "IPv6:", 5) == 0;
	unsigned char octets[16];

	s += six ? 5 : 0;
	len -= six ? 5 : 0;
	if (len >= sizeof text || memchr(s, '\0', len))
		return 0;
	memcpy(text, s, len);
	text[len] = '\0';
	if (inet_pton(six ? AF_INET6 : AF_INET, text, octets) != 1)
		return 0;
	ip46_from_ip(literal, (char *)octets, six);
	return 1;
}

static int
take_literal(struct scan *c)
{
	const char *s = c->s + c->at, *close = memchr(s, ']', c->len - c->at);
	size_t len;

	if (!close)
		return 0;
	len = (size_t)(close - s);
	if (!scan_literal(&c->path->literal, s + 1, len - 1))
		return 0;
	c->path->has_literal = 1;
	put(c, s, len + 1);
	c->at += len + 1;
	return 1;
}

static int
take_domain(struct scan *c)
{
	size_t start = c->at;

	if (peek(c) == '[')
		return take_literal(c);
	for (;;) {
		if (!take_label(c))
			return 0;
		if (peek(c) != '.')
			break;
		put(c, c->s + c->at++, 1);
	}
	c->too_long |= c->at - start > PATH_DOMAIN_MAX;
	return 1;
}

/* "@a,@b:" before the mailbox: RFC 5321 appendix C says to take it and to drop it. */
static int
skip_source_route(struct scan *c)
{
	do {
		if (!take(c, '@') || !take_domain(c))
			return 0;
	} while (take(c, ','));
	if (!take(c, ':'))
		return 0;
	c->path->len = 0;
	c->path->has_literal = 0;
	return !c->too_long;
}

static int
take_mailbox(struct scan *c)
{
	if (peek(c) == '@' && !skip_source_route(c))
		return 0;
	if (!take_local_part(c))
		return 0;
	c->path->at = c->path->len;
	if (!take(c, '@'))
		return 1;
	put(c, "@", 1);
	return take_domain(c);
}

/* "#@[]", the sender of double bounces of qmail, which sends them so. */
static int
take_double_bounce(struct scan *c)
{
	static const char sender[] = "#@[]";
	size_t len = sizeof sender - 1;

	if (c->len - c->at <= len || memcmp(c->s + c->at, sender, len) != 0 || c->s[c->at + len] != '>')
		return 0;
	put(c, sender, len);
	c->path->at = 1;
	c->at += len;
	return 1;
}

enum path_result
path_parse(struct path *path, const char *s, size_t len, enum path_kind kind)
{
	struct scan c = { .s = s, .len = len, .path = path };
	int bracketed;

	path->len = path->at = 0;
	path->is_internationalized = path->has_literal = 0;
	while (is_blank(peek(&c)))
		c.at++;
	bracketed = take(&c, '<');
	if (bracketed && peek(&c) == '>') {
		if (kind == PATH_FORWARD)
			return PATH_MALFORMED;
	} else if (!(bracketed && kind == PATH_REVERSE && take_double_bounce(&c)) && !take_mailbox(&c))
		return PATH_MALFORMED;
	if (bracketed && !take(&c, '>'))
		return PATH_MALFORMED;
	if (c.at < len && !is_blank(peek(&c)))
		return PATH_MALFORMED;
	path->address[path->len] = '\0';
	path->end = c.at;
	return c.too_long ? PATH_TOO_LONG : PATH_OK;
}
