/* stored: messages in a queue of a unit test's own, in the ring and in files. Current directory: the home (directory.h). */
#ifndef UNIT_STORED_H
#define UNIT_STORED_H
#include <stddef.h>
#include <stdint.h>
#include "queue/protocol.h"

/* Makes the folders of a queue. */
void stored_folders(void);

/* Makes a ring that holds the message, in the place of one that is there. Returns where it lies. */
struct queue_place stored_in_ring(uint64_t number, const char *message, size_t len);

/* Makes mess and info of the message; octets of the same length stand in mess in its place. */
void stored_in_files(uint64_t number, const char *message, const char *octets, size_t len);

/* Removes both. */
void stored_remove(uint64_t number);

/* Puts a new file of len octets in the place of path. */
void stored_file(const char *path, const char *s, size_t len);

/* The path of the message's file of a kind, in a folder that is there. */
const char *stored_path(const char *kind, uint64_t number);

#endif
