/* home: the qmail home directory, /var/qmail unless the program lies in another tree.
 * A program in DIR/bin or DIR/libexec whose DIR holds control/ belongs to the tree DIR, so a whole server can be
 * installed, moved or started anywhere; any other program belongs to the QMAIL of the build.
 * Nothing is setuid here, so who starts a program from a tree of his own gains no right by it. */
#ifndef HOME_H
#define HOME_H

enum { HOME_PATH_MAX = 4096 };	/* octets, the final NUL included */

/* Makes the home the current directory. To be called before any other chdir: a program may have been started by a
 * relative path. Returns 1, or 0 with errno set (the caller's trouble is then temporary). */
int home_enter(void);

/* Opens the home with O_PATH|O_DIRECTORY|O_CLOEXEC, without leaving the current directory; the same calling rule.
 * Returns a descriptor that the caller closes, or -1 with errno set. */
int home_open(void);

#endif
