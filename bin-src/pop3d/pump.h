/* pump: passes octets between a connection that is two descriptors, as one through a TLS or proxy server's pipes is, and one socket, which
 * can be handed over.
 * End      of the client's octets: the socket has no more to read, the other direction goes on. Of what comes from the socket: that is
 *          the end of it all, once it is written; a client that does not read it has PUMP_CLOSE_MS
 * Bounds   PUMP_SIZE octets each way: who does not read is not read from. In between it has the patience of who has the socket
 * Sandbox  sandbox_tunnel */
#ifndef PUMP_H
#define PUMP_H

enum { PUMP_SIZE = 4096, PUMP_CLOSE_MS = 60000 };	/* a pipe that can be written takes as much at once */

/* Until it is over. Closes nothing. */
void pump_run(int in, int out, int socket);

#endif
