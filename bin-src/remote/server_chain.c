#include <string.h>
#include "server_chain.h"

static struct server_chain *
chain_of(const br_x509_class **class)
{
	return (struct server_chain *)(uintptr_t)class;
}

static void
start_chain(const br_x509_class **class, const char *name)
{
	struct server_chain *c = chain_of(class);

	(void)name;	/* what it has to be called is the demand's */
	c->trouble = NULL;
	c->len = c->used = c->missing = 0;
	c->is_cut = 0;
}

static void
start_certificate(const br_x509_class **class, uint32_t len)
{
	struct server_chain *c = chain_of(class);

	c->is_cut |= c->len == SERVER_CHAIN_LEN || len > sizeof c->octets - c->used;
	if (c->is_cut)
		return;
	c->certificates[c->len].der = c->octets + c->used;
	c->certificates[c->len++].len = len;
	c->missing = len;
}

static void
append(const br_x509_class **class, const unsigned char *s, size_t len)
{
	struct server_chain *c = chain_of(class);

	if (c->is_cut || len > c->missing)
		return;
	memcpy(c->octets + c->used, s, len);
	c->used += len;
	c->missing -= len;
}

static void
end_certificate(const br_x509_class **class)
{
	struct server_chain *c = chain_of(class);

	if (!c->missing)
		return;
	c->len--;
	c->missing = 0;
	c->is_cut = 1;
}

/* What is returned is for the alert. */
static unsigned int
end_chain(const br_x509_class **class)
{
	struct server_chain *c = chain_of(class);
	unsigned int error = BR_ERR_X509_EMPTY_CHAIN;

	if (c->len) {
		br_x509_decoder_init(&c->own, NULL, NULL);
		br_x509_decoder_push(&c->own, c->certificates[0].der, c->certificates[0].len);
		error = (unsigned int)br_x509_decoder_last_error(&c->own);
	}
	if (error) {
		c->trouble = "its certificate cannot be read";
		return error;
	}
	c->trouble = c->demand ? c->demand(c, c->of) : NULL;
	return c->trouble ? BR_ERR_X509_NOT_TRUSTED : 0;
}

static const br_x509_pkey *
own_key(const br_x509_class *const *class, unsigned int *usages)
{
	const struct server_chain *c = (const struct server_chain *)(const void *)class;

	if (usages)
		*usages = BR_KEYTYPE_KEYX | BR_KEYTYPE_SIGN;
	return br_x509_decoder_get_pkey((br_x509_decoder_context *)(uintptr_t)&c->own);
}

void
server_chain_set(struct server_chain *c, br_ssl_engine_context *engine)
{
	static const br_x509_class class = {
		.context_size = sizeof *c, .start_chain = start_chain, .start_cert = start_certificate, .append = append,
		.end_cert = end_certificate, .end_chain = end_chain, .get_pkey = own_key,
	};

	c->class = &class;
	br_ssl_engine_set_x509(engine, &c->class);
}
