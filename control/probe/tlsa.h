/*
 * tlsa.h - one TLSA record as findings.h writes it.
 */
#ifndef WAXSEAL_PROBE_TLSA_H
#define WAXSEAL_PROBE_TLSA_H

#include <stddef.h>
#include <stdint.h>

#define TLSA_HEAD_BYTES 3                       /* usage, selector, matching type */
#define TLSA_RDATA_MAX (TLSA_HEAD_BYTES + 4096) /* a whole certificate fits */

/* "3-1-1-ab01" to rdata; its length, or 0. */
size_t tlsa_record_read(const char *text, uint8_t rdata[TLSA_RDATA_MAX]);

#endif
