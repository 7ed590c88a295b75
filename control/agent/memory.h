/*
 * memory.h - the rules in force and the findings, as a JSON file beside the image: a restart forgets nothing.
 *
 * {"generation": n, "rules": {"example.org": {"level": "verify", ...}, ...}, "discovered": {...}, "sts": {...} ...}, replaced as a
 * whole whenever an image was written. The agent reads it: to know the last good form of a key that is bad now,
 * and that there were rules when Redis is found empty.
 */
#ifndef WAXSEAL_MEMORY_H
#define WAXSEAL_MEMORY_H

#include <jansson.h>

#include "../policy/rules.h"

/* NULL with `error` if there is none (error "") or it is damaged. A rule in it that no longer parses is left out.
 * `findings` gets the rest of the file, or NULL; the caller owns it. */
struct ruleset *memory_read(const char *path, uint64_t *generation, json_t **findings, char *error, size_t error_len);
/* Takes `findings`, which may be NULL: an object whose members stand beside the rules. */
int memory_write(const char *path, const struct ruleset *rules, uint64_t generation, json_t *findings, char *error,
		 size_t error_len);

#endif
