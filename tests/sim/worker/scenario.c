/*
 * scenario.c - draws a session: addresses, two TCPs, two links, a client, a server, the mail.
 *
 * About half of the sessions are well-behaved: nothing goes wrong but in the network, so that what must come of
 * them is known. In the others a peer refuses, breaks off, stops reading or vanishes.
 */
#include <stdio.h>
#include <string.h>

#include "sim.h"

static uint32_t one_of(struct rng *rng, const uint32_t *values, unsigned count) { return values[below(rng, count)]; }
#define ONE_OF(rng, ...) one_of(rng, (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void draw_path(struct session *session, struct rng *rng)
{
	struct path *path = &session->path;
	enum side inside = session->inbound ? SERVER : CLIENT;
	path->family = chance(rng, 300) ? 6 : 4;
	path->port[CLIENT] = (uint16_t)(40000 + session->index);
	path->port[SERVER] = 25;
	path->vlan = chance(rng, 150) ? 1 + (int)below(rng, 4000) : 0;
	for (int s = 0; s < SIDES; s++) {
		if (path->family == 4)
			memcpy(path->addr[s], (int)inside == s ? "\x0a\x4d\x01\x01" : "\x0a\x4d\x02\x01", 4);
		else
			memcpy(path->addr[s],
			        (int)inside == s ? "\xfd\x77\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01" : "\xfd\x77\0\x02\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
		memcpy(path->mac[s], "\x02\0\0\0\0", 5);
		path->mac[s][5] = (uint8_t)(1 + s);
		path->ttl[s] = (uint8_t)(30 + below(rng, 200));
		path->dscp[s] = (uint8_t)below(rng, 64);
		path->id[s] = (uint16_t)draw(rng);
		path->label[s] = draw(rng) & 0xfffff;
	}
}

static void draw_links(struct session *session, struct rng *rng)
{
	unsigned badness = below(rng, 4); /* 0: perfect */
	for (int s = 0; s < SIDES; s++) {
		struct impairment *link = &session->link[s];
		link->delay_us = 50 + below(rng, chance(rng, 300) ? 100000 : 10000);
		link->jitter_us = badness ? below(rng, 3000) : 0;
		link->mtu = link->mtu_later = 1500;
		if (badness) {
			link->loss = chance(rng, 700) ? below(rng, badness == 3 ? 120 : 50) : 0;
			link->duplicate = chance(rng, 400) ? below(rng, 80) : 0;
			link->corrupt = chance(rng, 400) ? below(rng, 50) : 0;
			link->reorder = chance(rng, 500) ? below(rng, 250) : 0;
		}
		if (chance(rng, 200)) {
			uint16_t least = session->path.family == 4 ? 576 : 1280;
			link->mtu_later = (uint16_t)(least + below(rng, 1500u - least));
			link->mtu_at_us = chance(rng, 500) ? 0 : sim.now_us + below(rng, 3 * SECOND);
		}
	}
}

static void draw_stack(struct session *session, enum side side, struct rng *rng)
{
	struct stack *s = &session->stack[side];
	*s = (struct stack){
		.session = session, .side = side, .state = side == SERVER ? STACK_LISTEN : STACK_IDLE,
		.offers_mss = !chance(rng, 100), .offers_wscale = chance(rng, 700), .offers_sack = chance(rng, 700),
		        .offers_ts = chance(rng, 600),
		.nagle = chance(rng, 300), .delays_acks = chance(rng, 500), .own_scale = (uint8_t)below(rng, 10),
		.receive_buffer = ONE_OF(rng, 400, 3000, 16384, 65535, 65535, 200000),
		.segment_max = (uint16_t)ONE_OF(rng, 1, 3, 17, 100, 1460, 1460, 1460, 1460),
		        .segment_max_until = 100 + below(rng, 900),
		.iss = chance(rng, 300) ? 0u - below(rng, 3000) : draw(rng), .ts_offset = chance(rng,
		        200) ? 0u - below(rng, 9000) : draw(rng),
		.rto_us = 0, .rto_min_us = 250000, .rto_max_us = 3 * SECOND, .timer_us = NEVER, .ack_us = NEVER,
		        .linger_us = NEVER,
	};
	unsigned headers = session->path.family == 4 ? 40 : 60;
	s->mtu_mss = (uint16_t)(chance(rng, 700) ? 1500 - headers : 536 + below(rng, 900 - headers));
	if (!s->offers_mss)
		s->mtu_mss = 536;
	while (s->own_scale && s->receive_buffer >> s->own_scale < 8)
		s->own_scale--;
	s->flight_max = s->mtu_mss * (1 + below(rng, 20));
	for (int l = 0; l < SIDES; l++)
		s->rto_min_us += 2 * (session->link[l].delay_us + session->link[l].jitter_us);
	s->rto_us = s->rto_min_us;
	s->flight = s->flight_max;
}

static void draw_content(struct message *m, struct rng *rng)
{
	static const char *const odd[] = {".\r\n", "..\r\n", "\n.\n", "\r.\r", "\n.\r\n", ".\n", "\0\xff\x80",
	        "QUIT\r\n", "MAIL from:<x@y>\r\n"};
	size_t size = chance(rng, 80) ? below(rng, 120000) : chance(rng, 300) ? below(rng, 12000) : below(rng, 1500);
	buffer_add(&m->content, m->sender, strlen(m->sender));
	buffer_add(&m->content, "\r\n", 2);
	while (m->content.len < size) {
		uint8_t bytes[300];
		uint32_t len = below(rng, 300);
		for (uint32_t i = 0; i < len; i++)
			bytes[i] = (uint8_t)(chance(rng, 900) ? 32 + below(rng, 95) : draw(rng));
		buffer_add(&m->content, bytes, len);
		if (chance(rng, 300)) {
			const char *extra = odd[below(rng, 9)];
			buffer_add(&m->content, extra, extra[0] ? strlen(extra) : 3);
		}
		buffer_add(&m->content, "\r\n", 2);
	}
}

static void draw_mail(struct session *session, struct rng *rng)
{
	session->messages = chance(rng, 500) ? 1 : 1 + (int)below(rng, MESSAGES_MAX);
	for (int i = 0; i < session->messages; i++) {
		struct message *m = &session->message[i];
		snprintf(m->sender, sizeof(m->sender), "s%um%dx%u@client.sim.example", session->index, i, draw(rng));
		m->recipients = chance(rng, 600) ? 1 : 1 + (int)below(rng, RECIPIENTS_MAX);
		for (int r = 0; r < m->recipients; r++)
			snprintf(m->recipient[r], sizeof(m->recipient[r]), "r%d@%s.example", r, chance(rng,
			        300) ? "strict" : "open");
		draw_content(m, rng);
	}
}

static void draw_client(struct session *session, struct rng *rng)
{
	struct client *c = &session->client;
	bool good = session->well_behaved;
	c->channel.stack = &session->stack[CLIENT];
	c->says_helo = chance(rng, 120);
	c->starttls = !c->says_helo && chance(rng, 300);
	c->starttls_or_quit = !good && chance(rng, 300);
	c->pipelines = chance(rng, 600);
	c->chunks = chance(rng, 300);
	c->eager = chance(rng, 400);
	c->lower_case = chance(rng, 200);
	c->stalls = chance(rng, 250);
	c->chatters = chance(rng, 300);
	c->ending = good ? (enum ending)below(rng, 2) : (enum ending)below(rng, LEAVINGS);
	c->tls_max = chance(rng, 300) ? TLS1_2_VERSION : TLS1_3_VERSION;
	c->reads_max = chance(rng, 200) ? 1 + below(rng, 100) : 100000;
	c->lazy_us = chance(rng, 200) ? below(rng, 300000) : 1 + below(rng, 2000);
	c->pause_at_us = c->vanish_at_us = c->abort_at_us = c->wake_us = c->patience_us = NEVER;
	uint64_t middle = session->start_us + below(rng, chance(rng, 500) ? 500000 : 8 * SECOND);
	if (chance(rng, 150)) {
		c->pause_at_us = middle;
		c->pause_us = below(rng, (good ? 20 : 400) * SECOND);
	} else if (!good && chance(rng, 150)) {
		c->vanish_at_us = middle;
	} else if (!good && chance(rng, 100)) {
		c->abort_at_us = middle;
	}
}

static void draw_server(struct session *session, struct rng *rng)
{
	struct server *s = &session->server;
	bool good = session->well_behaved;
	s->channel.stack = &session->stack[SERVER];
	s->tls_way = chance(rng, 650) ? TLS_WAY_GOOD : (enum tls_way)below(rng, TLS_WAYS);
	s->certificate = chance(rng, 600) ? CERT_GOOD : (enum certificate)below(rng, CERTIFICATES);
	s->tls_min = TLS1_2_VERSION;
	s->tls_max = chance(rng, 300) ? TLS1_2_VERSION : TLS1_3_VERSION;
	s->pipelining = chance(rng, 750);
	s->chunking = chance(rng, 500);
	s->refuses_ehlo = chance(rng, 40);
	s->hides_in_tls = chance(rng, 60);
	s->many_lines = chance(rng, 400);
	s->greeting = !good && chance(rng, 60) ? (chance(rng, 500) ? 554 : 421) : 220;
	s->late = chance(rng, 300) ? below(rng, 500) : 0;
	s->reads_max = chance(rng, 200) ? 1 + below(rng, 200) : 100000;
	s->lazy_us = chance(rng, 200) ? below(rng, 200000) : 1 + below(rng, 2000);
	s->pause_at_us = s->vanish_at_us = s->abort_at_us = s->wake_us = s->patience_us = NEVER;
	uint64_t middle = session->start_us + below(rng, chance(rng, 500) ? 500000 : 8 * SECOND);
	if (chance(rng, 150)) {
		s->pause_at_us = middle;
		s->pause_us = below(rng, (good ? 20 : 400) * SECOND);
	}
	if (good)
		return;
	s->refuse = chance(rng, 400) ? below(rng, 400) : 0;
	s->close = chance(rng, 300) ? below(rng, 200) : 0;
	if (chance(rng, 120))
		s->vanish_at_us = middle;
	else if (chance(rng, 80))
		s->abort_at_us = middle;
}

void scenario_draw(struct session *session, unsigned index)
{
	struct rng *rng = &session->rng;
	memset(session, 0, sizeof(*session));
	session->index = index;
	rng_seed(rng, sim.seed, 10 + index);
	rng_seed(&session->link_rng, sim.seed, 20 + index);
	session->end = session->reason = -1;
	session->inbound = chance(rng, 120);
	session->well_behaved = chance(rng, 550);
	session->start_us = sim.now_us + (index ? below(rng, 20 * SECOND) : 0);
	draw_path(session, rng);
	draw_links(session, rng);
	draw_stack(session, CLIENT, rng);
	draw_stack(session, SERVER, rng);
	draw_client(session, rng);
	draw_server(session, rng);
	draw_mail(session, rng);
	for (int i = 0; i < session->messages; i++) { /* who reads a long mail by the spoonful outlasts the client's patience */
		uint32_t least = (uint32_t)session->message[i].content.len / 200;
		if (session->server.reads_max < least)
			session->server.reads_max = least;
	}
	session->server.wake_us = session->start_us;
	session->client.wake_us = session->start_us;
}
