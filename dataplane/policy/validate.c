/*
 * validate.c - is this an image that the dataplane can trust with its eyes closed?
 *
 * Enters: bytes in a mapping. Leaves: section pointers and 0, or one line naming section, index and what
 * is wrong. The order matters: header, checksum, where sections lie, strings; only then what points into
 * them. Readers check nothing again, so each offset, index, enum, order and parent link is checked here.
 * The checksum tells damage, not malice: an image that was made to harm has a right one.
 * Cost is linear: a probe in the domain table and a chain of parents have named limits.
 */
#include "private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SECTIONS 21
#define PREFIX_DEPTH_MAX 129 /* nested prefixes have rising lengths 0..128 */

int check_bad(struct check *c, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(c->error, c->error_len, format, args);
	va_end(args);
	return -EINVAL;
}

/* ---- header and sections ---- */

struct section_spec {
	const char *name;
	size_t header_offset; /* of its struct image_section */
	uint32_t stride;
	uint32_t min, max; /* elements */
};

#define SECTION(name, stride, min, max) {#name, offsetof(struct image_header, name), stride, min, max}
static const struct section_spec sections[SECTIONS] = {
	SECTION(strings, 1, 1, IMAGE_STRINGS_MAX),
	SECTION(rules, sizeof(struct image_rule), 1, IMAGE_RULES_MAX),
	SECTION(matches, sizeof(uint32_t), 0, IMAGE_RULES_MAX * IMAGE_MATCHES_MAX),
	SECTION(domains, sizeof(struct image_domain), 0, IMAGE_SLOTS_MAX),
	SECTION(destinations, sizeof(struct image_destination), 1, IMAGE_DESTINATIONS_MAX),
	SECTION(prefix4, sizeof(struct image_prefix4), 0, IMAGE_PREFIXES_MAX),
	SECTION(prefix6, sizeof(struct image_prefix6), 0, IMAGE_PREFIXES_MAX),
	SECTION(fingerprints, sizeof(struct image_fingerprint), 0, IMAGE_FINGERPRINTS_MAX),
	SECTION(client4, sizeof(struct image_prefix4), 0, IMAGE_PREFIXES_MAX),
	SECTION(client6, sizeof(struct image_prefix6), 0, IMAGE_PREFIXES_MAX),
	SECTION(inbound4, sizeof(struct image_prefix4), 0, IMAGE_PREFIXES_MAX),
	SECTION(inbound6, sizeof(struct image_prefix6), 0, IMAGE_PREFIXES_MAX),
	SECTION(inbound_domains, sizeof(struct image_domain), 0, IMAGE_SLOTS_MAX),
	SECTION(servers, sizeof(struct image_server), 0, IMAGE_SERVERS_MAX),
	SECTION(hosts, sizeof(struct image_host), 0, IMAGE_HOSTS_MAX),
	SECTION(tlsa, sizeof(struct image_tlsa), 0, IMAGE_TLSA_MAX),
	SECTION(octets, 1, 0, IMAGE_OCTETS_MAX),
	SECTION(sts, sizeof(struct image_sts), 0, IMAGE_STS_MAX),
	SECTION(probed, sizeof(struct image_probed), 0, IMAGE_PROBED_MAX),
	SECTION(probed_names, sizeof(uint32_t), 0, IMAGE_PROBED_MAX * 16u),
	SECTION(seen, sizeof(struct image_seen), 0, IMAGE_SEEN_MAX),
};

static const struct image_section *section_at(const struct image_header *h, const struct section_spec *spec)
{
	return (const struct image_section *)(const void *)((const uint8_t *)h + spec->header_offset);
}

static int check_header(struct check *c)
{
	const struct image_header *h = c->image->header;
	uint64_t sum;

	if (memcmp(h->magic, IMAGE_MAGIC, sizeof(h->magic)) != 0)
		return check_bad(c, "header: no policy image: it does not begin with %s", IMAGE_MAGIC);
	if (h->version != IMAGE_VERSION)
		return check_bad(c, "header: version %u, this program reads %u: compile the policy again", h->version, IMAGE_VERSION);
	if (h->header_bytes != sizeof(*h))
		return check_bad(c, "header: has %u bytes, should have %zu", h->header_bytes, sizeof(*h));
	if (h->total_bytes != c->image->len)
		return check_bad(c, "header: says %llu bytes in all, there are %zu", (unsigned long long)h->total_bytes, c->image->len);
	sum = policy_image_checksum(c->image->base, c->image->len);
	if (h->checksum != sum)
		return check_bad(c, "header: checksum %016llx, the content's is %016llx: damaged", (unsigned long long)h->checksum,
			   (unsigned long long)sum);
	return 0;
}

static int check_section(struct check *c, const struct section_spec *spec)
{
	const struct image_section *s = section_at(c->image->header, spec);
	uint64_t bytes = (uint64_t)s->count * spec->stride;

	if (s->stride != spec->stride)
		return check_bad(c, "%s: elements of %u bytes, should be %u", spec->name, s->stride, spec->stride);
	if (s->count < spec->min || s->count > spec->max)
		return check_bad(c, "%s: %u elements, must be %u to %u", spec->name, s->count, spec->min, spec->max);
	if (s->offset % 8 != 0 || s->offset < sizeof(struct image_header))
		return check_bad(c, "%s: offset %llu is inside the header or not a multiple of 8", spec->name,
			   (unsigned long long)s->offset);
	if (s->offset > c->image->len || bytes > c->image->len - s->offset)
		return check_bad(c, "%s: %llu bytes from offset %llu end past the file's %zu", spec->name, (unsigned long long)bytes,
			   (unsigned long long)s->offset, c->image->len);
	return 0;
}

static int check_sections(struct check *c)
{
	const struct image_header *h = c->image->header;
	int err = 0;

	for (int i = 0; i < SECTIONS && !err; i++)
		err = check_section(c, &sections[i]);
	for (int i = 0; i < SECTIONS && !err; i++)
		for (int k = 0; k < i && !err; k++) {
			const struct image_section *a = section_at(h, &sections[i]), *b = section_at(h, &sections[k]);
			uint64_t a_bytes = (uint64_t)a->count * a->stride, b_bytes = (uint64_t)b->count * b->stride;

			if (a_bytes && b_bytes && a->offset < b->offset + b_bytes && b->offset < a->offset + a_bytes)
				err = check_bad(c, "%s: overlaps %s", sections[i].name, sections[k].name);
		}
	return err;
}

static void set_pointers(struct policy_image *image)
{
	const struct image_header *h = image->header;

	image->strings = (const char *)image->base + h->strings.offset;
	image->rules = (const void *)(image->base + h->rules.offset);
	image->matches = (const void *)(image->base + h->matches.offset);
	image->domains = (const void *)(image->base + h->domains.offset);
	image->destinations = (const void *)(image->base + h->destinations.offset);
	image->prefix4 = (const void *)(image->base + h->prefix4.offset);
	image->prefix6 = (const void *)(image->base + h->prefix6.offset);
	image->fingerprints = (const void *)(image->base + h->fingerprints.offset);
	image->client4 = (const void *)(image->base + h->client4.offset);
	image->client6 = (const void *)(image->base + h->client6.offset);
	image->inbound4 = (const void *)(image->base + h->inbound4.offset);
	image->inbound6 = (const void *)(image->base + h->inbound6.offset);
	image->inbound_domains = (const void *)(image->base + h->inbound_domains.offset);
	image->servers = (const void *)(image->base + h->servers.offset);
	image->hosts = (const void *)(image->base + h->hosts.offset);
	image->tlsa = (const void *)(image->base + h->tlsa.offset);
	image->octets = image->base + h->octets.offset;
	image->sts = (const void *)(image->base + h->sts.offset);
	image->probed = (const void *)(image->base + h->probed.offset);
	image->probed_names = (const void *)(image->base + h->probed_names.offset);
	image->seen = (const void *)(image->base + h->seen.offset);
}

/* ---- strings ---- */

static int check_strings(struct check *c)
{
	const char *s = c->image->strings;
	uint32_t len = c->image->header->strings.count;

	if (s[0] != '\0' || s[len - 1] != '\0')
		return check_bad(c, "strings: must begin and end with a NUL");
	for (uint32_t i = 0; i < len; i++)
		if (((unsigned char)s[i] < ' ' && s[i] != '\0') || s[i] == 127)
			return check_bad(c, "strings[%u]: control character %u", i, (unsigned char)s[i]);
	return 0;
}

bool check_string(const struct check *c, uint32_t offset)
{
	return offset < c->image->header->strings.count && (offset == 0 || c->image->strings[offset - 1] == '\0');
}

/* ---- rules ---- */

static int check_name(struct check *c, uint32_t i, const struct image_rule *r)
{
	const char *name = c->image->strings + r->name;
	bool ok = true;

	switch ((enum policy_kind)r->kind) {
	case POLICY_DOMAIN:
		ok = policy_domain_valid(name);
		break;
	case POLICY_PARENT:
		ok = name[0] == '.' && policy_domain_valid(name + 1);
		break;
	case POLICY_DEFAULT:
		ok = strcmp(name, "*") == 0;
		break;
	case POLICY_PROVIDER:
	case POLICY_CLIENT:
	case POLICY_INBOUND:
		ok = name[0] != '\0';
		break;
	}
	return ok ? 0 : check_bad(c, "rules[%u]: name \"%.80s\" is not one of its kind (%u)", i, name, r->kind);
}

static int check_rule_strings(struct check *c, uint32_t i, const struct image_rule *r)
{
	const struct {
		const char *field;
		uint32_t offset;
	} strings[] = {{"name", r->name},       {"servername", r->servername}, {"ciphers", r->ciphers},
		       {"exclude", r->exclude}, {"owner", r->owner},           {"reason", r->reason}};

	for (size_t k = 0; k < sizeof(strings) / sizeof(strings[0]); k++)
		if (!check_string(c, strings[k].offset))
			return check_bad(c, "rules[%u]: %s: no string at %u", i, strings[k].field, strings[k].offset);
	if (r->servername && !policy_domain_valid(c->image->strings + r->servername))
		return check_bad(c, "rules[%u]: servername \"%.80s\" is no host name", i, c->image->strings + r->servername);
	return check_name(c, i, r);
}

static int check_rule_values(struct check *c, uint32_t i, const struct image_rule *r)
{
	const struct {
		const char *field;
		unsigned value, max;
	} values[] = {{"kind", r->kind, POLICY_INBOUND},         {"level", r->level, POLICY_LEVELS - 1},
		      {"mode", r->mode, MODE_OBSERVE},           {"on_fail", r->on_fail, ON_FAIL_REJECT},
		      {"e2e", r->e2e, E2E_PROBE},                {"unknown", r->unknown, UNKNOWN_RESET},
		      {"nonsmtp", r->nonsmtp, PASS_RESET},       {"overload", r->overload, PASS_RESET},
		      {"percent", r->percent, 100},              {"stripped", r->stripped, STRIPPED_REFUSE},
		      {"origin", r->origin, ORIGIN_STS}};

	for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++)
		if (values[k].value > values[k].max)
			return check_bad(c, "rules[%u]: %s is %u, must be at most %u", i, values[k].field, values[k].value, values[k].max);
	if (r->protocol_min != 0 && (r->protocol_min < 0x0301 || r->protocol_min > 0x0304))
		return check_bad(c, "rules[%u]: protocol_min is 0x%04x, must be 0 or 0x0301 to 0x0304", i, r->protocol_min);
	if (r->protocol_max != 0 && (r->protocol_max < 0x0301 || r->protocol_max > 0x0304 || r->protocol_max < r->protocol_min))
		return check_bad(c, "rules[%u]: protocol_max is 0x%04x, must be 0 or protocol_min to 0x0304", i, r->protocol_max);
	return 0;
}

/* A run of `count` elements from `first` on, in a section of `there`. */
static bool run_fits(uint32_t first, uint32_t count, uint32_t most, uint32_t there)
{
	return count <= most && first <= there && count <= there - first;
}

static int check_rule_runs(struct check *c, uint32_t i, const struct image_rule *r)
{
	const struct image_header *h = c->image->header;

	if (!run_fits(r->match_first, r->match_count, IMAGE_MATCHES_MAX, h->matches.count))
		return check_bad(c, "rules[%u]: matches %u from %u: there are %u, and %d is the most for one rule", i, r->match_count,
			   r->match_first, h->matches.count, IMAGE_MATCHES_MAX);
	if (!run_fits(r->fingerprint_first, r->fingerprint_count, IMAGE_PINS_MAX, h->fingerprints.count))
		return check_bad(c, "rules[%u]: fingerprints %u from %u: there are %u, and %d is the most for one rule", i,
			   r->fingerprint_count, r->fingerprint_first, h->fingerprints.count, IMAGE_PINS_MAX);
	if ((r->level == LEVEL_VERIFY || r->level == LEVEL_SECURE) && r->match_count == 0)
		return check_bad(c, "rules[%u]: level %s without a match: no certificate could ever meet it", i,
			   policy_level_name((enum policy_level)r->level));
	if (r->level == LEVEL_FINGERPRINT && r->fingerprint_count == 0)
		return check_bad(c, "rules[%u]: level fingerprint without a fingerprint: no certificate could ever meet it", i);
	return 0;
}

static int check_rules(struct check *c)
{
	const struct image_header *h = c->image->header;
	int err = 0;

	for (uint32_t i = 0; i < h->rules.count && !err; i++) {
		const struct image_rule *r = &c->image->rules[i];

		err = check_rule_values(c, i, r);
		if (!err)
			err = check_rule_strings(c, i, r);
		if (!err)
			err = check_rule_runs(c, i, r);
	}
	if (err)
		return err;
	if (h->default_rule >= h->rules.count || c->image->rules[h->default_rule].kind != POLICY_DEFAULT)
		return check_bad(c, "header: default_rule %u is not a rule \"*\"", h->default_rule);
	if (h->inbound_rule >= h->rules.count || c->image->rules[h->inbound_rule].kind != POLICY_INBOUND)
		return check_bad(c, "header: inbound_rule %u is not an inbound rule", h->inbound_rule);
	return 0;
}

static int check_fingerprints(struct check *c)
{
	static const uint8_t zeros[sizeof(c->image->fingerprints->reserved)];

	for (uint32_t i = 0; i < c->image->header->fingerprints.count; i++) {
		const struct image_fingerprint *f = &c->image->fingerprints[i];

		if (f->pin > PIN_KEY || memcmp(f->reserved, zeros, sizeof(zeros)) != 0)
			return check_bad(c, "fingerprints[%u]: pin is %u, must be at most %d, and reserved 0", i, f->pin, PIN_KEY);
	}
	return 0;
}

static int check_matches(struct check *c)
{
	for (uint32_t i = 0; i < c->image->header->matches.count; i++) {
		uint32_t offset = c->image->matches[i];

		if (!check_string(c, offset))
			return check_bad(c, "matches[%u]: no string at %u", i, offset);
		if (!policy_pattern_valid(c->image->strings + offset))
			return check_bad(c, "matches[%u]: \"%.80s\" is no pattern", i, c->image->strings + offset);
	}
	return 0;
}

/* ---- domains ---- */

#define KIND(k) (1u << POLICY_##k)

struct domain_spec {
	const char *name;
	const struct image_domain *slots;
	uint32_t count;
	unsigned kinds;    /* of rules that may stand in it */
	uint32_t enforced; /* as the header has it */
	const char *enforced_name;
};

/* The slot at `i` can be found by looking for its name, and is the only one of that name. */
static int check_reachable(struct check *c, const struct domain_spec *t, uint32_t i)
{
	uint32_t mask = t->count - 1;
	const char *name = c->image->strings + t->slots[i].name;
	uint32_t home = (uint32_t)policy_domain_hash(name, strlen(name)) & mask;

	if (((i - home) & mask) > IMAGE_PROBES_MAX)
		return check_bad(c, "%s[%u]: \"%.80s\" is %u slots from its home, %d is the most", t->name, i, name, (i - home) & mask,
			   IMAGE_PROBES_MAX);
	for (uint32_t slot = home; slot != i; slot = (slot + 1) & mask) {
		if (t->slots[slot].name == IMAGE_NONE)
			return check_bad(c, "%s[%u]: \"%.80s\" cannot be found: slot %u before it is free", t->name, i, name, slot);
		if (strcmp(c->image->strings + t->slots[slot].name, name) == 0)
			return check_bad(c, "%s[%u]: \"%.80s\" stands in slot %u too", t->name, i, name, slot);
	}
	return 0;
}

static int check_domain(struct check *c, const struct domain_spec *t, uint32_t i)
{
	const struct image_domain *d = &t->slots[i];
	const char *name;
	uint8_t kind;

	if (!check_string(c, d->name))
		return check_bad(c, "%s[%u]: no string at %u", t->name, i, d->name);
	name = c->image->strings + d->name;
	if (!policy_domain_valid(name[0] == '.' ? name + 1 : name))
		return check_bad(c, "%s[%u]: \"%.80s\" is no domain", t->name, i, name);
	if (d->rule >= c->image->header->rules.count)
		return check_bad(c, "%s[%u]: rule %u of %u", t->name, i, d->rule, c->image->header->rules.count);
	kind = c->image->rules[d->rule].kind;
	if (!(t->kinds & 1u << kind))
		return check_bad(c, "%s[%u]: rule %u is of kind %u, which has no place here", t->name, i, d->rule, kind);
	return 0;
}

static int check_domain_table(struct check *c, const struct domain_spec *t)
{
	uint32_t used = 0, enforced = 0;
	int err = 0;

	if (t->count & (t->count - 1))
		return check_bad(c, "%s: %u slots, must be a power of two", t->name, t->count);
	for (uint32_t i = 0; i < t->count && !err; i++) {
		if (t->slots[i].name == IMAGE_NONE)
			continue;
		used++;
		err = check_domain(c, t, i);
		if (!err)
			enforced += policy_rule_demands(&c->image->rules[t->slots[i].rule]);
	}
	if (!err && used > t->count / 2)
		err = check_bad(c, "%s: %u names in %u slots, half full is the most", t->name, used, t->count);
	for (uint32_t i = 0; i < t->count && !err; i++)
		err = t->slots[i].name == IMAGE_NONE ? 0 : check_reachable(c, t, i);
	if (!err && enforced != t->enforced)
		err = check_bad(c, "header: %s is %u, there are %u", t->enforced_name, t->enforced, enforced);
	return err;
}

static int check_domains(struct check *c)
{
	const struct policy_image *image = c->image;
	const struct image_header *h = image->header;
	const struct domain_spec tables[] = {
		{"domains", image->domains, h->domains.count, KIND(DOMAIN) | KIND(PARENT) | KIND(PROVIDER), h->enforced_domain_rules,
		 "enforced_domain_rules"},
		{"inbound_domains", image->inbound_domains, h->inbound_domains.count, KIND(INBOUND), h->enforced_inbound_rules,
		 "enforced_inbound_rules"},
	};
	int err = 0;

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]) && !err; i++)
		err = check_domain_table(c, &tables[i]);
	return err;
}

/* ---- destinations and prefixes ---- */

static int check_destinations(struct check *c)
{
	const struct image_header *h = c->image->header;

	for (uint32_t i = 0; i < h->destinations.count; i++) {
		const struct image_destination *d = &c->image->destinations[i];
		const char *name;

		if (!check_string(c, d->name) || !check_string(c, d->pool) || !check_string(c, d->servername))
			return check_bad(c, "destinations[%u]: name, pool or servername points to no string", i);
		name = c->image->strings + d->name;
		if (name[0] == '\0' || (strcmp(name, "*") == 0) != (i == 0))
			return check_bad(c, "destinations[%u]: name \"%.80s\": the first is \"*\" and no other", i, name);
		if (d->servername && !policy_domain_valid(c->image->strings + d->servername))
			return check_bad(c, "destinations[%u]: servername \"%.80s\" is no host name", i,
				   c->image->strings + d->servername);
		if (d->rule >= h->rules.count)
			return check_bad(c, "destinations[%u]: rule %u of %u", i, d->rule, h->rules.count);
		if (d->rule != h->default_rule && (i == 0 || (c->image->rules[d->rule].kind != POLICY_PROVIDER &&
							      c->image->rules[d->rule].kind != POLICY_DOMAIN)))
			return check_bad(c, "destinations[%u]: rule %u is not the default one%s", i, d->rule,
				   i ? " nor a provider's or a domain's" : "");
	}
	return 0;
}

/* Ancestors of the prefix last seen, outermost first: in ascending order, the nearest one that holds the next
 * prefix is its parent. */
struct ancestors {
	uint32_t index[PREFIX_DEPTH_MAX];
	unsigned depth;
};

/* What the prefixes of a section lead to: a destination, or a rule of that kind. */
enum target { TARGET_DESTINATION, TARGET_CLIENT, TARGET_INBOUND };

static int check_target(struct check *c, const char *section, uint32_t i, uint32_t target, enum target what)
{
	const struct image_header *h = c->image->header;
	enum policy_kind kind = what == TARGET_CLIENT ? POLICY_CLIENT : POLICY_INBOUND;

	if (what == TARGET_DESTINATION)
		return target < h->destinations.count
			       ? 0
			       : check_bad(c, "%s[%u]: destination %u of %u", section, i, target, h->destinations.count);
	if (target >= h->rules.count || c->image->rules[target].kind != kind)
		return check_bad(c, "%s[%u]: rule %u of %u is not of kind %d", section, i, target, h->rules.count, kind);
	return 0;
}

static int check_link(struct check *c, const char *section, uint32_t i, uint32_t parent, struct ancestors *a)
{
	uint32_t nearest = a->depth ? a->index[a->depth - 1] : IMAGE_NONE;

	if (parent != nearest)
		return check_bad(c, "%s[%u]: parent is %u, the nearest enclosing prefix is %u", section, i, parent, nearest);
	a->index[a->depth++] = i; /* lengths rise strictly along the chain, so it fits */
	return 0;
}

static int check_each4(struct check *c, const char *section, const struct image_prefix4 *all, uint32_t count, enum target what)
{
	struct ancestors a = {.depth = 0};
	int err = 0;

	for (uint32_t i = 0; i < count && !err; i++) {
		const struct image_prefix4 *p = &all[i];

		if (p->len > 32 || (p->addr & ~prefix4_mask(p->len)) || p->reserved[0] || p->reserved[1] || p->reserved[2])
			return check_bad(c, "%s[%u]: length %u, or bits set past it", section, i, p->len);
		if (i && (all[i - 1].addr > p->addr || (all[i - 1].addr == p->addr && all[i - 1].len >= p->len)))
			return check_bad(c, "%s[%u]: not above the one before it", section, i);
		while (a.depth && !prefix4_holds(&all[a.index[a.depth - 1]], p->addr))
			a.depth--;
		err = check_link(c, section, i, p->parent, &a);
		if (!err)
			err = check_target(c, section, i, p->target, what);
	}
	return err;
}

static int check_each6(struct check *c, const char *section, const struct image_prefix6 *all, uint32_t count, enum target what)
{
	static const uint8_t zeros[16];
	struct ancestors a = {.depth = 0};
	int err = 0;

	for (uint32_t i = 0; i < count && !err; i++) {
		const struct image_prefix6 *p = &all[i];
		unsigned whole = p->len / 8, rest = p->len % 8;
		int order = i ? memcmp(all[i - 1].addr, p->addr, 16) : -1;

		if (p->len > 128 || memcmp(p->reserved, zeros, sizeof(p->reserved)) != 0 ||
		    (rest && (p->addr[whole] & (0xff >> rest))) ||
		    memcmp(p->addr + whole + (rest != 0), zeros, 16 - whole - (rest != 0)) != 0)
			return check_bad(c, "%s[%u]: length %u, or bits set past it", section, i, p->len);
		if (order > 0 || (order == 0 && all[i - 1].len >= p->len))
			return check_bad(c, "%s[%u]: not above the one before it", section, i);
		while (a.depth && !prefix6_holds(&all[a.index[a.depth - 1]], p->addr))
			a.depth--;
		err = check_link(c, section, i, p->parent, &a);
		if (!err)
			err = check_target(c, section, i, p->target, what);
	}
	return err;
}

static int check_prefixes(struct check *c)
{
	const struct policy_image *image = c->image;
	const struct image_header *h = image->header;
	int err = check_each4(c, "prefix4", image->prefix4, h->prefix4.count, TARGET_DESTINATION);

	if (!err)
		err = check_each6(c, "prefix6", image->prefix6, h->prefix6.count, TARGET_DESTINATION);
	if (!err)
		err = check_each4(c, "client4", image->client4, h->client4.count, TARGET_CLIENT);
	if (!err)
		err = check_each6(c, "client6", image->client6, h->client6.count, TARGET_CLIENT);
	if (!err)
		err = check_each4(c, "inbound4", image->inbound4, h->inbound4.count, TARGET_INBOUND);
	if (!err)
		err = check_each6(c, "inbound6", image->inbound6, h->inbound6.count, TARGET_INBOUND);
	return err;
}

int image_validate(struct policy_image *image, char *error, size_t error_len)
{
	static int (*const checks[])(struct check *) = {check_strings, check_matches,	   check_fingerprints, check_rules,
							check_domains, check_destinations, check_prefixes,
							check_otherwise, check_findings};
	struct check c = {image, error, error_len};
	int err;

	image->header = (const void *)image->base;
	err = check_header(&c);
	if (!err)
		err = check_sections(&c);
	if (err)
		return err;
	set_pointers(image);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]) && !err; i++)
		err = checks[i](&c);
	return err;
}
