#include <string.h>
#include <unistd.h>
#include "monotonic.h"
#include "service_socket.h"
#include "sts_client.h"

int
sts_client_connect(void)
{
	return service_socket_connect(-1, STS_SOCKET, STS_ANSWER_MS);
}

static enum sts_answer
ask(int fd, const char *domain, const char *id, struct sts_policy *policy)
{
	static char answer[1 + STS_POLICY_MAX];
	struct iovec v[2] = { { (char *)(uintptr_t)domain, strlen(domain) + 1 }, { (char *)(uintptr_t)id, strlen(id) } };
	ssize_t len;

	if (!service_socket_send(fd, v, 2, -1) || !service_socket_wait(fd, monotonic_ms() + STS_PATIENCE_MS))
		return STS_NO_ANSWER;
	len = service_socket_receive(fd, answer, sizeof answer, NULL);
	if (len == 1 && *answer == 'N')
		return STS_NO_POLICY;
	return len > 0 && *answer == 'P' && !sts_policy_parse(policy, answer + 1, (size_t)len - 1) ? STS_POLICY : STS_NO_ANSWER;
}

enum sts_answer
sts_client_ask(int fd, const char *domain, const char *id, struct sts_policy *policy)
{
	enum sts_answer answer = ask(fd, domain, id, policy);

	close(fd);
	return answer;
}
