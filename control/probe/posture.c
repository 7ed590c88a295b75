/*
 * posture.c - a posture as texts: for Redis, for the agent's memory, and for a person.
 *
 * Texts come back through Redis or a file that anybody may have written: a value that makes no sense is not known, and
 * names are judged as those of a certificate are.
 */
#include "probe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void probe_posture_dispose(struct probe_posture *posture)
{
	for (size_t i = 0; i < posture->name_count; i++)
		free(posture->names[i]);
	free(posture->names);
	*posture = (struct probe_posture){0};
}

bool probe_posture_equal(const struct probe_posture *a, const struct probe_posture *b)
{
	if (a->reached != b->reached || a->starttls != b->starttls || a->version != b->version || a->chain != b->chain || a->dane != b->dane ||
	    a->certificate != b->certificate || a->name_count != b->name_count ||
	    memcmp(a->certificate_sha256, b->certificate_sha256, sizeof(a->certificate_sha256)) != 0)
		return false;
	for (size_t i = 0; i < a->name_count; i++)
		if (strcmp(a->names[i], b->names[i]) != 0)
			return false;
	return true;
}

static const char *const versions[PROBE_VERSIONS] = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"};
static const char *const answers[PROBE_ANSWERS] = {[PROBE_UNTRIED] = "untried", [PROBE_TAKEN] = "taken", [PROBE_REFUSED] = "refused"};

static const char *const danes[] = {[DANE_UNSEEN] = "none", [DANE_MATCHED] = "matched", [DANE_NO_MATCH] = "no-match",
				    [DANE_NAME_MISMATCH] = "name-mismatch", [DANE_EXPIRED] = "expired", [DANE_INVALID] = "invalid"};

static void hex(char *out, const uint8_t sha256[32])
{
	for (int i = 0; i < 32; i++)
		sprintf(out + 2 * i, "%02x", sha256[i]);
}

static bool unhex(const char *text, uint8_t sha256[32])
{
	unsigned byte;

	if (strlen(text) != 64 || strspn(text, "0123456789abcdef") != 64)
		return false;
	for (int i = 0; i < 32; i++) {
		sscanf(text + 2 * i, "%2x", &byte);
		sha256[i] = (uint8_t)byte;
	}
	return true;
}

static void join_names(const struct probe_posture *posture, char out[PROBE_TEXT_MAX])
{
	size_t len = 0;

	out[0] = 0;
	for (size_t i = 0; i < posture->name_count && len + strlen(posture->names[i]) + 2 < PROBE_TEXT_MAX; i++)
		len += (size_t)sprintf(out + len, "%s%s", i ? " " : "", posture->names[i]);
}

/* "TLSv1=refused@1800000000 TLSv1.1=untried ..." */
static void join_versions(const struct probe_posture *posture, char out[PROBE_TEXT_MAX])
{
	size_t len = 0;

	for (unsigned i = 0; i < PROBE_VERSIONS; i++) {
		const struct probe_version *v = &posture->versions[i];
		len += (size_t)sprintf(out + len, "%s%s=%s", i ? " " : "", versions[i], answers[v->answer]);
		if (v->answer != PROBE_UNTRIED)
			len += (size_t)sprintf(out + len, "@%" PRIu64, v->at);
	}
}

size_t probe_fields(const struct probe_posture *posture, const char *mx, struct probe_field out[PROBE_FIELDS])
{
	static const char *const names[PROBE_FIELDS] = {"time", "mx", "starttls", "version", "cipher", "chain", "names", "cert", "key",
							"not_after", "dane", "error", "versions"};
	unsigned version = posture->version - PROBE_VERSION_FIRST;
	bool tls = posture->version != 0;

	for (size_t i = 0; i < PROBE_FIELDS; i++)
		out[i] = (struct probe_field){.name = names[i]};
	snprintf(out[0].value, PROBE_TEXT_MAX, "%" PRIu64, posture->at);
	snprintf(out[1].value, PROBE_TEXT_MAX, "%s", mx);
	snprintf(out[2].value, PROBE_TEXT_MAX, "%s", !posture->reached ? "" : posture->starttls ? "1" : "0");
	snprintf(out[3].value, PROBE_TEXT_MAX, "%s", tls && version < PROBE_VERSIONS ? versions[version] : "");
	snprintf(out[4].value, PROBE_TEXT_MAX, "%s", posture->cipher);
	snprintf(out[5].value, PROBE_TEXT_MAX, "%s", tls ? policy_chain_name(posture->chain) : "");
	join_names(posture, out[6].value);
	if (posture->certificate) {
		hex(out[7].value, posture->certificate_sha256);
		hex(out[8].value, posture->key_sha256);
		snprintf(out[9].value, PROBE_TEXT_MAX, "%" PRIu64, posture->not_after);
	}
	snprintf(out[10].value, PROBE_TEXT_MAX, "%s", tls ? danes[posture->dane] : "");
	snprintf(out[11].value, PROBE_TEXT_MAX, "%s", posture->error);
	if (tls)
		join_versions(posture, out[12].value);
	return PROBE_FIELDS;
}

static void read_names(struct probe_posture *posture, const char *text)
{
	char name[IMAGE_DOMAIN_MAX + 3];

	for (size_t len; *(text += strspn(text, " ")) && posture->name_count < PROBE_NAMES_MAX; text += len) {
		len = strcspn(text, " ");
		if (len >= sizeof(name))
			continue;
		memcpy(name, text, len);
		name[len] = 0;
		const char *host = !strncmp(name, "*.", 2) ? name + 2 : name;
		if (!*host || !policy_domain_valid(host))
			continue;
		if (!posture->names)
			posture->names = calloc(PROBE_NAMES_MAX, sizeof(*posture->names));
		if (posture->names && (posture->names[posture->name_count] = strdup(name)))
			posture->name_count++;
	}
}

static void read_versions(struct probe_posture *posture, const char *text)
{
	char name[16], answer[16];
	uint64_t at;

	for (; *(text += strspn(text, " ")); text += strcspn(text, " ")) {
		if (sscanf(text, "%15[^= ]=%15[^@ ]@%" SCNu64, name, answer, &at) != 3 || !at)
			continue;
		for (unsigned v = 0; v < PROBE_VERSIONS; v++)
			for (enum probe_answer a = PROBE_TAKEN; !strcmp(name, versions[v]) && a < PROBE_ANSWERS; a++)
				if (!strcmp(answer, answers[a]))
					posture->versions[v] = (struct probe_version){a, at};
	}
}

bool probe_read(struct probe_posture *posture, const char *(*field)(void *context, const char *name), void *context)
{
	const char *starttls = field(context, "starttls"), *version = field(context, "version"), *chain = field(context, "chain");
	const char *dane = field(context, "dane");

	*posture = (struct probe_posture){.at = strtoull(field(context, "time"), NULL, 10), .reached = *starttls != 0, .starttls = !strcmp(starttls, "1")};
	for (size_t v = 0; v < PROBE_VERSIONS; v++)
		if (!strcmp(version, versions[v]))
			posture->version = (uint16_t)(PROBE_VERSION_FIRST + v);
	if (posture->version)
		read_versions(posture, field(context, "versions"));
	for (enum policy_chain c = CHAIN_UNSEEN; c <= CHAIN_INVALID; c++)
		if (!strcmp(chain, policy_chain_name(c)))
			posture->chain = c;
	for (enum policy_dane d = DANE_UNSEEN; d <= DANE_INVALID; d++)
		if (!strcmp(dane, danes[d]))
			posture->dane = d;
	snprintf(posture->cipher, sizeof(posture->cipher), "%s", field(context, "cipher"));
	snprintf(posture->error, sizeof(posture->error), "%s", field(context, "error"));
	posture->not_after = strtoull(field(context, "not_after"), NULL, 10);
	posture->certificate = unhex(field(context, "cert"), posture->certificate_sha256) && unhex(field(context, "key"), posture->key_sha256);
	read_names(posture, field(context, "names"));
	return posture->at > 0 && (posture->version == 0 || (posture->chain != CHAIN_UNSEEN && posture->certificate));
}
