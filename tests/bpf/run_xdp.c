/*
 * run_xdp.c - the XDP classifier, run over frames in the kernel by BPF_PROG_TEST_RUN. See runner.h.
 *
 * Its maps are its own: nothing is pinned, and no port is touched; frames seem to come in on the loopback
 * interface. The verdict is read from the metadata, which the program writes for a queue with a socket;
 * so there is one. VERDICT_FORWARD leaves no metadata: its line is made up from the redirect.
 *
 *   --fail open|closed  without a socket: the line is the program's return value alone
 *   --sealed CLIENT=SERVER=PORT=VLAN=VLAN  that flow has been handed over, its client inside; a last line tells of both
 *                       sides "packets bytes next ack edge", or is "gone"
 */
#include <errno.h>
#include <linux/if_xdp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "runner.h"

#define LOOPBACK 1 /* where BPF_PROG_TEST_RUN's frames seem to come from */

static struct bpf_object *object;

static int map(const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(object, name);
	if (fd < 0)
		runner_die(name);
	return fd;
}

static void put(const char *name, const void *key, const void *value)
{
	if (bpf_map_update_elem(map(name), key, value, BPF_ANY)) {
		perror(name);
		exit(2);
	}
}

static void load(const char *dir)
{
	char path[512];
	struct bpf_map *each;

	snprintf(path, sizeof(path), "%s/%s", dir, PORT_XDP_OBJECT);
	object = bpf_object__open_file(path, NULL);
	if (!object)
		runner_die(path);
	bpf_object__for_each_map(each, object)
		bpf_map__set_pin_path(each, NULL);
	if (bpf_object__load(object))
		runner_die("the kernel does not take the program");
}

static void fill(const struct runner *runner)
{
	for (uint32_t i = 0; i < runner->pool_count; i++)
		put("waxseal_pools", &i, &runner->pools[i]);
	for (size_t i = 0; i < runner->prefix_count; i++) {
		const struct port_prefix *prefix = &runner->prefixes[i];
		struct classifier_destination value = {prefix->destination, prefix->pool};
		struct classifier_key6 key = {.prefix_len = prefix->len}; /* an IPv4 key is its beginning */
		memcpy(key.addr, prefix->addr, sizeof(key.addr));
		put(prefix->ipv6 ? "waxseal_dest6" : "waxseal_dest4", &key, &value);
	}
}

/* Frames come from that side: the other one's entry names no interface. */
static void come_from(enum port_side side, uint32_t seed, uint32_t fail_open)
{
	for (uint32_t p = 0; p < PORTS; p++) {
		struct classifier_config config = {.ifindex_self = p == side ? LOOPBACK : 0, .ifindex_peer = LOOPBACK, .fail_open = fail_open, .hash_seed = seed};
		put("waxseal_config", &p, &config);
	}
}

static void address(const char *text, uint8_t out[16])
{
	memset(out, 0, 16);
	out[10] = out[11] = 0xff;
	if (inet_pton(AF_INET, text, out + 12) != 1 && inet_pton(AF_INET6, text, out) != 1)
		runner_die(text);
}

static struct classifier_flow hand_over(char *text)
{
	struct classifier_flow flow = {.server_port = WAXSEAL_SMTP_PORT};
	struct classifier_sealed sealed = {.from = {{.next = 1000, .ack = 5000, .wscale = 2}, {.next = 5000, .ack = 1000}}, .client_port_side = INSIDE};
	char *client = strtok(text, "="), *server = strtok(NULL, "=");
	uint16_t *numbers[] = {&flow.client_port, &flow.vlan[0], &flow.vlan[1]};

	address(client, flow.client);
	address(server, flow.server);
	for (int i = 0; i < 3; i++)
		*numbers[i] = (uint16_t)atoi(strtok(NULL, "="));
	put("waxseal_sealed", &flow, &sealed);
	return flow;
}

static void print_sealed(const struct classifier_flow *flow)
{
	struct classifier_sealed sealed;
	if (bpf_map_lookup_elem(map("waxseal_sealed"), flow, &sealed)) {
		puts("gone");
		return;
	}
	for (int s = 0; s < 2; s++)
		printf("%llu %llu %u %u %u %u%c", sealed.from[s].packets, sealed.from[s].bytes, sealed.from[s].next, sealed.from[s].ack,
		       sealed.from[s].edge, sealed.from[s].fin, s ? '\n' : ' ');
}

static void give_socket(void)
{
	uint32_t queue = 0, descriptors = 64;
	int fd = socket(AF_XDP, SOCK_RAW, 0);
	if (fd < 0 || setsockopt(fd, SOL_XDP, XDP_RX_RING, &descriptors, sizeof(descriptors)))
		runner_die("AF_XDP socket");
	put("xsks_map", &queue, &fd);
}

int main(int argc, char **argv)
{
	static struct runner runner;
	uint8_t frame[RUNNER_FRAME_MAX], out[RUNNER_FRAME_MAX + 256];
	enum port_side side;
	struct classifier_flow sealed;
	char *fail = NULL, *seal = NULL;
	int len;

	if (argc < 2)
		runner_die("run_xdp BPF_DIR [options] < frames");
	runner_options(&runner, argc, argv);
	for (int i = 2; i + 1 < argc; i++) {
		fail = !strcmp(argv[i], "--fail") ? argv[i + 1] : fail;
		seal = !strcmp(argv[i], "--sealed") ? argv[i + 1] : seal;
	}
	load(argv[1]);
	fill(&runner);
	if (seal)
		sealed = hand_over(seal);
	if (!fail)
		give_socket();
	int program = bpf_program__fd(bpf_object__find_program_by_name(object, "waxseal_classify"));
	while ((len = runner_next(frame, &side)) >= 0) {
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = (uint32_t)len, .data_out = out, .data_size_out = sizeof(out), .repeat = 1);
		come_from(side, runner.seed, fail && !strcmp(fail, "open"));
		if (bpf_prog_test_run_opts(program, &run)) {
			printf("error %d\n", errno);
			continue;
		}
		if (fail) {
			printf("%u\n", run.retval);
			continue;
		}
		bool meta = run.data_size_out == (uint32_t)len + WAXSEAL_VERDICT_BYTES;
		if (run.retval != XDP_REDIRECT || memcmp(out + (meta ? WAXSEAL_VERDICT_BYTES : 0), frame, (size_t)len))
			runner_die("the frame was not redirected as it came");
		struct verdict verdict = {.magic = WAXSEAL_VERDICT_MAGIC, .action = VERDICT_FORWARD};
		if (meta)
			memcpy(&verdict, out, sizeof(verdict));
		runner_print(&verdict);
	}
	if (seal)
		print_sealed(&sealed);
	bpf_object__close(object);
	return 0;
}
