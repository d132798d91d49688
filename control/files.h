/* files: the table of every control file, its form, its default and its reader; control/README.md says the same in
 * prose, and a test compares them. */
#ifndef CONTROL_FILES_H
#define CONTROL_FILES_H

enum control_form {
	CONTROL_LINE,	/* control_line: the first line */
	CONTROL_NUMBER,	/* control_number */
	CONTROL_LIST,	/* control_list */
	CONTROL_MAP,	/* control_list, control_map_build with values */
	CONTROL_TABLE,	/* compiled from the list of the same name without ".cdb" */
};

struct control_file {
	const char *name;
	enum control_form form;
	const char *standard;	/* what holds without the file: the text; "me": what control/me says; "": nothing */
	int required;		/* 1: its readers refuse to work where neither the file nor its default exists */
	const char *readers;	/* programs, parted by a comma and a blank */
	const char *meaning;	/* a phrase, without a full stop */
};

/* Ordered by name, ended by a row whose name is NULL. */
extern const struct control_file control_files[];

/* How the form is called in README.md and by qmail-showctl. */
const char *control_form_name(enum control_form form);

/* The row of a file, or NULL if no program reads one of that name. */
const struct control_file *control_file_find(const char *name);

#endif
