/* sendmail: the command line of the program that other systems call sendmail, mailq or newaliases: interfaces
 * section 4. */
#ifndef SENDMAIL_H
#define SENDMAIL_H
#include "injection.h"

/* Reads the command line of sendmail, runs another program where it asks for one, sets the environment that -f and -F
 * mean. Fills *options for injection_run if the message is to be injected by this process, whose current directory is
 * still the caller's; else does not return. home: a descriptor of the qmail home. */
void sendmail_command(struct injection_options *options, int argc, const char *const *argv, int home);

/* Runs bin/qmail-qread in the home. */
void sendmail_show_queue(int home) __attribute__((noreturn));

/* Says who makes tables of aliases; exit 100. */
void sendmail_new_aliases(void) __attribute__((noreturn));

#endif
