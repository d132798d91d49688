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

/* --- what a hash costs: crypt(5) has the forms ---------------------------------------------------------------------- */

/* What a letter of crypt's alphabet stands for; 0 if it is none. */
static unsigned int
letter(char c)
{
	static const char alphabet[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	const char *at = c ? strchr(alphabet, c) : NULL;

	return at ? (unsigned int)(at - alphabet) : 0;
}

/* "j9T": flags, the logarithm of N less 1, r less 1. */
static uint64_t
cost_of_yescrypt(const char *s)
{
	return s[0] && s[1] ? (uint64_t)(letter(s[2]) + 1) << (letter(s[1]) % 40) : 0;
}

/* "C": the logarithm of N. */
static uint64_t
cost_of_scrypt(const char *s)
{
	return letter(s[0]);
}

/* "b$12". */
static uint64_t
cost_of_bcrypt(const char *s)
{
	return s[0] && s[1] ? strtoul(s + 2, NULL, 10) : 0;
}

/* "rounds=5000", which is what it costs without. */
static uint64_t
cost_of_rounds(const char *s)
{
	return strncmp(s, "rounds=", 7) == 0 ? strtoul(s + 7, NULL, 10) : 5000;
}

/* The cheapest first. */
static const struct method {
	const char *prefix;
	uint64_t (*cost)(const char *parameters);	/* NULL: each costs the same */
} methods[] = {
	{ "$", NULL }, { "$1$", NULL }, { "$5$", cost_of_rounds }, { "$6$", cost_of_rounds }, { "$2", cost_of_bcrypt }, { "$7$", cost_of_scrypt },
	{ "$gy$", cost_of_yescrypt }, { "$y$", cost_of_yescrypt },
};
enum { METHODS = sizeof methods / sizeof *methods };

uint64_t
password_cost(const char *hash)
{
	const uint64_t within_max = (UINT64_C(1) << 56) - 1;
	uint64_t i = METHODS - 1, within;
	size_t len;

	if (!password_is_hash(hash))
		return 0;
	while (strncmp(hash, methods[i].prefix, len = strlen(methods[i].prefix)) != 0)
		i--;	/* it begins with '$' */
	within = methods[i].cost ? methods[i].cost(hash + len) : 0;
	return (i + 1) << 56 | (within < within_max ? within : within_max);
}

/* --- hashing -------------------------------------------------------------------------------------------------------- */

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
