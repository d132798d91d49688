#include <stdint.h>
#include "key_chain.h"

size_t
key_chain_take(br_x509_certificate certificates[KEY_CERTIFICATES_MAX], const unsigned char *chain, size_t len)
{
	size_t n = 0, one;

	for (; len >= 3 && n < KEY_CERTIFICATES_MAX; n++) {
		one = (size_t)chain[0] << 16 | (size_t)chain[1] << 8 | chain[2];
		if (one > len - 3)
			return 0;
		certificates[n] = (br_x509_certificate){ (unsigned char *)(uintptr_t)chain + 3, one };
		chain += 3 + one;
		len -= 3 + one;
	}
	return len ? 0 : n;
}
