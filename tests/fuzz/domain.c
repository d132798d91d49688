/* The form that a domain has in the DNS, given any octets. */
#include <assert.h>
#include "domain.h"
#include "given.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* It is ASCII, no longer than a domain may be, and its own form; what is ASCII already stays as it is. */
int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	char *domain = given_string((struct given){ octets, len }), ascii[DOMAIN_MAX + 1], other[DOMAIN_MAX + 1];

	if (domain_to_ascii(ascii, domain)) {
		assert(domain_is_ascii(ascii) && strlen(ascii) <= DOMAIN_MAX);
		assert(domain_to_ascii(other, ascii) && strcmp(other, ascii) == 0 && !domain_other_form(other, ascii));
		assert(!domain_is_ascii(domain) || strcmp(domain, ascii) == 0);
	} else {
		assert(!domain_is_ascii(domain) || strlen(domain) > DOMAIN_MAX);
		assert(!domain_other_form(other, domain));
	}
	free(domain);
	return 0;
}
