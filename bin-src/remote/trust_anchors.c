#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <skalibs/stralloc.h>
#include "authorities.h"
#include "trust_anchors.h"

/* --- one ---------------------------------------------------------------------------------------------------------- */

static void
append(void *to, const void *s, size_t len)
{
	stralloc_catb(to, s, len);
}

/* A copy of len octets; NULL without memory. */
static unsigned char *
copy(const unsigned char *s, size_t len)
{
	unsigned char *to = malloc(len ? len : 1);

	return to && len ? memcpy(to, s, len) : to;
}

/* Copies a key. Returns 1, or 0 without memory. */
static int
copy_key(br_x509_pkey *to, const br_x509_pkey *from)
{
	/* -Wanalyzer-null-dereference: a decoder without an error has a key */
	*to = *from;
	if (from->key_type == BR_KEYTYPE_EC) {
		to->key.ec.q = copy(from->key.ec.q, from->key.ec.qlen);
		/* -Wanalyzer-malloc-leak: free_anchor frees it */
		return to->key.ec.q != NULL;
	}
	to->key.rsa.n = copy(from->key.rsa.n, from->key.rsa.nlen);
	/* -Wanalyzer-malloc-leak: the same */
	to->key.rsa.e = copy(from->key.rsa.e, from->key.rsa.elen);
	/* -Wanalyzer-malloc-leak: the same */
	return to->key.rsa.n && to->key.rsa.e;
}

static void
free_anchor(br_x509_trust_anchor *a)
{
	free(a->dn.data);
	if (a->pkey.key_type == BR_KEYTYPE_EC)
		free(a->pkey.key.ec.q);
	else {
		free(a->pkey.key.rsa.n);
		free(a->pkey.key.rsa.e);
	}
}

int
trust_anchors_add(struct trust_anchors *t, const unsigned char *der, size_t len)
{
	br_x509_trust_anchor *more = realloc(t->anchors, (t->len + 1) * sizeof *more), *a;
	br_x509_decoder_context decoder;
	stralloc name = STRALLOC_ZERO;

	if (!more)
		return 0;
	t->anchors = more;
	br_x509_decoder_init(&decoder, append, &name);
	br_x509_decoder_push(&decoder, der, len);
	if (br_x509_decoder_last_error(&decoder) != 0) {
		stralloc_free(&name);
		errno = 0;
		return 0;
	}
	a = t->anchors + t->len;
	memset(a, 0, sizeof *a);
	a->flags = br_x509_decoder_isCA(&decoder) ? BR_X509_TA_CA : 0;
	a->dn.data = copy((unsigned char *)name.s, name.len);
	a->dn.len = name.len;
	stralloc_free(&name);
	if (!copy_key(&a->pkey, br_x509_decoder_get_pkey(&decoder)) || !a->dn.data) {
		free_anchor(a);
		errno = ENOMEM;
		return 0;
	}
	t->len++;
	return 1;
}

/* --- a file ------------------------------------------------------------------------------------------------------- */

/* Takes the certificates of a PEM text. Returns 1, or 0 with errno ENOMEM. */
static int
take_text(struct trust_anchors *t, const char *s, size_t len)
{
	br_pem_decoder_context pem;
	stralloc der = STRALLOC_ZERO;
	int is_certificate = 0, ok = 1;

	br_pem_decoder_init(&pem);
	while (ok && len) {
		size_t n = br_pem_decoder_push(&pem, s, len);

		s += n;
		len -= n;
		switch (br_pem_decoder_event(&pem)) {
		case BR_PEM_BEGIN_OBJ:
			is_certificate = strcmp(br_pem_decoder_name(&pem), "CERTIFICATE") == 0;
			der.len = 0;
			br_pem_decoder_setdest(&pem, append, &der);
			break;
		case BR_PEM_END_OBJ:
			if (is_certificate && t->len < TRUST_ANCHORS_MAX && !trust_anchors_add(t, (unsigned char *)der.s, der.len))
				ok = errno == 0;
			break;
		}
	}
	stralloc_free(&der);
	return ok;
}

int
trust_anchors_read(struct trust_anchors *t, int fd)
{
	stralloc text = STRALLOC_ZERO;
	int ok = authorities_read(&text, fd) && take_text(t, text.s, text.len);

	stralloc_free(&text);
	return ok;
}

void
trust_anchors_free(struct trust_anchors *t)
{
	for (size_t i = 0; i < t->len; i++)
		free_anchor(&t->anchors[i]);
	free(t->anchors);
	*t = (struct trust_anchors){ .len = 0 };
}
