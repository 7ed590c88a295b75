/*
 * sidecar.c - what was found, out of a JSON file: for `waxseal policy compile --discovered`, where no agent runs.
 *
 * Enters: a file as rules.h describes it. Leaves: struct discovered, whole, or one line that says what is wrong where.
 * The compiler checks each finding again; here only the form is looked at. Refuses: members that it does not know, so that
 * a misspelt "mx_secure" is not taken for "no".
 */
#include "private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>

struct sidecar {
	struct discovered d; /* first: discovered_free() gets it back */
	json_t *root;        /* its strings are pointed into */
	struct discovered_claim *claims;
	struct discovered_host *hosts;
	struct discovered_sts *sts;
	struct discovered_probe *probes;
	struct discovered_seen *seen;
	void **kept; /* arrays of records and names */
	size_t kept_count;
	struct why why;
};

static void *keep(struct sidecar *s, size_t count, size_t size)
{
	s->kept = must(realloc(s->kept, (s->kept_count + 1) * sizeof(*s->kept)));
	return s->kept[s->kept_count++] = must(calloc(count + 1, size));
}

/* ---- single values ---- */

static int only(struct sidecar *s, const char *where, json_t *object, const char *names)
{
	const char *name;
	json_t *value;

	if (!json_is_object(object))
		return why_set(&s->why, "%.60s: not an object", where);
	json_object_foreach(object, name, value)
	{
		char padded[80];

		snprintf(padded, sizeof(padded), " %.70s ", name);
		if (!strstr(names, padded))
			return why_set(&s->why, "%.60s: \"%.40s\" is none of%s", where, name, names);
	}
	return 0;
}

static const char *text(const json_t *object, const char *name)
{
	const char *value = json_string_value(json_object_get(object, name));

	return value ? value : "";
}

static int address(struct sidecar *s, const char *value, uint8_t out[16])
{
	static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};

	memcpy(out, mapped, 16);
	if (inet_pton(AF_INET, value, out + 12) == 1 || inet_pton(AF_INET6, value, out) == 1)
		return 0;
	return why_set(&s->why, "%.60s: not an address", value);
}

/* Index of a word among several, with blanks between; -1. */
static int word(const char *words, const char *value)
{
	const char *cursor = words;
	char item[32];

	for (int i = 0; item_next(&cursor, " ", item, sizeof(item)) == 1; i++)
		if (strcmp(item, value) == 0)
			return i;
	return -1;
}

static int choose(struct sidecar *s, const char *where, const char *words, const char *value, unsigned *out)
{
	int index = word(words, value);

	if (index < 0)
		return why_set(&s->why, "%.60s: \"%.40s\" is not one of %s", where, value, words);
	*out = (unsigned)index;
	return 0;
}

static int hex(struct sidecar *s, const char *where, const char *value, uint8_t *out, size_t room, size_t *len)
{
	size_t digits = strlen(value);

	if (digits % 2 || digits / 2 > room || value[strspn(value, "0123456789abcdefABCDEF")])
		return why_set(&s->why, "%.60s: not hex digits, or more than %zu octets", where, room);
	for (size_t i = 0; i < digits / 2; i++)
		sscanf(value + 2 * i, "%2hhx", &out[i]);
	*len = digits / 2;
	return 0;
}

static int names(struct sidecar *s, const char *where, const json_t *array, const char *const **out, size_t *count)
{
	const char **all = keep(s, json_array_size(array), sizeof(*all));
	const json_t *value;
	size_t i;

	if (array && !json_is_array(array))
		return why_set(&s->why, "%.60s: not a list of names", where);
	json_array_foreach(array, i, value)
	{
		all[i] = json_string_value(value);
		if (!all[i])
			return why_set(&s->why, "%.60s: not a list of names", where);
	}
	*out = all;
	*count = json_array_size(array);
	return 0;
}

/* ---- the parts ---- */

static int read_mx(struct sidecar *s, json_t *list)
{
	json_t *value;
	size_t i;

	if (list && !json_is_array(list))
		return why_set(&s->why, "mx: not a list");
	s->claims = must(calloc(json_array_size(list) + 1, sizeof(*s->claims)));
	json_array_foreach(list, i, value)
	{
		struct discovered_claim *c = &s->claims[s->d.count++];

		if (only(s, "mx", value, " domain mx addr preference secure ") != 0 || address(s, text(value, "addr"), c->addr) != 0)
			return -EINVAL;
		c->domain = text(value, "domain");
		c->mx = text(value, "mx");
		c->preference = (uint16_t)json_integer_value(json_object_get(value, "preference"));
		c->mx_secure = json_is_true(json_object_get(value, "secure"));
	}
	s->d.claims = s->claims;
	return 0;
}

static int read_record(struct sidecar *s, const char *line, struct discovered_tlsa *out)
{
	unsigned usage, selector, matching;
	uint8_t *data = keep(s, IMAGE_TLSA_BYTES_MAX, 1);
	int at = 0;
	size_t len;

	if (sscanf(line, "%u %u %u %n", &usage, &selector, &matching, &at) != 3 || !at || !line[at] || (usage | selector | matching) > UINT8_MAX)
		return why_set(&s->why, "tlsa: \"%.40s\" is not such as \"3 1 1 ABCD...\"", line);
	if (hex(s, "tlsa", line + at, data, IMAGE_TLSA_BYTES_MAX, &len) != 0)
		return -EINVAL;
	*out = (struct discovered_tlsa){(uint8_t)usage, (uint8_t)selector, (uint8_t)matching, (uint16_t)len, data};
	return 0;
}

static int read_host(struct sidecar *s, const char *mx, json_t *value, struct discovered_host *out)
{
	static const enum policy_tlsa states[] = {TLSA_NONE, TLSA_SECURE, TLSA_FAILED};
	const json_t *list = json_object_get(value, "records"), *line;
	struct discovered_tlsa *records = keep(s, json_array_size(list), sizeof(*records));
	unsigned state;
	size_t i;

	if (only(s, mx, value, " state base records ") != 0 || choose(s, mx, "none secure failed", text(value, "state"), &state) != 0)
		return -EINVAL;
	json_array_foreach(list, i, line)
		if (read_record(s, json_is_string(line) ? json_string_value(line) : "", &records[i]) != 0)
			return -EINVAL;
	*out = (struct discovered_host){mx, *text(value, "base") ? text(value, "base") : NULL, states[state], records, json_array_size(list)};
	return 0;
}

static int read_sts(struct sidecar *s, const char *domain, json_t *value, struct discovered_sts *out)
{
	const char *failed = text(value, "error");
	unsigned mode, error = 0;

	if (only(s, domain, value, " mode mx error ") != 0 || choose(s, domain, "none testing enforce", text(value, "mode"), &mode) != 0)
		return -EINVAL;
	if (*failed && choose(s, domain, "- sts-policy-fetch-error sts-policy-invalid sts-webpki-invalid", failed, &error) != 0)
		return -EINVAL;
	*out = (struct discovered_sts){.domain = domain, .mode = (enum policy_sts)mode, .error = (enum policy_sts_error)error};
	return names(s, domain, json_object_get(value, "mx"), &out->mx, &out->mx_count);
}

static int read_probe(struct sidecar *s, const char *addr, json_t *value, struct discovered_probe *out)
{
	static const uint16_t versions[] = {0, 0x0301, 0x0302, 0x0303, 0x0304};
	const char *dane = text(value, "dane");
	unsigned version, chain, judged = 0;
	size_t len;

	if (only(s, addr, value, " at version chain dane names cert key ") != 0 || address(s, addr, out->addr) != 0 ||
	    choose(s, addr, "none TLSv1 TLSv1.1 TLSv1.2 TLSv1.3", text(value, "version"), &version) != 0 ||
	    choose(s, addr, "unseen trusted untrusted self-signed expired not-yet-valid invalid", text(value, "chain"), &chain) != 0 ||
	    (*dane && choose(s, addr, "unseen matched no-match name-mismatch expired invalid", dane, &judged) != 0) ||
	    hex(s, addr, text(value, "cert"), out->certificate_sha256, 32, &len) != 0 || hex(s, addr, text(value, "key"), out->key_sha256, 32, &len) != 0)
		return -EINVAL;
	out->at = (uint64_t)json_integer_value(json_object_get(value, "at"));
	out->version = versions[version];
	out->chain = (enum policy_chain)chain;
	out->dane = (enum policy_dane)judged;
	return names(s, addr, json_object_get(value, "names"), &out->names, &out->name_count);
}

static int read_seen(struct sidecar *s, const char *addr, json_t *value, struct discovered_seen *out)
{
	out->at = (uint64_t)json_integer_value(value);
	return json_is_integer(value) ? address(s, addr, out->addr) : why_set(&s->why, "seen: %.60s: Unix seconds are wanted", addr);
}

/* An object with a finding under each name, read by `read` into an array of `count` elements. */
#define READ_EACH(s, member, array, counter, read) \
	({ \
		json_t *object_ = json_object_get((s)->root, member), *value_; \
		const char *name_; \
		int err_ = object_ && !json_is_object(object_) ? why_set(&(s)->why, "%s: not an object", member) : 0; \
		(s)->array = must(calloc(json_object_size(object_) + 1, sizeof(*(s)->array))); \
		json_object_foreach(object_, name_, value_) \
			if (!err_) \
				err_ = read(s, name_, value_, &(s)->array[(s)->d.counter++]); \
		(s)->d.array = (s)->array; \
		err_; \
	})

static int read_all(struct sidecar *s)
{
	int err = only(s, "the file", s->root, " mx tlsa sts probe seen ");

	if (!err)
		err = read_mx(s, json_object_get(s->root, "mx"));
	if (!err)
		err = READ_EACH(s, "tlsa", hosts, host_count, read_host);
	if (!err)
		err = READ_EACH(s, "sts", sts, sts_count, read_sts);
	if (!err)
		err = READ_EACH(s, "probe", probes, probe_count, read_probe);
	if (!err)
		err = READ_EACH(s, "seen", seen, seen_count, read_seen);
	return err;
}

struct discovered *discovered_read(const char *path, char *error, size_t error_len)
{
	struct sidecar *s = must(calloc(1, sizeof(*s)));
	json_error_t where;

	s->root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
	if (!s->root)
		snprintf(error, error_len, "%s:%d: %s", path, where.line, where.text);
	else if (read_all(s) == 0)
		return &s->d;
	else
		snprintf(error, error_len, "%s: %s", path, s->why.text);
	discovered_free(&s->d);
	return NULL;
}

void discovered_free(struct discovered *discovered)
{
	struct sidecar *s = (struct sidecar *)(void *)discovered;

	if (!s)
		return;
	for (size_t i = 0; i < s->kept_count; i++)
		free(s->kept[i]);
	free(s->kept);
	free(s->claims);
	free(s->hosts);
	free(s->sts);
	free(s->probes);
	free(s->seen);
	json_decref(s->root);
	free(s);
}
