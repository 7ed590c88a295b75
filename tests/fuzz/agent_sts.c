/*
 * agent_sts.c - fuzzing of what a mail domain says of itself for MTA-STS: the TXT record, the policy, and the form in
 * which a policy is kept. What is taken survives being kept, has what its mode needs, and only names of hosts in it.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"
#include "../../control/agent/sts_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void survives_keeping(const struct sts_policy *policy)
{
	struct sts_policy again = {.mode = policy->mode, .max_age = policy->max_age};
	char *mx = sts_mx_print(policy);

	if (!sts_mx_parse(mx, &again) || !sts_policy_equal(policy, &again))
		abort();
	free(mx);
	sts_policy_dispose(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char id[STS_ID_MAX + 1];
	struct sts_policy policy;

	if (sts_record_parse((const char *)data, size, id) && (!sts_id_valid(id) || !sts_record_is_ours((const char *)data, size)))
		abort();
	if (sts_policy_parse((const char *)data, size, &policy)) {
		if (policy.mx || policy.mx_count)
			abort();
		return 0;
	}
	if (policy.max_age > STS_MAX_AGE_MAX || (policy.mode != STS_NONE && !policy.mx_count))
		abort();
	for (size_t i = 0; i < policy.mx_count; i++) {
		const char *name = !strncmp(policy.mx[i], "*.", 2) ? policy.mx[i] + 2 : policy.mx[i];
		if (!*name || !policy_domain_valid(name))
			abort();
	}
	survives_keeping(&policy);
	sts_policy_dispose(&policy);
	return 0;
}
