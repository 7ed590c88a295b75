/*
 * image.h - contract between control and the dataplane: the layout of the policy image.
 *
 * One immutable file. control/policy writes it to a temporary name, fsyncs and renames; waxseald maps
 * it read-only, checks it whole (policy_image_open) and swaps a pointer. Native byte order and
 * alignment: the image never leaves the machine. All offsets count from the start of the file; every
 * section starts on 8 bytes. The reader trusts nothing: a wrong size, offset, index, string or
 * checksum refuses the whole image, and the last good one stays.
 *
 * Strings are NUL-terminated, in one section, named by their offset within it; offset 0 is "".
 * Domain names are lower case, without a final dot, internationalised ones as A-labels (RFC 5890).
 */
#ifndef WAXSEAL_IMAGE_H
#define WAXSEAL_IMAGE_H

#include <stdint.h>

#define IMAGE_MAGIC "WAXSEAL1"
#define IMAGE_VERSION 3u
#define IMAGE_RULES_MAX (1u << 20)
#define IMAGE_DESTINATIONS_MAX (1u << 16)
#define IMAGE_PREFIXES_MAX (1u << 21)
#define IMAGE_MATCHES_MAX 64 /* patterns in one rule's match */
#define IMAGE_PINS_MAX 32    /* fingerprints of one rule */
#define IMAGE_FINGERPRINTS_MAX (1u << 22)
#define IMAGE_DOMAIN_MAX 255 /* RFC 1035, section 2.3.4 */
#define IMAGE_SLOTS_MAX (1u << 22)   /* of the domain table */
#define IMAGE_PROBES_MAX 512         /* slots from a name's home to where it sits: the writer doubles the table past it */
#define IMAGE_STRINGS_MAX (1u << 28) /* bytes */
#define IMAGE_BYTES_MAX (1ull << 30) /* of the whole file */
#define IMAGE_SERVERS_MAX (1u << 20) /* address and domain pairs */
#define IMAGE_HOSTS_MAX (1u << 20)
#define IMAGE_TLSA_MAX (1u << 20)
#define IMAGE_HOST_TLSA_MAX 32     /* records of one host */
#define IMAGE_TLSA_BYTES_MAX 16384 /* of one record: a whole certificate fits */
#define IMAGE_OCTETS_MAX (1u << 27)
#define IMAGE_STS_MAX (1u << 20)
#define IMAGE_PROBED_MAX (1u << 18)
#define IMAGE_PROBED_NAMES_MAX 128 /* of one certificate */
#define IMAGE_SEEN_MAX (1u << 18)
#define IMAGE_OTHERWISE_MAX 4 /* steps from a rule to one that has no `otherwise` */
#define IMAGE_NONE UINT32_MAX

struct image_section {
	uint64_t offset;
	uint32_t count;  /* elements; bytes for the string section */
	uint32_t stride; /* bytes of one element, as the writer knew it */
};

struct image_header {
	char magic[8];
	uint32_t version;
	uint32_t header_bytes;
	uint64_t total_bytes;
	uint64_t checksum;    /* XXH3_64bits of the file with this field as zero */
	uint64_t generation;  /* waxseal:generation in Redis, or the compile time for a text file */
	uint64_t compiled_at; /* seconds, Unix time */
	uint32_t default_rule; /* rule of "*" */
	uint32_t inbound_rule; /* sessions whose client is outside */
	uint32_t enforced_domain_rules; /* names in `domains` whose rule policy_rule_demands something: if
	                                   zero, a session whose destination asks for nothing need not be watched */
	uint32_t enforced_inbound_rules; /* likewise, names in `inbound_domains` */
	struct image_section strings;      /* char */
	struct image_section rules;        /* struct image_rule */
	struct image_section matches;      /* uint32_t: string offsets; a rule owns a run of them */
	struct image_section domains;      /* struct image_domain: hash table, open addressing */
	struct image_section destinations; /* struct image_destination; [0] is "*" */
	struct image_section prefix4;      /* struct image_prefix4, ascending by (addr, len) */
	struct image_section prefix6;      /* struct image_prefix6, ascending by (addr, len) */
	struct image_section fingerprints; /* struct image_fingerprint; a rule owns a run of them */
	struct image_section client4;      /* struct image_prefix4: addresses of customers; their target is a rule */
	struct image_section client6;      /* struct image_prefix6 */
	struct image_section inbound4;     /* struct image_prefix4: addresses of servers inside; their target is a rule */
	struct image_section inbound6;     /* struct image_prefix6 */
	struct image_section inbound_domains; /* struct image_domain: recipients of sessions whose client is outside */
	/* What the agent found (policy.md, Redis: discovered, seen). */
	struct image_section servers;      /* struct image_server, ascending by (addr, domain), each pair once */
	struct image_section hosts;        /* struct image_host, ascending by name */
	struct image_section tlsa;         /* struct image_tlsa; a host owns a run of them */
	struct image_section octets;       /* data of TLSA records */
	struct image_section sts;          /* struct image_sts, ascending by domain */
	struct image_section probed;       /* struct image_probed, ascending by addr */
	struct image_section probed_names; /* uint32_t: strings; a probe owns a run of them */
	struct image_section seen;         /* struct image_seen, ascending by addr */
};

struct image_rule {
	uint32_t name;   /* string: the key it stands under: "example.org", ".example.org", "*", "google" */
	uint8_t kind;    /* enum policy_kind */
	uint8_t level;   /* enum policy_level */
	uint8_t mode;    /* enum policy_mode */
	uint8_t on_fail; /* enum policy_on_fail */
	uint8_t e2e;     /* enum policy_e2e */
	uint8_t unknown; /* enum policy_unknown */
	uint8_t nonsmtp; /* enum policy_pass */
	uint8_t overload;/* enum policy_pass; reset means: refuse with 421 */
	uint8_t percent; /* 0..100 */
	uint8_t stripped; /* enum policy_stripped */
	uint16_t protocol_min; /* TLS wire version: 0x0301 .. 0x0304; 0: any */
	uint32_t match_first;  /* index into matches */
	uint32_t match_count;
	uint32_t servername;   /* string; "" : default */
	uint32_t ciphers;      /* string, OpenSSL's form; "" : default */
	uint32_t exclude;      /* string */
	uint32_t owner;        /* string */
	uint32_t reason;       /* string */
	uint32_t fingerprint_first; /* index into fingerprints */
	uint32_t fingerprint_count;
	uint32_t otherwise;    /* rule that holds in its place where no TLSA records speak for the server: of a dane rule and
	                          of one without a level; IMAGE_NONE: itself (of the latter: no rule). Of an MTA-STS rule in testing:
	                          what is in force meanwhile. At most IMAGE_OTHERWISE_MAX steps lead to an end */
	uint64_t expires;      /* seconds, Unix time; 0: never */
	uint8_t origin;        /* enum policy_origin */
	uint8_t reserved0;
	uint16_t protocol_max; /* highest TLS version that an upgrade offers, not below protocol_min; 0: any */
	uint8_t reserved[4];
};

/* enum policy_pin: of what `sha256` is. */
struct image_fingerprint {
	uint8_t sha256[32];
	uint64_t expires; /* seconds, Unix time; from then on it matches nothing; 0: never */
	uint8_t pin;      /* enum policy_pin */
	uint8_t reserved[7];
};

/* Slot of the domain table: slots is a power of two, at most half full; a name sits in the first free
 * slot from XXH3_64bits(name) & (slots - 1) on. ".example.org" is stored with its dot. */
struct image_domain {
	uint32_t name; /* string offset; IMAGE_NONE: free slot */
	uint32_t rule;
};

struct image_destination {
	uint32_t name; /* string: provider's name; "*" for [0] */
	uint32_t rule;
	uint32_t pool;       /* string: name of a worker pool; "" : default */
	uint32_t servername; /* string: its MX name where known; "" */
};

/* The address is an MX of the domain (one that a rule names), by the name of `host`; the most preferred, where there
 * are several. Addresses as in policy_destination_of(). */
struct image_server {
	uint8_t addr[16];
	uint32_t domain; /* string */
	uint32_t host;   /* index into hosts */
	uint8_t mx_secure; /* 1: the MX record was validated by DNSSEC */
	uint8_t reserved[7];
};

struct image_host {
	uint32_t name; /* string: the MX name */
	uint32_t base; /* string: TLSA base domain (RFC 7672, section 2.2.2); the name itself where it is no alias */
	uint32_t tlsa_first; /* index into tlsa */
	uint32_t tlsa_count;
	uint8_t tlsa; /* enum policy_tlsa; records stand there only where it is secure */
	uint8_t reserved[7];
};

/* Only usable ones: DANE-TA(2), DANE-EE(3); selectors 0, 1; matching types 0, 1, 2, with data of their length. */
struct image_tlsa {
	uint32_t octets_first, octets_count;
	uint8_t usage, selector, matching;
	uint8_t reserved;
};

struct image_sts {
	uint32_t domain; /* string */
	uint32_t rule;   /* what its policy makes: of origin MTA-STS; IMAGE_NONE: the operator's goes before it, or there is none */
	uint8_t mode;    /* enum policy_sts */
	uint8_t error;   /* enum policy_sts_error: of the last look */
	uint8_t reserved[6];
};

/* What a probe of that address found. */
struct image_probed {
	uint8_t addr[16];
	uint64_t at; /* seconds, Unix time */
	uint32_t name_first; /* index into probed_names */
	uint32_t name_count;
	uint16_t version;    /* wire version; 0: no TLS could be had */
	uint8_t chain;       /* enum policy_chain */
	uint8_t dane;        /* enum policy_dane */
	uint8_t reserved[4];
	uint8_t certificate_sha256[32], key_sha256[32];
};

struct image_seen {
	uint8_t addr[16];
	uint64_t at; /* STARTTLS was last seen there; seconds, Unix time */
};

/* `parent` is the index of the nearest enclosing prefix, or IMAGE_NONE: the longest match of an
 * address is the last entry not above it, or an ancestor of that entry. `target` is the index of a
 * destination; in the sections of clients and of inbound servers, of a rule. */
struct image_prefix4 {
	uint32_t addr; /* host byte order, bits past len are zero */
	uint32_t parent;
	uint32_t target;
	uint8_t len;
	uint8_t reserved[3];
};

struct image_prefix6 {
	uint8_t addr[16]; /* network byte order */
	uint32_t parent;
	uint32_t target;
	uint8_t len;
	uint8_t reserved[7];
};

_Static_assert(sizeof(struct image_section) == 16, "image layout");
_Static_assert(sizeof(struct image_header) == 64 + 21 * 16, "image layout");
_Static_assert(sizeof(struct image_rule) == 72, "image layout");
_Static_assert(sizeof(struct image_fingerprint) == 48, "image layout");
_Static_assert(sizeof(struct image_prefix4) == 16 && sizeof(struct image_prefix6) == 32, "image layout");
_Static_assert(sizeof(struct image_server) == 32 && sizeof(struct image_host) == 24 && sizeof(struct image_tlsa) == 12, "image layout");
_Static_assert(sizeof(struct image_sts) == 16 && sizeof(struct image_probed) == 104 && sizeof(struct image_seen) == 24, "image layout");

#endif
