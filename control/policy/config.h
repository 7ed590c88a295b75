/*
 * config.h - the control programs' part of the configuration file (deploy/waxseal.conf shows every option).
 *
 * Enters: the INI file that waxseald, waxseal-agent and waxseal share. Leaves: one struct of checked
 * values, or one line that says file, line, option and what would be right. Options that only waxseald
 * reads are its own to judge and are passed over; in [redis], [agent], [dns] and [probe] an unknown one is an error.
 */
#ifndef WAXSEAL_CONTROL_CONFIG_H
#define WAXSEAL_CONTROL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTROL_CONFIG_DEFAULT "/etc/waxseal/waxseal.conf"
#define CONTROL_TEXT_MAX 256
#define CONTROL_PREFIX_MAX 64  /* of Redis keys */
#define CONTROL_LINE_MAX 198   /* inih's own limit on a line of the file */

struct control_config {
	/* Redis: the master that the Sentinels know by `redis_master` if it is not "", else `redis_unix` if it is not "",
	   else host and port. */
	char redis_master[CONTROL_PREFIX_MAX], redis_sentinels[CONTROL_TEXT_MAX];
	char redis_host[CONTROL_TEXT_MAX], redis_unix[CONTROL_TEXT_MAX];
	uint16_t redis_port;
	char redis_address[CONTROL_TEXT_MAX]; /* as written, for messages */
	char redis_user[CONTROL_TEXT_MAX], redis_password[CONTROL_TEXT_MAX];
	uint32_t redis_database, history_mb;
	char redis_prefix[CONTROL_PREFIX_MAX];
	char image[CONTROL_TEXT_MAX];       /* policy image */
	char events[CONTROL_TEXT_MAX];      /* where waxseald records sessions; "": nowhere */
	char file_prefix[CONTROL_TEXT_MAX]; /* of waxseald's DPDK runtime directory */
	char metrics_host[CONTROL_TEXT_MAX];
	uint16_t metrics_port;              /* 0: no /metrics */
	char state[CONTROL_TEXT_MAX];       /* agent.json */
	char rules[CONTROL_TEXT_MAX];       /* the agent's memory of the rules in force, and of the DNS */
	char id[CONTROL_PREFIX_MAX];        /* the appliance's name; "": that of the host */
	/* The agent's questions to the DNS. */
	bool dns_enabled;
	char dns_servers[CONTROL_TEXT_MAX];      /* addresses, or the path of a file such as /etc/resolv.conf */
	char dns_trust_anchor[CONTROL_TEXT_MAX]; /* "": answers are not validated */
	uint32_t dns_ttl_min_s, dns_keep_s, dns_timeout_s;
	/* The agent's probes of mail servers. */
	bool probe_enabled, probe_versions;
	uint16_t probe_port;
	char probe_source[CONTROL_TEXT_MAX]; /* address; "" any */
	uint32_t probe_interval_s, probe_timeout_s, probe_concurrent;
	bool dns_mta_sts;              /* with dns_enabled: MTA-STS policies, too */
	char ca_file[CONTROL_TEXT_MAX]; /* of [tls]: whom to trust */
};

/* The Sentinel of that number, from 0; false past the last. */
bool control_sentinel(const struct control_config *config, unsigned index, char host[CONTROL_TEXT_MAX], uint16_t *port);

/* The defaults, as in deploy/waxseal.conf. */
void control_config_default(struct control_config *config);
/* The defaults, then the file. 0, or -1 with `error`. */
int control_config_read(struct control_config *config, const char *path, char *error, size_t error_len);

#endif
