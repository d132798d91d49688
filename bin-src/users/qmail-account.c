/* qmail-account: add, change, remove, show and check virtual accounts.
 * Trust: its caller's, who may write users/accounts. Passwords come from a terminal or a descriptor, never from the command
 * line, and are wiped. Homes are made as the account's user. */
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <skalibs/buffer.h>
#include <skalibs/bytestr.h>
#include <skalibs/sgetopt.h>
#include <skalibs/strerr.h>
#include <skalibs/types.h>
#include "account_home.h"
#include "accountlist.h"
#include "bin-src/send/route.h"
#include "exitcode.h"
#include "home.h"
#include "prompt.h"
#include "stralloc_set.h"
#include "users/password.h"

#define USAGE "qmail-account add|passwd|set|remove|check [options] user@domain | import [options] | list [domain]"
#define OWNER "vmail"	/* of new accounts, unless -u names another */

enum { EXIT_NO = 1 };	/* there is no such account, or there is one already, or it is not in order */

struct choices {
	int has_owner, has_quota, has_flags, are_hashes;	/* options were given */
	uid_t uid;
	gid_t gid;
	stralloc base;		/* homes are base/domain/user, unless one is given: the home of the owner; NUL-terminated, empty if
				 * nobody knows it */
	const char *home;	/* NULL: none was given */
	stralloc quota;		/* NUL-terminated */
	unsigned int flags;
	int password_fd;	/* -1: the terminal */
};

static void
need_memory(int ok)
{
	if (!ok)
		strerr_dief(EXIT_TEMP, "out of memory");
}

/* --- options ---------------------------------------------------------------------------------------------------------- */

/* "500M" as Maildir++ has it; what is in its words already stays; "none" is none. */
static void
set_quota(struct choices *c, const char *quota)
{
	static const char units[] = "kMGT";
	uint64_t n;
	size_t len = uint640_scan(quota, &n) ? 0 : uint64_scan(quota, &n);
	const char *unit = len && !quota[len + 1] ? strchr(units, quota[len]) : NULL;
	char octets[UINT64_FMT];

	if (unit) {
		for (const char *u = units; u <= unit; u++)
			n = n > UINT64_MAX / 1024 ? UINT64_MAX : n * 1024;
		octets[uint64_fmt(octets, n)] = '\0';
		need_memory(stralloc_sets(&c->quota, octets) && stralloc_cats(&c->quota, "S"));
	} else
		need_memory(stralloc_sets(&c->quota, strcmp(quota, "none") != 0 ? quota : ""));
	need_memory(stralloc_0(&c->quota));
	if (!virtual_is_quota(c->quota.s))
		strerr_dief(EXIT_PERM, "not a quota: ", quota, " (500M, 2G, 10000C, 2000000S,1000C or none)");
	c->has_quota = 1;
}

static void
set_flags(struct choices *c, const char *flags)
{
	if (!virtual_flags(&c->flags, flags))
		strerr_dief(EXIT_PERM, "not flags: ", flags, " (catchall, extensions, locked; commas between them)");
	c->has_flags = 1;
}

static void
set_base(struct choices *c, const struct passwd *pw)
{
	need_memory(stralloc_sets(&c->base, pw ? pw->pw_dir : "") && stralloc_0(&c->base));
}

/* NAME or UID:GID. */
static void
set_owner(struct choices *c, const char *owner)
{
	const struct passwd *pw;
	unsigned int uid, gid;
	size_t len = uint_scan(owner, &uid);

	if (len && owner[len] == ':' && uint0_scan(owner + len + 1, &gid)) {
		pw = getpwuid(uid);
		c->uid = uid;
		c->gid = gid;
	} else {
		pw = getpwnam(owner);
		if (!pw)
			strerr_dief(EXIT_PERM, "there is no user ", owner, ": -u user or -u uid:gid says who owns the mail");
		c->uid = pw->pw_uid;
		c->gid = pw->pw_gid;
	}
	if (c->uid == 0 || c->gid == 0)
		strerr_dief(EXIT_PERM, "mail is never delivered as root: -u user or -u uid:gid says who owns it");
	set_base(c, pw);
	c->has_owner = 1;
}

/* Without -u: the user for it, or whoever calls and is not root. */
static void
find_owner(struct choices *c)
{
	if (c->has_owner)
		return;
	if (geteuid() == 0) {
		set_owner(c, OWNER);
		return;
	}
	c->uid = geteuid();
	c->gid = getegid();
	set_base(c, getpwuid(c->uid));
}

/* -d: what would end its field or its line makes no home. */
static void
set_directory(struct choices *c, const char *home)
{
	if (!virtual_is_home(home))
		strerr_dief(EXIT_PERM, "not a home: it is empty, or has a colon or a control character in it");
	c->home = home;
}

/* known: the options of the command, as getopt has them. Returns where the arguments begin. */
static int
parse_options(struct choices *c, const char *known, int argc, const char *const *argv)
{
	subgetopt state = SUBGETOPT_ZERO;
	unsigned int fd;
	int option;

	while ((option = subgetopt_r(argc, argv, known, &state)) != -1) {
		switch (option) {
		case 'd': set_directory(c, state.arg); break;
		case 'f': set_flags(c, state.arg); break;
		case 'H': c->are_hashes = 1; break;
		case 'q': set_quota(c, state.arg); break;
		case 'u': set_owner(c, state.arg); break;
		case 'p':
			if (uint0_scan(state.arg, &fd) && fd <= INT32_MAX) {
				c->password_fd = (int)fd;
				break;
			}
			/* fallthrough */
		default: strerr_dieusage(EXIT_PERM, USAGE);
		}
	}
	return state.ind;
}

/* --- a new account ------------------------------------------------------------------------------------------------------ */

/* Without -d: domain/user in the home of the owner. */
static void
set_home(struct virtual_account *v, stralloc *room, const struct choices *c)
{
	const char *at = strchr(v->address, '@');
	size_t len = (size_t)(at - v->address);

	if (!c->home && !*c->base.s)
		strerr_dief(EXIT_PERM, "the owner of the mail has no home: -d says where the account's is");
	if (!c->home && len <= 2 && strspn(v->address, ".") == len)
		strerr_dief(EXIT_PERM, v->address, ": its home would be the directory of all: -d says where it is");
	if (c->home)
		need_memory(stralloc_sets(room, c->home));
	else
		need_memory(stralloc_sets(room, c->base.s) && stralloc_cats(room, "/") && stralloc_cats(room, at + 1) &&
		    stralloc_cats(room, "/") && stralloc_catb(room, v->address, len));
	need_memory(stralloc_0(room));
	v->home = room->s;
}

/* All of it but the hash; what it points to is in address, which is put into lower case, in *c and in room. */
static void
make_account(struct virtual_account *v, char *address, stralloc *room, const struct choices *c)
{
	const char *fault = virtual_address_fault(address, strlen(address));

	if (fault)
		strerr_dief(EXIT_PERM, address, ": ", fault);
	case_lowerb(address, strlen(address));
	*v = (struct virtual_account){
		.address = address, .hash = "*", .uid = c->uid, .gid = c->gid, .quota = c->has_quota ? c->quota.s : "",
		.flags = c->flags,
	};
	set_home(v, room, c);
}

static void
make_home(const struct virtual_account *v)
{
	if (!account_home_make(v))
		strerr_warnwusys("make ", v->home, "/Maildir as the account's user: mail for ", v->address, " waits until it is there");
}

/* What is wrong with the way of mail for address to its account. */
static const char *
route_fault(const char *address)
{
	static struct route_rules rules;
	static int is_loaded;
	const char *domain = strchr(address, '@') + 1;
	stralloc routed = STRALLOC_ZERO;
	struct route route;
	int is_ours;

	if (!is_loaded && route_load(&rules))
		return "control/locals or control/virtualdomains cannot be read";
	is_loaded = 1;
	need_memory(route_find(&rules, address, &routed, &route));
	is_ours = route.channel == ROUTE_LOCAL && route.prepended == strlen(domain) + 1 &&
	    strncasecmp(routed.s, domain, strlen(domain)) == 0;
	stralloc_free(&routed);
	return is_ours ? NULL : "its mail goes elsewhere: control/virtualdomains is to have DOMAIN:DOMAIN, and control/locals not";
}

static void
warn_of_route(const char *address)
{
	const char *fault = route_fault(address);

	if (fault)
		strerr_warnw(address, ": ", fault);
}

/* --- passwords ------------------------------------------------------------------------------------------------------------ */

/* whose: "" where that is clear. */
static void
check_new(stralloc *password, const char *whose)
{
	const char *fault = password->len > PASSWORD_MAX ? "longer than 128 octets" : password->len ? NULL : "empty";

	for (size_t i = 0; i < password->len && !fault; i++)
		if ((password->s[i] >= '\0' && password->s[i] < ' ') || password->s[i] == 127)
			fault = "not to be typed: it has a control character in it";
	if (fault) {
		prompt_forget(password);
		strerr_dief(EXIT_PERM, whose, *whose ? ": " : "", "the password is ", fault);
	}
}

static void
read_password(stralloc *password, int fd)
{
	if (!prompt_read_line(password, fd))
		strerr_diefusys(EXIT_TEMP, "read a password");
}

static void
ask_password(stralloc *password, const char *question)
{
	if (!prompt_password(password, question))
		strerr_diefusys(EXIT_TEMP, "ask for a password on the terminal");
}

static void
ask_twice(stralloc *password)
{
	stralloc again = STRALLOC_ZERO;
	int is_same;

	ask_password(password, "New password: ");
	check_new(password, "");
	ask_password(&again, "The same again: ");
	is_same = password->len == again.len && memcmp(password->s, again.s, again.len) == 0;
	prompt_forget(&again);
	if (!is_same) {
		prompt_forget(password);
		strerr_dief(EXIT_NO, "these were two passwords");
	}
}

/* The hash of a password, which is forgotten. */
static void
hash_and_forget(char hash[PASSWORD_HASH_MAX], stralloc *password)
{
	int ok = password_hash(hash, password->s);

	prompt_forget(password);
	if (!ok)
		strerr_diefusys(EXIT_TEMP, "make a hash");
}

static void
get_hash(char hash[PASSWORD_HASH_MAX], const struct choices *c)
{
	stralloc password = STRALLOC_ZERO;

	if (c->password_fd < 0)
		ask_twice(&password);
	else {
		read_password(&password, c->password_fd);
		check_new(&password, "");
	}
	hash_and_forget(hash, &password);
}

/* --- the list ------------------------------------------------------------------------------------------------------------- */

static void
open_list(struct accountlist *l, int to_change)
{
	if (!accountlist_open(l, to_change))
		strerr_diefusys(EXIT_TEMP, to_change ? "get hold of " : "read ", VIRTUAL_FILE);
}

/* before: the lines that were there; the others are new. */
static void
save_list(struct accountlist *l, unsigned int before)
{
	const char *fault = accountlist_save(l);
	int is_new = l->number > before;
	char number[UINT_FMT];

	number[uint_fmt(number, is_new ? l->number - before : l->number)] = '\0';
	if (fault && l->number)
		strerr_dief(is_new ? EXIT_PERM : EXIT_TEMP, is_new ? "new account number " : VIRTUAL_FILE ", line ", number, ": ", fault);
	if (fault)
		strerr_dief(EXIT_TEMP, VIRTUAL_FILE, ": ", fault);
}

static void
need_account(struct accountlist *l, const char *address, struct virtual_account *v, size_t *at, size_t *len)
{
	if (!accountlist_find(l, address, v, at, len)) {
		accountlist_close(l);
		strerr_dief(EXIT_NO, "there is no account ", address);
	}
}

static void
need_none(struct accountlist *l, const char *address)
{
	struct virtual_account v = { .address = NULL };
	size_t at, len;

	if (accountlist_find(l, address, &v, &at, &len)) {
		accountlist_close(l);
		strerr_dief(EXIT_NO, "there is an account ", address, " already");
	}
	virtual_free(&v);
}

/* --- commands ------------------------------------------------------------------------------------------------------------- */

static int
add(char *address, struct choices *c)
{
	stralloc room = STRALLOC_ZERO;
	struct virtual_account v;
	struct accountlist l;
	char hash[PASSWORD_HASH_MAX];

	find_owner(c);
	make_account(&v, address, &room, c);
	open_list(&l, 0);	/* before anybody is asked for a password */
	need_none(&l, v.address);
	accountlist_close(&l);
	get_hash(hash, c);
	v.hash = hash;
	open_list(&l, 1);
	need_none(&l, v.address);
	need_memory(accountlist_append(&l, &v));
	save_list(&l, accountlist_lines(&l) - 1);
	make_home(&v);
	warn_of_route(v.address);
	return EXIT_OK;
}

static int
change_password(char *address, struct choices *c)
{
	struct virtual_account v = { .address = NULL };
	struct accountlist l;
	char hash[PASSWORD_HASH_MAX];
	size_t at, len;

	open_list(&l, 0);
	need_account(&l, address, &v, &at, &len);
	accountlist_close(&l);
	get_hash(hash, c);
	open_list(&l, 1);
	need_account(&l, address, &v, &at, &len);
	v.hash = hash;
	need_memory(accountlist_replace(&l, at, len, &v));
	save_list(&l, accountlist_lines(&l));
	return EXIT_OK;
}

static int
set(char *address, struct choices *c)
{
	struct virtual_account v = { .address = NULL };
	struct accountlist l;
	size_t at, len;

	open_list(&l, 1);
	need_account(&l, address, &v, &at, &len);
	if (c->has_owner) {
		v.uid = c->uid;
		v.gid = c->gid;
	}
	if (c->home)
		v.home = c->home;
	if (c->has_quota)
		v.quota = c->quota.s;
	if (c->has_flags)
		v.flags = c->flags;
	need_memory(accountlist_replace(&l, at, len, &v));
	save_list(&l, accountlist_lines(&l));
	if (c->has_owner || c->home)
		make_home(&v);
	return EXIT_OK;
}

static int
remove_account(char *address, struct choices *c)
{
	struct virtual_account v = { .address = NULL };
	struct accountlist l;
	size_t at, len;

	(void)c;
	open_list(&l, 1);
	need_account(&l, address, &v, &at, &len);
	accountlist_remove(&l, at, len);
	save_list(&l, accountlist_lines(&l));
	strerr_warni(v.home, " stays as it is");
	return EXIT_OK;
}

/* The lines, with x for a hash. */
static int
list(char *domain, struct choices *c)
{
	struct virtual_account v = { .address = NULL };
	stralloc line = STRALLOC_ZERO;
	struct accountlist l;

	(void)c;
	open_list(&l, 0);
	for (size_t at = 0; accountlist_next(&l, &at, &v); ) {
		if (!v.address || (domain && strcasecmp(strchr(v.address, '@') + 1, domain) != 0))
			continue;
		line.len = 0;
		v.hash = password_is_hash(v.hash) ? "x" : "*";
		need_memory(virtual_format(&line, &v, 1) && stralloc_append(&line, '\n'));
		buffer_put(buffer_1, line.s, line.len);
	}
	accountlist_close(&l);
	if (!buffer_flush(buffer_1))
		strerr_diefusys(EXIT_TEMP, "write the list");
	return EXIT_OK;
}

/* Whether the table has what the file has. */
static int
has_line(const char *table, const struct virtual_account *v, int with_hash)
{
	struct virtual_account found = { .address = NULL };
	stralloc want = STRALLOC_ZERO, have = STRALLOC_ZERO;
	struct table t;
	int r;

	r = table_open(&t, table) == 1 && virtual_find(&found, &t, v->address, strlen(v->address)) == 1 &&
	    virtual_format(&want, v, with_hash) && virtual_format(&have, &found, 1) && want.len == have.len &&
	    memcmp(want.s, have.s, want.len) == 0;
	table_close(&t);
	return r;
}

/* Both tables: logins find the account in one, its mail in the other. */
static int
is_compiled(const struct virtual_account *v)
{
	return has_line(VIRTUAL_PASSWORDS, v, 1) && has_line(VIRTUAL_TABLE, v, 0);
}

static int
is_password(const struct virtual_account *v, int fd)
{
	stralloc password = STRALLOC_ZERO;
	int r;

	read_password(&password, fd);
	r = v->flags & VIRTUAL_LOCKED ? 0 : password_check(v->hash, NULL, password.s);
	prompt_forget(&password);
	if (r < 0)
		strerr_diefusys(EXIT_TEMP, "check a password");
	return r;
}

/* Prints a line if there is a fault. Returns whether there is one. */
static int
say(const char *address, const char *fault)
{
	if (!fault)
		return 0;
	buffer_puts(buffer_1, address);
	buffer_puts(buffer_1, ": ");
	buffer_puts(buffer_1, fault);
	buffer_puts(buffer_1, "\n");
	return 1;
}

/* How much of the quota is used, as maildirsize has it. */
static void
say_usage(const struct virtual_account *v)
{
	char octets[UINT64_FMT], messages[UINT64_FMT];
	struct account_usage usage;

	if (!*v->quota)
		return;
	buffer_puts(buffer_1, v->address);
	if (account_home_usage(v, &usage)) {
		octets[uint64_fmt(octets, usage.octets)] = '\0';
		messages[uint64_fmt(messages, usage.messages)] = '\0';
		buffer_puts(buffer_1, ": ");
		buffer_puts(buffer_1, messages);
		buffer_puts(buffer_1, " messages, ");
		buffer_puts(buffer_1, octets);
		buffer_puts(buffer_1, " octets; quota ");
	} else
		buffer_puts(buffer_1, ": nothing counted yet; quota ");
	buffer_puts(buffer_1, v->quota);
	buffer_puts(buffer_1, "\n");
}

static int
check(char *address, struct choices *c)
{
	struct virtual_account v = { .address = NULL };
	struct accountlist l;
	const char *fault;
	size_t at, len;
	int faults = 0;

	open_list(&l, 0);
	need_account(&l, address, &v, &at, &len);
	accountlist_close(&l);
	faults += say(v.address, is_compiled(&v) ? NULL : "the tables do not have it so: run qmail-newaccounts");
	faults += say(v.address, route_fault(v.address));
	fault = account_home_fault(&v);
	if (fault) {
		buffer_puts(buffer_1, v.home);
		faults += say("/Maildir", fault);
	}
	if (c->password_fd >= 0)
		faults += say(v.address, is_password(&v, c->password_fd) ? NULL : "nobody logs in with this password");
	say_usage(&v);
	if (!faults)
		say(v.address, "in order");
	if (!buffer_flush(buffer_1))
		strerr_diefusys(EXIT_TEMP, "write the answer");
	return faults ? EXIT_NO : EXIT_OK;
}

static void die_line(unsigned int number, const char *fault) __attribute__((noreturn));
static void
die_line(unsigned int number, const char *fault)
{
	char digits[UINT_FMT];

	digits[uint_fmt(digits, number)] = '\0';
	strerr_dief(EXIT_PERM, "line ", digits, " of what is imported ", fault);
}

/* Adds a line "address:secret" to the new ones. */
static void
import_line(struct accountlist *new, stralloc *line, unsigned int number, const struct choices *c)
{
	stralloc room = STRALLOC_ZERO, secret = STRALLOC_ZERO;
	char *colon = strchr(line->s, ':');
	char hash[PASSWORD_HASH_MAX];
	struct virtual_account v;

	if (!colon)
		die_line(number, "is not address:password, or with -H address:hash");
	*colon = '\0';
	make_account(&v, line->s, &room, c);
	need_memory(stralloc_sets(&secret, colon + 1) && stralloc_0(&secret));
	secret.len--;
	v.hash = c->are_hashes ? secret.s : hash;
	if (!c->are_hashes) {
		check_new(&secret, v.address);
		hash_and_forget(hash, &secret);
	}
	need_memory(accountlist_append(new, &v));
	prompt_forget(&secret);
	stralloc_free(&room);
}

/* All lines of descriptor 0, or none of them. Nobody's home is another's: -d says where they all are. */
static int
import(char *nothing, struct choices *c)
{
	struct virtual_account v = { .address = NULL };
	struct accountlist new = { .number = 0 }, l;
	stralloc line = STRALLOC_ZERO;
	unsigned int before, number;

	(void)nothing;
	find_owner(c);
	if (c->home)
		need_memory(stralloc_sets(&c->base, c->home) && stralloc_0(&c->base));
	c->home = NULL;
	for (number = 1; prompt_read_line(&line, STDIN_FILENO); number++)
		if (line.len && line.s[0] != '#')
			import_line(&new, &line, number, c);
	if (errno == EINVAL)
		die_line(number, "is longer than 1024 octets, or has a NUL in it");
	if (errno != EPIPE)
		strerr_diefusys(EXIT_TEMP, "read what is to be imported");
	prompt_forget(&line);
	open_list(&l, 1);
	before = accountlist_lines(&l);
	need_memory(stralloc_catb(&l.text, new.text.s ? new.text.s : "", new.text.len));
	save_list(&l, before);
	for (size_t at = 0; accountlist_next(&new, &at, &v); ) {
		make_home(&v);
		warn_of_route(v.address);
	}
	return EXIT_OK;
}

/* --- start ---------------------------------------------------------------------------------------------------------------- */

static const struct command {
	const char *name, *options;
	int (*run)(char *argument, struct choices *c);
	int least, most;	/* arguments */
} commands[] = {
	{ "add", "d:f:p:q:u:", add, 1, 1 },
	{ "passwd", "p:", change_password, 1, 1 },
	{ "set", "d:f:q:u:", set, 1, 1 },
	{ "remove", "", remove_account, 1, 1 },
	{ "check", "p:", check, 1, 1 },
	{ "import", "Hd:f:q:u:", import, 0, 0 },
	{ "list", "", list, 0, 1 },
};
enum { COMMANDS = sizeof commands / sizeof *commands };

int
main(int argc, char **argv)
{
	struct choices c = { .password_fd = -1 };
	const struct command *command = commands;
	int n;

	PROG = "qmail-account";
	signal(SIGCHLD, SIG_DFL);	/* whoever started us may have ignored it, and what became of a home would not be known */
	while (argc > 1 && command < commands + COMMANDS && strcmp(command->name, argv[1]) != 0)
		command++;
	if (argc < 2 || command == commands + COMMANDS)
		strerr_dieusage(EXIT_PERM, USAGE);
	n = 1 + parse_options(&c, command->options, argc - 1, (const char *const *)argv + 1);
	if (argc - n < command->least || argc - n > command->most)
		strerr_dieusage(EXIT_PERM, USAGE);
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	return command->run(argv[n], &c);
}
