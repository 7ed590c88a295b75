/* Any bytes of both sides through the watch, in pieces: approvals never pass what was fed, nor go back; pieces make no difference. */
#include <stdlib.h>
#include <string.h>

#include "must.h"
#include "tls/tls.h"

struct result { enum tls_watch_event event; uint64_t approved[SIDES]; uint16_t version; };

/* data: floor, then {side, length, bytes} pieces */
static struct result run(const uint8_t *data, size_t size, size_t piece)
{
	struct result r = {TLS_WATCH_MORE, {0, 0}, 0};
	struct tls_watch *watch = tls_watch_new(size && data[0] & 1 ? 0x0303 : 0);
	for (size_t at = 1; at + 2 < size && r.event == TLS_WATCH_MORE;) {
		enum side side = data[at] & 1;
		size_t len = data[at + 1] * 4u, left = size - at - 2;
		const uint8_t *bytes = data + at + 2;
		len = len < left ? len : left;
		at += 2 + len;
		while (len && r.event == TLS_WATCH_MORE) {
			size_t part = len < piece ? len : piece;
			uint64_t before = watch->approved[side], fed = watch->fed[side];
			size_t taken = tls_watch_input(watch, side, bytes, part, &r.event);
			MUST(taken <= part && watch->fed[side] == fed + taken);
			MUST(watch->approved[side] >= before && watch->approved[side] <= watch->fed[side]);
			MUST(taken == part || r.event != TLS_WATCH_MORE);
			bytes += taken;
			len -= taken;
		}
	}
	MUST(strlen(watch->servername) < sizeof(watch->servername));
	memcpy(r.approved, watch->approved, sizeof(r.approved));
	r.version = watch->version;
	tls_watch_free(watch);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct result whole = run(data, size, 65536), single = run(data, size, 1);
	MUST(whole.event == single.event && whole.version == single.version);
	if (whole.event == TLS_WATCH_MORE)
		MUST(!memcmp(whole.approved, single.approved, sizeof(whole.approved)));
	tls_guess(data, size);
	return 0;
}
