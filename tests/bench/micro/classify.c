/*
 * classify.c - the classifier at both attach points: librte_bpf (as port/ runs it) and XDP (BPF_PROG_TEST_RUN).
 *
 * XDP's figures are nanoseconds as the kernel tells them. A frame that is forwarded leaves the program's context as it
 * was, and is repeated; an SMTP frame gets metadata, so each run is a call of its own, and what timing one run costs
 * is measured with a program that does nothing and taken off.
 *
 *   classify BPF_DIR
 */
#include <rte_config.h>
#include <rte_lcore.h>

#include "micro.h"

#include <linux/if_xdp.h>
#include <sys/socket.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "frames.h"
#include "port/private.h"

#define PACKETS 1000000u
#define KERNEL_REPEAT 1000000
#define KERNEL_SINGLE 20001
#define PREFIXES 1000u
#define LOOPBACK 1
#define BPF_EXIT_BYTES 2 /* instructions of the program that does nothing */

static size_t frame_of(uint8_t *frame, uint32_t flow, uint16_t server_port)
{
	return frame_make(frame, &(struct frame_spec){.flow = flow, .from = CLIENT, .flags = PACKET_ACK, .payload = frame_tls_record,
	                                              .payload_len = sizeof(frame_tls_record), .server_port = server_port});
}

/* ---- librte_bpf ---- */

static void in_process(struct program *program, struct rte_mbuf **mbufs, const char *name, uint16_t server_port, enum verdict_action wanted)
{
	struct micro cost = {.count = 0};
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		uint64_t spent = 0;
		for (uint32_t done = 0; done < PACKETS; done += FRAMES_BURST) {
			for (unsigned i = 0; i < FRAMES_BURST && done < FRAMES_BURST * 4; i++) { /* the frames stay as they are */
				rte_pktmbuf_reset(mbufs[i]);
				rte_pktmbuf_append(mbufs[i], (uint16_t)frame_of(rte_pktmbuf_mtod(mbufs[i], uint8_t *), done + i, server_port));
			}
			uint64_t from = __rdtsc();
			program_classify(program, 0, INSIDE, mbufs, FRAMES_BURST);
			spent += __rdtsc() - from;
			if (port_verdict(rte_pktmbuf_mtod(mbufs[0], uint8_t *))->action != wanted)
				micro_die("a wrong verdict");
		}
		micro_note(&cost, (double)spent / PACKETS);
	}
	micro_print(&cost, name, 0, "cycles/packet");
}

/* ---- XDP ---- */

static struct bpf_object *object;

static void put(const char *name, const void *key, const void *value)
{
	int fd = bpf_object__find_map_fd_by_name(object, name);
	if (fd < 0 || bpf_map_update_elem(fd, key, value, BPF_ANY))
		micro_die(name);
}

static int load_xdp(const char *dir)
{
	char path[512];
	struct bpf_map *each;
	snprintf(path, sizeof(path), "%s/%s", dir, PORT_XDP_OBJECT);
	object = bpf_object__open_file(path, NULL);
	if (!object)
		micro_die(path);
	bpf_object__for_each_map(each, object)
		bpf_map__set_pin_path(each, NULL); /* nothing of a running appliance is touched */
	if (bpf_object__load(object))
		micro_die("the kernel does not take the classifier");
	for (uint32_t p = 0; p < PORTS; p++) {
		struct classifier_config config = {.ifindex_self = p == INSIDE ? LOOPBACK : 0, .ifindex_peer = LOOPBACK, .hash_seed = 1};
		put("waxseal_config", &p, &config);
	}
	uint32_t zero = 0, descriptors = 64;
	struct classifier_pool all = {.count = 1};
	put("waxseal_pools", &zero, &all);
	for (uint32_t i = 0; i < PREFIXES; i++) {
		struct classifier_key4 key = {.prefix_len = 24};
		struct classifier_destination value = {i % 100 + 1, 0};
		uint32_t address = htonl(0xc6330000u + (i << 8));
		memcpy(key.addr, &address, 4);
		put("waxseal_dest4", &key, &value);
	}
	int fd = socket(AF_XDP, SOCK_RAW, 0);
	if (fd < 0 || setsockopt(fd, SOL_XDP, XDP_RX_RING, &descriptors, sizeof(descriptors)))
		micro_die("AF_XDP socket");
	put("xsks_map", &zero, &fd);
	return bpf_program__fd(bpf_object__find_program_by_name(object, "waxseal_classify"));
}

static uint32_t run_once(int program, const uint8_t *frame, size_t len, int repeat, uint32_t wanted)
{
	uint8_t out[512];
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = (uint32_t)len, .data_out = out, .data_size_out = sizeof(out), .repeat = repeat);
	if (bpf_prog_test_run_opts(program, &run) || run.retval != wanted)
		micro_die("BPF_PROG_TEST_RUN");
	return run.duration;
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

/* Median of single runs. */
static double single(int program, const uint8_t *frame, size_t len, uint32_t wanted)
{
	static uint32_t times[KERNEL_SINGLE];
	for (unsigned i = 0; i < KERNEL_SINGLE; i++)
		times[i] = run_once(program, frame, len, 1, wanted);
	qsort(times, KERNEL_SINGLE, sizeof(times[0]), ascending);
	return times[KERNEL_SINGLE / 2];
}

static void in_kernel(const char *dir)
{
	const struct bpf_insn nothing[BPF_EXIT_BYTES] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_PASS}, {.code = BPF_JMP | BPF_EXIT}};
	int program = load_xdp(dir), empty = bpf_prog_load(BPF_PROG_TYPE_XDP, "nothing", "GPL", nothing, BPF_EXIT_BYTES, NULL);
	struct micro forward = {.count = 0}, smtp = {.count = 0};
	uint8_t frame[256];
	if (empty < 0)
		micro_die("the program that does nothing");
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		size_t len = frame_of(frame, 1, 443);
		micro_note(&forward, run_once(program, frame, len, KERNEL_REPEAT, XDP_REDIRECT));
		len = frame_of(frame, 1, WAXSEAL_SMTP_PORT);
		micro_note(&smtp, single(program, frame, len, XDP_REDIRECT) - single(empty, frame, len, XDP_PASS));
	}
	micro_print(&forward, "classify_xdp_forward", 0, "ns/packet");
	micro_print(&smtp, "classify_xdp_smtp", 0, "ns/packet");
	bpf_object__close(object);
}

int main(int argc, char **argv)
{
	struct rte_mbuf *mbufs[FRAMES_BURST];
	struct port_prefix prefixes[PREFIXES];
	struct classifier_pool pool = {.count = 1};
	char error[PORT_ERROR_MAX] = "";

	if (argc < 2)
		micro_die("classify BPF_DIR");
	micro_eal(256);
	struct rte_mempool *frames = rte_pktmbuf_pool_create("frames", 255, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	struct program *program = program_new(argv[1], 1, 1, error, sizeof(error));
	for (uint32_t i = 0; i < PREFIXES; i++) {
		uint32_t address = htonl(0xc6330000u + (i << 8));
		prefixes[i] = (struct port_prefix){.len = 24, .destination = i % 100 + 1};
		memcpy(prefixes[i].addr, &address, 4);
	}
	if (!frames || !program || program_steer(program, prefixes, PREFIXES, &pool, 1, error, sizeof(error)) ||
	    rte_pktmbuf_alloc_bulk(frames, mbufs, FRAMES_BURST))
		micro_die(*error ? error : "no memory");
	in_process(program, mbufs, "classify_bpf_forward", 443, VERDICT_FORWARD);
	in_process(program, mbufs, "classify_bpf_smtp", WAXSEAL_SMTP_PORT, VERDICT_SMTP);
	program_free(program);
	if (geteuid() == 0)
		in_kernel(argv[1]);
	return 0;
}
