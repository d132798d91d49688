/* server: an SMTP server that follows a script, at the other end of a socket pair, in a thread of its own. */
#ifndef UNIT_SERVER_H
#define UNIT_SERVER_H

/* A step of a script: waits until wait has come since the last step ("" waits for nothing), then says say; NULL: it closes.
 * A script ends with {0}: then the server reads on until the client closes. */
struct server_step { const char *wait, *say; };

/* Starts a server, one at a time. steps are copied. Returns the client's end, which does not block. */
int server_start(const struct server_step *steps);

/* The same on a connection that a listening socket gives. */
void server_accept(int listening, const struct server_step *steps);

/* After the client has closed its end: what the server was told, until the next start. Harmless without a server. */
const char *server_end(void);

#endif
