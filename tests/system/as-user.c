/* as-user UID GID PROGRAM [ARGUMENT...]: becomes that user, with no other group, and runs the program. For the tests that
 * start programs as root: a process as large as Python's would have to be copied to do this itself, which takes more time than
 * most programs need. */
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	gid_t gid;

	if (argc < 4)
		return 100;
	gid = (gid_t)strtoul(argv[2], NULL, 10);
	if (setgroups(0, NULL) || setgid(gid) || setuid((uid_t)strtoul(argv[1], NULL, 10))) {
		perror("as-user");
		return 111;
	}
	execv(argv[3], argv + 3);
	perror(argv[3]);
	return 127;
}
