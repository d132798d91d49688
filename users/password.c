#include <crypt.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "password.h"

_Static_assert((int)PASSWORD_HASH_MAX >= (int)CRYPT_OUTPUT_SIZE, "any hash fits");

int
password_is_hash(const char *hash)
{
	int r = *hash == '$' ? crypt_checksalt(hash) : CRYPT_SALT_INVALID;

	return r != CRYPT_SALT_INVALID && r != CRYPT_SALT_METHOD_DISABLED;
}

/* Works password through as setting says. Returns 1, or 0 with errno set. */
static int
work(char hash[PASSWORD_HASH_MAX], const char *setting, const char *password)
{
	struct crypt_data *data = calloc(1, sizeof *data);
	const char *r;
	int e;

	if (!data)
		return 0;
	r = crypt_rn(password, setting, data, sizeof *data);
	e = errno;
	if (r)
		memcpy(hash, r, strlen(r) + 1);	/* at most CRYPT_OUTPUT_SIZE */
	explicit_bzero(data, sizeof *data);
	free(data);
	errno = e;
	return r != NULL;
}

int
password_hash(char hash[PASSWORD_HASH_MAX], const char *password)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];

	return crypt_gensalt_rn("$y$", 0, NULL, 0, setting, sizeof setting) && work(hash, setting, password);
}

/* Without looking where they differ. */
static int
is_same(const char *a, const char *b)
{
	size_t len = strlen(a);
	unsigned char difference = 0;

	if (strlen(b) != len)
		return 0;
	for (size_t i = 0; i < len; i++)
		difference |= (unsigned char)(a[i] ^ b[i]);
	return difference == 0;
}

int
password_check(const char *hash, const char *decoy, const char *password)
{
	char got[PASSWORD_HASH_MAX] = "";
	int is_real = hash && password_is_hash(hash);
	int ok;

	if (is_real || (decoy && password_is_hash(decoy)))
		ok = work(got, is_real ? hash : decoy, password);
	else
		ok = password_hash(got, password);
	ok = ok ? is_real && is_same(got, hash) : errno == EINVAL ? 0 : -1;
	explicit_bzero(got, sizeof got);
	return ok;
}
