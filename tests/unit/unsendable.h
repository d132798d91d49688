/* unsendable: a descriptor to which sendmsg fails once, without memory. Units that have it are linked with $(call wrap,sendmsg). */
#ifndef UNIT_UNSENDABLE_H
#define UNIT_UNSENDABLE_H

extern int unsendable;	/* -1: none, or it has failed */

#endif
