/*
 * frames.h - frames of sealed sessions: one for each flow number, IPv4, as the far end of a wire would send them.
 */
#ifndef WAXSEAL_BENCH_FRAMES_H
#define WAXSEAL_BENCH_FRAMES_H

#include <arpa/inet.h>
#include <rte_mbuf.h>

#include "../../../bpf/verdict.h"
#include "packet/packet.h"
#include "side.h"

#define FRAMES_BURST 32

/* What a frame is made of; payload is appended as it is. */
struct frame_spec {
	uint32_t flow;  /* which client: address and port */
	enum side from;
	uint8_t flags;
	uint32_t seq, ack;
	const void *payload;
	uint16_t payload_len;
	bool syn_options;
	uint16_t server_port; /* 0: 25 */
};

static const uint8_t frame_tls_record[64] = {23, 3, 3, 0, 59}; /* application data */

#define FRAME_CLIENT_PORT 20000
/* Each flow has a client of its own, all over the address space: no client prefix has more than its share. */
static inline uint32_t frame_client(uint32_t flow) { return htonl(flow * 2654435761u); }
static inline uint32_t frame_server(uint32_t flow) { return htonl(0xc6336400u + flow % 7); }

/* As good as the classifier's; another one than its clients' addresses come from. */
static inline uint32_t frame_hash(uint32_t flow)
{
	uint64_t x = (flow + 1) * 0xd6e8feb86659fd93ull;
	return (uint32_t)((x ^ x >> 32) * 0x9e3779b97f4a7c15ull >> 32);
}

static inline size_t frame_make(uint8_t *frame, const struct frame_spec *spec)
{
	static const uint8_t ethernet[14] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}, options[] = {2, 4, 5, 180, 4, 2, 3, 3, 7, 1, 1, 1};
	uint8_t *ip = frame + 14, *tcp = ip + 20;
	size_t opts = spec->syn_options ? sizeof(options) : 0;
	bool client = spec->from == CLIENT;
	uint32_t address[2] = {frame_client(spec->flow), frame_server(spec->flow)};
	uint16_t port[2] = {htons(FRAME_CLIENT_PORT), htons(spec->server_port ? spec->server_port : WAXSEAL_SMTP_PORT)};
	uint16_t total = htons((uint16_t)(40 + opts + spec->payload_len)), window = htons(8192);
	uint32_t seq = htonl(spec->seq), ack = htonl(spec->ack);

	memset(frame, 0, 54);
	memcpy(frame, ethernet, 14);
	ip[0] = 0x45;
	memcpy(ip + 2, &total, 2);
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, &address[client ? 0 : 1], 4);
	memcpy(ip + 16, &address[client ? 1 : 0], 4);
	memcpy(tcp, &port[client ? 0 : 1], 2);
	memcpy(tcp + 2, &port[client ? 1 : 0], 2);
	memcpy(tcp + 4, &seq, 4);
	memcpy(tcp + 8, &ack, 4);
	tcp[12] = (uint8_t)((20 + opts) / 4 << 4);
	tcp[13] = spec->flags;
	memcpy(tcp + 14, &window, 2);
	memcpy(tcp + 20, options, opts);
	memcpy(tcp + 20 + opts, spec->payload, spec->payload_len);
	return 54 + opts + spec->payload_len;
}

static inline void frame_verdict(uint8_t *frame, uint32_t flow, enum side from)
{
	struct verdict *verdict = (struct verdict *)(frame - WAXSEAL_VERDICT_BYTES);
	*verdict = (struct verdict){.magic = WAXSEAL_VERDICT_MAGIC, .flow_hash = frame_hash(flow), .action = VERDICT_SMTP,
	                            .flags = from == CLIENT ? VERDICT_TO_PORT_25 : VERDICT_FROM_PORT_25, .l3_off = 14, .l4_off = 34};
}

/* Into an mbuf, with right checksums and a verdict that any worker takes. */
static inline void frame_fill(struct rte_mbuf *mbuf, const struct frame_spec *spec)
{
	struct packet packet;
	rte_pktmbuf_reset(mbuf);
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	size_t len = frame_make(frame, spec);
	rte_pktmbuf_append(mbuf, (uint16_t)len);
	if (packet_parse(&packet, frame, len) != PACKET_OK)
		micro_die("a frame that cannot be parsed");
	packet_update_checksums(&packet);
	frame_verdict(frame, spec->flow, spec->from);
}

static inline void frame_fill_sealed(struct rte_mbuf *mbuf, uint32_t flow)
{
	frame_fill(mbuf, &(struct frame_spec){.flow = flow, .from = CLIENT, .flags = PACKET_ACK | PACKET_PSH, .seq = 1000, .ack = 2000,
	                                      .payload = frame_tls_record, .payload_len = sizeof(frame_tls_record)});
}

#endif
