/*
 * reply.c - the SMTP reply of a refusal.
 *
 * Enters: a decision, its rule, the recipient's domain (or the rule's name), the server. Leaves: one reply
 * line with CRLF, in the codes of policy.md's table. A sender reads it in a bounce, days later and far
 * away: it names what was asked, for whom, and which server did not give it.
 * Invariant: within POLICY_REPLY_MAX, ends in CRLF, and has no other control character: `whom` comes from
 * a client's RCPT and `server` from a server's banner, and neither may write a reply of its own.
 */
#include "policy.h"

#include <stdio.h>
#include <string.h>

#define SHOWN_MAX 160 /* of whom and of server */

struct reply_words {
	const char *defer, *reject; /* code and enhanced code, RFC 3463 */
	const char *lead;           /* before "policy LEVEL for WHOM", or "MTA-STS for WHOM" */
	const char *before, *after; /* around the server's name */
};

static const struct reply_words words[POLICY_REASONS] = {
	[REASON_NOT_OFFERED] = {"451 4.7.4", "554 5.7.4", "TLS required by", ", not offered by ", ""},
	[REASON_STARTTLS_REFUSED] = {"451 4.7.4", "554 5.7.4", "TLS required by", ", STARTTLS refused by ", ""},
	[REASON_CLEAR_SESSION] = {"451 4.7.4", "554 5.7.4", "TLS required by", ", but this session with ",
				  " is not encrypted; try again"},
	[REASON_HANDSHAKE] = {"451 4.7.5", "554 5.7.5", "TLS wanted by", ", handshake failed with ", ""},
	[REASON_VERSION] = {"451 4.7.5", "554 5.7.5", "TLS required by", ", TLS version too old at ", ""},
	[REASON_UNTRUSTED] = {"451 4.7.5", "554 5.7.5", "Trusted certificate required by", ", not trusted: that of ", ""},
	[REASON_EXPIRED] = {"451 4.7.5", "554 5.7.5", "Valid certificate required by",
			    ", expired or not yet valid: that of ", ""},
	[REASON_CHAIN_INVALID] = {"451 4.7.5", "554 5.7.5", "Valid certificate required by",
				  ", could not be validated: that of ", ""},
	[REASON_NAME_MISMATCH] = {"451 4.7.5", "554 5.7.5", "Certificate with a matching name required by",
				  ", wrong name in that of ", ""},
	[REASON_FINGERPRINT] = {"451 4.7.5", "554 5.7.5", "Certificate fingerprint required by", ", not one of those pinned: that of ",
				""},
	[REASON_TLSA] = {"451 4.7.5", "554 5.7.5", "Certificate with a TLSA record required by", ", none meets that of ", ""},
	[REASON_DNSSEC] = {"451 4.7.5", "554 5.7.5", "TLSA records wanted by", ", the DNS has no valid answer for ", ""},
	[REASON_DANE_REQUIRED] = {"451 4.7.5", "554 5.7.5", "TLSA records required by", ", DNSSEC has none for ", ""},
	[REASON_STS_MX] = {"451 4.7.5", "554 5.7.5", "Server refused by", ", which does not name ", ""},
	[REASON_STRIPPED] = {"451 4.7.4", "554 5.7.4", "TLS required by", ", given before and no longer by ", ""},
	[REASON_UNSUPPORTED] = {"451 4.7.5", "554 5.7.5", "Proof required by", " cannot be checked yet for ", ""},
	[REASON_BLOCKED] = {"451 4.7.1", "554 5.7.1", "Delivery refused by", ", server ", ""},
};

static const char *const origins[] = {[ORIGIN_OPERATOR] = "policy ", [ORIGIN_DANE] = "DANE", [ORIGIN_STS] = "MTA-STS"};

/* RFC 3207, section 4, word for word: mail servers look for it. */
static const char must_starttls[] = "530 5.7.0 Must issue a STARTTLS command first\r\n";

static void printable(const char *text, char out[SHOWN_MAX + 1])
{
	size_t n = 0;

	for (; text[n] && n < SHOWN_MAX; n++)
		out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
	out[n] = '\0';
}

size_t policy_reply(const struct policy_decision *decision, const struct image_rule *rule, const char *whom,
		    const char *server, char out[POLICY_REPLY_MAX])
{
	char shown_whom[SHOWN_MAX + 1], shown_server[SHOWN_MAX + 1];
	const struct reply_words *w;
	int n;

	out[0] = '\0';
	if (decision->action == POLICY_ALLOW || (unsigned)decision->reason >= POLICY_REASONS)
		return 0;
	if (rule->kind == POLICY_INBOUND && decision->reason == REASON_CLEAR_SESSION) {
		memcpy(out, must_starttls, sizeof(must_starttls));
		return sizeof(must_starttls) - 1;
	}
	w = &words[decision->reason];
	if (!w->lead) /* an allowing reason with a refusing action: the caller's own construction */
		w = &words[REASON_BLOCKED];
	printable(whom && *whom && strcmp(whom, "*") != 0 ? whom : "all destinations", shown_whom);
	printable(server && *server ? server : "the server", shown_server);
	n = snprintf(out, POLICY_REPLY_MAX, "%s %s %s%s for %s%s%s%s\r\n",
		     decision->action == POLICY_REJECT ? w->reject : w->defer, w->lead, origins[rule->origin],
		     rule->origin == ORIGIN_OPERATOR ? policy_level_name((enum policy_level)rule->level) : "", shown_whom, w->before,
		     shown_server, w->after);
	/* The longest row with two names of SHOWN_MAX stays below the limit (tests/unit/policy_reply.c). */
	return n > 0 && n < POLICY_REPLY_MAX ? (size_t)n : 0;
}
