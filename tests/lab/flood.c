/*
 * flood.c - more TCP sessions than endpoints could have: writes both sides' frames itself.
 *
 * Enters: the network namespaces of client and server, each with an eth0 towards the box. Leaves: frames between
 * addresses of 10.77.0.0/16 and MACs that nobody has, so no kernel answers them; one line of JSON.
 *
 *   flood sessions CLIENT SERVER COUNT     COUNT sessions, each sealed by STARTTLS and then idle: a frame is written when
 *                                          the one before it has come out of the other port, and again if it has not
 *   flood records  CLIENT SERVER COUNT     one TLS record each way in each of those sessions
 *   flood syn      CLIENT SECONDS          SYNs from random addresses and ports, as fast as can be
 *
 * Frames are counted as the kernel took them: "refused" ones have never been on the wire.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLIENT, SERVER };
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

#define BURST 64
#define FRAME_MAX 256
#define UNDER_WAY 192       /* sessions at once: a veth's ring has 256 places */
#define AGAIN_MS 200
#define TRIES_MAX 50
#define SOCKET_BYTES (8 << 20)
#define SESSIONS_MAX (1u << 22)
#define ISN 1000u
#define TARGET 0x0a4dfa01u  /* 10.77.250.1: the sessions' server; the flood's is the next address */
#define NETS 64u            /* the sessions' clients are in that many /24, 200 addresses each */
#define HOSTS 200u

struct step {
	uint8_t from, flags;
	const char *bytes;
	uint16_t len;
};
#define TEXT(text) text, sizeof(text) - 1
#define RECORD "\x17\x03\x03\x00\x20" "0123456789abcdef0123456789abcdef"
#define RANDOM "0123456789abcdef0123456789abcdef"
static const struct step steps[] = {
	{CLIENT, SYN, NULL, 0},
	{SERVER, SYN | ACK, NULL, 0},
	{CLIENT, ACK, NULL, 0},
	{SERVER, PSH | ACK, TEXT("220 mx.flood.example ESMTP\r\n")},
	{CLIENT, PSH | ACK, TEXT("EHLO flood.example\r\n")},
	{SERVER, PSH | ACK, TEXT("250-mx.flood.example\r\n250 STARTTLS\r\n")},
	{CLIENT, PSH | ACK, TEXT("STARTTLS\r\n")},
	{SERVER, PSH | ACK, TEXT("220 2.0.0 go\r\n")},
	{CLIENT, PSH | ACK, TEXT("\x16\x03\x01\x00\x36\x01\x00\x00\x32\x03\x03" RANDOM "\x00\x00\x02\x13\x01\x01\x00\x00\x07\x00\x2b\x00\x03\x02\x03\x04")},
	{SERVER, PSH | ACK, TEXT("\x16\x03\x03\x00\x32\x02\x00\x00\x2e\x03\x03" RANDOM "\x00\x13\x01\x00\x00\x06\x00\x2b\x00\x02\x03\x04" RECORD)},
	{CLIENT, PSH | ACK, TEXT(RECORD)},
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))
static const struct step records[] = {{CLIENT, PSH | ACK, TEXT(RECORD)}, {SERVER, PSH | ACK, TEXT(RECORD)}};

struct side {
	int fd;
	unsigned count;
	uint8_t frame[BURST][FRAME_MAX];
	struct mmsghdr message[BURST];
	struct iovec piece[BURST];
	uint64_t sent, refused;
};

struct slot { /* a session under way */
	uint32_t session, at_ms;
	unsigned tries;
	bool used;
};

static struct {
	struct side side[2];
	const struct step *script;
	unsigned steps;
	uint32_t base[2]; /* octets that each side had said before the script */
	uint8_t *stage;   /* of each session: the step that is under way; `steps` is done */
	uint8_t *slot_of;
	struct slot slot[UNDER_WAY];
	uint32_t count, begun, under_way;
	uint64_t again, failed;
} self;

static void die(const char *what)
{
	fprintf(stderr, "flood: %s: %s\n", what, errno ? strerror(errno) : "wrong");
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- frames ---- */

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}
static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}
static uint32_t get32(const uint8_t *at) { return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]; }

static uint32_t sum(uint32_t start, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		start += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	return len & 1 ? start + ((uint32_t)bytes[len - 1] << 8) : start;
}
static unsigned fold(uint32_t value)
{
	value = (value & 0xffff) + (value >> 16);
	return ~(value + (value >> 16)) & 0xffff;
}

/* The length of the frame. */
static size_t make(uint8_t *frame, unsigned from, uint32_t client, uint16_t port, uint32_t server, uint8_t flags, uint32_t seq, uint32_t ack,
                   const char *bytes, uint16_t len)
{
	static const uint8_t options[8] = {2, 4, 5, 180, 1, 3, 3, 7};
	uint8_t *ip = frame + 14, *tcp = ip + 20;
	unsigned opts = flags & SYN ? sizeof(options) : 0;

	memset(frame, 0, 54);
	memcpy(frame, from == CLIENT ? "\x02\x66\x00\x00\x00\x02\x02\x66\x00\x00\x00\x01\x08\x00" : "\x02\x66\x00\x00\x00\x01\x02\x66\x00\x00\x00\x02\x08\x00", 14);
	ip[0] = 0x45;
	put16(ip + 2, 40 + opts + len);
	ip[6] = 0x40;
	ip[8] = 64;
	ip[9] = 6;
	put32(ip + 12, from == CLIENT ? client : server);
	put32(ip + 16, from == CLIENT ? server : client);
	put16(ip + 10, fold(sum(0, ip, 20)));
	put16(tcp, from == CLIENT ? port : 25);
	put16(tcp + 2, from == CLIENT ? 25 : port);
	put32(tcp + 4, seq);
	put32(tcp + 8, ack);
	tcp[12] = (uint8_t)((20 + opts) / 4 << 4);
	tcp[13] = flags;
	put16(tcp + 14, 60000);
	memcpy(tcp + 20, options, opts);
	memcpy(tcp + 20 + opts, bytes, len);
	put16(tcp + 16, fold(sum(sum(6 + 20 + opts + len, ip + 12, 8), tcp, 20 + opts + len)));
	return 34 + 20 + opts + len;
}

static void flush(struct side *side)
{
	for (unsigned at = 0; at < side->count;) {
		int sent = sendmmsg(side->fd, side->message + at, side->count - at, 0);
		if (sent < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
			die("sendmmsg");
		side->sent += sent > 0 ? (unsigned)sent : 0;
		side->refused += sent <= 0;
		at += sent > 0 ? (unsigned)sent : 1;
	}
	side->count = 0;
}

static uint8_t *next_frame(struct side *side)
{
	if (side->count == BURST)
		flush(side);
	return side->frame[side->count];
}

static void add(struct side *side, size_t len)
{
	side->piece[side->count] = (struct iovec){side->frame[side->count], len};
	side->message[side->count] = (struct mmsghdr){.msg_hdr = {.msg_iov = &side->piece[side->count], .msg_iovlen = 1}};
	side->count++;
}

static int open_socket(const char *namespace, bool reads)
{
	/* Only the MACs of these frames: real sessions share the interface. */
	struct sock_filter ours[] = {BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0266, 0, 1),
	                             BPF_STMT(BPF_RET | BPF_K, FRAME_MAX), BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog filter = {4, ours};
	int back = open("/proc/self/ns/net", O_RDONLY), there = open(namespace, O_RDONLY), on = 1, bytes = SOCKET_BYTES;

	if (back < 0 || there < 0 || setns(there, CLONE_NEWNET))
		die(namespace);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = reads ? htons(ETH_P_IP) : 0, .sll_ifindex = (int)if_nametoindex("eth0")};
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) || setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die("eth0");
	if (setns(back, CLONE_NEWNET))
		die("setns");
	close(back);
	close(there);
	return fd;
}

/* ---- sessions ---- */

static uint32_t client_of(uint32_t session) { return 0x0a4d4001u + (session % NETS << 8) + session / NETS % HOSTS; }
static uint16_t port_of(uint32_t session) { return (uint16_t)(1024 + session / (NETS * HOSTS)); }

static bool session_of(uint32_t client, uint16_t port, uint32_t *session)
{
	uint32_t net = (client - 0x0a4d4001u) >> 8, host = (client - 0x0a4d4001u) & 0xff;
	*session = ((uint32_t)(port - 1024) * HOSTS + host) * NETS + net;
	return net < NETS && host < HOSTS && port >= 1024 && *session < self.count;
}

/* Sequence numbers in front of a step. */
static void numbers(unsigned step, uint32_t seq[2])
{
	seq[CLIENT] = ISN + self.base[CLIENT];
	seq[SERVER] = ISN + self.base[SERVER];
	for (unsigned i = 0; i < step; i++)
		seq[self.script[i].from] += self.script[i].len + !!(self.script[i].flags & SYN);
}

static void say(uint32_t session)
{
	const struct step *step = &self.script[self.stage[session]];
	struct side *side = &self.side[step->from];
	uint32_t seq[2];
	uint8_t *frame = next_frame(side);

	numbers(self.stage[session], seq);
	add(side, make(frame, step->from, client_of(session), port_of(session), TARGET, step->flags, seq[step->from],
	               step->flags & ACK ? seq[!step->from] : 0, step->bytes, step->len));
	self.slot[self.slot_of[session]].at_ms = (uint32_t)(now_us() / 1000);
}

static void begin(struct slot *slot)
{
	*slot = (struct slot){.used = self.begun < self.count};
	if (!slot->used)
		return;
	slot->session = self.begun++;
	self.slot_of[slot->session] = (uint8_t)(slot - self.slot);
	self.under_way++;
	say(slot->session);
}

static void over(struct slot *slot, bool failed)
{
	self.failed += failed;
	self.stage[slot->session] = (uint8_t)self.steps;
	self.under_way--;
	begin(slot);
}

/* A frame has come out at that side: if it is the one that is under way, the next one follows. */
static void arrived(unsigned side, const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + 14, *tcp = ip + 20;
	uint32_t session, seq[2];
	if (len < 54 || ip[9] != 6)
		return;
	uint32_t client = get32(side == SERVER ? ip + 12 : ip + 16);
	const uint8_t *port = side == SERVER ? tcp : tcp + 2;
	if (!session_of(client, (uint16_t)(port[0] << 8 | port[1]), &session) || self.stage[session] == self.steps)
		return;
	const struct step *step = &self.script[self.stage[session]];
	struct slot *slot = &self.slot[self.slot_of[session]];
	if (!slot->used || slot->session != session || step->from == side)
		return;
	numbers(self.stage[session], seq);
	unsigned payload = (unsigned)(ip[2] << 8 | ip[3]) - 20 - (tcp[12] >> 4) * 4u;
	if (get32(tcp + 4) != seq[step->from] || tcp[13] != step->flags || payload != step->len)
		return;
	slot->tries = 0;
	if (++self.stage[session] == self.steps)
		over(slot, false);
	else
		say(session);
}

static void read_side(unsigned side)
{
	static uint8_t frame[BURST][FRAME_MAX];
	struct iovec piece[BURST];
	struct mmsghdr message[BURST];
	for (unsigned i = 0; i < BURST; i++) {
		piece[i] = (struct iovec){frame[i], FRAME_MAX};
		message[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &piece[i], .msg_iovlen = 1}};
	}
	int count = recvmmsg(self.side[side].fd, message, BURST, MSG_DONTWAIT, NULL);
	for (int i = 0; i < count; i++)
		arrived(side, frame[i], message[i].msg_len);
}

static void say_again(void)
{
	uint32_t now_ms = (uint32_t)(now_us() / 1000);
	for (unsigned i = 0; i < UNDER_WAY; i++) {
		struct slot *slot = &self.slot[i];
		if (!slot->used || now_ms - slot->at_ms < AGAIN_MS)
			continue;
		if (++slot->tries > TRIES_MAX) {
			over(slot, true);
			continue;
		}
		self.again++;
		say(slot->session);
	}
}

static void converse(const char *client, const char *server)
{
	uint64_t began = now_us(), looked = began;
	self.stage = calloc(self.count, 1);
	self.slot_of = calloc(self.count, 1);
	if (!self.stage || !self.slot_of)
		die("memory");
	self.side[CLIENT].fd = open_socket(client, true);
	self.side[SERVER].fd = open_socket(server, true);
	for (unsigned i = 0; i < UNDER_WAY; i++)
		begin(&self.slot[i]);
	while (self.under_way) {
		struct pollfd polled[2] = {{.fd = self.side[0].fd, .events = POLLIN}, {.fd = self.side[1].fd, .events = POLLIN}};
		flush(&self.side[CLIENT]);
		flush(&self.side[SERVER]);
		if (poll(polled, 2, 20) < 0)
			die("poll");
		for (unsigned side = 0; side < 2; side++)
			if (polled[side].revents)
				read_side(side);
		if (now_us() - looked > 20000) {
			say_again();
			looked = now_us();
		}
	}
	printf("{\"sessions\": %llu, \"failed\": %llu, \"sent\": %llu, \"again\": %llu, \"refused\": %llu, \"seconds\": %.3f}\n",
	       (unsigned long long)(self.count - self.failed), (unsigned long long)self.failed,
	       (unsigned long long)(self.side[0].sent + self.side[1].sent), (unsigned long long)self.again,
	       (unsigned long long)(self.side[0].refused + self.side[1].refused), (double)(now_us() - began) / 1e6);
}

/* ---- the flood ---- */

static void syn(const char *client, double seconds)
{
	struct side *side = &self.side[CLIENT];
	uint64_t began = now_us(), until = began + (uint64_t)(seconds * 1e6), random = began | 1;

	side->fd = open_socket(client, false);
	while (now_us() < until) {
		for (unsigned i = 0; i < BURST; i++) {
			random ^= random << 13; /* xorshift64 */
			random ^= random >> 7;
			random ^= random << 17;
			uint8_t *frame = next_frame(side);
			add(side, make(frame, CLIENT, 0x0a4d0000u | (random & 0xffff), (uint16_t)(random >> 16 | 1024), TARGET + 1, SYN, (uint32_t)(random >> 32), 0,
			               NULL, 0));
		}
		flush(side);
	}
	printf("{\"sent\": %llu, \"refused\": %llu, \"seconds\": %.3f}\n", (unsigned long long)side->sent, (unsigned long long)side->refused,
	       (double)(now_us() - began) / 1e6);
}

int main(int argc, char **argv)
{
	bool opens = argc == 5 && !strcmp(argv[1], "sessions"), pokes = argc == 5 && !strcmp(argv[1], "records");
	if (argc == 4 && !strcmp(argv[1], "syn")) {
		syn(argv[2], strtod(argv[3], NULL));
		return 0;
	}
	self.count = argc == 5 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
	if ((!opens && !pokes) || !self.count || self.count > SESSIONS_MAX) {
		fprintf(stderr, "usage: flood sessions|records CLIENT SERVER COUNT (at most %u); flood syn CLIENT SECONDS\n", SESSIONS_MAX);
		return 1;
	}
	self.script = steps;
	self.steps = STEPS;
	if (pokes) {
		uint32_t seq[2];
		numbers(STEPS, seq);
		self.base[CLIENT] = seq[CLIENT] - ISN;
		self.base[SERVER] = seq[SERVER] - ISN;
		self.script = records;
		self.steps = sizeof(records) / sizeof(records[0]);
	}
	converse(argv[2], argv[3]);
	return self.failed ? 1 : 0;
}
