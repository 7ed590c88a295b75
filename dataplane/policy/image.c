/*
 * image.c - how an image comes into memory and leaves it.
 *
 * Enters: a file name, or bytes. Leaves: a policy image that has been checked whole (validate.c) and indexed (index.c), or NULL
 * and one line that says which file, section and index is wrong.
 * Invariant: the bytes are in an anonymous mapping of our own, read-only from before the check until
 * close. A mapping of the file itself would not do: a `cp` over it would change rules that have been
 * checked, and cutting it short would kill the dataplane with SIGBUS.
 * Refuses: files that are not regular, are empty, change size while they are read, or pass IMAGE_BYTES_MAX.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

uint64_t policy_image_checksum(const void *bytes, size_t len)
{
	static const uint64_t zero;
	const size_t field = offsetof(struct image_header, checksum);
	const uint8_t *b = bytes;
	XXH3_state_t *state = XXH3_createState();
	uint64_t sum = 0;

	if (!state)
		return 0;
	XXH3_64bits_reset(state);
	XXH3_64bits_update(state, b, field);
	XXH3_64bits_update(state, &zero, sizeof(zero));
	XXH3_64bits_update(state, b + field + sizeof(zero), len - field - sizeof(zero));
	sum = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return sum;
}

#define HUGE_PAGE ((size_t)2 << 20)

/* Whole huge pages, or the ends would be of small ones, and the seal would break up the last. */
static size_t mapped_bytes(size_t bytes)
{
	return bytes < HUGE_PAGE ? bytes : (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
}

void *policy_memory_new(size_t bytes)
{
	size_t mapped = mapped_bytes(bytes);
	void *map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	if (mapped >= HUGE_PAGE)
		madvise(map, mapped, MADV_HUGEPAGE); /* a kernel without them: as good, if slower */
	return map;
}

int policy_memory_seal(void *memory, size_t bytes)
{
	return mprotect(memory, mapped_bytes(bytes), PROT_READ) == 0 ? 0 : -errno;
}

void policy_memory_free(void *memory, size_t bytes)
{
	munmap(memory, mapped_bytes(bytes));
}

static uint8_t *map_new(size_t len, char *error, size_t error_len)
{
	void *map = policy_memory_new(len);

	if (!map) {
		snprintf(error, error_len, "no memory for %zu bytes: %s", len, strerror(errno));
		return NULL;
	}
	return map;
}

/* Takes the mapping, also on error. */
static struct policy_image *image_take(uint8_t *map, size_t len, char *error, size_t error_len)
{
	struct policy_image *image = aligned_alloc(_Alignof(struct policy_image), sizeof(*image));

	if (image)
		memset(image, 0, sizeof(*image));
	if (!image || policy_memory_seal(map, len) != 0) {
		snprintf(error, error_len, "no memory: %s", strerror(errno));
		goto fail;
	}
	image->base = map;
	image->len = len;
	if (image_validate(image, error, error_len) == 0 && policy_index_build(image, error, error_len) == 0)
		return image;
	policy_index_dispose(image);
fail:
	policy_memory_free(map, len);
	free(image);
	return NULL;
}

struct policy_image *policy_image_parse(const void *bytes, size_t len, char *error, size_t error_len)
{
	uint8_t *map;

	if (len < sizeof(struct image_header) || len > IMAGE_BYTES_MAX) {
		snprintf(error, error_len, "%zu bytes are no policy image: a header alone has %zu, the limit is %llu", len,
			 sizeof(struct image_header), IMAGE_BYTES_MAX);
		return NULL;
	}
	map = map_new(len, error, error_len);
	if (!map)
		return NULL;
	memcpy(map, bytes, len);
	return image_take(map, len, error, error_len);
}

/* Reads exactly `len` bytes and then the end of the file. */
static int read_whole(int fd, uint8_t *to, size_t len, char *error, size_t error_len)
{
	size_t have = 0;
	uint8_t extra;
	ssize_t n;

	while (have < len) {
		n = read(fd, to + have, len - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			snprintf(error, error_len, "cannot read: %s", strerror(errno));
			return -errno;
		}
		if (n == 0)
			break;
		have += (size_t)n;
	}
	if (have == len && read(fd, &extra, 1) == 0)
		return 0;
	snprintf(error, error_len, "changed while it was read; images are replaced by rename, never written in place");
	return -EAGAIN;
}

static struct policy_image *open_fd(int fd, char *error, size_t error_len)
{
	struct stat st;
	uint8_t *map;

	if (fstat(fd, &st) != 0) {
		snprintf(error, error_len, "cannot stat: %s", strerror(errno));
		return NULL;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(error, error_len, "is not a regular file");
		return NULL;
	}
	if (st.st_size < (off_t)sizeof(struct image_header) || (uint64_t)st.st_size > IMAGE_BYTES_MAX) {
		snprintf(error, error_len, "%lld bytes are no policy image: a header alone has %zu, the limit is %llu",
			 (long long)st.st_size, sizeof(struct image_header), IMAGE_BYTES_MAX);
		return NULL;
	}
	map = map_new((size_t)st.st_size, error, error_len);
	if (!map)
		return NULL;
	if (read_whole(fd, map, (size_t)st.st_size, error, error_len) != 0) {
		policy_memory_free(map, (size_t)st.st_size);
		return NULL;
	}
	return image_take(map, (size_t)st.st_size, error, error_len);
}

struct policy_image *policy_image_open(const char *path, char *error, size_t error_len)
{
	struct policy_image *image = NULL;
	char why[512] = "";
	/* O_NONBLOCK: a FIFO under that name is refused, not waited for. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		snprintf(why, sizeof(why), "cannot open: %s", strerror(errno));
	else
		image = open_fd(fd, why, sizeof(why));
	if (fd >= 0)
		close(fd);
	if (!image)
		snprintf(error, error_len, "%s: %s", path, why);
	return image;
}

/* ---- the image of a fresh appliance ---- */

/* offsets into default_strings */
enum { DEFAULT_STAR = 1, DEFAULT_INBOUND = 3 };
static const char default_strings[16] = "\0*\0inbound:*";

struct default_image {
	struct image_header header;
	struct image_rule rules[2];
	struct image_destination destinations[1];
	char strings[sizeof(default_strings)];
};

static struct image_rule default_rule(uint32_t name, enum policy_kind kind)
{
	return (struct image_rule){
		.name = name, .kind = (uint8_t)kind, .level = LEVEL_MAY, .mode = MODE_OBSERVE, .percent = 100, .otherwise = IMAGE_NONE};
}

struct policy_image *policy_image_default(void)
{
	struct default_image image;
	struct image_header *h = &image.header;
	char error[256];

	memset(&image, 0, sizeof(image));
	memcpy(h->magic, IMAGE_MAGIC, sizeof(h->magic));
	h->version = IMAGE_VERSION;
	h->header_bytes = sizeof(*h);
	h->total_bytes = sizeof(image);
	h->inbound_rule = 1;
	h->rules = (struct image_section){offsetof(struct default_image, rules), 2, sizeof(struct image_rule)};
	h->destinations = (struct image_section){offsetof(struct default_image, destinations), 1,
						 sizeof(struct image_destination)};
	h->strings = (struct image_section){offsetof(struct default_image, strings), sizeof(default_strings), 1};
	/* The empty ones stand at the end. */
	h->matches = (struct image_section){sizeof(image), 0, sizeof(uint32_t)};
	h->domains = (struct image_section){sizeof(image), 0, sizeof(struct image_domain)};
	h->prefix4 = (struct image_section){sizeof(image), 0, sizeof(struct image_prefix4)};
	h->prefix6 = (struct image_section){sizeof(image), 0, sizeof(struct image_prefix6)};
	h->fingerprints = (struct image_section){sizeof(image), 0, sizeof(struct image_fingerprint)};
	h->client4 = h->inbound4 = h->prefix4;
	h->client6 = h->inbound6 = h->prefix6;
	h->inbound_domains = h->domains;
	h->servers = (struct image_section){sizeof(image), 0, sizeof(struct image_server)};
	h->hosts = (struct image_section){sizeof(image), 0, sizeof(struct image_host)};
	h->tlsa = (struct image_section){sizeof(image), 0, sizeof(struct image_tlsa)};
	h->octets = (struct image_section){sizeof(image), 0, 1};
	h->sts = (struct image_section){sizeof(image), 0, sizeof(struct image_sts)};
	h->probed = (struct image_section){sizeof(image), 0, sizeof(struct image_probed)};
	h->probed_names = h->matches;
	h->seen = (struct image_section){sizeof(image), 0, sizeof(struct image_seen)};
	image.rules[0] = default_rule(DEFAULT_STAR, POLICY_DEFAULT);
	image.rules[1] = default_rule(DEFAULT_INBOUND, POLICY_INBOUND);
	image.destinations[0].name = DEFAULT_STAR;
	memcpy(image.strings, default_strings, sizeof(default_strings));
	h->checksum = policy_image_checksum(&image, sizeof(image));
	return policy_image_parse(&image, sizeof(image), error, sizeof(error));
}

void policy_image_close(struct policy_image *image)
{
	if (!image)
		return;
	policy_index_dispose(image);
	policy_memory_free((void *)(uintptr_t)image->base, image->len);
	free(image);
}

const struct image_header *policy_image_header(const struct policy_image *image)
{
	return image->header;
}
