#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "login_protocol.h"

const char *const login_variables[LOGIN_VARIABLES_MAX + 1] = {
	"PROTO", "TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALIP", "TCPLOCALPORT", "TCPREMOTEHOST", "TCPLOCALHOST",
	"TCP6REMOTEIP", "TCP6REMOTEPORT", "TCP6LOCALIP", "TCP6LOCALPORT",
	[LOGIN_VARIABLES_SAID] = "SSL_PROTOCOL", "SSL_CIPHER", "SSL_TLS_SNI_SERVERNAME", LOGIN_UTF8, NULL,
};

int
login_value_is_fine(const char *value)
{
	static const char in_values[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:%_-";
	size_t len = strspn(value, in_values);

	return len > 0 && len <= LOGIN_VALUE_MAX && !value[len];
}

int
login_variable_find(const char *variable)
{
	size_t len = strcspn(variable, "=");

	for (int i = 0; variable[len] && login_variables[i]; i++)
		if (strlen(login_variables[i]) == len && memcmp(login_variables[i], variable, len) == 0)
			return i;
	return -1;
}

size_t
login_variables_put(char *packet, size_t len, size_t size, int from)
{
	for (int i = from; login_variables[i]; i++) {
		const char *value = getenv(login_variables[i]);
		int n;

		if (!value || !login_value_is_fine(value))
			continue;
		n = snprintf(packet + len, size - len, "%s=%s", login_variables[i], value);
		if (n > 0 && (size_t)n < size - len)
			len += (size_t)n + 1;
	}
	return len;
}

/* Takes the variables, up to end. */
static int
parse_variables(struct login_request *r, const char *s, const char *end)
{
	unsigned int seen = 0;

	r->variables_len = 0;
	for (; s < end; s += strlen(s) + 1) {
		int i = login_variable_find(s);

		if (i < 0 || seen & 1U << i || !login_value_is_fine(strchr(s, '=') + 1))
			return 0;
		seen |= 1U << i;
		r->variables[r->variables_len++] = s;
	}
	return 1;
}

int
login_request_parse(struct login_request *r, const char *packet, size_t len)
{
	const char *s = packet + 1, *end = packet + len;
	const char **strings[] = { &r->login, &r->secret, &r->challenge };

	if (len < 2 || packet[len - 1] || (packet[0] != LOGIN_CHECK && packet[0] != LOGIN_SESSION))
		return 0;
	r->question = (enum login_question)packet[0];
	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
		if (s == end)
			return 0;
		*strings[i] = s;
		s += strlen(s) + 1;
	}
	return parse_variables(r, s, end);
}

const char *
login_request_variable(const struct login_request *r, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < r->variables_len; i++)
		if (strncmp(r->variables[i], name, len) == 0 && r->variables[i][len] == '=')
			return r->variables[i] + len + 1;
	return NULL;
}
