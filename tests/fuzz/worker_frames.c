/*
 * worker_frames.c - the whole worker as it runs in waxseald, between two peers that say anything.
 *
 * Input: a byte (bit 0 = the rule; bit 1 = too few takeovers), then operations; the low three bits of the first octet are
 * the kind (enum kind). The scene is that of tests/evasion, whose checks hold here too: right checksums, no octet of a
 * watched or taken-over stream in two forms before it is acknowledged, counters that add up, buffers that come back. The
 * server has a TLS of its own (OpenSSL), so that upgraded sessions are reached.
 *
 * Never seen: a MAIL in clear on its way to the server under `encrypt`, nor the RCPT of a domain that asks for TLS under
 * `may`; a packet of a taken-over session that is passed on; the state CLEAR under `encrypt`.
 */
#define SCENE_STREAM_MAX 32768
#define SCENE_FLOWS 16
#include <ctype.h>
#include "../evasion/scene.h"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <strings.h>
#include <sys/mman.h>

#include "must.h"

enum { OPERATIONS_MAX = 120 };
enum kind { KIND_PHRASE, KIND_PHRASE_2, KIND_TEXT, KIND_SEGMENT, KIND_TIME, KIND_ICMP, KIND_ACK, KIND_TLS };

static struct {
	SSL_CTX *ctx;
	SSL *ssl;
	size_t read; /* of what the server has heard */
	bool encrypt, sealed, mail; /* mail: there was one in clear, without which a RCPT is none */
	uint64_t id;
	uint32_t acked[SIDES];         /* what a side has acknowledged: repeated, it may be anything */
	size_t line_at;                /* where the line begins that the server reads */
	uint32_t random;
	char ca_file[32];
} w;

#define Z32 "ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ"
#define PHRASE(side, text) {side, text, sizeof(text) - 1}
static const struct { enum side side; const char *text; size_t len; } phrases[] = {
	PHRASE(SERVER, "220 mx.example ESMTP\r\n"),
	PHRASE(CLIENT, "EHLO client.example\r\n"),
	PHRASE(SERVER, "250-mx.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 STARTTLS\r\n"),
	PHRASE(CLIENT, "MAIL FROM:<mallory@client.example>\r\n"),
	PHRASE(SERVER, "220 go\r\n"),
	PHRASE(SERVER, "250 ok\r\n"),
	PHRASE(CLIENT, "RCPT TO:<a@hospital.example>\r\n"),
	PHRASE(CLIENT, "RCPT TO:<a@other.example>\r\n"),
	PHRASE(CLIENT, "DATA\r\n"),
	PHRASE(SERVER, "354 go\r\n"),
	PHRASE(CLIENT, "text\r\n..\r\n.\r\n"),
	PHRASE(CLIENT, "BDAT 5\r\nhelloBDAT 0 LAST\r\n"),
	PHRASE(CLIENT, "QUIT\r\n"),
	PHRASE(SERVER, "221 bye\r\n"),
	PHRASE(CLIENT, "STARTTLS\r\n"),
	PHRASE(SERVER, "454 no\r\n"),
	PHRASE(SERVER, "250-mx.example\r\n250 PIPELINING\r\n"),
	PHRASE(SERVER, "550 no\r\n"),
	PHRASE(SERVER, "421 busy\r\n"),
	PHRASE(CLIENT, "NOOP\r\n"),
	PHRASE(CLIENT, "RSET\r\n"),
	PHRASE(CLIENT, "HELO c\r\n"),
	PHRASE(CLIENT, "AUTH LOGIN\r\n"),
	PHRASE(CLIENT, "GET / HTTP/1.0\r\n\r\n"),
	PHRASE(CLIENT, "\x16\x03\x01\x00\x36\x01\x00\x00\x32\x03\x03" Z32 "\x00\x00\x02\x13\x01\x01\x00\x00\x07\x00\x2b\x00\x03\x02\x03\x04"),
	PHRASE(SERVER, "\x16\x03\x03\x00\x32\x02\x00\x00\x2e\x03\x03" Z32 "\x00\x13\x01\x00\x00\x06\x00\x2b\x00\x02\x03\x04"),
	PHRASE(SERVER, "\x17\x03\x03\x00\x10" "0123456789abcdef"),
	PHRASE(CLIENT, "\x17\x03\x03\x00\x10" "0123456789abcdef"),
	PHRASE(SERVER, "334 VXNlcm5hbWU6\r\n"),
	PHRASE(CLIENT, "M"),
	PHRASE(CLIENT, "\r\n"),
	PHRASE(SERVER, "250-"),
};

/* ---- what leaves ---- */

static bool line_is(const uint8_t *line, size_t len, const char *verb, const char *word, const char *anywhere)
{
	char text[256];
	size_t at = 0;
	while (len && isspace(*line)) { /* what servers skip before a verb */
		line++;
		len--;
	}
	len = len < sizeof(text) - 1 ? len : sizeof(text) - 1;
	memcpy(text, line, len);
	text[len] = 0;
	if (strncasecmp(text, verb, 4) != 0)
		return false;
	for (at = 4; text[at] == ' ' || text[at] == '\t'; at++)
		;
	return !strncasecmp(text + at, word, strlen(word)) && strcasestr(text, anywhere);
}

/* In clear and with the policy's leave, a line of a message, of a chunk or of AUTH may look like a command. */
static bool may_be_content(void)
{
	const char *client = (const char *)s.stream[CLIENT], *server = (const char *)s.stream[SERVER];
	return memmem(client, s.whole[CLIENT], "354", 3) || memmem(client, s.whole[CLIENT], "334", 3) || strcasestr(server, "BDAT");
}

static void check_lines(void)
{
	const uint8_t *heard = s.stream[SERVER];
	for (size_t at = w.line_at; at < s.whole[SERVER] && !w.sealed; at++) {
		const uint8_t *line = heard + w.line_at;
		size_t len = at + 1 - w.line_at;
		w.mail |= line_is(line, len, "MAIL", "FROM", "");
		MUST(!w.encrypt || !w.mail);
		MUST(!w.mail || !line_is(line, len, "RCPT", "TO", "@hospital.example") || may_be_content());
		if (heard[at] == '\n' || heard[at] == '\r')
			w.line_at = at + 1;
	}
}

static void judge(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count)
{
	const struct flow *flow = scene_flow();
	(void)context;
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
		if (frame[23] == 6) { /* else ICMP, which passes as it came */
			enum side to = port == INSIDE ? CLIENT : SERVER;
			uint32_t seq = get32(frame + 38) - (to == CLIENT ? ISN_SERVER : ISN_CLIENT);
			s.loose = !flow || flow->released || flow->joined || seq_before(seq, w.acked[to]);
			read_frame(port, frame, rte_pktmbuf_data_len(mbufs[i]));
		}
		rte_pktmbuf_free(mbufs[i]);
	}
	check_lines();
}

/* ---- what goes in ---- */

static uint64_t passed_on(void) { return stats_get(s.stats, STAT_tx_packets) - stats_get(s.stats, STAT_built_packets); }

static void forget_streams(void)
{
	for (int side = 0; side < SIDES; side++) {
		memset(s.have[side], 0, sizeof(s.have[side]));
		s.whole[side] = s.read[side] = 0;
		s.sent[side] = 1;
		w.acked[side] = 0;
	}
	w.line_at = w.read = 0;
	w.sealed = w.mail = false;
	SSL_free(w.ssl);
	w.ssl = NULL;
}

/* Another connection begins where the old one did: the streams are new ones. */
static void look(void)
{
	const struct flow *flow = scene_flow();
	if (flow && flow->id != w.id) {
		forget_streams();
		w.id = flow->id;
	}
	if (!flow)
		return;
	w.sealed |= flow->state == FLOW_SEALED || flow->joined;
	MUST(!w.encrypt || flow->state != FLOW_CLEAR);
}

static void put(struct seg g)
{
	const struct flow *flow = scene_flow();
	bool taken = flow && flow->taken && !(flow->state == FLOW_CLOSED && g.flags == SYN);
	uint64_t id = taken ? flow->id : 0, before = passed_on();
	if (g.flags & ACK && seq_after(g.ack, w.acked[g.from]))
		w.acked[g.from] = g.ack;
	s.loose = flow && flow->released; /* of what passes in the kernel */
	put_seg(g);
	flow = scene_flow();
	if (taken && flow && flow->id == id)
		MUST(passed_on() == before);
	look();
}

static void peer_says(enum side side, const void *bytes, size_t len)
{
	for (size_t at = 0; at < len;) {
		size_t piece = len - at > 1400 ? 1400 : len - at;
		uint32_t seq = s.sent[side];
		s.sent[side] += (uint32_t)piece;
		put((struct seg){.from = side, .flags = ACK | PACKET_PSH, .seq = seq, .ack = (uint32_t)s.whole[side] + 1,
		                 .bytes = (const uint8_t *)bytes + at, .len = piece});
		at += piece;
	}
}

/* ---- the server's TLS ---- */

static int fill(unsigned char *out, int len)
{
	for (int i = 0; i < len; i++)
		out[i] = (unsigned char)((w.random = w.random * 1103515245u + 12345u) >> 16);
	return 1;
}
static int always(void) { return 1; }

static void make_server(void)
{
	static RAND_METHOD method = {.bytes = fill, .pseudorand = fill, .status = always};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	RAND_set_rand_method(&method); /* a run is to be repeatable */
#pragma GCC diagnostic pop
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"mx.example", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_set_pubkey(cert, key);
	MUST(X509_sign(cert, key, EVP_sha256()) > 0);
	w.ctx = SSL_CTX_new(TLS_server_method());
	MUST(w.ctx && SSL_CTX_use_certificate(w.ctx, cert) == 1 && SSL_CTX_use_PrivateKey(w.ctx, key) == 1);
	int fd = memfd_create("ca", 0); /* the system's own store takes 100 ms to read */
	BIO *file = BIO_new_fd(fd, BIO_NOCLOSE);
	MUST(fd >= 0 && PEM_write_bio_X509(file, cert) == 1);
	snprintf(w.ca_file, sizeof(w.ca_file), "/proc/self/fd/%d", fd);
	BIO_free(file);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static bool server_begins(void)
{
	const char *heard = (const char *)s.stream[SERVER], *at = memmem(heard, s.whole[SERVER], "STARTTLS\r\n", 10);
	if (!at)
		return false;
	w.read = (size_t)(at - heard) + 10;
	w.ssl = SSL_new(w.ctx);
	MUST(w.ssl);
	SSL_set_accept_state(w.ssl);
	SSL_set_bio(w.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	return true;
}

static void server_turn(const char *text, size_t len)
{
	uint8_t bytes[16384];
	if (!w.ssl && !server_begins())
		return;
	for (unsigned round = 0; round < 6; round++) {
		if (s.whole[SERVER] > w.read)
			BIO_write(SSL_get_rbio(w.ssl), s.stream[SERVER] + w.read, (int)(s.whole[SERVER] - w.read));
		w.read = s.whole[SERVER];
		while (SSL_read(w.ssl, bytes, sizeof(bytes)) > 0)
			;
		if (round == 0 && len && SSL_is_init_finished(w.ssl))
			SSL_write(w.ssl, text, (int)len);
		int n = BIO_read(SSL_get_wbio(w.ssl), bytes, sizeof(bytes));
		if (n <= 0 || !w.ssl)
			return;
		peer_says(SERVER, bytes, (size_t)n);
		if (!w.ssl) /* another connection has begun */
			return;
	}
}

/* ---- operations ---- */

static uint32_t near(uint32_t number, uint8_t offset)
{
	int8_t by = (int8_t)offset;
	return by > 110 ? number + (1u << (by - 100)) : number + (uint32_t)(int32_t)by;
}

static void phrase(const uint8_t *b)
{
	unsigned at = b[1] % (sizeof(phrases) / sizeof(phrases[0]));
	enum side side = b[0] & 0x80 ? side_other(phrases[at].side) : phrases[at].side;
	if (side == SERVER && w.ssl && SSL_is_init_finished(w.ssl)) {
		server_turn(phrases[at].text, phrases[at].len);
		return;
	}
	peer_says(side, phrases[at].text, phrases[at].len);
}

static size_t segment(const uint8_t *b, size_t left)
{
	static const uint8_t fast_open[12] = {34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1};
	struct seg g = {.from = b[0] & 8 ? SERVER : CLIENT, .flags = b[1] & 0x3f, .no_flags = !(b[1] & 0x3f), .bytes = b + 6,
	                .bad_tcp_sum = (b[0] & 0xf0) == 0x10, .by_other_port = (b[0] & 0xf0) == 0x20, .zero_window = (b[0] & 0xf0) == 0x30,
	                .window = b[5], .len = b[4] & 63};
	if (g.len > left)
		g.len = left;
	g.seq = near(s.sent[g.from], b[2]);
	g.ack = near((uint32_t)s.whole[g.from] + 1, b[3]);
	if (g.flags & SYN) {
		g.seq = b[2] & 0x80 ? g.seq : 0;
		g.options = b[1] & 0x80 ? fast_open : syn_options;
		g.options_len = 12;
	}
	put(g);
	return g.len;
}

static void icmp(const uint8_t *b)
{
	uint8_t frame[70] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, [17] = 56, [22] = 64, [23] = 1}, *icmp_at = frame + 34, *quote = icmp_at + 8;
	bool to_server = b[0] & 8;
	put32(frame + 26, 0x0a4d0301u);
	put32(frame + 30, to_server ? SCENE_CLIENT : SCENE_SERVER);
	icmp_at[0] = b[0] & 0x80 ? 11 : 3;
	icmp_at[1] = b[0] & 0x40 ? 1 : 4;
	put16(icmp_at + 6, (uint32_t)b[1] * 8);
	memcpy(quote, (uint8_t[]){0x45, 0, 0x05, 0xdc, 0, 0, 0x40, 0, 60, 6}, 10);
	put32(quote + 12, to_server ? SCENE_CLIENT : SCENE_SERVER);
	put32(quote + 16, to_server ? SCENE_SERVER : SCENE_CLIENT);
	put16(quote + 20, to_server ? SCENE_PORT : 25);
	put16(quote + 22, to_server ? 25 : SCENE_PORT);
	put32(quote + 24, near(to_server ? ISN_CLIENT + (uint32_t)s.whole[SERVER] : ISN_SERVER + (uint32_t)s.whole[CLIENT], b[2]));
	put16(icmp_at + 2, sum_fold(sum16(0, icmp_at, 36)));
	put_frame(frame, sizeof(frame), to_server ? OUTSIDE : INSIDE, VERDICT_ICMP);
	look();
}

static void pass_time(const uint8_t *b)
{
	if (b[0] & 0x80) /* nobody looked at the worker for long */
		s.now += (uint64_t)b[1] * 10000000;
	passes_us((uint64_t)b[1] * 8000);
	look();
}

/* ---- runs ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	setenv("CMOCKA_TEST_ABORT", "1", 1); /* a check of the scene's is a finding */
	make_server();
	return scene_eal(NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t lengths[] = {2, 2, 2, 6, 2, 3, 1, 1};
	unsigned operations = 0;

	if (!size)
		return 0;
	w.random = 1;
	w.encrypt = !(data[0] & 1);
	w.id = 0;
	scene_clear();
	struct worker_config config = scene_config();
	config.transmit = judge;
	config.chunks_max = 256;
	config.tls.ca_file = w.ca_file;
	if (data[0] & 2)
		config.takeovers_max = 0;
	scene_open_with(&config);
	if (w.encrypt)
		POLICY("* level=encrypt");
	else
		POLICY("* level=may overload=reset", "hospital.example level=encrypt"); /* without room: 421 */
	forget_streams();
	for (size_t at = 1; at < size && operations++ < OPERATIONS_MAX;) {
		uint8_t b[6 + 255] = {0};
		enum kind kind = data[at] & 7;
		size_t left = size - at;
		memcpy(b, data + at, left < sizeof(b) ? left : sizeof(b));
		at += lengths[kind];
		left = at < size ? size - at : 0;
		switch (kind) {
		case KIND_PHRASE:
		case KIND_PHRASE_2:
			phrase(b);
			break;
		case KIND_TEXT:
			left = left < b[1] ? left : b[1];
			peer_says(b[0] & 8 ? SERVER : CLIENT, b + 2, left);
			at += left;
			break;
		case KIND_SEGMENT:
			at += segment(b, left);
			break;
		case KIND_TIME:
			pass_time(b);
			break;
		case KIND_ICMP:
			icmp(b);
			break;
		case KIND_ACK:
			put((struct seg){.from = b[0] & 8 ? SERVER : CLIENT, .flags = ACK, .seq = s.sent[b[0] >> 3 & 1], .ack = (uint32_t)s.whole[b[0] >> 3 & 1] + 1});
			break;
		case KIND_TLS:
			server_turn("", 0);
			break;
		}
	}
	SSL_free(w.ssl);
	w.ssl = NULL;
	w.sealed = true; /* the resets of worker_free are looked at by nobody */
	scene_close(NULL);
	return 0;
}
