/* Memory that is the parent's alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "unforked.h"

/* Whether a child can read octet *p: the kernel says EFAULT where a read of ours would be fatal. */
static int
child_has(const char *p)
{
	int wstat, pipes[2];
	pid_t pid;

	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (pid == 0)
		_exit(write(pipes[1], p, 1) == 1 ? 1 : errno == EFAULT ? 0 : 2);
	assert_int_equal(waitpid(pid, &wstat, 0), pid);
	close(pipes[0]);
	close(pipes[1]);
	assert_true(WIFEXITED(wstat) && WEXITSTATUS(wstat) < 2);
	return WEXITSTATUS(wstat);
}

static void
it_is_zero_and_writable(void **state)
{
	char *memory = unforked_alloc(10000);

	(void)state;
	assert_non_null(memory);
	for (size_t i = 0; i < 10000; i++)
		assert_int_equal(memory[i], 0);
	memset(memory, 'x', 10000);
	unforked_free(memory, 10000);
}

static void
children_do_not_get_it(void **state)
{
	char *memory = unforked_alloc(10000);
	char other = 'x';

	(void)state;
	assert_non_null(memory);
	memory[9999] = 'x';
	assert_int_equal(child_has(&other), 1);
	assert_int_equal(child_has(memory), 0);
	assert_int_equal(child_has(memory + 9999), 0);
	assert_int_equal(memory[9999], 'x');
	unforked_free(memory, 10000);
}

static void
more_than_there_is(void **state)
{
	(void)state;
	assert_null(unforked_alloc(SIZE_MAX / 2));
	unforked_free(NULL, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_zero_and_writable),
		cmocka_unit_test(children_do_not_get_it),
		cmocka_unit_test(more_than_there_is),
	};

	return cmocka_run_group_tests_name("unforked", tests, NULL, NULL);
}
