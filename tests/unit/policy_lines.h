/*
 * policy_lines.h - a policy image out of the lines of a policy file, for tests of what reads images.
 */
#ifndef TEST_POLICY_LINES_H
#define TEST_POLICY_LINES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../control/policy/rules.h"
#include "../../dataplane/policy/policy.h"

/* NULL ends the list. The caller closes the image. `found`: what an agent would have found, or NULL. */
static inline struct policy_image *image_of_findings(const char *const *lines, struct discovered *found)
{
	char error[RULES_ERROR_MAX];
	size_t len;
	struct ruleset *set = ruleset_new();

	for (; *lines; lines++) {
		struct rule *rule = rule_parse_line(*lines, error, sizeof(error));
		if (!rule)
			fail_msg("%s", error);
		ruleset_put(set, rule);
	}
	void *bytes = ruleset_compile_discovered(set, found, 1, 1700000000, &len, error, sizeof(error));
	if (!bytes)
		fail_msg("%s", error);
	struct policy_image *image = policy_image_parse(bytes, len, error, sizeof(error));
	if (!image)
		fail_msg("%s", error);
	free(bytes);
	ruleset_free(set);
	return image;
}

static inline struct policy_image *image_of_lines(const char *const *lines)
{
	return image_of_findings(lines, NULL);
}

#endif
