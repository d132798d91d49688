/* The home of a virtual account: what is made of it, and what is found wrong. As whoever runs the test; root becomes
 * somebody else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bin-src/users/account_home.h"
#include "directory.h"

enum { SOMEBODY = 54321 };

static struct virtual_account
account(const char *home)
{
	int is_root = geteuid() == 0;

	return (struct virtual_account){
		.address = "ana@x.example", .home = home, .uid = is_root ? SOMEBODY : geteuid(), .gid = is_root ? SOMEBODY : getegid(),
	};
}

static void
expect(const char *path, unsigned int mode)
{
	struct virtual_account v = account("");
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, mode);
	assert_int_equal(st.st_uid, v.uid);
	assert_int_equal(st.st_gid, v.gid);
}

static void
made(void **state)
{
	struct virtual_account v = account("mail/x.example/ana");

	(void)state;
	umask(077);
	assert_int_equal(account_home_make(&v), 1);
	expect("mail/x.example", 0711);
	expect("mail/x.example/ana", 0711);
	expect("mail/x.example/ana/Maildir", 0700);
	expect("mail/x.example/ana/Maildir/new", 0700);
	assert_null(account_home_fault(&v));
	assert_int_equal(account_home_make(&v), 1);	/* it stays */
	assert_int_equal(chmod("mail/x.example/ana", 0750), 0);
	assert_int_equal(account_home_make(&v), 1);
	expect("mail/x.example/ana", 0750);
	assert_int_equal(chmod("mail/x.example/ana", 0757), 0);
	assert_string_equal(account_home_fault(&v), "everybody can write it");
}

/* Where somebody lacked room in the middle, or made an empty Maildir. */
static void
made_in_part(void **state)
{
	struct virtual_account v = account("mail/part");

	(void)state;
	assert_int_equal(account_home_make(&v), 1);
	assert_int_equal(rmdir("mail/part/Maildir/tmp"), 0);
	assert_int_equal(rmdir("mail/part/Maildir/new"), 0);
	assert_string_equal(account_home_fault(&v), "cur, new or tmp is missing in it, or not as it should be");
	assert_int_equal(account_home_make(&v), 1);
	expect("mail/part/Maildir/tmp", 0700);
	expect("mail/part/Maildir/new", 0700);
	assert_null(account_home_fault(&v));
	assert_int_equal(rmdir("mail/part/Maildir/tmp"), 0);
	directory_write("mail/part/Maildir/tmp", "");
	assert_non_null(account_home_fault(&v));
}

/* What maildirsize says, as far as the account's user may read it. */
static void
used(void **state)
{
	struct virtual_account v = account("mail/used");
	struct account_usage usage;

	(void)state;
	v.quota = "5C";
	assert_int_equal(account_home_usage(&v, &usage), 0);
	assert_int_equal(account_home_make(&v), 1);
	assert_int_equal(account_home_usage(&v, &usage), 0);
	directory_write("mail/used/Maildir/maildirsize", "5C\n300 2\n-100 -1\n");
	assert_int_equal(chmod("mail/used/Maildir/maildirsize", 0644), 0);
	assert_int_equal(account_home_usage(&v, &usage), 1);
	assert_int_equal(usage.octets, 200);
	assert_int_equal(usage.messages, 1);
	v.quota = "6C";
	assert_int_equal(account_home_usage(&v, &usage), 0);
	v.quota = "5C";
	assert_int_equal(chmod("mail/used/Maildir/maildirsize", 0), 0);
	assert_int_equal(account_home_usage(&v, &usage), 0);	/* what root could read */
}

static void
nothing_there(void **state)
{
	struct virtual_account v = account("nowhere/ana");

	(void)state;
	assert_non_null(account_home_fault(&v));
	assert_int_equal(mkdir("mine", 0755), 0);
	v = account("mine");
	v.uid++;
	assert_string_equal(account_home_fault(&v), "it belongs to another user");
	directory_write("file", "");
	v = account("file");
	assert_string_equal(account_home_fault(&v), "it is no directory");
	assert_int_equal(account_home_make(&v), 0);
}

/* Where root could, but the account's user may not. */
static void
not_as_root(void **state)
{
	struct virtual_account v = account("closed/ana");

	(void)state;
	assert_int_equal(mkdir("closed", 0500), 0);
	assert_int_equal(account_home_make(&v), 0);
	assert_int_equal(errno, EACCES);
	assert_int_equal(access("closed/ana", F_OK), -1);
	v.uid = v.gid = 0;
	assert_int_equal(account_home_make(&v), 0);
}

static int
make(void **state)
{
	/* the account's user has to get there, and to write */
	return directory_make(state) || chmod(".", 0755) || mkdir("mail", 0700) ||
	    (geteuid() == 0 && chown("mail", SOMEBODY, SOMEBODY)) ;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(made), cmocka_unit_test(made_in_part), cmocka_unit_test(used), cmocka_unit_test(nothing_there), cmocka_unit_test(not_as_root),
	};

	return cmocka_run_group_tests_name("account_home", tests, make, directory_remove);
}
