/* Any bytes through the parsers and every edit: offsets stay inside the frame, edited frames parse again. */
#include <stdlib.h>
#include <string.h>

#include "must.h"
#include "packet/packet.h"

static void check(struct packet *p, size_t len)
{
	struct packet again;
	MUST(p->frame_len <= len && p->payload_off + p->payload_len == p->frame_len && p->l3_off < p->l4_off && p->l4_off < p->payload_off);
	MUST(packet_parse(&again, p->frame, p->frame_len) == PACKET_OK);
	MUST(again.seq == p->seq && again.flags == p->flags && again.payload_len == p->payload_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct packet p;
	struct packet_icmp icmp;
	struct packet_template tmpl, back;
	struct packet_tcp tcp = {.seq = 1, .ts = true, .sack_count = 2};
	uint8_t *frame = malloc(size ? size : 1), out[512];

	memcpy(frame, data, size);
	packet_icmp_parse(&icmp, frame, size);
	if (packet_parse(&p, frame, size) == PACKET_OK) {
		check(&p, size);
		packet_checksums_ok(&p);
		packet_clear_urgent(&p);
		MUST(packet_checksums_ok(&p));
		packet_template_from(&tmpl, &p);
		packet_template_reverse(&back, &tmpl);
		size_t head = packet_build_headers_len(&back, &tcp);
		memset(out + head, 'x', 3);
		size_t len = packet_build(&back, &tcp, 3, out, sizeof(out));
		struct packet made;
		MUST(len && packet_parse(&made, out, len) == PACKET_OK && packet_checksums_ok(&made));
		if (p.flags & PACKET_SYN)
			packet_clean_syn(&p);
		check(&p, size);
		packet_overwrite(&p, 1, (const uint8_t *)"ab", 2);
		packet_drop_head(&p, 2);
		check(&p, size);
		packet_keep_head(&p, p.payload_len / 2);
		check(&p, size);
		packet_make_reset(&p, 1, 2);
		check(&p, size);
		MUST(packet_checksums_ok(&p));
	}
	free(frame);
	return 0;
}
