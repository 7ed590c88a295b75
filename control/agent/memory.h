/*
 * memory.h - the rules in force, as a JSON file beside the image, so that a restart forgets nothing.
 *
 * {"generation": n, "rules": {"example.org": {"level": "verify", ...}, ...}}, replaced as a whole whenever
 * an image was written. Only the agent reads it: to know the last good form of a key that is bad now,
 * and that there were rules when Redis is found empty.
 */
#ifndef WAXSEAL_MEMORY_H
#define WAXSEAL_MEMORY_H

#include "../policy/rules.h"

/* NULL with `error` if there is none (error "") or it is damaged. A rule in it that no longer parses is left out. */
struct ruleset *memory_read(const char *path, uint64_t *generation, char *error, size_t error_len);
int memory_write(const char *path, const struct ruleset *rules, uint64_t generation, char *error, size_t error_len);

#endif
