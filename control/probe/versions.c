/*
 * versions.c - which versions of TLS a server takes: answers of handshakes, one beside the other.
 *
 * Enters: how a handshake ended. Leaves: taken, refused or untried, each with its time. A refusal is the server's own word,
 * an alert or its hanging up once it has our ClientHello; what may have been the network's doing, or our library's, is no answer.
 */
#include "private.h"

#include <errno.h>
#include <openssl/err.h>

static struct probe_version *place_of(struct probe_posture *posture, uint16_t version)
{
	unsigned at = (unsigned)version - PROBE_VERSION_FIRST;

	return at < PROBE_VERSIONS ? &posture->versions[at] : NULL;
}

/* It was offered all of them and chose this one: it has none above (RFC 8446, section 4.2.1; RFC 5246, appendix E.1). */
void versions_after_success(struct probe_posture *posture, uint16_t version, uint16_t only)
{
	struct probe_version *chosen = place_of(posture, version);

	if (!chosen)
		return;
	*chosen = (struct probe_version){PROBE_TAKEN, posture->at};
	for (struct probe_version *above = chosen + 1; !only && above < posture->versions + PROBE_VERSIONS; above++)
		*above = (struct probe_version){PROBE_REFUSED, posture->at};
}

static bool servers_word(int ssl_error, unsigned long error, int number)
{
	int reason = ERR_GET_REASON(error);

	if (ssl_error == SSL_ERROR_SYSCALL)
		return number == 0 || number == ECONNRESET || number == EPIPE;
	if (ssl_error != SSL_ERROR_SSL)
		return false;
	if (reason >= SSL_AD_REASON_OFFSET) /* an alert */
		return true;
	return reason == SSL_R_UNEXPECTED_EOF_WHILE_READING || reason == SSL_R_UNSUPPORTED_PROTOCOL || reason == SSL_R_WRONG_SSL_VERSION ||
	       reason == SSL_R_WRONG_VERSION_NUMBER;
}

void versions_after_failure(struct probe_posture *posture, uint16_t only, int ssl_error, unsigned long error, int number)
{
	struct probe_version *asked = place_of(posture, only);

	if (asked && servers_word(ssl_error, error, number))
		*asked = (struct probe_version){PROBE_REFUSED, posture->at};
}

bool probe_versions_take(struct probe_version to[PROBE_VERSIONS], const struct probe_version from[PROBE_VERSIONS])
{
	bool differs = false;

	for (unsigned i = 0; i < PROBE_VERSIONS; i++) {
		if (from[i].answer == PROBE_UNTRIED)
			continue;
		differs |= to[i].answer != from[i].answer || to[i].at != from[i].at;
		to[i] = from[i];
	}
	return differs;
}

uint16_t probe_version_due(const struct probe_posture *posture, uint64_t since_s)
{
	for (unsigned i = 0; posture->version && i < PROBE_VERSIONS; i++)
		if (posture->versions[i].answer == PROBE_UNTRIED || posture->versions[i].at < since_s)
			return (uint16_t)(PROBE_VERSION_FIRST + i);
	return 0;
}
