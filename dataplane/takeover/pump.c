/*
 * pump.c - decide_next_io(): the one place that says what is read or written next in a session taken over.
 *
 * It runs after every event, for the packets of a burst once. Octets are taken from a peer only if what they can cause fits into the other one's
 * buffer, so that nothing is ever half-written and a slow peer slows the other down. It goes on until nothing
 * moves, then sends what is due.
 */
#include <stdio.h>

#include "private.h"

/* ---- room, and writing ---- */

static size_t client_room(const struct takeover *t)
{
	return t->over[CLIENT] || t->mode == CLIENT_OVER ? TAKEOVER_ROOM_MIN : tcp_write_room(t->end[CLIENT]);
}

static size_t server_room(struct takeover *t)
{
	size_t pending;

	if (t->over[SERVER] || t->upstream == UPSTREAM_GONE)
		return TAKEOVER_ROOM_MIN; /* answered here, or dropped */
	if (t->upstream != UPSTREAM_TLS)
		return tcp_write_room(t->end[SERVER]);
	tls_client_pending(t->tls, &pending);
	size_t room = pending ? 0 : tcp_write_room(t->end[SERVER]);
	/* Whole records, or their rest would be copied twice. Where nothing is on its way whose acknowledgment makes room,
	 * the pool is short: a record that waits outside of it lets go of the client's chunks. */
	if (!pending && (room >= TAKEOVER_RECORD_MAX || !tcp_unacked(t->end[SERVER])))
		return TAKEOVER_CHUNK_MAX;
	bool content = t->mode == CLIENT_DATA || t->mode == CLIENT_CHUNK;
	return !content && room >= TAKEOVER_ROOM_MIN + TAKEOVER_RECORD_MAX - TAKEOVER_CHUNK_MAX ? TAKEOVER_ROOM_MIN : 0;
}

bool write_client(struct takeover *t, const void *bytes, size_t len)
{
	if (t->over[CLIENT] || t->mode == CLIENT_OVER)
		return true;
	if (tcp_write_room(t->end[CLIENT]) < len)
		return false;
	tcp_write(t->end[CLIENT], bytes, len);
	return true;
}

bool write_server(struct takeover *t, const void *bytes, size_t len)
{
	bool in_tls = t->upstream == UPSTREAM_TLS || t->upstream == UPSTREAM_HELLO;

	if (t->over[SERVER] || t->upstream == UPSTREAM_GONE)
		return false;
	if (in_tls ? tls_client_write(t->tls, bytes, len) == len : tcp_write(t->end[SERVER], bytes, len) == len)
		return true;
	server_lost(t, in_tls && *tls_client_error(t->tls) ? tls_client_error(t->tls) : "no room towards the server");
	return false;
}

/* ---- ends ---- */

void close_within(struct takeover *t, uint64_t time_us)
{
	if (t->closing_us > t->now_us + time_us)
		t->closing_us = t->now_us + time_us;
}

void last_word(struct takeover *t, const char *reply)
{
	if (t->mode == CLIENT_OVER)
		return;
	write_client(t, reply, strlen(reply));
	t->mode = CLIENT_OVER;
	t->held = false;
	t->local_len = 0;
	if (!t->over[CLIENT])
		tcp_shutdown(t->end[CLIENT]);
	t->shut_server = true;
	close_within(t, TAKEOVER_CLOSING_US);
}

const char *server_text(const struct takeover *t)
{
	return t->params.server_name[0] ? t->params.server_name : "the server";
}

void server_gone(struct takeover *t, const char *why)
{
	set_detail(t, "%s", why);
	pipeline_dispose(&t->pipeline);
	t->reply_lines = 0;
	smtp_framer_reset(&t->server_line);
	enter_upstream(t, UPSTREAM_GONE);
}

void server_lost(struct takeover *t, const char *why)
{
	char reply[SMTP_DOMAIN_MAX + 64];

	if (t->upstream == UPSTREAM_GONE)
		return;
	if (upstream_in_transition(t) && t->upstream != UPSTREAM_PROBE) {
		upgrade_failed(t, why);
		return;
	}
	bool probing = t->upstream == UPSTREAM_PROBE;
	server_gone(t, why);
	if (probing)
		return; /* the command that waits is answered when it is looked at again */
	snprintf(reply, sizeof(reply), "421 4.4.2 Lost the connection to %.255s\r\n", server_text(t));
	last_word(t, reply);
}

void cut_out_of_step(struct takeover *t, const char *why)
{
	set_detail(t, "%s", why);
	t->outcome.end = END_CUT;
	t->refused = false;
	last_word(t, "421 4.3.0 The server is out of step with the session\r\n");
	t->abort_after[SERVER] = true;
}

static void server_eof(struct takeover *t)
{
	bool due = t->pipeline.count || t->held || t->mode == CLIENT_DATA || t->mode == CLIENT_CHUNK;

	t->eof[SERVER] = true;
	t->shut_server = true;
	if (upstream_in_transition(t) || (due && !t->quit && t->upstream != UPSTREAM_GONE))
		server_lost(t, "the server closed the connection");
	else if (t->upstream != UPSTREAM_GONE)
		last_word(t, "");
}

static void client_eof(struct takeover *t)
{
	t->eof[CLIENT] = true;
	if (t->upstream == UPSTREAM_GONE && !t->over[CLIENT])
		tcp_shutdown(t->end[CLIENT]);
}

/* ---- reading ---- */

static bool drop_all(struct tcp_endpoint *end)
{
	size_t len = tcp_readable(end);
	if (len)
		tcp_consume(end, len);
	return len > 0;
}

static bool read_tls(struct takeover *t)
{
	size_t len, fed = 0, taken = 0;
	const uint8_t *bytes = tcp_peek(t->end[SERVER], &len);

	if (len) {
		fed = tls_client_feed(t->tls, bytes, len);
		tcp_consume(t->end[SERVER], fed);
		upgrade_progress(t);
	}
	if (t->upstream != UPSTREAM_TLS && t->upstream != UPSTREAM_HELLO)
		return fed > 0;
	bytes = tls_client_peek(t->tls, &len);
	if (len) {
		taken = replies_input(t, bytes, len);
		tls_client_consume(t->tls, taken);
	} else if (tls_client_phase(t->tls) == TLS_CLOSED && !t->eof[SERVER]) {
		server_eof(t);
		return true;
	} else {
		upgrade_progress(t); /* a record that does not decrypt */
	}
	return fed || taken;
}

static bool read_server(struct takeover *t)
{
	size_t len, taken = 0;
	bool moved = false;

	if (t->over[SERVER])
		return false;
	if (t->upstream == UPSTREAM_GONE || t->mode == CLIENT_OVER) {
		moved = drop_all(t->end[SERVER]);
	} else if (client_room(t) < TAKEOVER_ROOM_MIN) {
		return false;
	} else if (t->upstream == UPSTREAM_HANDSHAKE || t->upstream == UPSTREAM_HELLO || t->upstream == UPSTREAM_TLS) {
		moved = read_tls(t);
	} else {
		const uint8_t *bytes = tcp_peek(t->end[SERVER], &len);
		if (len)
			taken = replies_input(t, bytes, len);
		if (taken)
			tcp_consume(t->end[SERVER], taken);
		moved = taken > 0;
	}
	if (!moved && !t->eof[SERVER] && tcp_eof(t->end[SERVER])) {
		server_eof(t);
		moved = true;
	}
	return moved;
}

/* As much at once as a TLS record takes: AES-GCM is twice as fast in records of 16 KB as in those of a chunk. */
static size_t read_content(struct takeover *t, const uint8_t *bytes, size_t len, size_t room)
{
	uint8_t record[TAKEOVER_CHUNK_MAX];

	if (t->upstream == UPSTREAM_TLS && len < sizeof(record) && tcp_readable(t->end[CLIENT]) > len) {
		bytes = record;
		len = tcp_copy(t->end[CLIENT], record, sizeof(record));
	}
	return content_input(t, bytes, len, room);
}

static bool read_client(struct takeover *t)
{
	size_t len, taken = 0, room;

	if (t->over[CLIENT])
		return false;
	if (t->mode == CLIENT_OVER) {
		taken = drop_all(t->end[CLIENT]);
	} else {
		const uint8_t *bytes = tcp_peek(t->end[CLIENT], &len);
		if (len && client_room(t) >= TAKEOVER_ROOM_MIN && (room = server_room(t)) >= TAKEOVER_ROOM_MIN) {
			if (t->mode == CLIENT_DATA || t->mode == CLIENT_CHUNK)
				taken = read_content(t, bytes, len, room);
			else if (t->mode != CLIENT_WAIT)
				taken = commands_input(t, bytes, len);
		}
		if (taken)
			tcp_consume(t->end[CLIENT], taken);
	}
	if (!taken && !t->eof[CLIENT] && !t->held && !t->local_len && !upstream_in_transition(t) && tcp_eof(t->end[CLIENT])) {
		client_eof(t);
		return true;
	}
	return taken > 0;
}

/* ---- writing ---- */

static bool send_tls(struct takeover *t)
{
	size_t len;

	if (!t->tls || t->over[SERVER])
		return false;
	const uint8_t *bytes = tls_client_pending(t->tls, &len);
	size_t sent = len ? tcp_write(t->end[SERVER], bytes, len) : 0;
	if (sent)
		tls_client_sent(t->tls, sent);
	return sent > 0;
}

/* FIN to the server, behind all that TLS has to say. */
static bool close_server(struct takeover *t)
{
	size_t pending = 0;

	/* The client's FIN waits for the replies that are due: many servers take TLS's close_notify for the end of all. */
	bool client_has_done = t->eof[CLIENT] && !t->pipeline.count;

	if (t->over[SERVER] || t->server_shut || !(t->shut_server || client_has_done || t->upstream == UPSTREAM_GONE))
		return false;
	if (t->tls && !t->tls_closed) {
		t->tls_closed = true;
		tls_client_close(t->tls);
		return true;
	}
	if (t->tls)
		tls_client_pending(t->tls, &pending);
	if (pending)
		return false;
	t->server_shut = true;
	tcp_shutdown(t->end[SERVER]);
	if (t->upstream == UPSTREAM_GONE)
		t->abort_after[SERVER] = true;
	return true;
}

static bool emit(void *context, struct tcp_endpoint *endpoint, const struct tcp_segment *segment)
{
	struct takeover *t = context;
	enum side to = endpoint == t->end[CLIENT] ? CLIENT : SERVER;
	return t->env->emit(t->env->context, t->params.session_context, to, endpoint, segment);
}

static void send_due(struct takeover *t)
{
	for (int s = 0; s < SIDES; s++) {
		struct tcp_info info;
		if (t->over[s])
			continue;
		bool late = t->now_us >= t->closing_us;
		if ((t->abort_after[s] && tcp_unacked(t->end[s]) == 0) || late)
			tcp_abort(t->end[s]);
		tcp_output(t->end[s], t->now_us, emit, t);
		tcp_info(t->end[s], &info);
		if (info.dead)
			t->over[s] = true;
	}
	if (t->over[CLIENT] != t->over[SERVER])
		close_within(t, TAKEOVER_CLOSING_US);
}

void decide_next_io(struct takeover *t)
{
	bool moved;

	t->fed = false;
	do {
		moved = read_server(t);
		moved |= local_flush(t);
		moved |= commands_retry(t);
		moved |= read_client(t);
		moved |= send_tls(t);
		moved |= close_server(t);
	} while (moved);
	send_due(t);
}
