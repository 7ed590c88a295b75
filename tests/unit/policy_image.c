/* policy/image.c: how an image comes into memory, and that what is in memory cannot be changed from outside. */
#include "policy_harness.h"
#include "policy/private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/waxseal-image-XXXXXX";
static char path[64], error[512];

static void write_file(const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	close(fd);
}

static void refuses(const char *what)
{
	assert_null(policy_image_open(path, error, sizeof(error)));
	if (!strstr(error, what) || strncmp(error, path, strlen(path)) != 0)
		fail_msg("\"%s\" should begin with the path and name \"%s\"", error, what);
	assert_null(strchr(error, '\n'));
}

static void a_file_is_read(void **state)
{
	struct policy_image *image;

	(void)state;
	made_begin();
	policy_image_close(made_good());
	write_file(&made, sizeof(made));
	image = policy_image_open(path, error, sizeof(error));
	assert_non_null(image);
	assert_int_equal(policy_image_header(image)->generation, 7);
	assert_string_equal(policy_string(image, policy_rule(image, 0)->name), "*");
	policy_image_close(image);
}

static void a_file_that_changes_later_changes_nothing(void **state)
{
	static const char zeros[sizeof(struct made)];
	struct policy_image *image;

	(void)state;
	made_begin();
	policy_image_close(made_good());
	write_file(&made, sizeof(made));
	image = policy_image_open(path, error, sizeof(error));
	assert_non_null(image);
	write_file(zeros, sizeof(zeros));
	assert_int_equal(policy_rule(image, 0)->level, LEVEL_MAY);
	assert_int_equal(truncate(path, 0), 0);
	assert_string_equal(policy_string(image, policy_rule(image, 1)->name), "inbound:*");
	policy_image_close(image);
}

static void what_is_no_image_is_refused(void **state)
{
	(void)state;
	unlink(path);
	refuses("cannot open: No such file");
	write_file("", 0);
	refuses("0 bytes are no policy image");
	write_file("WAXSEAL1", 8);
	refuses("8 bytes are no policy image");
	made_begin();
	policy_image_close(made_good());
	write_file(&made, sizeof(made) - 1);
	refuses("header: says");
	write_file(&made, sizeof(made));
	assert_int_equal(truncate(path, (off_t)IMAGE_BYTES_MAX + 1), 0); /* sparse */
	refuses("the limit is");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	refuses("not a regular file");
	rmdir(path);
	assert_int_equal(mkfifo(path, 0600), 0); /* must not be waited for */
	refuses("not a regular file");
	unlink(path);
	assert_int_equal(symlink(path, path), 0);
	refuses("cannot open");
	unlink(path);
}

static void any_flipped_byte_is_damage(void **state)
{
	uint8_t *bytes = (uint8_t *)&made;

	(void)state;
	made_begin();
	policy_image_close(made_good());
	for (size_t i = 0; i < sizeof(made); i += 7) {
		bytes[i] ^= 0x40;
		assert_null(policy_image_parse(&made, sizeof(made), error, sizeof(error)));
		assert_true(error[0] != '\0');
		bytes[i] ^= 0x40;
	}
	assert_null(policy_image_parse(&made, sizeof(made.header) - 1, error, sizeof(error)));
	policy_image_close(made_good());
}

static void the_checksum_does_not_cover_itself(void **state)
{
	uint64_t sum;

	(void)state;
	made_begin();
	sum = policy_image_checksum(&made, sizeof(made));
	made.header.checksum = 12345;
	assert_true(policy_image_checksum(&made, sizeof(made)) == sum);
	made.strings[sizeof(made.strings) - 1] = 1;
	assert_false(policy_image_checksum(&made, sizeof(made)) == sum);
}

static void a_fresh_appliance_observes(void **state)
{
	struct policy_image *image = policy_image_default();
	const struct image_header *h;

	(void)state;
	assert_non_null(image);
	h = policy_image_header(image);
	for (uint32_t i = 0; i < h->rules.count; i++) {
		assert_int_equal(policy_rule(image, i)->level, LEVEL_MAY);
		assert_int_equal(policy_rule(image, i)->mode, MODE_OBSERVE);
	}
	assert_string_equal(policy_string(image, policy_rule(image, h->default_rule)->name), "*");
	assert_string_equal(policy_string(image, policy_rule(image, h->inbound_rule)->name), "inbound:*");
	assert_int_equal(h->enforced_domain_rules, 0);
	assert_int_equal(policy_prefixes(image), 0);
	assert_null(policy_domain_rule(image, "example.org"));
	assert_int_equal(policy_destination_of(image, made_addr("192.0.2.1")), 0);
	policy_image_close(image);
	policy_image_close(NULL);
}

/* The kernel is asked to write there: it says no where the dataplane would die. */
static bool writable(void *at)
{
	int fd = open("/dev/zero", O_RDONLY);
	bool done = read(fd, at, 1) == 1;

	close(fd);
	return done;
}

static bool mapped(uint8_t *at)
{
	return msync((void *)((uintptr_t)at & ~(uintptr_t)4095), 4096, MS_ASYNC) == 0;
}

static void memory_is_sealed_and_given_back_whole(void **state)
{
	static const size_t sizes[] = {1, 4096, 70000, (2u << 20) - 1, 2u << 20, (2u << 20) + 1, 5u << 20};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t *memory = policy_memory_new(sizes[i]), *last = memory + sizes[i] - 1;

		assert_non_null(memory);
		assert_int_equal(*last, 0);
		assert_true(writable(memory) && writable(last));
		assert_int_equal(policy_memory_seal(memory, sizes[i]), 0);
		assert_false(writable(memory) || writable(last));
		assert_true(mapped(memory) && mapped(last));
		policy_memory_free(memory, sizes[i]);
		assert_false(mapped(memory) || mapped(last));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_read),
		cmocka_unit_test(a_file_that_changes_later_changes_nothing),
		cmocka_unit_test(what_is_no_image_is_refused),
		cmocka_unit_test(any_flipped_byte_is_damage),
		cmocka_unit_test(the_checksum_does_not_cover_itself),
		cmocka_unit_test(a_fresh_appliance_observes),
		cmocka_unit_test(memory_is_sealed_and_given_back_whole),
	};
	int failed;

	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/policy.image", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(folder);
	return failed;
}
