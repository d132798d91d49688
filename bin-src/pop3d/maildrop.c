#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <skalibs/blake2s.h>
#include "decimal.h"
#include "known_sizes.h"
#include "maildir.h"
#include "maildir_quota.h"
#include "maildrop.h"
#include "wall_clock.h"

enum {
	DIGEST = 20,		/* octets of a digest in a unique-id */
	FIRST_ROOM = 64,
};

#define UNKNOWN UINT64_MAX	/* size of a file, until it is looked at */

static const char *
name_of(const struct maildrop *m, const struct maildrop_message *message)
{
	return m->names.s + message->name;
}

/* --- opening ------------------------------------------------------------------------------ */

static int
open_directory(int at, const char *path)
{
	return openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
}

int
maildrop_open(struct maildrop *m, const char *path)
{
	static const char *const names[] = { [MAILDROP_NEW] = "new", [MAILDROP_CUR] = "cur" };
	int ok = 1;

	m->directory = open_directory(AT_FDCWD, path);
	m->folders[MAILDROP_NEW] = m->folders[MAILDROP_CUR] = -1;
	if (m->directory < 0)
		return 0;
	for (int f = 0; ok && f < MAILDROP_FOLDERS; f++) {
		m->folders[f] = open_directory(m->directory, names[f]);
		ok = m->folders[f] >= 0;
	}
	m->sizes = ok ? known_sizes_open(m->directory) : -1;
	m->quota = ok ? maildir_quota_file(m->directory) : -1;
	if (!ok)
		maildrop_close(m);
	return ok;
}

void
maildrop_close(struct maildrop *m)
{
	int e = errno;

	for (int f = 0; f < MAILDROP_FOLDERS; f++)
		if (m->folders[f] >= 0)
			close(m->folders[f]);
	if (m->sizes >= 0)
		close(m->sizes);
	if (m->quota >= 0)
		close(m->quota);
	close(m->directory);
	stralloc_free(&m->names);
	free(m->messages);
	m->messages = NULL;
	m->count = m->room = m->left = 0;
	errno = e;
}

/* --- reading directories --------------------------------------------------------------------- */

/* What is done with an entry of a directory that is open at fd. Returns 1; 0: no more; -1 with errno set. */
typedef int visitor(struct maildrop *m, int fd, enum maildrop_folder folder, const struct dirent *entry, void *data);

/* Shows every entry whose name does not begin with a dot. Returns 1, or 0 with errno set. */
static int
visit(struct maildrop *m, int at, const char *path, enum maildrop_folder folder, visitor *look, void *data)
{
	int fd = open_directory(at, path);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;
	int r = 1, e;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	errno = 0;
	while (r > 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.')
			r = look(m, fd, folder, entry, data);
		if (r > 0)
			errno = 0;
	}
	e = r == 0 ? 0 : errno;
	closedir(dir);
	errno = e;
	return e == 0;
}

static int
visit_folder(struct maildrop *m, enum maildrop_folder folder, visitor *look, void *data)
{
	return visit(m, m->folders[folder], ".", folder, look, data);
}

/* new/ first: a message that is moved to cur/ meanwhile is then seen at least once. */
static int
visit_messages(struct maildrop *m, visitor *look, void *data)
{
	return visit_folder(m, MAILDROP_NEW, look, data) && visit_folder(m, MAILDROP_CUR, look, data);
}

/* --- the list ------------------------------------------------------------------------------ */

/* The seconds that a name begins with, before a dot. */
static int
name_time(const char *name, uint64_t *seconds)
{
	size_t digits = decimal_scan(name, seconds);

	return digits && name[digits] == '.';
}

/* The file's size is known, so is what the client is told. */
static void
set_size(struct maildrop_message *message, const char *name, uint64_t file_size)
{
	message->file_size = file_size;
	if (!maildir_name_wire_size(name, &message->size) || message->size > MAILDROP_SIZE_MAX)
		message->size = file_size;
}

/* Fills in time and sizes, from the name if it tells them; a size alone is looked for later. Returns 1, or 0: no message. */
static int
describe(struct maildrop_message *message, int fd, const struct dirent *entry)
{
	const char *name = entry->d_name;
	uint64_t size = UNKNOWN;
	int has_time = name_time(name, &message->time);
	int has_size = maildir_name_size(name, &size) && size <= MAILDROP_SIZE_MAX;
	struct stat st;

	if (entry->d_type != DT_REG && entry->d_type != DT_UNKNOWN)
		return 0;
	message->lacks_size = has_time && !has_size && entry->d_type == DT_REG;
	if (message->lacks_size)
		size = UNKNOWN;
	else if (!has_time || !has_size || entry->d_type == DT_UNKNOWN) {
		if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			return 0;
		if (!has_time)
			message->time = st.st_mtime > 0 ? (uint64_t)st.st_mtime : 0;
		if (!has_size)
			size = (uint64_t)st.st_size;
	}
	set_size(message, name, size);
	return 1;
}

static int
make_room(struct maildrop *m)
{
	size_t room = m->room ? 2 * m->room : FIRST_ROOM;
	struct maildrop_message *more;

	if (m->count < m->room)
		return 1;
	more = reallocarray(m->messages, room, sizeof *more);
	if (!more)
		return 0;
	m->messages = more;
	m->room = room;
	return 1;
}

static int
keep_name(struct maildrop *m, struct maildrop_message *message, const char *name)
{
	size_t at = m->names.len;

	if (at > UINT32_MAX - MAILDIR_NAME_MAX) {
		errno = ENOMEM;
		return 0;
	}
	if (!stralloc_catb(&m->names, name, strlen(name) + 1))
		return 0;
	message->name = (uint32_t)at;
	message->unique = (uint8_t)strcspn(name, ":");
	return 1;
}

/* Returns as a visitor. */
static int
add(struct maildrop *m, const struct maildrop_message *message)
{
	if (m->count == MAILDROP_MESSAGES_MAX) {
		m->is_cut = 1;
		return 0;
	}
	if (!make_room(m))
		return -1;
	m->messages[m->count++] = *message;
	m->lacking += message->lacks_size;
	return 1;
}

static int
add_file(struct maildrop *m, int fd, enum maildrop_folder folder, const struct dirent *entry, void *data)
{
	struct maildrop_message message = { .folder = (uint8_t)folder };

	(void)data;
	if (strlen(entry->d_name) > MAILDIR_NAME_MAX || !describe(&message, fd, entry))
		return 1;
	return keep_name(m, &message, entry->d_name) ? add(m, &message) : -1;
}

static int
compare_unique(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int r = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return r ? r : (a_len > b_len) - (a_len < b_len);
}

static struct known_name
known_name(const struct maildrop *m, const struct maildrop_message *message)
{
	return (struct known_name){ message->time, name_of(m, message), message->unique };
}

/* By time, then by name; of two that are one message, that in cur/ is last. */
static int
by_time(const void *a, const void *b, void *data)
{
	const struct maildrop_message *x = a, *y = b;
	struct known_name name = known_name(data, x), other = known_name(data, y);
	int r = known_name_compare(&name, &other);

	return r ? r : x->folder - y->folder;
}

static int
is_same(const struct maildrop *m, const struct maildrop_message *a, const struct maildrop_message *b)
{
	struct known_name name = known_name(m, a), other = known_name(m, b);

	return known_name_compare(&name, &other) == 0;
}

/* Of messages that were seen twice, the last stays. */
static void
drop_duplicates(struct maildrop *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->count; i++) {
		const struct maildrop_message *next = m->messages + i;

		if (kept && is_same(m, m->messages + kept - 1, next))
			kept--;
		m->messages[kept++] = *next;
	}
	m->count = kept;
}

/* --- the list of an earlier session ------------------------------------------------------------- */

/* What changes in cur/ from now on shows in this. All zero if it was changed a moment ago: the next change might have the same time. */
static struct known_state
state_of_cur(const struct maildrop *m)
{
	struct known_state none = { .inode = 0 };
	struct stat st;

	if (fstat(m->folders[MAILDROP_CUR], &st) < 0 || st.st_ctim.tv_sec <= 0 ||
	    st.st_ctim.tv_sec > wall_clock_seconds() - MAILDROP_SETTLE)
		return none;
	return (struct known_state){ st.st_ino, (uint64_t)st.st_ctim.tv_sec, (uint64_t)st.st_ctim.tv_nsec };
}

/* Reads pop3-sizes if it is the list of cur/ as that is now. Returns 1, or 0: it is not, or it does not count. */
static int
read_list(const struct maildrop *m, struct known_sizes *known)
{
	struct known_state listed = known_sizes_state(m->sizes);

	if (!m->cur.seconds || !known_state_is_same(&listed, &m->cur))
		return 0;
	known_sizes_read(known, m->sizes);
	if (known_state_is_same(&known->state, &m->cur))
		return 1;
	known_sizes_free(known);
	return 0;
}

/* The text of pop3-sizes becomes where the names are, in front of those of the first count messages. Returns 1, or 0 with errno set. */
static int
take_names(struct maildrop *m, struct known_sizes *known, size_t count)
{
	stralloc names = known_sizes_take_text(known);
	size_t shift = names.len;

	if (!stralloc_catb(&names, m->names.s, m->names.len)) {
		stralloc_free(&names);
		return 0;
	}
	for (size_t i = 0; i < count; i++)
		m->messages[i].name += (uint32_t)shift;
	stralloc_free(&m->names);
	m->names = names;
	return 1;
}

/* Takes the messages of cur/ from pop3-sizes. Returns 1, or 0 with errno set. */
static int
take_list(struct maildrop *m, struct known_sizes *known)
{
	size_t before = m->count;
	struct known_name name;
	uint64_t size;
	int r = 1;

	while (r > 0 && known_sizes_next(known, &name, &size)) {
		struct maildrop_message message = { .time = name.time, .folder = MAILDROP_CUR, .unique = (uint8_t)name.len,
		    .name = (uint32_t)(name.name - known->text.s) };

		if (*name.name == '.' || strchr(name.name, '/') || strlen(name.name) > MAILDIR_NAME_MAX)
			continue;	/* no session has written that */
		message.lacks_size = size > MAILDROP_SIZE_MAX;
		set_size(&message, name.name, message.lacks_size ? UNKNOWN : size);
		r = add(m, &message);
	}
	m->is_listed = 1;
	return r >= 0 && take_names(m, known, before);
}

/* The state is taken after new/ was read and before cur/ is: a message that is moved meanwhile makes the list of an earlier session one
 * that does not count, or this one. */
static int
list_folders(struct maildrop *m, struct known_sizes *known)
{
	if (!visit_folder(m, MAILDROP_NEW, add_file, NULL))
		return 0;
	m->cur = state_of_cur(m);
	if (read_list(m, known))
		return take_list(m, known);
	if (!visit_folder(m, MAILDROP_CUR, add_file, NULL))
		return 0;
	if (m->lacking)
		known_sizes_read(known, m->sizes);
	return 1;
}

/* --- finding what was moved ------------------------------------------------------------------- */

/* The messages, sorted by the unique part of their names. */
struct index {
	struct maildrop_message **sorted;
};

static int
by_unique(const void *a, const void *b, void *data)
{
	const struct maildrop_message *x = *(struct maildrop_message *const *)a, *y = *(struct maildrop_message *const *)b;
	const struct maildrop *m = data;

	return compare_unique(name_of(m, x), x->unique, name_of(m, y), y->unique);
}

static struct maildrop_message *
look_up(const struct maildrop *m, const struct index *index, const char *name, size_t unique)
{
	size_t low = 0, high = m->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct maildrop_message *message = index->sorted[middle];
		int r = compare_unique(name, unique, name_of(m, message), message->unique);

		if (r == 0)
			return message;
		if (r < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static int
find(struct maildrop *m, int fd, enum maildrop_folder folder, const struct dirent *entry, void *data)
{
	const char *name = entry->d_name;
	struct maildrop_message *message = look_up(m, data, name, strcspn(name, ":"));

	(void)fd;
	if (!message)
		return 1;
	if (strcmp(name, name_of(m, message)) != 0 && !keep_name(m, message, name))
		return -1;
	message->folder = (uint8_t)folder;
	message->is_found = 1;
	return 1;
}

/* Looks where each message is now. Returns 1, or 0 with errno set: not all was seen, and none counts as gone for that. */
static int
find_again(struct maildrop *m)
{
	struct index index = { reallocarray(NULL, m->count, sizeof *index.sorted) };
	int r;

	if (!index.sorted)
		return 0;
	for (size_t i = 0; i < m->count; i++) {
		index.sorted[i] = m->messages + i;
		m->messages[i].is_found = 0;
	}
	qsort_r(index.sorted, m->count, sizeof *index.sorted, by_unique, m);
	r = visit_messages(m, find, &index);
	for (size_t i = 0; r && i < m->count; i++)
		m->messages[i].is_gone = !m->messages[i].is_found;
	free(index.sorted);
	return r;
}

/* --- sizes that names do not tell ------------------------------------------------------------- */

/* Returns 1, or 0: there is no such file. */
static int
look_at_file(struct maildrop *m, struct maildrop_message *message)
{
	struct stat st;

	m->looked_at++;
	if (fstatat(m->folders[message->folder], name_of(m, message), &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return 0;
	set_size(message, name_of(m, message), (uint64_t)st.st_size);
	return 1;
}

/* Returns how many were not where they had been seen. */
static size_t
find_sizes(struct maildrop *m, struct known_sizes *known)
{
	size_t missing = 0;
	uint64_t size;

	for (size_t i = 0; i < m->count; i++) {
		struct maildrop_message *message = m->messages + i;
		struct known_name name = known_name(m, message);

		if (!message->lacks_size)
			continue;
		if (known_sizes_find(known, &name, &size) && size <= MAILDROP_SIZE_MAX)
			set_size(message, name.name, size);
		else
			missing += !look_at_file(m, message);
	}
	return missing;
}

static void
drop_gone(struct maildrop *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->count; i++)
		if (!m->messages[i].is_gone)
			m->messages[kept++] = m->messages[i];
	m->count = kept;
}

/* Those that somebody has moved meanwhile are looked for; those that vanished are no messages. Returns 1, or 0 with errno set. */
static int
find_missing_sizes(struct maildrop *m)
{
	if (!find_again(m))
		return 0;
	for (size_t i = 0; i < m->count; i++)
		if (m->messages[i].file_size == UNKNOWN && !m->messages[i].is_gone)
			m->messages[i].is_gone = !look_at_file(m, m->messages + i);
	drop_gone(m);
	return 1;
}

/* Whether all messages are in cur/, as they were found there. */
static int
is_as_it_was(const struct maildrop *m)
{
	if (m->left < m->count || m->is_cut)
		return 0;
	for (size_t i = 0; i < m->count; i++)
		if (m->messages[i].folder != MAILDROP_CUR || m->messages[i].is_gone)
			return 0;
	return 1;
}

/* For the next session, if that saves it looking at many files, or reading a large directory. */
static void
remember(const struct maildrop *m)
{
	struct known_sizes known = { .at = 0 };
	int is_list = !m->is_listed && m->cur.seconds && is_as_it_was(m);

	if (m->looked_at < KNOWN_SIZES_WORTH && (!is_list || m->count < KNOWN_SIZES_WORTH))
		return;
	if (is_list)
		known.state = m->cur;
	known_sizes_begin(&known);
	for (size_t i = 0; i < m->count; i++) {
		struct known_name name = known_name(m, m->messages + i);

		if (!m->messages[i].is_gone && !m->messages[i].is_deleted)
			known_sizes_add(&known, &name, m->messages[i].file_size);
	}
	known_sizes_write(&known, m->sizes);
	known_sizes_free(&known);
}

/* A list is in order; what was in new/ stands before it. */
static int
is_sorted(const struct maildrop *m)
{
	return m->is_listed && m->messages[0].folder == MAILDROP_CUR;
}

int
maildrop_list(struct maildrop *m)
{
	struct known_sizes known = { .at = 0 };
	int r = list_folders(m, &known);

	if (r && m->count && !is_sorted(m))
		qsort_r(m->messages, m->count, sizeof *m->messages, by_time, m);
	if (r)
		drop_duplicates(m);
	r = r && (find_sizes(m, &known) == 0 || find_missing_sizes(m));
	known_sizes_free(&known);
	if (r)
		maildrop_undelete(m);
	return r;
}

/* --- one message ------------------------------------------------------------------------------ */

static int
open_file(const struct maildrop *m, const struct maildrop_message *message)
{
	return openat(m->folders[message->folder], name_of(m, message), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int
maildrop_file(struct maildrop *m, size_t i, uint64_t *size)
{
	const struct maildrop_message *message = m->messages + i;
	struct stat st;
	int fd = -1;

	errno = ENOENT;
	if (!message->is_gone)
		fd = open_file(m, message);
	if (fd < 0 && errno == ENOENT && !message->is_gone) {
		if (!find_again(m))
			return -1;
		errno = ENOENT;
		fd = message->is_gone ? -1 : open_file(m, message);
	}
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		errno = ENOENT;	/* something else has taken its place */
		return -1;
	}
	*size = (uint64_t)st.st_size;
	return fd;
}

static int
is_uid(const char *s, size_t len)
{
	if (len == 0 || len > MAILDROP_UID_MAX)
		return 0;
	for (size_t i = 0; i < len; i++)
		if (s[i] < 0x21 || s[i] > 0x7e)
			return 0;
	return 1;
}

size_t
maildrop_uid(const struct maildrop *m, size_t i, char uid[MAILDROP_UID_MAX + 1])
{
	const struct maildrop_message *message = m->messages + i;
	const char *name = name_of(m, message);
	blake2s_ctx digest = BLAKE2S_INIT(DIGEST);
	char octets[DIGEST];

	if (is_uid(name, message->unique)) {
		memcpy(uid, name, message->unique);
		uid[message->unique] = '\0';
		return message->unique;
	}
	blake2s_update(&digest, name, message->unique);
	blake2s_final(&digest, octets);
	for (size_t n = 0; n < DIGEST; n++)
		snprintf(uid + 2 * n, 3, "%02x", (unsigned char)octets[n]);
	return 2 * DIGEST;
}

void
maildrop_delete(struct maildrop *m, size_t i)
{
	m->messages[i].is_deleted = 1;
	m->left--;
	m->octets -= m->messages[i].size;
}

void
maildrop_undelete(struct maildrop *m)
{
	m->left = m->count;
	m->octets = 0;
	for (size_t i = 0; i < m->count; i++) {
		m->messages[i].is_deleted = 0;
		m->octets += m->messages[i].size;
	}
}

/* --- the end of a session ------------------------------------------------------------------------ */

/* What an update has done so far. */
struct update {
	uint64_t octets, messages;	/* that were removed and counted for the quota */
	size_t failed;
	int error;
};

/* Returns 1, or 0: it is not where it was. */
static int
remove_message(struct maildrop *m, struct maildrop_message *message, struct update *u)
{
	const char *name = name_of(m, message);

	if (unlinkat(m->folders[message->folder], name, 0) < 0) {
		if (errno == ENOENT)
			return 0;
		u->failed++;
		u->error = errno;
		return 1;
	}
	message->is_gone = 1;
	if (!maildir_name_is_trashed(name)) {
		u->octets += message->file_size;
		u->messages++;
	}
	return 1;
}

static void
remove_marked(struct maildrop *m, struct update *u)
{
	size_t missing = 0;

	for (size_t i = 0; i < m->count; i++)
		if (m->messages[i].is_deleted && !remove_message(m, m->messages + i, u))
			missing++;
	if (!missing)
		return;
	if (!find_again(m)) {
		u->failed += missing;
		u->error = errno;
		return;
	}
	u->failed = 0;
	for (size_t i = 0; i < m->count; i++)
		if (m->messages[i].is_deleted && !m->messages[i].is_gone)
			remove_message(m, m->messages + i, u);
}

/* A name that has flags in new/ already keeps them. A message that cannot be moved stays new. */
static void
move_seen(struct maildrop *m, const struct maildrop_message *message)
{
	const char *name = name_of(m, message);
	char seen[MAILDIR_NAME_MAX + 4];

	snprintf(seen, sizeof seen, "%s%s", name, name[message->unique] ? "" : ":2,");
	maildir_move(m->folders[MAILDROP_NEW], name, m->folders[MAILDROP_CUR], seen);
}

size_t
maildrop_update(struct maildrop *m)
{
	struct update u = { .failed = 0 };

	if (m->left < m->count)
		remove_marked(m, &u);
	for (size_t i = 0; i < m->count; i++)
		if (m->messages[i].folder == MAILDROP_NEW && !m->messages[i].is_deleted && !m->messages[i].is_gone)
			move_seen(m, m->messages + i);
	remember(m);
	if (u.messages)	/* where that fails, whoever counts the maildir anew puts it right */
		maildir_quota_record_in(m->quota, m->directory, -(int64_t)u.octets, -(int64_t)u.messages);
	errno = u.error;
	return u.failed;
}

/* --- tmp/ --------------------------------------------------------------------------------------- */

static int
remove_old(struct maildrop *m, int fd, enum maildrop_folder folder, const struct dirent *entry, void *data)
{
	int *looked_at = data;
	struct stat st;

	(void)m, (void)folder;
	if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    st.st_mtime < time(NULL) - MAILDROP_TMP_HOURS * 3600)
		unlinkat(fd, entry->d_name, 0);
	return ++*looked_at < MAILDROP_TMP_MAX;
}

void
maildrop_clean(struct maildrop *m)
{
	int looked_at = 0;

	visit(m, m->directory, "tmp", MAILDROP_NEW, remove_old, &looked_at);
}
