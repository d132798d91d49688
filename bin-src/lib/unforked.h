/* unforked: memory that a process's children do not get. What a parent changes between two forks would else be a page that
 * each child has for itself, and keeps from the parent by a copy.
 * A child that touches it dies by SIGSEGV. */
#ifndef UNFORKED_H
#define UNFORKED_H
#include <stddef.h>

/* len octets, all zero. NULL with errno set. */
void *unforked_alloc(size_t len);

/* Gives back what unforked_alloc(len) returned, in the process that called it. NULL: nothing. */
void unforked_free(void *memory, size_t len);

#endif
