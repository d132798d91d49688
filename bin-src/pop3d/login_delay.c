#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "login_delay.h"
#include "wall_clock.h"

static const char name[] = "pop3-login";

int
login_delay_is_over(int maildir, uint64_t seconds)
{
	time_t now = wall_clock_seconds();
	struct stat st;
	int fd;

	if (fstatat(maildir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_mtime <= now && (uint64_t)(now - st.st_mtime) < seconds)
		return 0;
	fd = openat(maildir, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	if (fd >= 0) {
		futimens(fd, NULL);
		close(fd);
	}
	return 1;
}
