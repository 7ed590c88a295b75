/*
 * findings.h - what agent and command agree upon about the agent's findings in Redis. All values are texts; times are
 * Unix seconds; "" is "not known". Every appliance writes and reads them; nobody trusts them further than the DNS.
 *
 * discovered:<domain>  mx "mx1.a.example mx2.a.example" ("." takes none); addresses "mx1.a.example=192.0.2.1,2001:db8::1 ..."
 *   ttl time error; secure: 1 if every answer was validated, mx_secure: 1 if the MX was
 *   tlsa "mx1.a.example=STATE@TIME[,U-S-M-HEX]... ...": STATE is unasked, none (validated), none-insecure (not signed), secure, or
 *   failed (the records known last follow)
 *   sts: of the last look, none | ok | the result type of RFC 8460, 4.3 that it failed with; sts_error: its why; sts_checked: when
 *   sts_id sts_mode (enforce testing none) sts_mx "mx.a.example *.b.example" sts_max_age sts_time (fetched): the policy in force
 * posture:<address>    time mx starttls (1, 0) version "TLSv1.3": the best it has; versions "TLSv1=refused@TIME TLSv1.1=untried
 *   TLSv1.2=taken@TIME ...": of each, whether the server takes it and since when that is known; cipher chain (trusted, untrusted,
 *   self-signed, expired ...) names "mx1.a.example *.a.example" cert key (SHA-256, hex) not_after dane (none, matched, no-match, name-mismatch,
 *   expired, invalid) error: why there is no more than that
 * seen:<address>       time: TLS was last had there by STARTTLS; how: probe or session; by: the appliance
 */
#ifndef WAXSEAL_CONTROL_FINDINGS_H
#define WAXSEAL_CONTROL_FINDINGS_H

#define FINDINGS_POSTURE_TTL_S 604800u /* a posture that nobody renews is forgotten */
#define FINDINGS_SEEN_TTL_S 7776000u   /* 90 days without TLS: its absence is no news any more */

#endif
