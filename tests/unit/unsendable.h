/* unsendable: a descriptor to which nothing can be sent, without memory. Units that have it are linked with $(call wrap,sendmsg). */
#ifndef UNIT_UNSENDABLE_H
#define UNIT_UNSENDABLE_H

extern int unsendable;		/* -1: none */
extern int unsendable_times;	/* how often sendmsg still fails; -1: always */

#endif
