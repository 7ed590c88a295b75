/*
 * fingerprints.c - pinned keys and certificates.
 *
 * Enters: 64 hex digits of a SHA-256, with or without colons, "key:" in front for the public key's or "cert:"
 * (default) for the whole certificate's, and "@TIME" behind where the pin ends by itself. Leaves: one
 * spelling. Refuses: other digests: Postfix's default of MD5 and SHA-1 pins prove nothing any more.
 */
#include "private.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define SHA256_HEX 64

static int parse_hex(const char *text, size_t len, char out[SHA256_HEX + 1], struct why *why)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == ':')
			continue;
		if (!isxdigit((unsigned char)text[i]))
			return why_set(why, "not a fingerprint; 64 hex digits of a SHA-256, with or without colons");
		if (n < SHA256_HEX)
			out[n] = (char)tolower((unsigned char)text[i]);
		n++;
	}
	if (n != SHA256_HEX)
		return why_set(why, "%zu hex digits; a SHA-256 has 64", n);
	out[n] = '\0';
	return 0;
}

int fingerprint_parse(const char *text, char out[FINGERPRINT_TEXT_MAX], struct why *why)
{
	const char *what = "cert", *at;
	char hex[SHA256_HEX + 1], until[TIME_TEXT_MAX];
	uint64_t expires = 0;
	int err;

	if (strncasecmp(text, "key:", 4) == 0 || strncasecmp(text, "cert:", 5) == 0) {
		what = (text[0] | 0x20) == 'k' ? "key" : "cert";
		text = strchr(text, ':') + 1;
	}
	if (strncasecmp(text, "sha256:", 7) == 0)
		text += 7;
	at = strchr(text, '@');
	err = parse_hex(text, at ? (size_t)(at - text) : strlen(text), hex, why);
	if (!err && at)
		err = time_parse(at + 1, &expires, why);
	if (err)
		return err;
	if (expires)
		time_print(expires, until);
	snprintf(out, FINGERPRINT_TEXT_MAX, "%s:%s%s%s", what, hex, expires ? "@" : "", expires ? until : "");
	return 0;
}

struct image_fingerprint fingerprint_read(const char *canonical)
{
	struct image_fingerprint out = {.pin = strncmp(canonical, "key:", 4) == 0 ? PIN_KEY : PIN_CERTIFICATE};
	const char *hex = strchr(canonical, ':') + 1, *at = strchr(canonical, '@');
	struct why why;

	for (size_t i = 0; i < sizeof(out.sha256); i++)
		sscanf(hex + 2 * i, "%2hhx", &out.sha256[i]);
	if (at)
		time_parse(at + 1, &out.expires, &why);
	return out;
}
