/* Questions to qmail-rcptd, given any octets, up to what the processes of slow_lookup are asked. The input is packets, each after its length of
 * two octets: number and address, as a rule; one whose length has its highest bit is what such a process says instead of its answer to
 * the next question. Each question has one answer, of its number, the same whenever it is asked; nobody is unknown who has instructions. */
#include <assert.h>
#include "bin-src/smtpd/slow_lookup.c"	/* NOLINT(bugprone-suspicious-include): what its processes do is static there */
#include "control_files.h"
#include "given.h"
#include "users/tables.h"
#define main rcptd_main
#include "bin-src/smtpd/qmail-rcptd.c"	/* NOLINT(bugprone-suspicious-include): what reads questions is static there */
#undef main
#include "no_sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int __real_stat(const char *path, struct stat *st);
int __wrap_stat(const char *path, struct stat *st);

enum { QUESTIONS_MAX = 12, IS_SAID = 0x8000 };

static struct rcptd rcptd;
static int processes[SLOW_LOOKUP_PROCESSES];	/* their ends */
static struct given lie;			/* what one says next instead of its answer */

/* --- no question reaches these --------------------------------------------------------------------------- */

const struct sandbox_filter sandbox_lookup;

/* --- no program of the site's own ------------------------------------------------------------------------- */

int
is_replaced(int home, const char *name)
{
	(void)home, (void)name;
	return 0;
}

/* --- users, and their files ------------------------------------------------------------------------------- */

static int is_asked;		/* a question is under way: else it is the fuzzer that looks for its files */
static int has_instructions;	/* some were found for it */

/* Homes are directories; of their files there are .qmail-list, and of alias .qmail-default. */
int
__wrap_stat(const char *path, struct stat *st)
{
	static const char *const files[] = { "/.qmail-list", "/.qmail-list-default", "/alias/.qmail-any-default", NULL };
	const char *name = strstr(path, "/.qmail");

	if (!is_asked)
		return __real_stat(path, st);
	*st = (struct stat){ .st_mode = S_IFDIR | 0700, .st_uid = 1000 };
	if (!name)
		return 0;
	st->st_mode = S_IFREG | 0600;
	for (size_t i = 0; files[i]; i++)
		if (strlen(path) >= strlen(files[i]) && strcmp(path + strlen(path) - strlen(files[i]), files[i]) == 0) {
			has_instructions = 1;
			return 0;
		}
	errno = ENOENT;
	return -1;
}

int
tables_find(struct account *account, const char *local, size_t len, const char **table)
{
	static const char fields[] = "near\0" "1000\0" "1000\0" "/q/near\0" "-\0" "list";

	*table = "users/cdb";
	if (len == 5 && memcmp(local, "table", 5) == 0)
		return account_parse(account, fields, sizeof fields) ? 1 : -1;
	return len == 7 && memcmp(local, "damaged", 7) == 0 ? -1 : 0;
}

static int
by_name(void *context, const char *name, struct passwd *pw)
{
	static char user[] = "user", home[] = "/home/user", alias[] = "alias", alias_home[] = "/alias";

	(void)context;
	assert(strlen(name) <= PASSWD_USER_MAX);
	*pw = (struct passwd){ .pw_name = user, .pw_uid = 1000, .pw_gid = 1000, .pw_dir = home };
	if (strcmp(name, "alias") == 0)
		pw->pw_name = alias, pw->pw_dir = alias_home;
	return strcmp(name, "gone") == 0 ? -1 : strcmp(name, "alias") == 0 || strcmp(name, "user") == 0;
}

static int
owns(void *context, uid_t uid, const char *directory)
{
	(void)context;
	return uid == 1000 && *directory == '/';
}

/* --- a process ---------------------------------------------------------------------------------------------- */

/* Has the processes answer what they were asked. */
static void
serve_questions(void)
{
	struct passwd_source source = { .by_name = by_name, .owns = owns };

	for (unsigned int i = 0; i < SLOW_LOOKUP_PROCESSES; i++) {
		static char packet[PACKET_MAX + 1];
		struct verdict v = { .answer = RCPT_CANNOT_KNOW };
		ssize_t n = recv(processes[i], packet, PACKET_MAX, MSG_DONTWAIT);

		if (n <= 0)
			continue;
		packet[n] = '\0';
		work(packet, (size_t)n, processes[i], &source, &v);
		if (lie.len > offsetof(struct verdict, text))
			assert(send(processes[i], lie.s, lie.len < sizeof v ? lie.len : sizeof v, MSG_NOSIGNAL) > 0);
		else
			assert(send(processes[i], &v, offsetof(struct verdict, text) + strlen(v.text) + 1, MSG_NOSIGNAL) > 0);
		assert(slow_lookup_take(&rcptd.slow, i));
	}
}

/* --- a client ------------------------------------------------------------------------------------------------- */

/* Asks. Returns the letter of the answer, 0 if the client is not there any more. */
static char
ask(int fd, struct given question)
{
	char s[5 + RCPTCHECK_TEXT_MAX + 1];
	ssize_t n;

	is_asked = 1;
	has_instructions = 0;
	assert(send(fd, question.s, question.len, MSG_NOSIGNAL) == (ssize_t)question.len);
	client_ready(&rcptd, 0, name_of(&rcptd, 0), EPOLLIN);
	serve_questions();
	is_asked = 0;
	assert(!rcptd.clients[0].waits);
	n = recv(fd, s, sizeof s, MSG_DONTWAIT);
	if (n == 0) {
		assert(question.len < 4 && rcptd.clients[0].fd < 0);
		return 0;
	}
	assert(n >= 5 && n < (ssize_t)sizeof s && memcmp(s, question.s, 4) == 0);
	for (ssize_t i = 5; i < n && !lie.len; i++)
		assert(s[i] >= ' ' && s[i] <= '~');
	if (lie.len)
		return 'x';
	assert(memchr("KU?RT", s[4], 5) && n > 5);
	if (question.len == 4 || question.len > 4 + RCPTCHECK_ADDRESS_MAX || memchr(question.s + 4, '\0', question.len - 4))
		assert(s[4] == RCPT_CANNOT_KNOW);
	assert(s[4] != RCPT_UNKNOWN || !has_instructions);
	return s[4];
}

static int
connect_client(void)
{
	int pair[2];

	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	assert(watch(&rcptd, EPOLL_CTL_ADD, pair[0], EPOLLIN, SOURCE_CLIENT, 0));
	rcptd.clients[0].fd = pair[0];
	return pair[1];
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct control_files files = control_files_begin();

	(void)argc, (void)argv, (void)rcptd_main, (void)start_process;
	control_files_write("control/me", "here.test\n");
	control_files_write("control/locals", "here.test\n");
	control_files_write("control/virtualdomains", "virtual.test:user\n.below.test:any\nx@exact.test:user-list\nnone.test:\n");
	control_files_write("control/percenthack", "here.test\n");
	if (fresh_routes_load(&rcptd.rules))
		err(1, "rules");
	control_files_end(&files);
	rcptd.rules.looked_at = rcptd.now = 1;
	strcpy(rcptd.home, "/q/");
	rcptd.epoll = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned int i = 0; i < CLIENTS_MAX; i++)
		rcptd.clients[i].fd = -1;
	rcptd.slow.answer = take_slow_answer;
	rcptd.slow.context = &rcptd;
	for (unsigned int i = 0; i < SLOW_LOOKUP_MAX; i++) {
		rcptd.slow.questions[i].next = rcptd.slow.free;
		rcptd.slow.free = rcptd.slow.questions + i;
	}
	rcptd.slow.end = &rcptd.slow.first;
	for (unsigned int i = 0; i < SLOW_LOOKUP_PROCESSES; i++) {
		int pair[2];

		assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
		rcptd.slow.fds[i] = pair[0];
		processes[i] = pair[1];
	}
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	struct given g = { octets, len };
	int fd = connect_client();

	known_forget(&rcptd.known);
	for (int i = 0; i < QUESTIONS_MAX && g.len && rcptd.clients[0].fd >= 0; i++) {
		size_t n = given_number(&g, 2);
		struct given piece = given_piece(&g, n & ~(size_t)IS_SAID);
		char letter;

		lie = n & IS_SAID ? piece : (struct given){ NULL, 0 };
		if (n & IS_SAID)
			piece = given_piece(&g, given_number(&g, 2) & ~(size_t)IS_SAID);
		if (!piece.len)
			continue;
		letter = ask(fd, piece);
		if (lie.len)
			known_forget(&rcptd.known);	/* a lie is as good as the truth, and would be the answer again */
		else if (letter)
			assert(ask(fd, piece) == letter);
	}
	if (rcptd.clients[0].fd >= 0)
		drop(&rcptd, 0);
	close(fd);
	return 0;
}
