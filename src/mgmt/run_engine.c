// SPDX-License-Identifier: Apache-2.0
/* Which engine runs a VM; see run_priv.h. */
#include "engine/engine.h"
#include "mgmt/run_priv.h"

#include <errno.h>

int engine_choose(const struct engine_ops **out, const char **why, enum engine_choice choice,
		  struct err *e)
{
	int rc;

	if (choice == ENGINE_KVM)
		return err_set(e, EINVAL, "the kvm engine is not there yet; use --engine soft");
	rc = engine_soft.probe(e);
	if (rc)
		return rc;
	*out = &engine_soft;
	*why = choice == ENGINE_SOFT ? "engine soft: chosen with --engine soft" :
	       "engine soft: chosen automatically, since the kvm engine is not there yet";
	return 0;
}
