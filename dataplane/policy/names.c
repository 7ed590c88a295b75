/*
 * names.c - the vocabulary as text: levels, reasons, RFC 8460 result types, and what a domain name is.
 *
 * Enters: enum values or text. Leaves: constant strings, or a parsed level. Counters, events, replies and
 * the command all print these same words; a Postfix administrator knows the levels already.
 * Refuses: level names in any other spelling or case; domains that are not in canonical form.
 */
#include "policy.h"

#include <errno.h>
#include <string.h>

#define LABEL_MAX 63 /* RFC 1035, section 2.3.4 */

static const char *const level_names[POLICY_LEVELS] = {
	[LEVEL_NONE] = "none",
	[LEVEL_MAY] = "may",
	[LEVEL_ENCRYPT] = "encrypt",
	[LEVEL_DANE] = "dane",
	[LEVEL_DANE_ONLY] = "dane-only",
	[LEVEL_FINGERPRINT] = "fingerprint",
	[LEVEL_VERIFY] = "verify",
	[LEVEL_SECURE] = "secure",
	[LEVEL_BLOCK] = "block",
};

struct reason_words {
	const char *name;
	const char *result_type; /* RFC 8460, section 4.3; NULL: nothing that the server's side should hear of */
};

static const struct reason_words reasons[POLICY_REASONS] = {
	[REASON_SEALED] = {"sealed", NULL},
	[REASON_UPGRADED] = {"upgraded", NULL},
	[REASON_CLEAR_ALLOWED] = {"clear-allowed", NULL},
	[REASON_NOT_OFFERED] = {"not-offered", "starttls-not-supported"},
	[REASON_STARTTLS_REFUSED] = {"starttls-refused", "starttls-not-supported"},
	[REASON_HANDSHAKE] = {"handshake", "validation-failure"},
	[REASON_VERSION] = {"version", "validation-failure"},
	[REASON_UNTRUSTED] = {"untrusted", "certificate-not-trusted"},
	[REASON_EXPIRED] = {"expired", "certificate-expired"},
	[REASON_CHAIN_INVALID] = {"chain-invalid", "validation-failure"},
	[REASON_NAME_MISMATCH] = {"name-mismatch", "certificate-host-mismatch"},
	[REASON_UNSUPPORTED] = {"unsupported", "validation-failure"},
	[REASON_BLOCKED] = {"blocked", NULL},
	[REASON_CLEAR_SESSION] = {"clear-session", NULL},
	[REASON_FINGERPRINT] = {"fingerprint", "validation-failure"},
	[REASON_TLSA] = {"tlsa", "tlsa-invalid"},
	[REASON_DNSSEC] = {"dnssec", "dnssec-invalid"},
	[REASON_DANE_REQUIRED] = {"dane-required", "dane-required"},
	[REASON_STS_MX] = {"sts-mx", "validation-failure"},
	[REASON_STRIPPED] = {"stripped", "starttls-not-supported"},
	[REASON_STS_FETCH] = {"sts-fetch", "sts-policy-fetch-error"},
	[REASON_STS_INVALID] = {"sts-invalid", "sts-policy-invalid"},
	[REASON_STS_WEBPKI] = {"sts-webpki", "sts-webpki-invalid"},
};

const char *policy_level_name(enum policy_level level)
{
	return (unsigned)level < POLICY_LEVELS ? level_names[level] : "?";
}

int policy_level_parse(const char *text, enum policy_level *out)
{
	for (unsigned i = 0; i < POLICY_LEVELS; i++)
		if (strcmp(text, level_names[i]) == 0) {
			*out = (enum policy_level)i;
			return 0;
		}
	return -EINVAL;
}

const char *policy_tls_name(enum policy_tls tls)
{
	switch (tls) {
	case FACT_TLS_NONE: return "none";
	case FACT_TLS_REFUSED: return "refused";
	case FACT_TLS_FAILED: return "failed";
	case FACT_TLS_UP: return "up";
	}
	return "?";
}

const char *policy_chain_name(enum policy_chain chain)
{
	switch (chain) {
	case CHAIN_UNSEEN: return "unseen";
	case CHAIN_TRUSTED: return "trusted";
	case CHAIN_UNTRUSTED: return "untrusted";
	case CHAIN_SELF_SIGNED: return "self-signed";
	case CHAIN_EXPIRED: return "expired";
	case CHAIN_NOT_YET_VALID: return "not-yet-valid";
	case CHAIN_INVALID: return "invalid";
	}
	return "?";
}

const char *policy_reason_name(enum policy_reason reason)
{
	return (unsigned)reason < POLICY_REASONS ? reasons[reason].name : "?";
}

const char *policy_result_type(enum policy_reason reason)
{
	return (unsigned)reason < POLICY_REASONS ? reasons[reason].result_type : NULL;
}

static bool label_char(char c)
{
	/* '_' is no host name (RFC 952), yet it stands in mail domains that exist. */
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool policy_domain_valid(const char *name)
{
	size_t label = 0, len = 0;

	for (; name[len]; len++) {
		if (len >= IMAGE_DOMAIN_MAX)
			return false;
		if (name[len] == '.') {
			if (label == 0 || name[len - 1] == '-')
				return false;
			label = 0;
			continue;
		}
		if (!label_char(name[len]) || (label == 0 && name[len] == '-') || ++label > LABEL_MAX)
			return false;
	}
	return label > 0 && name[len - 1] != '-';
}
