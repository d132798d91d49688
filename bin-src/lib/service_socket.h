/* service_socket: the Unix socket of a service, run/SERVICE/socket: packets (SOCK_SEQPACKET), which may carry one descriptor.
 * Who calls    the kernel says: any local user can reach the socket, the service asks service_socket_peer
 * Paths        relative to the home, because a socket path holds 107 octets
 * Sandbox      sending and receiving need what every filter with sockets allows; connecting needs sandbox_client */
#ifndef SERVICE_SOCKET_H
#define SERVICE_SOCKET_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { SERVICE_SOCKET_PASS_MS = 5000 };

/* Listens at path, in the place of a socket that is there; its directory is made if there is none (qmail-setup makes it: run/
 * belongs to another user). Returns a descriptor that does not block, or -1 with errno set. */
int service_socket_listen(const char *path);

/* Connects to path in the directory home (a descriptor; -1: the current one), where the current directory stays what it is. While
 * the service has too many callers it tries on for wait_ms. Returns a descriptor that does not block, or -1 with errno set. */
int service_socket_connect(int home, const char *path, unsigned int wait_ms);

/* The user who connected fd, as it was at that moment; (uid_t)-1 if the kernel does not say. */
uid_t service_socket_peer(int fd);

/* Whether uid is one of the len users. */
int service_socket_allows(const uid_t *users, unsigned int len, uid_t uid);

/* Sends a packet of n parts, with the descriptor passed, -1 none, which stays the caller's. Does not wait, but with a descriptor for
 * SERVICE_SOCKET_PASS_MS while as many of this user's are under way to services as a process may have files (ETOOMANYREFS).
 * Returns 1, or 0 with errno set. */
int service_socket_send(int fd, const struct iovec *v, unsigned int n, int passed);

/* The same for one octet and a text. */
int service_socket_say(int fd, char letter, const char *text);

/* Takes a packet, of at most len octets, and the descriptor that came with it (-1 none), which is the caller's; passed NULL: there
 * can be none. More descriptors than that are closed by the kernel. Does not wait.
 * Returns the number of octets; 0 at the end; -1 with errno set (EMSGSIZE: it was longer, and is lost). */
ssize_t service_socket_receive(int fd, void *s, size_t len, int *passed);

/* The same without descriptors; from: the user who has sent it, as the kernel says, (uid_t)-1 if it does not. The one that listens has to
 * have been told before (service_socket_tell_users). */
ssize_t service_socket_receive_from(int fd, void *s, size_t len, uid_t *from);

/* Has the kernel say so for all that come over connections of a listener. 1, or 0 with errno set. */
int service_socket_tell_users(int listener);

/* Whether fd is connected to a service that listens at path, which that one gave. */
int service_socket_is_to(int fd, const char *path);

/* Waits until monotonic_ms() is deadline for a packet or the end. 1, or 0 with errno ETIMEDOUT. */
int service_socket_wait(int fd, uint64_t deadline);

#endif
