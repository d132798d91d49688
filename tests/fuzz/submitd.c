/* A session of qmail-smtpd with qmail-submitd, given any octets. The input is packets, each after an octet for who sends it (enum from) and
 * its length of two octets. Nobody has an account but of root or of one who may vouch, and only one; an account sends no more than its
 * share of an hour; a sender is its own. */
#include <assert.h>
#include <fcntl.h>
#include "control_files.h"
#include "given.h"
#define main submitd_main
#include "bin-src/smtpd/qmail-submitd.c"	/* NOLINT(bugprone-suspicious-include): what answers is static there */
#undef main
#include "no_sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);
ssize_t __wrap_service_socket_receive_from(int fd, void *s, size_t len, uid_t *from);
int __wrap_service_socket_say(int fd, char letter, const char *text);

enum from { FROM_ROOT, FROM_VOUCHER, FROM_SESSION, FROM_NOBODY, FROM };
enum { MESSAGES = 3, RECIPIENTS = 10, ANA_MESSAGES = 2, SESSION = 1001, VOUCHER = 1002, HOURS_MS = 3 * 3600000 };

static struct { struct given s; uid_t from; } packet;
static char answered;		/* the letter of the answer; 0 there was none */
static uint64_t now_ms = 1;

/* --- no question reaches these ----------------------------------------------------------------------------- */

const struct sandbox_filter sandbox_lookup;

/* --- a session -------------------------------------------------------------------------------------------- */

ssize_t
__wrap_service_socket_receive_from(int fd, void *s, size_t len, uid_t *from)
{
	assert(fd == -1);
	*from = packet.from;
	errno = EMSGSIZE;
	if (packet.s.len > len)
		return -1;
	if (packet.s.len)
		memcpy(s, packet.s.s, packet.s.len);
	return (ssize_t)packet.s.len;
}

int
__wrap_service_socket_say(int fd, char letter, const char *text)
{
	assert(fd == -1 && !answered && memchr("YNFT", letter, 4) && strlen(text) <= SUBMISSION_TEXT_MAX);
	answered = letter;
	return 1;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct control_files files = control_files_begin();

	(void)argc, (void)argv, (void)submitd_main;
	control_files_write("control/me", "here.test\n");
	control_files_write("control/submissionmessages", "3\n");
	control_files_write("control/submissionrecipients", "10\n");
	control_files_write("control/submissionlimits", "ana:2:\n@b.test::\n");
	control_files_write("control/submissionsenders", "ana:team@x.test\nbob@b.test:@b.test\n");
	if (read_files(&submitd))
		err(1, "control files");
	control_files_end(&files);
	if (!allowance_init(&submitd.allowance) || !service_users_put(&submitd.vouchers, VOUCHER))
		err(1, "start");
	return 0;
}

/* What a packet is answered to one who has logged in as account. */
static void
check_answer(const char *account, const char *s, unsigned long *messages, unsigned long *recipients)
{
	unsigned int n = 0;

	if (!account)
		assert(answered == SUBMISSION_UNKNOWN);
	else if (*s == SUBMISSION_SENDER)
		assert(answered == (senders_has(&submitd.senders, account, s + 1) ? SUBMISSION_YES : SUBMISSION_NO));
	else if (!uint0_scan(s + 1, &n))
		assert(answered == SUBMISSION_UNKNOWN);
	else if (answered == SUBMISSION_YES) {
		(*messages)++;
		*recipients += n;
		assert(*messages <= (strcmp(account, "ana") == 0 ? ANA_MESSAGES : MESSAGES));
		assert(*recipients <= RECIPIENTS);
	} else	/* it would be above one of them */
		assert(answered == SUBMISSION_FULL && (*messages + 1 > ANA_MESSAGES || *recipients + n > RECIPIENTS));
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static const uid_t uids[FROM] = { 0, VOUCHER, SESSION, (uid_t)-1 };
	struct given g = { octets, len };
	struct client *c = submitd.clients;
	unsigned long messages = 0, recipients = 0;
	int is_there = 1;

	*c = (struct client){ .fd = -1 };
	submitd.looked_at = now_ms += HOURS_MS;
	while (g.len && is_there) {
		enum from from = (enum from)(given_number(&g, 1) % FROM);
		char *s, *had = c->account ? strdup(c->account) : NULL;

		packet.from = uids[from];
		packet.s = given_piece(&g, given_number(&g, 2));
		s = given_string(packet.s);
		answered = 0;
		is_there = hear(&submitd, c, now_ms);
		assert(!had || strcmp(c->account, had) == 0);
		if (packet.s.len > SUBMISSION_PACKET_MAX || !packet.s.len || strlen(s) < packet.s.len)
			assert(!is_there && !answered);
		else if (*s == SUBMISSION_LOGIN) {
			assert(is_there == (!had && s[1] && (from == FROM_ROOT || from == FROM_VOUCHER)));
			assert(!answered && (!is_there || strcmp(c->account, s + 1) == 0));
		} else if (is_there)
			check_answer(had, s, &messages, &recipients);
		else
			assert(had && *s != SUBMISSION_SENDER && *s != SUBMISSION_MESSAGE && !answered);
		free(s), free(had);
	}
	free(c->account);
	return 0;
}
