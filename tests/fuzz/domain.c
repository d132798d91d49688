/* The form that a domain has in the DNS, given any octets. */
#include <assert.h>
#include "domain.h"
#include "given.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* It is ASCII, no longer than a domain may be, and its own form; what is ASCII already stays as it is. */
int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	char *domain = given_string((struct given){ octets, len }), form[DOMAIN_MAX + 1], again[DOMAIN_MAX + 1], room[DOMAIN_UTF8_MAX + 1];
	const char *name = domain_without_dot(room, domain);

	assert(strncmp(name, domain, strlen(name)) == 0 && strlen(domain) - strlen(name) <= 1);
	if (domain_to_ascii(form, domain)) {
		assert(domain_is_ascii(form) && strlen(form) <= DOMAIN_MAX);
		assert(domain_to_ascii(again, form) && strcmp(again, form) == 0 && !domain_other_form(again, form));
		assert(!domain_is_ascii(domain) || strcmp(domain, form) == 0);
	} else {
		assert(!domain_is_ascii(domain) || strlen(domain) > DOMAIN_MAX);
		assert(!domain_other_form(again, domain));
	}
	free(domain);
	return 0;
}
