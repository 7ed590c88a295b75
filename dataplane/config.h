/*
 * config.h - waxseald's part of the configuration file (deploy/waxseal.conf shows every option).
 *
 * Enters: an INI file. Leaves: one struct, every value checked, or one line that says file, line,
 * option and what would be right. Options of the other programs are known by name and skipped.
 */
#ifndef WAXSEAL_CONFIG_H
#define WAXSEAL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "side.h"

#define CONFIG_TEXT_MAX 256
#define CONFIG_CPUS_MAX 17 /* one for I/O and WAXSEAL_WORKERS_MAX */

struct config {
	char port[PORTS][CONFIG_TEXT_MAX];
	bool fail_open;
	bool run_to_completion; /* [dataplane] layout */
	uint32_t workers, mbufs, memory_mb;
	unsigned cpus[CONFIG_CPUS_MAX], cpu_count;
	char file_prefix[CONFIG_TEXT_MAX], bpf_dir[CONFIG_TEXT_MAX], image[CONFIG_TEXT_MAX], ca_file[CONFIG_TEXT_MAX],
		events[CONFIG_TEXT_MAX];
	uint32_t failure_memory_s, flows, prefix_percent, embryonic_percent, answered_percent, held_segments, takeovers, handshakes, buffer_mb;
};

/* One worker does all alone; several receive for themselves, or have an lcore for I/O before them. */
static inline bool config_pipeline(const struct config *config) { return config->workers > 1 && !config->run_to_completion; }
static inline unsigned config_lcores(const struct config *config) { return config->workers + config_pipeline(config); }

/* 0, or -1 with `error`. */
int config_read(struct config *config, const char *path, char *error, size_t error_len);

#endif
