/*
 * policy.h - rules, facts, and the one function that decides.
 *
 * Enters: a mapped policy image (image.h), and facts about a session. Leaves: which rule holds for an
 * address or a recipient's domain, what is to be done, and the SMTP reply that says so. Pure: no
 * clock, no socket, no DPDK. Rules and strings point into the image and live as long as it does.
 */
#ifndef WAXSEAL_POLICY_H
#define WAXSEAL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "image.h"

/* ---- vocabulary; the names are those of shared Postfix practice, smtp_tls_policy_maps ---- */

enum policy_kind { POLICY_DOMAIN, POLICY_PARENT, POLICY_DEFAULT, POLICY_PROVIDER, POLICY_CLIENT, POLICY_INBOUND };
enum policy_level {
	LEVEL_NONE, LEVEL_MAY, LEVEL_ENCRYPT, LEVEL_DANE, LEVEL_DANE_ONLY,
	LEVEL_FINGERPRINT, LEVEL_VERIFY, LEVEL_SECURE, LEVEL_BLOCK,
	POLICY_LEVELS
};
enum policy_mode { MODE_ENFORCE, MODE_OBSERVE };
enum policy_on_fail { ON_FAIL_DEFER, ON_FAIL_REJECT };
enum policy_e2e { E2E_TRUST, E2E_PROBE };
enum policy_unknown { UNKNOWN_TLS, UNKNOWN_PASS, UNKNOWN_RESET };
enum policy_pass { PASS_PASS, PASS_RESET };
enum policy_stripped { STRIPPED_PASS, STRIPPED_REFUSE };
/* Whose word a rule is. An operator's goes before DANE, and DANE before MTA-STS. */
enum policy_origin { ORIGIN_OPERATOR, ORIGIN_DANE, ORIGIN_STS };
/* What the DNS says of a host's TLSA records. UNKNOWN: nobody has asked (yet), or the name is not known. */
enum policy_tlsa {
	TLSA_UNKNOWN,
	TLSA_NONE,     /* none that DNSSEC vouches for */
	TLSA_SECURE,   /* there are, and at least one is usable */
	TLSA_UNUSABLE, /* there are, and none is usable: TLS is mandatory, authentication is not (RFC 7672, section 2.2) */
	TLSA_FAILED,   /* bogus, or no answer: nobody can tell that there are none (RFC 7672, section 2.1.2) */
};
enum policy_sts { STS_NONE, STS_TESTING, STS_ENFORCE };
enum policy_sts_error { STS_OK, STS_FETCH_ERROR, STS_POLICY_INVALID, STS_WEBPKI_INVALID };
enum policy_pin { PIN_CERTIFICATE, PIN_KEY }; /* SHA-256 of the leaf certificate, or of its SubjectPublicKeyInfo */

const char *policy_level_name(enum policy_level level); /* "dane-only" */
int policy_level_parse(const char *text, enum policy_level *out); /* 0 / -EINVAL */

/* ---- facts: what was seen ---- */

enum policy_tls {
	FACT_TLS_NONE,      /* not tried, or not possible */
	FACT_TLS_REFUSED,   /* the server answered STARTTLS with something else than 220 */
	FACT_TLS_FAILED,    /* 220, then no TLS */
	FACT_TLS_UP,        /* handshake complete */
};

/* First thing found wrong with the chain; CHAIN_UNSEEN for end-to-end sessions, where it is hidden. */
enum policy_chain { CHAIN_UNSEEN, CHAIN_TRUSTED, CHAIN_UNTRUSTED, CHAIN_SELF_SIGNED, CHAIN_EXPIRED, CHAIN_NOT_YET_VALID, CHAIN_INVALID };

/* A certificate against a host's TLSA records: what the first fault is. */
enum policy_dane { DANE_UNSEEN, DANE_MATCHED, DANE_NO_MATCH, DANE_NAME_MISMATCH, DANE_EXPIRED, DANE_INVALID };

struct policy_facts {
	bool end_to_end;   /* the client encrypted by itself */
	bool offered;      /* STARTTLS stood in the server's EHLO reply */
	enum policy_tls tls;
	uint16_t version;  /* wire version, 0 if none */
	enum policy_chain chain;
	bool name_matched; /* one of the rule's match patterns is in the certificate */
	bool fingerprint_matched; /* one of the rule's pins is the certificate's or its key's, and holds still */
	bool name_later;   /* the rule compares names with a recipient's domain, and none is known yet: the names wait */
	enum policy_tlsa tlsa; /* what the DNS says of the server's TLSA records */
	bool mx_secure;    /* and of its MX record */
	enum policy_dane dane; /* the certificate against them */
	bool mx_foreign;   /* the rule is of MTA-STS, and the server's MX name meets none of its patterns (RFC 8461, section 4.1) */
	bool stripped;     /* TLS was had at this server before, and now STARTTLS is not offered, or is answered with no 220 */
};

/* ---- decisions ---- */

enum policy_action { POLICY_ALLOW, POLICY_DEFER, POLICY_REJECT, POLICY_ACTIONS };

/* Why. The failing ones map to the result types of RFC 8460, section 4.3 (policy_result_type). */
enum policy_reason {
	REASON_SEALED,         /* allowed: end-to-end TLS */
	REASON_UPGRADED,       /* allowed: TLS by waxseal */
	REASON_CLEAR_ALLOWED,  /* allowed in clear: level none or may */
	REASON_NOT_OFFERED,    /* no STARTTLS in the EHLO reply */
	REASON_STARTTLS_REFUSED, /* offered, then 454 */
	REASON_HANDSHAKE,      /* TLS failed after 220 */
	REASON_VERSION,        /* below the rule's protocols */
	REASON_UNTRUSTED, REASON_EXPIRED, REASON_CHAIN_INVALID,
	REASON_NAME_MISMATCH,
	REASON_UNSUPPORTED,    /* a level whose proof cannot be had (yet): refused, never waved through */
	REASON_BLOCKED,
	REASON_CLEAR_SESSION,  /* recipient's rule wants TLS, and this session has gone on in clear */
	REASON_FINGERPRINT,    /* none of the rule's pins is the certificate's */
	REASON_TLSA,           /* no TLSA record meets the certificate, or none is usable where one must be */
	REASON_DNSSEC,         /* the TLSA records are bogus, or the DNS did not answer */
	REASON_DANE_REQUIRED,  /* dane-only, and there are no records that DNSSEC vouches for */
	REASON_STS_MX,         /* the server is none of those that the MTA-STS policy names */
	REASON_STRIPPED,       /* no STARTTLS in the EHLO reply, or no 220 to it, where TLS was had before */
	REASON_STS_FETCH, REASON_STS_INVALID, REASON_STS_WEBPKI, /* counted, never decided: the domain's MTA-STS policy could not be had */
	POLICY_REASONS
};

struct policy_decision {
	enum policy_action action; /* what the rule says, whatever the mode */
	enum policy_reason reason;
	bool observed; /* mode observe (or outside percent): count `action`, carry out POLICY_ALLOW */
};

/* Decides everything. `flow_hash` places the flow for `percent`. Level none allows whatever the facts;
 * may allows all but nothing after a 220; encrypt needs FACT_TLS_UP at protocol_min; verify and
 * secure need, of an upgraded session, a trusted chain and a matched name; fingerprint needs a pin that holds,
 * whoever signed the certificate and whatever its dates, as Postfix has it; block refuses.
 *
 * dane, by facts.tlsa: secure asks for a record that meets the certificate (DANE-EE alone, DANE-TA with a name and dates);
 * unusable for TLS; failed refuses (RFC 7672, section 2.1.2); none is as may. Unknown asks for TLS: records cannot be ruled
 * out, and clear text would be what a stripper wants. dane-only refuses whatever is not secure, an insecure MX record too.
 * A session that the client encrypts itself meets verify, secure, fingerprint, dane and dane-only under
 * e2e=trust; under e2e=probe only with the facts of a probe (`chain` is seen), else REASON_UNSUPPORTED.
 * What the DNS alone refuses (REASON_DNSSEC, _DANE_REQUIRED, _STS_MX ...) is refused before TLS is tried: policy_is_final().
 *
 * may refuses a server that is `stripped` where the rule says stripped=refuse.
 *
 * STARTTLS offered but no TLS: refused as REASON_CLEAR_SESSION. Only where the rule is observed it counts as
 * REASON_UPGRADED, since that is what enforcing it would bring.
 * An inbound rule (the client is outside) is met only by the client's own TLS: clear text is
 * REASON_CLEAR_SESSION and always REJECT, "530 Must issue a STARTTLS command first" (RFC 3207, section 4).
 * Always DEFER, whatever on_fail says, is what a retry or the operator can cure: REASON_HANDSHAKE under
 * may, REASON_CLEAR_SESSION (but of an inbound rule), REASON_UNSUPPORTED, REASON_DNSSEC. */
struct policy_decision policy_decide(const struct image_rule *rule, const struct policy_facts *facts, uint32_t flow_hash);

/* A refusal that no handshake could turn. */
bool policy_is_final(struct policy_decision decision);

/* Should a plaintext session under this rule be upgraded where the server offers it? Not where the rule is
 * only observed, nor where no handshake of ours could meet it (block, inbound): refuse at once. */
bool policy_wants_tls(const struct image_rule *rule, uint32_t flow_hash);

/* The TLS version below which a session that the client encrypts itself is cut: protocol_min from encrypt
 * on; 0 (any) at none and may, where clear text would pass too, and where the rule is only observed.
 * An upgrade offers nothing below rule->protocol_min at any level. */
uint16_t policy_floor(const struct image_rule *rule, uint32_t flow_hash);

/* Level none in force: what a rule for a client's prefix says to exempt that customer from all the others. */
bool policy_exempts(const struct image_rule *rule, uint32_t flow_hash);

/* In force, and able to refuse clear text. */
static inline bool policy_rule_demands(const struct image_rule *rule)
{
	return rule->mode == MODE_ENFORCE && (rule->level > LEVEL_MAY || (rule->level == LEVEL_MAY && rule->stripped == STRIPPED_REFUSE));
}

/* The effective action: ALLOW when only observed. */
static inline enum policy_action policy_effect(struct policy_decision d) { return d.observed ? POLICY_ALLOW : d.action; }

const char *policy_tls_name(enum policy_tls tls);           /* "refused", for events */
const char *policy_chain_name(enum policy_chain chain);     /* "self-signed" */
const char *policy_reason_name(enum policy_reason reason);  /* "not-offered", for counters and events */
const char *policy_result_type(enum policy_reason reason);  /* "starttls-not-supported"; NULL if no failure */

#define POLICY_REPLY_MAX 480 /* within RFC 5321's 512 octets of a reply line */

/* Writes "451 4.7.4 TLS required by policy encrypt for example.org, not offered by mx1.example.org\r\n"
 * as policy.md lists them. `whom` is the recipient's domain, or the rule's name; `server` a host name or
 * address. Unprintable bytes of either are replaced. Returns its length; never truncates mid-CRLF. */
size_t policy_reply(const struct policy_decision *decision, const struct image_rule *rule, const char *whom,
                    const char *server, char out[POLICY_REPLY_MAX]);

/* ---- the image ---- */

struct policy_image; /* opaque: mapping, size, section pointers */

/* Takes a whole file into a read-only mapping of its own (so that a file which is cut short or written over
 * later cannot reach the dataplane) and checks it. NULL with `error`, one line: file, section, index, what
 * is wrong. The caller owns it; policy_image_close unmaps. */
struct policy_image *policy_image_open(const char *path, char *error, size_t error_len);
/* The same over bytes in memory (copied): for tests, fuzzing, and the compiler's own check. */
struct policy_image *policy_image_parse(const void *bytes, size_t len, char *error, size_t error_len);
/* The built-in image of a fresh appliance: "*" = may, observe. Never fails but for memory. */
struct policy_image *policy_image_default(void);
void policy_image_close(struct policy_image *image);

const struct image_header *policy_image_header(const struct policy_image *image);
const char *policy_string(const struct policy_image *image, uint32_t offset);
const struct image_rule *policy_rule(const struct policy_image *image, uint32_t index);
const struct image_destination *policy_destination(const struct policy_image *image, uint32_t index);

/* All prefixes with their destination and its worker pool's name, for the classifier's tries. `index` runs
 * from 0 to policy_prefixes() - 1. IPv4: addr[0..3] and len 0..32, the rest of addr zero. */
struct policy_prefix {
	uint8_t addr[16]; /* network byte order */
	uint8_t len;
	bool ipv6;
	uint32_t destination;
	const char *pool; /* "": the default pool */
};
size_t policy_prefixes(const struct policy_image *image);
struct policy_prefix policy_prefix(const struct policy_image *image, size_t index);

/* Destination of a server's address (network byte order; IPv4 as v4-mapped ::ffff:a.b.c.d). 0 is "*". */
uint32_t policy_destination_of(const struct policy_image *image, const uint8_t addr[16]);

/* Rule of a recipient's domain: exact, then .parent nearest first; NULL if none (then the
 * destination's rule holds, and below it "*"). Any case; a final dot is ignored. */
const struct image_rule *policy_domain_rule(const struct policy_image *image, const char *domain);

/* Rule of a customer's prefix, the longest that holds its address; NULL if none. */
const struct image_rule *policy_client_rule(const struct policy_image *image, const uint8_t client_addr[16]);

/* For sessions whose client is outside: the rule of the server's prefix, else that of inbound:*; and the rule
 * of a recipient's domain, NULL if none. */
const struct image_rule *policy_inbound_rule(const struct policy_image *image, const uint8_t server_addr[16]);
const struct image_rule *policy_inbound_domain_rule(const struct policy_image *image, const char *domain);

/* Is one of a rule's pins that certificate's or that key's, and has it not ended before `now_s` (Unix time)? */
bool policy_fingerprint_matches(const struct policy_image *image, const struct image_rule *rule, const uint8_t certificate[32],
                                const uint8_t key[32], uint64_t now_s);

/* ---- what the agent found: findings.c ---- */

#define POLICY_PROBE_AGE_MAX_S 172800u /* two days: an older probe proves nothing */

/* The server at an address as an MX of `domain` (any case); where it is not known as one of that domain's, or `domain` is
 * NULL, by the one name that its domains agree upon. Strings and records point into the image. */
struct policy_server {
	const char *mx;   /* NULL: not known */
	const char *base; /* TLSA base domain; NULL with mx */
	enum policy_tlsa tlsa;
	bool mx_secure;   /* also where `domain` is NULL: it is not asked yet */
	const struct image_tlsa *records;
	uint32_t record_count;
};
struct policy_server policy_server_of(const struct policy_image *image, const uint8_t addr[16], const char *domain);
const uint8_t *policy_tlsa_data(const struct policy_image *image, const struct image_tlsa *record); /* octets_count of them */

/* `rule`, or the one that stands in its place at that server (image_rule.otherwise); NULL: none, the destination's holds.
 * policy_rules_of() and policy_recipient_rule() have done it. */
const struct image_rule *policy_rule_at(const struct policy_image *image, const struct image_rule *rule, const uint8_t addr[16], const char *domain);
/* A domain's MTA-STS that is only observed: counted beside `rule`, which holds at that server (NULL: none); NULL if there is
 * none, or DANE goes before it. */
const struct image_rule *policy_testing_rule(const struct policy_image *image, const struct image_rule *rule, const char *domain);
/* The domain whose recipients a rule is for, where it is one alone; else NULL. */
const char *policy_rule_nexthop(const struct policy_image *image, const struct image_rule *rule);
/* Does a rule of MTA-STS's patterns name this MX? RFC 8461, section 4.1: a star is the left-most label, whole. */
bool policy_mx_named(const struct policy_image *image, const struct image_rule *rule, const char *mx);

/* NULL where nothing is known. */
const struct image_sts *policy_sts_of(const struct policy_image *image, const char *domain);
const struct image_probed *policy_probed_at(const struct policy_image *image, const uint8_t addr[16]);
const char *policy_probed_name(const struct policy_image *image, const struct image_probed *probed, uint32_t i);
const struct image_seen *policy_seen_at(const struct policy_image *image, const uint8_t addr[16]);
/* A probe's facts into those of a session that the client encrypts itself, for `rule` and a recipient's domain or NULL. */
void policy_facts_of_probe(const struct policy_image *image, const struct image_rule *rule, const uint8_t addr[16], const char *nexthop,
                           uint64_t now_s, struct policy_facts *facts);
/* What the DNS and MTA-STS say of the server: facts->tlsa, mx_secure, mx_foreign. */
void policy_facts_of_server(const struct policy_image *image, const struct image_rule *rule, const struct policy_server *server,
                            struct policy_facts *facts);
/* The counted reason of a look that failed, REASON_SEALED if it did not. */
enum policy_reason policy_sts_reason(enum policy_sts_error error);

/* "example.org"; "MTA-STS of example.org", "DANE of example.org" where nobody's own rule it is. For events and tables. */
#define POLICY_TITLE_MAX (IMAGE_DOMAIN_MAX + 16)
const char *policy_rule_title(const struct policy_image *image, const struct image_rule *rule, char out[POLICY_TITLE_MAX]);

/* ---- the rules of a session: rules.c ---- */

/* Between whom. Addresses as in policy_destination_of(). */
struct policy_parties {
	const uint8_t *client_addr, *server_addr;
	bool inbound;       /* the client is outside */
	uint32_t flow_hash;
};

/* `rule`: the destination's; of a session from outside the server's; that of the client's prefix where it exempts
 * the client from all others. `minimum`: the client's prefix asks for that much besides; NULL: nothing. Customers
 * are inside: a session from outside has no minimum. */
struct policy_rules { const struct image_rule *rule, *minimum; };
struct policy_rules policy_rules_of(const struct policy_image *image, const struct policy_parties *parties);
/* The rule of a recipient's domain; NULL if it has none of its own, or the client is exempt. */
const struct image_rule *policy_recipient_rule(const struct policy_image *image, const struct policy_parties *parties, const char *domain);

/* A decision and whose it is. */
struct policy_verdict { const struct image_rule *rule; struct policy_decision decision; };
/* The one that applies where two rules hold: the stricter. What is carried out goes before what is only counted;
 * of two that come to the same, the stricter level names the reason; `a` where nothing tells them apart. */
struct policy_verdict policy_stricter(struct policy_verdict a, struct policy_verdict b);
/* How strict a level is, for rules that come to the same: higher is stricter. */
unsigned policy_strictness(enum policy_level level);

/* policy_wants_tls() and policy_floor() of both: TLS if one wants it and neither is beyond its help; the higher floor. */
bool policy_rules_want_tls(const struct policy_rules *rules, uint32_t flow_hash);
uint16_t policy_rules_floor(const struct policy_rules *rules, uint32_t flow_hash);

/* The i-th of a rule's match_count patterns. */
const char *policy_match(const struct policy_image *image, const struct image_rule *rule, uint32_t i);

/* Does the rule compare with the recipient's domain, which is not known at MAIL? */
bool policy_needs_nexthop(const struct policy_image *image, const struct image_rule *rule);

/* Does certificate name `name` (or pattern "*.example.org") meet one of the rule's match patterns?
 * RFC 6125, section 6.4: a wildcard stands for exactly the left-most label. "nexthop" and "dot-nexthop"
 * mean `nexthop` (may be NULL), "hostname" means `hostname` (may be NULL). A rule of MTA-STS wants `hostname` itself, where it
 * is known: that this meets a pattern is policy_mx_named()'s business. */
bool policy_name_matches(const struct policy_image *image, const struct image_rule *rule, const char *name,
                         const char *nexthop, const char *hostname);

/* Is it an IPv4 address, ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2)? Then addr[12..15] are its octets. */
static inline bool policy_addr_is_ipv4(const uint8_t addr[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	return memcmp(addr, mapped, sizeof(mapped)) == 0;
}

/* ---- shared with the writer of images ---- */

/* XXH3 of the image with its checksum field taken as zero; `len` is at least a header's. */
uint64_t policy_image_checksum(const void *bytes, size_t len);
/* Home of a name in the domain table is this & (slots - 1). */
uint64_t policy_domain_hash(const char *name, size_t len);
/* "example.org": lower case, letters, digits, '-' and '_', labels of 1 to 63, no final dot. */
bool policy_domain_valid(const char *name);
/* A match pattern: nexthop, dot-nexthop, hostname, or a domain, ".domain" (any depth below), "*.domain" (one label below). */
bool policy_pattern_valid(const char *pattern);
bool policy_pattern_is_keyword(const char *pattern);

#endif
