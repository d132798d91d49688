#include "file_limit.h"

rlim_t
file_limit_raise(rlim_t wanted)
{
	struct rlimit files;
	rlim_t now;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return RLIM_INFINITY;
	now = files.rlim_cur;
	if (now >= wanted)
		return now;
	files.rlim_cur = files.rlim_max < wanted ? files.rlim_max : wanted;
	return setrlimit(RLIMIT_NOFILE, &files) < 0 ? now : files.rlim_cur;
}
