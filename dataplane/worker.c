/*
 * worker.c - frames in, frames out, timers.
 *
 * Enters: a frame with its verdict. It is parsed, and goes to the flow table; whatever an event in its
 * bytes asked for is carried out afterwards (worker_act.c). Leaves: frames, collected into bursts.
 */
#include "worker_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>

#include "../bpf/verdict.h"

const struct worker_config worker_config_default = {
	.takeovers_max = 4096,
	.chunks_max = 65536,
	.handshakes_max = 512,
	.handshakes_waiting_max = 4096,
	.failure_memory_us = 3600000000ull,
	.stall_us = 100000,
	.unknown_grace_us = 300000000ull,
	.tls = {.ca_file = NULL, .sessions_max = 8192, .profiles_max = 256},
};

static int by_deadline(const struct session *a, const struct session *b)
{
	if (a->deadline_us != b->deadline_us)
		return a->deadline_us < b->deadline_us ? -1 : 1;
	return a < b ? -1 : a > b;
}


RB_GENERATE_INTERNAL(session_tree, session, node, by_deadline, __attribute__((unused)) static)

void session_set_deadline(struct worker *worker, struct session *session, uint64_t deadline_us)
{
	if (session->deadline_us == deadline_us)
		return;
	if (session->deadline_us != TCP_NEVER)
		RB_REMOVE(session_tree, &worker->timers, session);
	session->deadline_us = deadline_us;
	if (deadline_us != TCP_NEVER)
		RB_INSERT(session_tree, &worker->timers, session);
}

/* ---- frames out ---- */

static void flush(struct worker *worker, enum port_side port)
{
	if (!worker->tx_count[port])
		return;
	stats_add(worker->stats, STAT_tx_packets, worker->tx_count[port]);
	stats_add(worker->stats, STAT_tx_bytes, worker->tx_bytes[port]);
	worker->config.transmit(worker->config.context, port, worker->tx[port], worker->tx_count[port]);
	worker->tx_count[port] = 0;
	worker->tx_bytes[port] = 0;
}

void worker_tx(struct worker *worker, enum port_side port, struct rte_mbuf *mbuf)
{
	worker->tx_bytes[port] += rte_pktmbuf_pkt_len(mbuf);
	worker->tx[port][worker->tx_count[port]++] = mbuf;
	if (worker->tx_count[port] == WORKER_TX_MAX)
		flush(worker, port);
}

struct rte_mbuf *worker_frame(struct worker *worker, enum port_side port, const struct packet_template *tmpl, const struct packet_tcp *tcp,
                              uint16_t payload_len, uint8_t **payload)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(worker->config.pool[port]);
	size_t headers = packet_build_headers_len(tmpl, tcp);

	if (!mbuf || headers + payload_len > rte_pktmbuf_tailroom(mbuf)) {
		rte_pktmbuf_free(mbuf);
		stats_inc(worker->stats, STAT_drop_no_mbuf);
		return NULL;
	}
	*payload = rte_pktmbuf_mtod(mbuf, uint8_t *) + headers;
	return mbuf;
}

void worker_frame_tx(struct worker *worker, enum port_side port, struct rte_mbuf *mbuf, struct packet_template *tmpl,
                     const struct packet_tcp *tcp, uint16_t payload_len)
{
	size_t len = packet_build(tmpl, tcp, payload_len, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_tailroom(mbuf));

	mbuf->data_len = (uint16_t)len;
	mbuf->pkt_len = (uint32_t)len;
	if (payload_len) { /* the port may send it with its neighbours, port.h */
		mbuf->l2_len = tmpl->l3_off;
		mbuf->l3_len = (uint64_t)(tmpl->len - tmpl->l3_off) & 0x1ff;
		mbuf->l4_len = (uint64_t)(len - tmpl->len - payload_len) & 0xff;
	}
	stats_inc(worker->stats, STAT_built_packets);
	worker_tx(worker, port, mbuf);
}

/* ---- frames in ---- */

/* ICMP about a flow that was taken over concerns waxseal's endpoint; about any other it passes (RFC 5927). */
static void icmp(struct worker *worker, struct rte_mbuf *mbuf, enum port_side from, uint32_t hash)
{
	struct packet_icmp icmp;
	if (packet_icmp_parse(&icmp, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_data_len(mbuf))) {
		bool to_server = icmp.port_dst == WAXSEAL_SMTP_PORT;
		struct flow_key key = {.client_port = to_server ? icmp.port_src : icmp.port_dst,
		                       .server_port = to_server ? icmp.port_dst : icmp.port_src};
		memcpy(key.client, to_server ? icmp.addr_src : icmp.addr_dst, 16);
		memcpy(key.server, to_server ? icmp.addr_dst : icmp.addr_src, 16);
		memcpy(key.vlan, icmp.vlan, icmp.vlan_count * sizeof(key.vlan[0]));
		struct flow *flow = flow_find(worker->flows, &key, hash);
		struct session *session = flow ? flow_session(flow) : NULL;
		if (flow && flow->taken) {
			if (session && session->takeover && icmp.too_big)
				takeover_too_big(session->takeover, to_server ? SERVER : CLIENT, icmp.seq, icmp.mtu, worker->now_us);
			stats_inc(worker->stats, STAT_taken_packets);
			rte_pktmbuf_free(mbuf);
			return;
		}
	}
	worker_tx(worker, port_other(from), mbuf);
}

static bool refused(struct worker *worker, enum packet_verdict verdict)
{
	switch (verdict) {
	case PACKET_OK:
		return false;
	case PACKET_FRAGMENT:
		stats_inc(worker->stats, STAT_drop_fragment);
		return true;
	case PACKET_NOT_TCP:
	case PACKET_MALFORMED:
		break;
	}
	stats_inc(worker->stats, STAT_drop_malformed);
	return true;
}

static void one(struct worker *worker, struct rte_mbuf *mbuf, enum port_side from)
{
	const struct verdict *verdict = (const struct verdict *)(rte_pktmbuf_mtod(mbuf, uint8_t *) - WAXSEAL_VERDICT_BYTES);
	uint32_t hash = verdict->flow_hash;
	struct packet packet;

	if (verdict->action == VERDICT_ICMP) {
		icmp(worker, mbuf, from, hash);
		return;
	}
	if (refused(worker, packet_parse(&packet, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_data_len(mbuf)))) {
		rte_pktmbuf_free(mbuf);
		return;
	}
	flow_packet(worker->flows, mbuf, &packet, from, hash, worker->now_us);
	if (worker->due)
		session_act(worker, worker->due);
}

void worker_input(struct worker *worker, struct rte_mbuf **mbufs, unsigned count, enum port_side from, uint64_t now_us)
{
	struct flow_burst burst;
	uint64_t bytes = 0;

	worker->now_us = now_us;
	for (unsigned done = 0; done < count; done += FLOW_BURST_MAX) {
		unsigned n = count - done < FLOW_BURST_MAX ? count - done : FLOW_BURST_MAX;
		flow_burst_find(worker->flows, &burst, mbufs + done, n, from);
		for (unsigned i = 0; i < n; i++) {
			bytes += rte_pktmbuf_pkt_len(mbufs[done + i]);
			if (!flow_burst_pass(worker->flows, &burst, i, mbufs[done + i], now_us))
				one(worker, mbufs[done + i], from);
		}
	}
	stats_add(worker->stats, STAT_rx_packets, count);
	stats_add(worker->stats, STAT_rx_bytes, bytes);
}

/* ---- time ---- */

static void fire(struct worker *worker, struct session *session)
{
	session_set_deadline(worker, session, TCP_NEVER);
	if (session->takeover) {
		takeover_tick(session->takeover, worker->now_us);
		session_takeover_moved(worker, session);
	} else {
		session_stalled(worker, session);
	}
}

void worker_tick(struct worker *worker, uint64_t now_us)
{
	struct session *session;
	worker->now_us = now_us;
	flush(worker, INSIDE); /* what passes does not wait for what takes long */
	flush(worker, OUTSIDE);
	flow_offload_ready(worker->flows);
	worker_turns(worker);
	worker_admit_next(worker);
	while ((session = RB_MIN(session_tree, &worker->timers)) && session->deadline_us <= now_us)
		fire(worker, session);
	flow_sweep(worker->flows, now_us);
	flush(worker, INSIDE);
	flush(worker, OUTSIDE);
}

uint64_t worker_deadline_us(const struct worker *worker)
{
	const struct session *session = RB_MIN(session_tree, (struct session_tree *)&worker->timers);
	uint64_t sweep = worker->now_us + FLOW_SWEEP_US;
	if (!TAILQ_EMPTY(&worker->fed))
		return worker->now_us;
	return session && session->deadline_us < sweep ? session->deadline_us : sweep;
}

void worker_set_image(struct worker *worker, const struct policy_image *image)
{
	worker->image = image;
}

/* ---- life ---- */

struct worker *worker_new(const struct worker_config *config, uint64_t now_us, char *error, size_t error_len)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	char name[32];
	if (!worker)
		goto no_memory;
	worker->config = *config;
	worker->stats = config->stats;
	worker->started_us = worker->now_us = now_us;
	RB_INIT(&worker->timers);
	TAILQ_INIT(&worker->waiting);
	TAILQ_INIT(&worker->fed);

	struct flow_ops ops = worker_flow_ops;
	if (!config->offload)
		ops.offload = NULL;
	if (!config->hold)
		ops.hold = NULL;
	ops.context = worker;
	snprintf(name, sizeof(name), "flows%u", config->index);
	worker->flows = flow_table_new(name, &config->flows, &ops, worker->stats, (uint8_t)config->index, config->socket);
	worker->pool = tcp_pool_new(config->chunks_max);
	worker->memory = takeover_memory_new(TAKEOVER_MEMORY_MAX, config->failure_memory_us);
	if (!worker->flows || !worker->pool || !worker->memory)
		goto no_memory;
	worker->tls = tls_context_new(&config->tls, error, error_len);
	if (!worker->tls)
		goto out;
	worker_takeover_env(worker);
	return worker;
no_memory:
	snprintf(error, error_len, "worker %u: no memory for flows = %u, or less hugepage memory than memory_mb asks for",
	         config->index, config->flows.flows_max);
out:
	worker_free(worker, now_us);
	return NULL;
}

void worker_free(struct worker *worker, uint64_t now_us)
{
	if (!worker)
		return;
	worker->now_us = now_us;
	for (uint32_t i = 0; worker->flows && i < flow_places(worker->flows); i++) {
		struct flow *flow = flow_at(worker->flows, i);
		struct session *session = flow ? flow_session(flow) : NULL;
		if (session && session->takeover) {
			takeover_stop(session->takeover, now_us);
			session_takeover_moved(worker, session);
		}
	}
	flush(worker, INSIDE);
	flush(worker, OUTSIDE);
	flow_table_free(worker->flows);
	takeover_memory_free(worker->memory);
	tls_context_free(worker->tls);
	tcp_pool_free(worker->pool);
	free(worker);
}
