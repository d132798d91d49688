#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <skalibs/bytestr.h>
#include "server_proof.h"

/* --- names --------------------------------------------------------------------------------------------------------- */

static int
add_name(stralloc *names, const char *prefix, const char *s, size_t len)
{
	size_t at = names->len;

	if (!stralloc_cats(names, prefix) || !stralloc_catb(names, s, len) || !stralloc_0(names))
		return 0;
	case_lowerb(names->s + at, names->len - at);
	return 1;
}

int
server_proof_names(struct server_proof *p, const char *relay, const char *domain)
{
	const char *s = p->policy->names;
	int ok = 1;

	p->names.len = 0;
	if (!*s)
		return *relay ? add_name(&p->names, "", relay, strlen(relay)) :
		    add_name(&p->names, "", domain, strlen(domain)) && add_name(&p->names, ".", domain, strlen(domain));
	while (ok && *s) {
		size_t len = strcspn(s, ":");

		ok = !len || add_name(&p->names, "", s, len);
		s += len + (s[len] != '\0');
	}
	return ok;
}

/* Whether a name of the certificate is below the suffix, which begins with a dot. */
static int
has_below(const stralloc *names, const char *suffix)
{
	size_t suffix_len = strlen(suffix), len;

	for (size_t at = 0; at < names->len; at += len + 1) {
		len = strlen(names->s + at);
		if (len > suffix_len && strcmp(names->s + at + len - suffix_len, suffix) == 0)
			return 1;
	}
	return 0;
}

const char *
server_proof_is_for(const stralloc *names, const struct certificate *own)
{
	stralloc theirs = STRALLOC_ZERO;
	int is_for = 0;

	if (certificate_names(&theirs, own))
		for (size_t at = 0; !is_for && at < names->len; at += strlen(names->s + at) + 1) {
			const char *name = names->s + at;

			is_for = *name == '.' ? has_below(&theirs, name) : certificate_is_for(&theirs, name);
		}
	stralloc_free(&theirs);
	return is_for ? NULL : "its certificate is for another name";
}

/* --- authorities ----------------------------------------------------------------------------------------------------- */

const char *
server_proof_path(const struct server_chain *c, const struct trust_anchors *anchors)
{
	static char text[64];
	br_x509_minimal_context m;
	unsigned int error;

	br_x509_minimal_init(&m, &br_sha256_vtable, anchors->anchors, anchors->len);
	br_x509_minimal_set_rsa(&m, br_rsa_pkcs1_vrfy_get_default());
	br_x509_minimal_set_ecdsa(&m, br_ec_get_default(), br_ecdsa_vrfy_asn1_get_default());
	br_x509_minimal_set_hash(&m, br_sha256_ID, &br_sha256_vtable);
	br_x509_minimal_set_hash(&m, br_sha384_ID, &br_sha384_vtable);
	br_x509_minimal_set_hash(&m, br_sha512_ID, &br_sha512_vtable);
	m.vtable->start_chain(&m.vtable, NULL);
	for (size_t i = 0; i < c->len; i++) {
		m.vtable->start_cert(&m.vtable, (uint32_t)c->certificates[i].len);
		m.vtable->append(&m.vtable, c->certificates[i].der, c->certificates[i].len);
		m.vtable->end_cert(&m.vtable);
	}
	error = m.vtable->end_chain(&m.vtable);
	switch (error) {
	case 0:
		return NULL;
	case BR_ERR_X509_EXPIRED:
		return "its certificate has expired, or is not valid yet";
	case BR_ERR_X509_NOT_TRUSTED:
		return "its certificate comes from no authority that is known here";
	}
	snprintf(text, sizeof text, "its certificate is not valid (error %u)", error);
	return text;
}

/* --- fingerprints ---------------------------------------------------------------------------------------------------- */

static int
is_known(const struct tlspolicy *p, const unsigned char *s, size_t len)
{
	unsigned char digest[br_sha256_SIZE];
	br_sha256_context sha;

	br_sha256_init(&sha);
	br_sha256_update(&sha, s, len);
	br_sha256_out(&sha, digest);
	for (unsigned int i = 0; i < p->fingerprints_len; i++)
		if (memcmp(p->fingerprints[i], digest, sizeof digest) == 0)
			return 1;
	return 0;
}

/* --- all ------------------------------------------------------------------------------------------------------------- */

static const char *
check(const struct server_chain *c, const void *of)
{
	const struct server_proof *p = of;
	struct certificate own;
	const char *why;

	if (!certificate_read(&own, c->certificates[0].der, c->certificates[0].len))
		return "its certificate cannot be read";
	if (p->policy->level == TLS_FINGERPRINT)
		return is_known(p->policy, c->certificates[0].der, c->certificates[0].len) || is_known(p->policy, own.key, own.key_len) ?
		    NULL : "its certificate has another fingerprint";
	if (!p->authorities->len)
		return "no certificate authority is known here, by control/tlscafile";
	why = server_proof_path(c, p->authorities);
	return why ? why : server_proof_is_for(&p->names, &own);
}

static const char *
look(const struct server_chain *c, const void *of)
{
	struct server_proof *p = (struct server_proof *)(uintptr_t)of;

	p->finding = check(c, of);
	return NULL;
}

void
server_proof_demand(struct server_proof *p, struct server_chain *chain)
{
	p->finding = NULL;
	chain->demand = p->is_lenient ? look : p->policy->level == TLS_VERIFY || p->policy->level == TLS_FINGERPRINT ? check : NULL;
	chain->of = p;
}
