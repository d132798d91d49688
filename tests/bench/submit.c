/* submit: a load generator. Submits messages through queue/client from parallel processes, and prints how many a second
 * were accepted. For measuring; run it in, or as a program of, an installed tree.
 *
 *     submit [-p processes] [-n messages] [-s octets] [-u users] [-k] recipient
 *
 * recipient may hold one %d, which becomes 1 .. users in turn. -k: keep one connection for all messages of a process;
 * otherwise each message has a connection of its own, as with qmail-inject. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "home.h"
#include "queue/client.h"

struct load {
	unsigned int processes, messages, octets, users;
	int keep;
	const char *recipient;
};

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
put_message(struct queue_client *q, const struct load *load)
{
	static const char header[] = "From: <bench@bench.test>\nTo: <somebody@bench.test>\nSubject: load\n\n";
	static const char line[] = "0123456789012345678901234567890123456789012345678901234567890123456789\n";

	queue_client_message(q, header, sizeof header - 1);
	for (unsigned int done = 0; done < load->octets; done += sizeof line - 1)
		queue_client_message(q, line, sizeof line - 1);
}

static int
submit(const struct load *load, unsigned int first)
{
	struct queue_client q;
	struct queue_result result;

	queue_client_open_keeper(&q, -1);
	for (unsigned int i = first; i < load->messages; i += load->processes) {
		char recipient[256];

		snprintf(recipient, sizeof recipient, load->recipient, i % load->users + 1);
		queue_client_begin(&q);
		put_message(&q, load);
		queue_client_sender(&q, "bench@bench.test", 16);
		queue_client_recipient(&q, recipient, strlen(recipient));
		queue_client_end(&q, 1, &result);
		if (result.code) {
			fprintf(stderr, "submit: exit code %u: %s\n", result.code, result.text);
			return 1;
		}
		if (!load->keep)
			queue_client_abandon(&q);
	}
	return 0;
}

int
main(int argc, char **argv)
{
	struct load load = { .processes = 1, .messages = 1000, .octets = 4096, .users = 1 };
	int c, status, failed = 0;
	double start;

	while ((c = getopt(argc, argv, "p:n:s:u:k")) >= 0)
		switch (c) {
		case 'p': load.processes = (unsigned int)atoi(optarg); break;
		case 'n': load.messages = (unsigned int)atoi(optarg); break;
		case 's': load.octets = (unsigned int)atoi(optarg); break;
		case 'u': load.users = (unsigned int)atoi(optarg); break;
		case 'k': load.keep = 1; break;
		default: return 100;
		}
	if (optind != argc - 1 || !load.processes || !load.users || !home_enter())
		return 100;
	load.recipient = argv[optind];
	start = now();
	for (unsigned int i = 0; i < load.processes; i++)
		if (fork() == 0)
			_exit(submit(&load, i));
	while (wait(&status) > 0)
		failed |= status != 0;
	printf("%.0f\n", load.messages / (now() - start));
	return failed ? 111 : 0;
}
