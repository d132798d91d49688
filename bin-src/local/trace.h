/* trace: the three lines that a delivery puts before a message; each ends with a newline.
 * Grammar   Return-Path: RFC 5321 section 4.4; Delivered-To: RFC 9228; the From line of mbox(5)
 * Trust     addresses hold any octet but NUL; none of them can end a line early */
#ifndef TRACE_H
#define TRACE_H
#include <time.h>
#include <skalibs/stralloc.h>

/* All set *line; they return 1, or 0 with errno ENOMEM. */
int trace_delivered_to(stralloc *line, const char *local, const char *domain);
int trace_return_path(stralloc *line, const char *sender);
int trace_from_line(stralloc *line, const char *sender, time_t now);

#endif
