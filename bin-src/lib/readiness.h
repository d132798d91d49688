/* readiness: a daemon tells whoever supervises it (s6: notification-fd) that it serves. */
#ifndef READINESS_H
#define READINESS_H
#include <unistd.h>
#include <skalibs/strerr.h>

/* Writes a newline to descriptor notify, and closes it; 0: nobody is to be told. If that fails it is said, and no more. */
static inline void
readiness_tell(unsigned int notify)
{
	if (!notify)
		return;
	if (write((int)notify, "\n", 1) < 1)
		strerr_warnwusys("notify of readiness");
	close((int)notify);
}

#endif
