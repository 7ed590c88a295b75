/* control_found_harness.h - findings put down one by one, and the image of rules with them. */
#ifndef WAXSEAL_CONTROL_FOUND_HARNESS_H
#define WAXSEAL_CONTROL_FOUND_HARNESS_H

#include "control_harness.h"

#define FOUND_MAX 64

static struct {
	struct discovered d;
	struct discovered_claim claims[FOUND_MAX];
	struct discovered_host hosts[FOUND_MAX];
	struct discovered_tlsa records[FOUND_MAX];
	struct discovered_sts sts[FOUND_MAX];
	size_t record_count;
	struct policy_image *image;
} f;

static const uint8_t f_digest[64] = {0x11, 0x22};

static inline const uint8_t *f_addr(const char *text)
{
	static uint8_t addr[16];

	memcpy(addr, (uint8_t[16]){[10] = 0xff, [11] = 0xff}, 16);
	if (inet_pton(AF_INET, text, addr + 12) != 1)
		assert_int_equal(inet_pton(AF_INET6, text, addr), 1);
	return addr;
}

static inline void f_claim(const char *domain, uint16_t preference, const char *mx, const char *addr, bool secure)
{
	struct discovered_claim *c = &f.claims[f.d.count++];

	*c = (struct discovered_claim){.domain = domain, .mx = mx, .preference = preference, .mx_secure = secure};
	memcpy(c->addr, f_addr(addr), 16);
}

static inline void f_host(const char *mx, enum policy_tlsa state)
{
	f.hosts[f.d.host_count++] = (struct discovered_host){.mx = mx, .tlsa = state, .records = &f.records[f.record_count]};
}

/* To the host that was put down last. */
static inline void f_record(uint8_t usage, uint8_t selector, uint8_t matching, uint16_t len)
{
	assert_true(f.record_count < FOUND_MAX);
	f.records[f.record_count++] = (struct discovered_tlsa){usage, selector, matching, len, f_digest};
	f.hosts[f.d.host_count - 1].record_count++;
}

static inline void f_sts(const char *domain, enum policy_sts mode, enum policy_sts_error error, const char *const *mx, size_t count)
{
	f.sts[f.d.sts_count++] = (struct discovered_sts){domain, mode, error, mx, count};
}
#define F_MX(...) (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *)

static inline int f_begin(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
	f.d = (struct discovered){.claims = f.claims, .hosts = f.hosts, .sts = f.sts};
	return 0;
}

static inline int f_end(void **state)
{
	(void)state;
	policy_image_close(f.image);
	return 0;
}

/* Takes the set. */
static inline void f_compile(struct ruleset *set)
{
	size_t len;
	void *bytes = ruleset_compile_discovered(set, &f.d, 42, H_NOW, &len, h_error, sizeof(h_error));

	if (!bytes)
		fail_msg("does not compile: %s", h_error);
	ruleset_free(set);
	policy_image_close(f.image);
	f.image = policy_image_parse(bytes, len, h_error, sizeof(h_error));
	assert_non_null(f.image);
	free(bytes);
}

#define FOUND_TEST(name) cmocka_unit_test_setup_teardown(name, f_begin, f_end)

#endif
