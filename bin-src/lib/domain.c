#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <idn2.h>
#include "domain.h"

int
domain_is_ascii(const char *domain)
{
	while (*domain && (unsigned char)*domain < 0x80)
		domain++;
	return !*domain;
}

int
domain_to_ascii(char ascii[DOMAIN_MAX + 1], const char *domain)
{
	uint8_t *converted = NULL;
	size_t len = strnlen(domain, DOMAIN_UTF8_MAX + 1);
	int r;

	errno = 0;
	if (domain_is_ascii(domain)) {
		if (len > DOMAIN_MAX)
			return 0;
		memcpy(ascii, domain, len + 1);
		return 1;
	}
	if (len > DOMAIN_UTF8_MAX)
		return 0;
	r = idn2_lookup_u8((const uint8_t *)domain, &converted, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	if (r == IDN2_MALLOC)
		errno = ENOMEM;
	if (r != IDN2_OK)
		return 0;
	len = strlen((const char *)converted);
	if (len <= DOMAIN_MAX)
		memcpy(ascii, converted, len + 1);
	idn2_free(converted);
	return len <= DOMAIN_MAX;
}

static size_t
length_without_dot(const char *domain)
{
	size_t len = strlen(domain);

	return len > 1 && domain[len - 1] == '.' && domain[len - 2] != '.' ? len - 1 : len;
}

const char *
domain_without_dot(char name[DOMAIN_UTF8_MAX + 1], const char *domain)
{
	size_t len = length_without_dot(domain);

	if (!domain[len] || len > DOMAIN_UTF8_MAX)
		return domain;
	memcpy(name, domain, len);
	name[len] = '\0';
	return name;
}

const char *
domain_other_form(char ascii[DOMAIN_MAX + 1], const char *domain)
{
	if (domain_is_ascii(domain) || !domain_to_ascii(ascii, domain))
		return NULL;
	ascii[length_without_dot(ascii)] = '\0';
	return ascii;
}
