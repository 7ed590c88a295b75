/*
 * domaintable.c - the hash table of recipient domains, as the image holds it.
 *
 * Enters: names with their rules: domain rules of their own, and the lists of providers. Leaves: slots, half
 * full at most, each name within IMAGE_PROBES_MAX of its home. A rule of its own goes before a provider's
 * list (policy.md, "Which rule"). Refuses: one name in the lists of two providers.
 */
#include "compile.h"

#include <errno.h>
#include <string.h>

void domain_table_dispose(struct domain_table *t)
{
	free(t->entries);
	free(t->slots);
}

void domain_table_add(struct domain_table *t, struct domain_entry entry)
{
	if ((t->count & (t->count - 1)) == 0)
		t->entries = must(realloc(t->entries, (t->count ? t->count * 2 : 1) * sizeof(*t->entries)));
	t->entries[t->count++] = entry;
}

static int conflict(const struct domain_table *t, const struct image_domain *there, const struct domain_entry *entry,
		    const struct strings *strings, const struct image_rule *rules, struct why *why)
{
	(void)t;
	return why_set(why, "%.100s: in domains of provider:%s and of provider:%s; one of them, or a rule of its own, would be right",
		       strings->bytes + entry->name, strings->bytes + rules[there->rule].name,
		       strings->bytes + rules[entry->rule].name);
}

/* -ENOSPC: too far from its home. */
static int insert(struct domain_table *t, const struct domain_entry *entry, const struct strings *strings,
		  const struct image_rule *rules, struct why *why)
{
	const char *name = strings->bytes + entry->name;
	uint32_t mask = t->slot_count - 1;
	uint32_t slot = (uint32_t)policy_domain_hash(name, strlen(name)) & mask;

	for (unsigned i = 0; i <= IMAGE_PROBES_MAX; i++, slot = (slot + 1) & mask) {
		struct image_domain *d = &t->slots[slot];

		if (d->name == IMAGE_NONE) {
			*d = (struct image_domain){entry->name, entry->rule};
			return 0;
		}
		if (d->name != entry->name) /* equal names have one offset */
			continue;
		/* Rules of their own come first, so what is here already is as good or better, unless it is a list's too. */
		if (d->rule == entry->rule || rules[d->rule].kind != POLICY_PROVIDER)
			return 0;
		return conflict(t, d, entry, strings, rules, why);
	}
	return -ENOSPC;
}

static int fill(struct domain_table *t, const struct strings *strings, const struct image_rule *rules, struct why *why)
{
	free(t->slots);
	t->slots = must(malloc(t->slot_count * sizeof(*t->slots)));
	memset(t->slots, 0xff, t->slot_count * sizeof(*t->slots));
	for (int own = 1; own >= 0; own--)
		for (size_t i = 0; i < t->count; i++) {
			int err = t->entries[i].own == own ? insert(t, &t->entries[i], strings, rules, why) : 0;

			if (err)
				return err;
		}
	for (uint32_t i = 0; i < t->slot_count; i++)
		if (t->slots[i].name == IMAGE_NONE)
			t->slots[i].rule = 0;
	return 0;
}

int domain_table_build(struct domain_table *t, const struct strings *strings, const struct image_rule *rules, struct why *why)
{
	int err;

	if (t->count == 0)
		return 0;
	if (t->count > IMAGE_SLOTS_MAX / 2)
		return why_set(why, "%zu domains; %u is the most", t->count, IMAGE_SLOTS_MAX / 2);
	for (t->slot_count = 2; t->slot_count / 2 < t->count;)
		t->slot_count *= 2;
	while ((err = fill(t, strings, rules, why)) == -ENOSPC) {
		if (t->slot_count == IMAGE_SLOTS_MAX)
			return why_set(why, "%zu domains do not fit into %u slots", t->count, t->slot_count);
		t->slot_count *= 2;
	}
	return err;
}

uint32_t domain_table_find(const struct domain_table *t, const struct strings *strings, const char *name)
{
	uint32_t mask = t->slot_count - 1;
	uint32_t slot = (uint32_t)policy_domain_hash(name, strlen(name)) & mask;

	for (unsigned i = 0; t->slot_count && i <= IMAGE_PROBES_MAX; i++, slot = (slot + 1) & mask) {
		if (t->slots[slot].name == IMAGE_NONE)
			break;
		if (strcmp(strings->bytes + t->slots[slot].name, name) == 0)
			return t->slots[slot].rule;
	}
	return IMAGE_NONE;
}
