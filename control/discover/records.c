/*
 * records.c - MX, A and AAAA records to hosts and addresses that can be a mail server's.
 *
 * Enters: rdata as a stranger wrote it. Leaves: host names that policy images may hold, unicast addresses; sorted,
 * each once, and no more than the named limits, so that the same records in another order give the same result.
 * Everything else is counted and left out, and its bytes go nowhere.
 */
#include "private.h"

#include <stdlib.h>
#include <string.h>

#include "../../dataplane/policy/policy.h"

#define LABEL_MAX 63

/* False: no host name, or bytes that no name has. The root is "". */
static bool name_of(const uint8_t *at, size_t len, char out[IMAGE_DOMAIN_MAX + 1])
{
	size_t used = 0;

	for (size_t i = 0; i < len;) {
		size_t label = at[i++];
		if (label == 0) {
			out[used ? used - 1 : 0] = 0;
			return i == len && (used == 0 || policy_domain_valid(out));
		}
		if (label > LABEL_MAX || i + label > len || used + label + 1 > IMAGE_DOMAIN_MAX)
			return false;
		for (; label > 0; label--, i++) {
			uint8_t c = at[i];
			if (c == '.' || c == 0)
				return false; /* one label that would read as two, or as less */
			out[used++] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
		}
		out[used++] = '.';
	}
	return false;
}

static int by_preference(const void *a, const void *b)
{
	const struct host *x = a, *y = b;

	return x->preference != y->preference ? (int)x->preference - (int)y->preference : strcmp(x->name, y->name);
}

static bool is_there(const struct host *hosts, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(hosts[i].name, name))
			return true;
	return false;
}

size_t records_mx(const struct discover_answer *answer, struct host **hosts, size_t *count, bool *null_mx)
{
	struct host *all = must(calloc(answer->count + 1, sizeof(*all)));
	char name[IMAGE_DOMAIN_MAX + 1];
	size_t ignored = 0, named = 0, kept = 0;

	for (size_t i = 0; i < answer->count; i++) {
		const uint8_t *rdata = answer->data[i];
		if (answer->len[i] < 3 || !name_of(rdata + 2, (size_t)answer->len[i] - 2, name) || (!*name && answer->count > 1)) {
			ignored++;
			continue;
		}
		*null_mx |= !*name; /* RFC 7505: alone */
		if (!*name)
			continue;
		all[named].preference = (uint16_t)(rdata[0] << 8 | rdata[1]);
		all[named++].name = must(strdup(name));
	}
	qsort(all, named, sizeof(*all), by_preference);
	for (size_t i = 0; i < named; i++) {
		if (kept < DISCOVER_MX_MAX && !is_there(all, kept, all[i].name)) {
			all[kept++] = all[i];
		} else {
			free(all[i].name);
			ignored++;
		}
	}
	memset(all + kept, 0, (answer->count + 1 - kept) * sizeof(*all));
	*hosts = all;
	*count = kept;
	return ignored;
}

bool inet_usable(const struct inet *addr)
{
	static const uint8_t zeros[15];
	const uint8_t *b = addr->bytes;

	if (policy_addr_is_ipv4(b)) /* 0/8, 127/8, 169.254/16, 224/4 and 240/4 */
		return b[12] != 0 && b[12] != 127 && b[12] < 224 && !(b[12] == 169 && b[13] == 254);
	return b[0] != 0xff && !(b[0] == 0xfe && (b[1] & 0xc0) == 0x80) && memcmp(b, zeros, sizeof(zeros)) != 0;
}

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct inet));
}

size_t records_addresses(const struct discover_answer *answer, enum discover_type type, struct family *family)
{
	int len = type == DISCOVER_A ? 4 : 16;
	size_t ignored = 0, kept = 0, usable = 0;

	if (answer->status != DISCOVER_OK || !answer->count)
		return 0;
	family->addrs = must(calloc(answer->count, sizeof(*family->addrs)));
	for (size_t i = 0; i < answer->count; i++) {
		struct inet addr = {.bytes = {[10] = 0xff, [11] = 0xff}};
		bool mapped = type == DISCOVER_AAAA && answer->len[i] == 16 && policy_addr_is_ipv4(answer->data[i]);
		if (answer->len[i] == len && !mapped)
			memcpy(addr.bytes + (sizeof(addr.bytes) - (size_t)len), answer->data[i], (size_t)len);
		if (answer->len[i] == len && !mapped && inet_usable(&addr))
			family->addrs[usable++] = addr;
		else
			ignored++;
	}
	qsort(family->addrs, usable, sizeof(*family->addrs), by_bytes);
	for (size_t i = 0; i < usable; i++)
		if (kept == 0 || (kept < DISCOVER_ADDRESSES_MAX && by_bytes(&family->addrs[kept - 1], &family->addrs[i]) != 0))
			family->addrs[kept++] = family->addrs[i];
		else
			ignored++;
	family->count = kept;
	return ignored;
}
