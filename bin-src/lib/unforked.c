#include <sys/mman.h>
#include "unforked.h"

void *
unforked_alloc(size_t len)
{
	void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	madvise(memory, len, MADV_DONTFORK);	/* without it children have it, and it costs what it costs */
	return memory;
}

void
unforked_free(void *memory, size_t len)
{
	if (memory)
		munmap(memory, len);
}
