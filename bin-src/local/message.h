/* message: the message of one delivery, in memory or in a file of its own.
 * Trust    the octets are hostile: any may occur, there need not be a header or a last newline
 * Files    read with pread(2): our place in them does not depend on what a program does with the same open file */
#ifndef MESSAGE_H
#define MESSAGE_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	MESSAGE_BUFFER = 65536,
	MESSAGE_INPUT_MAX = 1 << 30,	/* octets that are taken from a pipe */
};

struct message {
	const char *octets;	/* the whole message; NULL: it is the file fd */
	uint64_t size;		/* octets */
	int fd;			/* a regular file; stays its owner's */
};

/* The file fd as a message. Returns 1, or 0 with errno set (EINVAL: no regular file, so it cannot be read twice). */
int message_of_file(struct message *m, int fd);

/* What can be read from fd: the file itself if that is a regular file at its start, else (a pipe, a place in a file) a copy in memory, which is
 * the process's until its end. Returns 1, or 0 with errno set (EFBIG: more than MESSAGE_INPUT_MAX). */
int message_of_input(struct message *m, int fd);

/* The octets from offset at on: points *s to them, or to buffer (MESSAGE_BUFFER octets) into which they are read.
 * Returns how many there are, 0 at the end; -1 with errno set (EIO: the file became shorter). */
ssize_t message_octets(const struct message *m, uint64_t at, const char **s, char *buffer);

/* 1 if the header has the line (len octets, without its newline), 0 if not, -1 with errno set. The header ends at the
 * first empty line, or with the message. */
int message_has_header_line(const struct message *m, const char *line, size_t len);

/* A descriptor (close-on-exec) for a program, at offset 0 of a seekable file that ends where the message ends: a file
 * of its own if the message is in memory, else the message's file. Returns -1 with errno set. */
int message_open(const struct message *m);

#endif
