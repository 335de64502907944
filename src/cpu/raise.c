// SPDX-License-Identifier: Apache-2.0
/*
 * Recording an exception in v->fault; see except.h.  Nothing else changes until
 * vcpu_deliver() looks at it.
 */
#include "cpu/except.h"

enum exec_status raise_exc(struct vcpu *v, unsigned int vector)
{
	v->fault = (struct fault){ .vector = vector };
	return EXEC_FAULT;
}

enum exec_status raise_err(struct vcpu *v, unsigned int vector, uint32_t error)
{
	v->fault = (struct fault){ .vector = vector, .has_error = true, .error = error };
	return EXEC_FAULT;
}

enum exec_status raise_pf(struct vcpu *v, gva_t gva, uint32_t error)
{
	v->fault = (struct fault){
		.vector = EXC_PF, .has_error = true, .error = error, .cr2 = gva,
	};
	return EXEC_FAULT;
}

enum exec_status raise_db(struct vcpu *v, uint64_t dr6)
{
	v->fault = (struct fault){ .vector = EXC_DB, .dr6 = dr6 };
	return EXEC_FAULT;
}
