#include <stdlib.h>
#include <string.h>
#include "control/control.h"
#include "dnsbl_silence.h"

int
dnsbl_silence_defers(void)
{
	const char *variable = getenv("DNSBLFAILCLOSED");
	unsigned long number = 0;

	if (variable)
		return *variable && strcmp(variable, "0") != 0;
	return control_number(&number, "control/dnsblfailclosed", 1) < 0 ? -1 : number != 0;
}
