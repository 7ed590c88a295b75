/*
 * probes.h - looks at mail servers, on a schedule: which addresses, when, how many at once; and what they showed.
 *
 * Enters: servers of the domains that need it, the loop's time. Leaves: discovered.probes, rows for Redis, and a note
 * wherever STARTTLS was offered. A server that cannot be reached keeps the posture it had, until that is too old; other
 * TLSA records than at the last look ask for another at once. A look that found TLS is followed by one question more at
 * most: for one version that nobody has an answer about. They leave from the appliance's management network, which
 * may see a server differently from the mail. With [probe] enabled = no there is none of it.
 */
#ifndef WAXSEAL_PROBES_H
#define WAXSEAL_PROBES_H

#include <jansson.h>

#include "../policy/config.h"
#include "../probe/probe.h"
#include "../discover/discover.h"
#include "seen.h"
#include "watch.h"

#define PROBES_MAX 65536          /* addresses; further ones are not looked at, counted */
#define PROBES_CONCURRENT_MAX 256
#define PROBES_RENEW_S 21600u     /* a posture that is the same makes a new image so often, to carry its time */
#define PROBES_VERSION_RENEW_S 86400u /* an answer about one version is asked for again after so long */
#define PROBES_RETRY_S 300u       /* after one that did not reach the server, or the interval if that is shorter */

struct ev_loop;
struct probes;

struct probes_counts {
	uint64_t started, reached, failed, versions_asked;
	size_t addresses, running, known, left_out;
};

/* NULL if they are not enabled, or with `error`. */
struct probes *probes_new(struct ev_loop *loop, const struct control_config *config, struct seen *seen, void (*changed)(void *context),
			  void *context, char *error, size_t error_len);
void probes_free(struct probes *probes);
/* From now on these; `add` for each, in any order, between begin and end. */
void probes_begin(struct probes *probes);
void probes_add(void *probes, const struct discover_server *server);
void probes_end(struct probes *probes);
void probes_tick(struct probes *probes);
const struct discovered_probe *probes_found(struct probes *probes, size_t *count); /* good until the next call */
void probes_tell(struct probes *probes, struct watch *watch); /* what is new, to Redis */
void probes_tell_again(struct probes *probes);
json_t *probes_remember(const struct probes *probes); /* {"192.0.2.1": {"time", "version" ...}} */
void probes_recall(struct probes *probes, const json_t *memory, uint64_t now_s);
struct probes_counts probes_counts(const struct probes *probes);
const char *probes_warning(const struct probes *probes); /* "" */

#endif
