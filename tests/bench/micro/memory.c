/*
 * memory.c - bytes of each kind of flow, counted: what malloc has given out and what DPDK's heap has, before and after.
 *
 * A sealed flow and one in DIALOGUE in a whole worker; a TLS client before, after its handshake and while it writes.
 * What an upgraded session needs in all is measured in the lab (upgraded_memory): it needs two TCP endpoints.
 */
#include <rte_config.h>
#include <rte_lcore.h>

#include "micro.h"

#include "../../unit/tls_peer.h"
#include "flow/private.h"
#include "frames.h"
#include "micro_worker.h"

#define FLOWS 4096u
#define CLIENTS 200u

static struct rte_mbuf *last;
static uint64_t now = 1000000;

static void transmit(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count)
{
	(void)context, (void)port;
	if (count != 1)
		micro_die("one frame in, one out");
	last = mbufs[0];
}

static void send_frame(struct worker *worker, struct frame_spec spec)
{
	frame_fill(last, &spec);
	struct rte_mbuf *in = last;
	last = NULL;
	worker_input(worker, &in, 1, spec.from == CLIENT ? INSIDE : OUTSIDE, now);
	worker_tick(worker, now);
	if (!last)
		micro_die("a frame did not pass");
}

static void converse(struct worker *worker, uint32_t flow)
{
	static const char banner[] = "220 mx.example ESMTP\r\n", ehlo[] = "EHLO client.example\r\n";
	const uint32_t c = 1000, s = 5000, b = sizeof(banner) - 1, e = sizeof(ehlo) - 1;
	const struct frame_spec script[] = {
		{.from = CLIENT, .flags = PACKET_SYN, .seq = c, .syn_options = true},
		{.from = SERVER, .flags = PACKET_SYN | PACKET_ACK, .seq = s, .ack = c + 1, .syn_options = true},
		{.from = CLIENT, .flags = PACKET_ACK, .seq = c + 1, .ack = s + 1},
		{.from = SERVER, .flags = PACKET_ACK, .seq = s + 1, .ack = c + 1, .payload = banner, .payload_len = (uint16_t)b},
		{.from = CLIENT, .flags = PACKET_ACK, .seq = c + 1, .ack = s + 1 + b, .payload = ehlo, .payload_len = (uint16_t)e},
	};
	for (size_t i = 0; i < sizeof(script) / sizeof(script[0]); i++) {
		struct frame_spec spec = script[i];
		spec.flow = flow;
		send_frame(worker, spec);
	}
}

static void flows(struct rte_mempool *pool)
{
	struct worker *worker = micro_worker(FLOWS, pool, stats_new(), transmit, now);
	struct flow_limits limits = flow_limits_default;
	struct flow_ops none = {.closed = NULL}; /* nothing is put into it */
	struct stats *stats = stats_new();
	size_t before = micro_heap();

	limits.flows_max = FLOWS;
	struct flow_table *table = flow_table_new("count", &limits, &none, stats, 0, SOCKET_ID_ANY);
	if (!table)
		micro_die("no memory for the table");
	double hash = (double)(micro_heap() - before + flow_index_bytes(&table->index)) / FLOWS;
	flow_table_free(table);
	stats_free(stats);
	micro_print_one("bytes_flow_entry", 0, "B", (double)sizeof(struct flow));
	micro_print_one("bytes_flow_index", 0, "B", hash);

	before = micro_heap();
	for (uint32_t i = 0; i < FLOWS / 2; i++)
		send_frame(worker, (struct frame_spec){.flow = i, .from = CLIENT, .flags = PACKET_ACK, .seq = 1000, .ack = 2000, .payload = frame_tls_record,
		                                       .payload_len = sizeof(frame_tls_record)});
	double sealed = (double)(micro_heap() - before) / (FLOWS / 2);
	micro_print_one("bytes_sealed_flow", 0, "B", sealed + hash + (double)sizeof(struct flow));
	before = micro_heap();
	for (uint32_t i = FLOWS / 2; i < FLOWS; i++)
		converse(worker, i);
	micro_print_one("bytes_dialogue_flow", 0, "B", (double)(micro_heap() - before) / (FLOWS / 2) + hash + (double)sizeof(struct flow));
	worker_free(worker, now);
}

static void shake_hands(struct tls_client *client, struct peer *server)
{
	size_t len;
	for (unsigned turns = 0; turns < 4; turns++) {
		uint8_t bytes[16384];
		const uint8_t *out = tls_client_pending(client, &len);
		BIO_write(server->in, out, (int)len);
		tls_client_sent(client, len);
		SSL_do_handshake(server->ssl);
		int back = BIO_read(server->out, bytes, sizeof(bytes));
		if (back > 0)
			tls_client_feed(client, bytes, (size_t)back);
		if (tls_client_phase(client) == TLS_ESTABLISHED)
			tls_client_peek(client, &len);
	}
	if (tls_client_phase(client) != TLS_ESTABLISHED)
		micro_die(tls_client_error(client));
}

static void tls(void)
{
	static struct tls_client *clients[CLIENTS];
	char ca_file[32], error[256] = "";
	struct cert ca = cert_make("bench CA", "CA", NULL, -1, 30), cert = cert_make("mx.example", "DNS:mx.example", &ca, -1, 30);
	struct tls_client_params params = {.servername = "mx.example", .floor = TLS1_2_VERSION, .ciphers = "", .exclude = "", .server_key = (const uint8_t *)"k",
	                                   .server_key_len = 1};
	cert_write(&ca, ca_file);
	struct tls_context *context = tls_context_new(&(struct tls_context_config){.ca_file = ca_file, .sessions_max = 8, .profiles_max = 8}, error, sizeof(error));
	unlink(ca_file);
	struct peer server = peer_new(true, &cert, TLS1_2_VERSION, TLS1_3_VERSION);
	size_t before = 0;
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (i == 1)
			before = micro_heap(); /* the first one has made the profile */
		clients[i] = tls_client_new(context, &params, error, sizeof(error));
		if (!clients[i])
			micro_die(error);
		tls_client_start(clients[i]);
	}
	micro_print_one("bytes_tls_client_began", 0, "B", (double)(micro_heap() - before) / (CLIENTS - 1));
	for (unsigned i = 0; i < CLIENTS; i++) {
		peer_begin(&server, true);
		shake_hands(clients[i], &server);
	}
	SSL_free(server.ssl);
	server.ssl = NULL;
	micro_print_one("bytes_tls_client_idle", 0, "B", (double)(micro_heap() - before) / (CLIENTS - 1));
	for (unsigned i = 0; i < CLIENTS; i++)
		tls_client_free(clients[i]);
	peer_free(&server);
	tls_context_free(context);
}

int main(void)
{
	micro_eal(256);
	struct rte_mempool *pool = rte_pktmbuf_pool_create("frames", 1023, 0, 0, 2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
	if (!pool || !(last = rte_pktmbuf_alloc(pool)))
		micro_die("no memory for frames");
	flows(pool);
	tls();
	return 0;
}
