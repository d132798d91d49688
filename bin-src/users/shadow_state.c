#include "shadow_state.h"

int
shadow_state_is_valid(const struct spwd *sp, long today)
{
	if (sp->sp_expire >= 0 && today >= sp->sp_expire)
		return 0;
	if (sp->sp_lstchg == 0)
		return 0;	/* to be changed at the next login */
	return sp->sp_lstchg < 0 || sp->sp_max < 0 || today - sp->sp_lstchg <= sp->sp_max;
}
