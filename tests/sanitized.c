/* Linked into every program of a build with the sanitizers, make asan. What a program still holds when it ends is no leak; what they find
 * ends it by a signal, which whoever started it logs, and the tests look for. The environment says the former as well, but does not reach
 * those that are started with another one. */

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *
__asan_default_options(void)
{
	return "detect_leaks=0:abort_on_error=1";
}

const char *
__ubsan_default_options(void)
{
	return "abort_on_error=1";
}
