/*
 * https.h - one small text over HTTPS, as RFC 8461, section 3.3 wants it fetched: libcurl's multi interface in the loop.
 *
 * Enters: a host, its addresses, a path. Leaves: the text, or the result type and why. No redirects, no proxy, no
 * compression, no system resolver; 200 and text/plain alone, 64 KB, one minute; the certificate must be the host's and
 * lead to [tls] ca_file.
 */
#ifndef WAXSEAL_HTTPS_H
#define WAXSEAL_HTTPS_H

#include <stdbool.h>

#include "sts.h"

#define HTTPS_TIMEOUT_S 60
#define HTTPS_FETCHES_MAX STS_BUSY_MAX

struct ev_loop;
struct https;

typedef void https_done(void *context, uint64_t token, const struct sts_fetched *fetched);

/* NULL without memory. `ca_file` is copied. */
struct https *https_new(struct ev_loop *loop, const char *ca_file, https_done *done, void *context);
void https_free(struct https *https);
/* `addresses`: "192.0.2.1,2001:db8::1". Answered later, never from within. False: too many are under way. */
bool https_get(struct https *https, const char *host, const char *addresses, const char *path, uint64_t token);
void https_forget(struct https *https, uint64_t token);

#endif
