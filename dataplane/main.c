/*
 * main.c - waxseald: reads its configuration, starts the lcores, and keeps house.
 *
 * Enters: a configuration file, the policy image, signals. Leaves: an appliance that forwards, one JSON
 * line a session, telemetry. Launch goes in stages (configuration, EAL, ports, policy, workers); the
 * first that fails says why in one line and ends the program with 1. The main thread then watches the
 * image and writes events; it never touches a packet.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "config.h"
#include "fastpath.h"
#include "folder_watch.h"
#include "policy_swap.h"
#include "steer.h"

#define WAXSEAL_VERSION "0.1"
#define EAL_ARGS_MAX 32
#define HOUSEKEEPING_US 50000 /* between looks at the image and at events; a new image ends it early */

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
	(void)number;
	ended = 1;
}

struct appliance {
	struct config config;
	struct ports *ports;
	struct policy_swap *swap;
	struct fastpath *fastpath;
	FILE *events;
	time_t started;
};

/* ---- telemetry ---- */

static void status(void *context, struct stats_status *out)
{
	struct appliance *self = context;
	memset(out, 0, sizeof(*out));
	snprintf(out->version, sizeof(out->version), "%s", WAXSEAL_VERSION);
	snprintf(out->inside, sizeof(out->inside), "%.63s", self->config.port[INSIDE]);
	snprintf(out->outside, sizeof(out->outside), "%.63s", self->config.port[OUTSIDE]);
	snprintf(out->fail, sizeof(out->fail), "%s", self->config.fail_open ? "open" : "closed");
	snprintf(out->image, sizeof(out->image), "%s", self->config.image);
	out->uptime_s = (uint64_t)(time(NULL) - self->started);
	out->workers = self->config.workers;
	snprintf(out->layout, sizeof(out->layout), "%s", self->config.run_to_completion ? "run-to-completion" : "pipeline");
	policy_swap_status(self->swap, &out->generation, &out->compiled_at, &out->images_refused, out->image_error,
	                   sizeof(out->image_error));
}

static bool load(void *context, unsigned index, struct stats_worker *out)
{
	return fastpath_load(((struct appliance *)context)->fastpath, index, out);
}

static bool port(void *context, unsigned index, struct stats_port *out)
{
	struct port_info info;
	if (index >= PORTS)
		return false;
	port_info(((struct appliance *)context)->ports, index, &info);
	*out = (struct stats_port){
		.xdp = info.xdp, .link_up = info.link_up, .rx_packets = info.rx_packets, .tx_packets = info.tx_packets,
		.rx_missed = info.rx_missed, .tx_errors = info.tx_errors,
	};
	memcpy(out->name, info.name, sizeof(out->name));
	memcpy(out->driver, info.driver, sizeof(out->driver));
	return true;
}

static unsigned flows(void *context, uint64_t cursor, struct stats_flow *out, unsigned max, struct stats_flows_at *at)
{
	return fastpath_flows(((struct appliance *)context)->fastpath, cursor, out, max, at);
}

/* ---- launch ---- */

static int check_hugepages(const struct config *config, char *error, size_t error_len)
{
	char line[128];
	unsigned long free_pages = 0, page_kb = 2048;
	FILE *file = fopen("/proc/meminfo", "r");
	while (file && fgets(line, sizeof(line), file)) {
		sscanf(line, "HugePages_Free: %lu", &free_pages);
		sscanf(line, "Hugepagesize: %lu", &page_kb);
	}
	if (file)
		fclose(file);
	unsigned long wanted = ((unsigned long)config->memory_mb * 1024 + page_kb - 1) / page_kb;
	if (free_pages >= wanted)
		return 0;
	snprintf(error, error_len, "hugepages: %lu of %lu kB are free, memory_mb = %u needs %lu: sysctl -w vm.nr_hugepages=%lu",
	         free_pages, page_kb, config->memory_mb, wanted, wanted * 2);
	return -1;
}

static int start_eal(struct appliance *self, char *error, size_t error_len)
{
	static char lcores[512], memory[16], program[] = "waxseald";
	const struct config *config = &self->config;
	char *argv[EAL_ARGS_MAX] = {program, "--lcores", lcores, "-m", memory, "--file-prefix", (char *)config->file_prefix,
	                            "--huge-unlink", "--log-level=*:warning"};
	int argc = 9;
	size_t at = (size_t)snprintf(lcores, sizeof(lcores), "0@(0-%ld)", sysconf(_SC_NPROCESSORS_ONLN) - 1);
	for (unsigned i = 0; i < config_lcores(config); i++)
		at += (size_t)snprintf(lcores + at, sizeof(lcores) - at, ",%u@%u", i + 1, config->cpus[i]);
	snprintf(memory, sizeof(memory), "%u", config->memory_mb);

	struct port_config ports = steer_port_config(config);
	argc = port_eal_args(&ports, argv, argc, EAL_ARGS_MAX, error, error_len);
	if (argc < 0)
		return -1;
	if (rte_eal_init(argc, argv) < 0) {
		snprintf(error, error_len, "DPDK does not start: %s (file_prefix = %s in use? cpus wrong? its own words stand above)",
		         rte_strerror(rte_errno), config->file_prefix);
		return -1;
	}
	self->ports = port_open(&ports, error, error_len);
	return self->ports ? 0 : -1;
}

static int open_events(struct appliance *self, char *error, size_t error_len)
{
	const char *path = self->config.events;
	if (!*path)
		return 0;
	self->events = strcmp(path, "-") ? fopen(path, "ae") : stdout;
	if (!self->events) {
		snprintf(error, error_len, "[events] file = %s: %s", path, strerror(errno));
		return -1;
	}
	setvbuf(self->events, NULL, _IOLBF, 0);
	return 0;
}

static int launch(struct appliance *self, char *error, size_t error_len)
{
	static struct stats_source source;
	unsigned shared;

	if (access(self->config.ca_file, R_OK)) {
		snprintf(error, error_len, "[tls] ca_file = %s: %s; a PEM file of trusted roots is needed", self->config.ca_file, strerror(errno));
		return -1;
	}
	if (open_events(self, error, error_len) || check_hugepages(&self->config, error, error_len) ||
	    start_eal(self, error, error_len))
		return -1;
	self->swap = policy_swap_new(self->config.image, config_lcores(&self->config), error, error_len);
	if (!self->swap || steer(self->ports, policy_swap_image(self->swap), self->config.workers, &shared, error, error_len))
		return -1;
	self->fastpath = fastpath_new(&self->config, self->ports, self->swap, shared, error, error_len);
	if (!self->fastpath)
		return -1;
	source = (struct stats_source){.status = status, .worker = load, .port = port, .flows = flows, .context = self};
	source.workers = fastpath_stats(self->fastpath, &source.worker_stats);
	if (stats_telemetry_register(&source)) {
		snprintf(error, error_len, "telemetry: the commands cannot be registered");
		return -1;
	}
	fastpath_start(self->fastpath);
	return 0;
}

/* ---- housekeeping ---- */

static void write_events(struct appliance *self)
{
	static char line[8192];
	struct stats_event event;
	while (fastpath_event(self->fastpath, &event)) {
		size_t len = self->events ? stats_event_json(&event, line, sizeof(line)) : 0;
		if (len)
			fwrite(line, 1, len, self->events);
	}
}

static void steer_again(struct appliance *self)
{
	char error[PORT_ERROR_MAX];
	unsigned shared;
	if (steer(self->ports, policy_swap_image(self->swap), self->config.workers, &shared, error, sizeof(error)))
		fprintf(stderr, "waxseald: %s\n", error);
	else
		fastpath_share(self->fastpath, shared);
}

static time_t seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void keep_house(struct appliance *self)
{
	int watch = folder_watch_open(self->config.image);
	time_t watched = seconds();
	while (!ended) {
		folder_watch_wait(watch, HOUSEKEEPING_US);
		write_events(self);
		if (policy_swap_poll(self->swap)) {
			steer_again(self);
			policy_swap_tell(self->swap);
		}
		time_t now = seconds();
		if (now != watched)
			fastpath_watch(self->fastpath);
		watched = now;
	}
	if (watch >= 0)
		close(watch);
}

static int run(struct appliance *self)
{
	char error[1024] = "";
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	self->started = time(NULL);
	if (launch(self, error, sizeof(error))) {
		fprintf(stderr, "waxseald: %s\n", error);
		return 1;
	}
	fprintf(stderr, "waxseald: ready\n");
	keep_house(self);
	fastpath_stop(self->fastpath);
	write_events(self);
	if (self->events)
		fflush(self->events);
	port_close(self->ports, true); /* what is not SMTP goes on; `fail` holds for the rest */
	return 0;
}

static const char usage[] =
	"Usage: waxseald [--config FILE]            run in the foreground\n"
	"       waxseald --detach [--config FILE]   take an earlier run's classifier off the ports: nothing is bridged then\n"
	"       waxseald --check [--config FILE]    read the configuration and say what is wrong with it\n"
	"       waxseald --version | --help\n"
	"FILE is /etc/waxseal/waxseal.conf unless said otherwise.\n";

int main(int argc, char **argv)
{
	static struct appliance appliance;
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'}, {"detach", no_argument, NULL, 'd'}, {"check", no_argument, NULL, 'k'},
		{"version", no_argument, NULL, 'v'},      {"help", no_argument, NULL, 'h'},   {NULL, 0, NULL, 0},
	};
	const char *path = "/etc/waxseal/waxseal.conf";
	bool detach = false, check = false;
	char error[1024];
	int option;

	while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
		switch (option) {
		case 'c': path = optarg; break;
		case 'd': detach = true; break;
		case 'k': check = true; break;
		case 'v': puts("waxseald " WAXSEAL_VERSION); return 0;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 1;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "waxseald: %s: not an option\n%s", argv[optind], usage);
		return 1;
	}
	if (config_read(&appliance.config, path, error, sizeof(error))) {
		fprintf(stderr, "waxseald: %s\n", error);
		return 1;
	}
	if (check)
		return 0;
	if (detach) {
		struct port_config ports = steer_port_config(&appliance.config);
		if (port_detach(&ports, error, sizeof(error)) == 0)
			return 0;
		fprintf(stderr, "waxseald: %s\n", error);
		return 1;
	}
	return run(&appliance);
}
