/*
 * tap.c - stands where frames leave the worker, and knows what may.
 *
 * A frame that entered carries a mark in mbuf->port, and keeps it when it is copied; one that the worker made has
 * none. So it is known of each frame, without looking into it, whether it is an endpoint's own.
 */
#include <string.h>

#include <rte_mbuf.h>

#include "inside.h"
#include "sim.h"

static struct session *session_of(uint16_t client_port)
{
	unsigned index = client_port - 40000u;
	return index < sim.sessions ? &sim.session[index] : NULL;
}

static void check_edge(struct session *session, enum side to, const struct segment *s, bool own)
{
	const struct stack *sender = &session->stack[side_other(to)];
	unsigned scale = s->flags & F_SYN ? 0 : sender->wscale_on ? sender->own_scale : 0;
	uint32_t edge = s->ack + ((uint32_t)s->window << scale);
	if (!(s->flags & F_ACK) || s->flags & F_RST)
		return;
	if (own && session->tap[to].edge_seen)
		require(session, (int32_t)(edge - session->tap[to].edge) >= 0,
		        "the right edge offered to the %s shrinks by %u", to == CLIENT ? "client" : "server",
		        session->tap[to].edge - edge);
	if (!session->tap[to].edge_seen || (int32_t)(edge - session->tap[to].edge) > 0)
		session->tap[to].edge = edge;
	session->tap[to].edge_seen = true;
}

static void check_tsval(struct session *session, enum side to, const struct segment *s, bool own)
{
	if (!s->has_ts || (s->flags & F_RST && !own))
		return;
	if (own && session->tap[to].tsval_seen)
		require(session, (int32_t)(s->tsval - session->tap[to].tsval) >= 0,
		        "TSval towards the %s goes back: %u after %u", to == CLIENT ? "client" : "server", s->tsval,
		        session->tap[to].tsval);
	if (!session->tap[to].tsval_seen || (int32_t)(s->tsval - session->tap[to].tsval) > 0)
		session->tap[to].tsval = s->tsval;
	session->tap[to].tsval_seen = true;
}

static bool has_envelope(const struct segment *s)
{
	return s->len > 10 && (memmem(s->payload, s->len, "MAIL FROM:", 10) || memmem(s->payload, s->len, "mail FROM:", 10));
}

/* Once the flow has lingered out, a peer that was silent for all that time may begin a flow joined in the middle; but
 * with no bytes, or with such as are TLS. */
static void forwarded(struct session *session, enum side to, const struct segment *s)
{
	bool harmless = !s->len || (s->payload[0] >= 20 && s->payload[0] <= 23);
	bool over = (session->taken || session->turned_away) && harmless &&
	            inside_flow(sim.worker, session->path.port[CLIENT]) != INSIDE_TAKEN;
	require(session, over || (!session->tap[to].own && !session->taken), "a packet of the %s is forwarded after adoption",
	        to == CLIENT ? "server" : "client");
}

static void one(enum port_side port, struct rte_mbuf *mbuf)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	size_t len = rte_pktmbuf_pkt_len(mbuf);
	bool own = mbuf->port == RTE_MBUF_PORT_INVALID, damaged = mbuf->port == 2, to_client, from_client;
	uint16_t client_port;
	struct segment s;

	require(NULL, mbuf->nb_segs == 1 && len == rte_pktmbuf_data_len(mbuf) && len < FRAME_MAX,
	        "a frame of %zu bytes in %u pieces", len, mbuf->nb_segs);
	if (frame_is_too_big(frame, len, &client_port, &to_client)) {
		struct session *session = session_of(client_port);
		require(session, session && !own && !session->taken, "an ICMP error passes that it should not");
		stack_frame(&session->stack[to_client ? CLIENT : SERVER], frame, len, false, false, true);
		return;
	}
	struct session *session = session_of(frame_client_port(frame, len, &from_client));
	require(NULL, session, "a frame of no session leaves");
	enum port_side client_side = session->inbound ? OUTSIDE : INSIDE;
	enum side to = port == client_side ? CLIENT : SERVER;
	require(session, from_client == (to == SERVER), "a frame leaves by the wrong port");
	const char *wrong = frame_parse(frame, len, &session->path, side_other(to), &s);
	if (wrong) {
		require(session, damaged && !session->taken, "waxseal sends a bad frame: %s", wrong);
		link_send(session, to, false, frame, len, ORIGIN_DAMAGED);
		return;
	}
	bool joinable = mbuf->l4_len, right = (size_t)mbuf->l2_len + mbuf->l3_len + mbuf->l4_len + s.len == len;
	require(session, joinable ? own && s.len && right : !own || !s.len, "the port is told of headers of %u bytes, of a %s segment with %u of payload",
	        (unsigned)(mbuf->l2_len + mbuf->l3_len + mbuf->l4_len), own ? "built" : "forwarded", s.len);
	trace_frame(session, own ? TRACE_BUILT : TRACE_FORWARDED, side_other(to), frame, len);
	/* An RST of a flow that is over may be built without having the other side's headers. */
	require(session, (own && s.flags & F_RST) || frame_looks_like(frame, &session->path, side_other(to)),
	        "TTL, DSCP or flow label is not the peer's");
	session->turned_away |= own && s.len && !session->taken;
	if (own)
		totals.built++;
	else
		forwarded(session, to, &s);
	check_edge(session, to, &s, own);
	check_tsval(session, to, &s, own);
	session->tap[to].own |= own && !(s.flags & F_RST);
	if (to == SERVER && has_envelope(&s))
		require(session, policy_clear_allowed(session), "an envelope leaves in clear, against the policy");
	link_send(session, to, false, frame, len, own ? ORIGIN_WAXSEAL : ORIGIN_PEER);
}

void tap_transmit(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count)
{
	(void)context;
	for (unsigned i = 0; i < count; i++) {
		one(port, mbufs[i]);
		rte_pktmbuf_free(mbufs[i]);
	}
}

void tap_flushed(void)
{
	for (unsigned i = 0; i < sim.sessions; i++) {
		struct session *session = &sim.session[i];
		if (!session->taken && session->started && inside_flow(sim.worker,
		        session->path.port[CLIENT]) == INSIDE_TAKEN) {
			session->taken = true;
			trace_note(session, "taken over");
		}
	}
}
