/* listener: the accept loop of a network server that was started on a listening socket: descriptor 0 listens, and the
 * variable LISTEN_EXTRA may name more descriptors that do, numbers parted by blanks (qmail-listen(8) sets both).
 * The parent    accepts, looks the client's address up in the rules (lib/rules.h), counts (lib/client_limits.h) and forks; it
 *               never reads an octet from the network, and is not shut in
 * The child     one connection, on 0 and 1; listener_serve returns only there. The caller shuts it in. Where config->reuse
 *               allows, listener_next gives it the next connection of the same client address, and of no other
 * Stop          on SIGTERM the parent stops listening, passes the signal on (listener_is_stopping) and waits up to
 *               LISTENER_STOP seconds for the sessions; what is left then is killed. The same signal reaches the children
 *               when the parent dies
 * Blocking      the parent never waits for a child, a client or the log
 * Fairness      starting a process takes far longer than accepting: at most a few start at once for networks with many
 *               connections, and those of others are started before them; the fewer a network has, the sooner
 * Memory        bounded by the limits: about 100 octets a connection in the parent, and the child process itself
 * Under tcpserver and the like none of this is used: listener_is(0) says no. Who the client is, peer.h tells either way. */
#ifndef LISTENER_H
#define LISTENER_H

enum {
	LISTENER_MOST = 1000,		/* connections at once: control/concurrencyincoming */
	LISTENER_MOST_ADDRESS = 50,	/* of one address: control/concurrencyaddress */
	LISTENER_MOST_PREFIX = 200,	/* of one /24 (IPv4) or /64 (IPv6): control/concurrencyprefix */
	LISTENER_LIMIT_MAX = 100000,	/* the largest value of each of these */
	LISTENER_IDLE_MAX = 64,		/* children that wait for their next connection; they count as no connection */
	LISTENER_IDLE_MS = 2000,	/* how long one waits */
	LISTENER_STOP = 10,		/* seconds from SIGTERM until the sessions are killed */
	LISTENER_SOCKETS_MAX = 16,	/* listening sockets */
};

struct listener_config {
	const char *rules;	/* compiled rules (tcprules), relative to the current directory; NULL: everybody may connect */
	int rules_may_lack;	/* 1: everybody may connect while the file does not exist; 0: nobody */
	unsigned long most, most_address, most_prefix;
	unsigned int notify;	/* descriptor on which readiness is told by a newline, 0 none; closed then */
	const char *host;	/* the name of this host, control/me; NULL: it has none */
	const char *busy;	/* what a client over a limit is told before it is closed, such as "421 ...\r\n"; NULL nothing */
	unsigned int reuse;	/* connections that one child may serve, one after another; 0 and 1: one */
	/* Called in the parent before each fork, NULL none: what the child needs may be read anew there, where that is due. */
	void (*prepare)(void *data);
	void *data;
};

/* The options that every network server takes, for getopt, and how the usage line says them:
 * -c N connections in all, -a N of one address, -n N of one prefix, -x rules.cdb, -X, -d notification descriptor. */
#define LISTENER_OPTIONS "a:c:d:n:x:X"
#define LISTENER_USAGE "[ -c most ] [ -a most-of-an-address ] [ -n most-of-a-network ] [ -x rules.cdb ] [ -X ] [ -d notification-fd ]"

/* Sets the defaults, with the limits and the name from the control files; the current directory is the home. 1, or 0 with errno set
 * (a control file that cannot be read). */
int listener_config_init(struct listener_config *c);

/* Takes one option that getopt found. 1, or 0: it is none of LISTENER_OPTIONS, or its argument is wrong. */
int listener_option(struct listener_config *c, int option, const char *arg);

/* Whether fd is a socket that listens. */
int listener_is(int fd);

/* Serves until SIGTERM, and then ends the process. Returns only in a child, with
 *   0 and 1   the connection; 2 as it was
 *   environment   PROTO, TCPREMOTEIP, TCPREMOTEPORT, TCPLOCALIP, TCPLOCALPORT, for IPv6 also TCP6REMOTEIP and so on
 *             (an IPv4 address in IPv6 clothes is IPv4); TCPLOCALHOST is config->host; no TCPREMOTEHOST, TCPREMOTEINFO; the rule's
 *             variables
 *   signals   SIGTERM sets what listener_is_stopping tells, and interrupts system calls; SIGCHLD default, SIGPIPE ignored
 * Descriptors that the caller opened stay open. Trouble at the start is said with strerr, and ends the process with
 * EXIT_TEMP. */
void listener_serve(const struct listener_config *c);

/* In a child that has done what it does before its first session: tells the parent, so that it may start the next process. While
 * processes start, connections of networks that have many already wait in the parent, so that those of others come first. Where
 * config->reuse does not allow another connection nothing is told, and nobody waits. */
void listener_ready(void);

/* In a child whose session ended in good order and left nothing: tells the parent already that it is free, so that the
 * client's next connection, which may come at once, finds it. What is done between this and listener_next must not wait for
 * the client. Nothing happens where listener_next would return 0. */
void listener_offer(void);

/* The same, unless it has been told: then closes the connection, and waits for another one of
 * the same client address. Returns 1 with it on 0 and 1 and the environment as above, or 0: end (also where config->reuse
 * does not allow it, and in a process that listener_serve did not make).
 * It needs only calls that sandbox_client allows. */
int listener_next(void);

/* In a child: this connection is the last one. It has no descriptor afterwards by which it could ask for another, whoever takes it over. */
void listener_keep_to_one(void);

/* Whether the server is being stopped: the session should end before its next command or message (SMTP: reply 421). */
int listener_is_stopping(void);

#endif
