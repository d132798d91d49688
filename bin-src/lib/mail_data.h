/* mail_data: the message as it goes over the wire.
 * Line ends   the queue's messages have LF; a message that came with CR LF has the same line end. Either becomes CR LF. A CR
 *             before anything else becomes a blank: neither a bare CR nor a bare LF is ever sent (interfaces section 24,
 *             number 2), and what is sent has the lines that the stored message has, for any reader. A last line that has
 *             no line end is given one; a CR at the very end counts as one
 * Dots        for DATA, a dot that begins a line is doubled (RFC 5321 section 4.5.2); not for BDAT (RFC 3030)
 * All else    passes as it is: NUL, octets above 127, lines of any length
 * Files       read with pread(2), MAIL_DATA_READ octets at a time; a message in memory is not copied but into the caller's
 *             buffer */
#ifndef MAIL_DATA_H
#define MAIL_DATA_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { MAIL_DATA_READ = 64 * 1024 };

struct mail_data {
	/* the caller's */
	const char *octets;	/* the whole message; NULL: it is the file fd, from offset 0 */
	uint64_t size;		/* octets */
	int fd;			/* a regular file */

	/* of mail_data_survey */
	uint64_t wire_size;	/* octets on the wire without doubled dots, RFC 1870 section 3 */
	int has_8bit;		/* some octet is above 127 */

	/* mail_data_next's */
	uint64_t at;		/* octets of the message that were taken */
	int with_dots;
	int is_line_start;
	int saw_cr;		/* a CR was taken, what it becomes is not known yet */
	int has_ended;
	char *buffer;		/* of a file: octets at buffer_at, MAIL_DATA_READ of room */
	uint64_t buffer_at;
	size_t buffer_len;
};

/* A message in memory, or in a file (octets NULL). */
void mail_data_init(struct mail_data *m, const char *octets, int fd, uint64_t size);

/* Frees what reading a file needed. */
void mail_data_free(struct mail_data *m);

/* Reads the message through once. Returns 1, or 0 with errno set (EIO: the file became shorter). */
int mail_data_survey(struct mail_data *m);

/* Whether some octet is above 127: what the survey says, for less. Returns 1 or 0, -1 with errno set as there. */
int mail_data_is_8bit(struct mail_data *m);

/* Starts from the beginning; with_dots: for DATA. */
void mail_data_rewind(struct mail_data *m, int with_dots);

/* Puts the next octets for the wire into out, which has room octets (at least 8). Returns how many, 0 at the end; -1 with
 * errno set. Without dots there are wire_size in all. */
ssize_t mail_data_next(struct mail_data *m, char *out, size_t room);

#endif
