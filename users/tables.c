#include "tables.h"
#include "virtual.h"

int
tables_find(struct account *account, const char *local, size_t len, const char **table)
{
	int absent;
	int r = virtual_of_local(account, *table = VIRTUAL_TABLE, local, len);

	return r ? r : account_find(account, *table = ACCOUNT_TABLE, local, len, &absent);
}
