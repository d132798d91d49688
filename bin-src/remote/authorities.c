#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include "authorities.h"
#include "control/control.h"

int
authorities_open(int *fd)
{
	stralloc file = STRALLOC_ZERO;
	int r = control_line(&file, "control/tlscafile");

	*fd = -1;
	if (r == 0)
		r = stralloc_cats(&file, AUTHORITIES_FILE) ? 1 : -1;
	if (r > 0 && stralloc_0(&file))
		*fd = open(file.s, O_RDONLY | O_CLOEXEC);
	stralloc_free(&file);
	return r > 0;
}

int
authorities_read(stralloc *text, int fd)
{
	struct stat st;
	int error = 0;

	if (fstat(fd, &st) < 0)
		error = errno;
	else if (!S_ISREG(st.st_mode) || st.st_size > AUTHORITIES_OCTETS)
		error = EFBIG;
	else if (!stralloc_readyplus(text, (size_t)st.st_size + 1))
		error = ENOMEM;
	else
		text->len += allread(fd, text->s + text->len, (size_t)st.st_size);
	close(fd);
	errno = error;
	return !error;
}
