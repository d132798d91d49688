/* password: hashes of passwords, by crypt(3).
 * Trust    a password is anybody's, NUL-terminated; whoever calls has bounded it (PASSWORD_MAX, or the 512 octets of the
 *          checkpassword interface): an unbounded one costs as much time as the sender likes
 * Time     password_check takes as long for a user that does not exist, or may not log in, as for one with the hash decoy
 * Memory   what crypt(3) has worked with is wiped; the caller wipes the password itself */
#ifndef PASSWORD_H
#define PASSWORD_H
#include <stdint.h>

enum {
	PASSWORD_MAX = 128,		/* octets of a new one: it fits into a login by POP3 or SMTP */
	PASSWORD_HASH_MAX = 384,	/* octets of a hash, its NUL counted */
};

/* Makes a new hash, yescrypt with the cost that the library thinks right. Returns 1, or 0 with errno set. */
int password_hash(char hash[PASSWORD_HASH_MAX], const char *password);

/* Whether it is a hash of a method that crypt(3) here knows, "$method$...". What came before these looks like any word, so a
 * password in the place of its hash would go unnoticed. */
int password_is_hash(const char *hash);

/* An order of hashes by what they cost: yescrypt over scrypt, bcrypt, SHA-512, SHA-256, MD5 and others, and within a method by the
 * cost that the hash names. What one method costs beside another is the rule, and not measured. 0: it is no hash. */
uint64_t password_cost(const char *hash);

/* Whether password is the one of hash. hash may be NULL or one that nobody logs in with: then decoy is worked through, or,
 * if that is no hash either, what password_hash would make.
 * Returns 1; 0 no; -1 with errno set if it cannot be known (no memory). */
int password_check(const char *hash, const char *decoy, const char *password);

#endif
