/*
 * sts_text.h - MTA-STS as text: the TXT record and the policy file (RFC 8461, sections 3.1 and 3.2).
 *
 * Enters: bytes of a stranger's. Leaves: an id, a policy, or what is wrong in one line that repeats none of these
 * bytes. Fields that nobody knows are passed over; of a field that stands there twice the first one counts.
 */
#ifndef WAXSEAL_STS_TEXT_H
#define WAXSEAL_STS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../policy/rules.h"

#define STS_ID_MAX 32
#define STS_MX_MAX IMAGE_MATCHES_MAX
#define STS_TEXT_MAX 65536         /* bytes of a policy; section 3.3 */
#define STS_MAX_AGE_MAX 31557600u  /* a year; what is longer is this */

struct sts_policy {
	enum policy_sts mode;
	uint32_t max_age;
	char **mx; /* lower case; mx.example.org or *.example.org */
	size_t mx_count;
};

/* One TXT record, its strings joined: does it begin as one of MTA-STS must? And if so: its id, or false. */
bool sts_record_is_ours(const char *text, size_t len);
bool sts_record_parse(const char *text, size_t len, char id[STS_ID_MAX + 1]);
bool sts_id_valid(const char *id);

/* NULL, or what is wrong, a constant text; `policy` is then empty. */
const char *sts_policy_parse(const char *text, size_t len, struct sts_policy *policy);
void sts_policy_dispose(struct sts_policy *policy);
bool sts_policy_equal(const struct sts_policy *a, const struct sts_policy *b);

const char *sts_mode_name(enum policy_sts mode); /* "enforce" */
bool sts_mode_parse(const char *text, size_t len, enum policy_sts *mode);
/* "mx.a.example *.b.example" to patterns and back; false: one that is none, or too many, or none at all. */
bool sts_mx_parse(const char *text, struct sts_policy *policy);
char *sts_mx_print(const struct sts_policy *policy); /* the caller frees it */

#endif
