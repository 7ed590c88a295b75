/*
 * status_judge.c - what is wrong, from the status object alone.
 *
 * "down" makes the command fail: nothing enforces, or nothing can change any more. A warning alone does
 * not: the appliance works, and somebody should look.
 */
#include "status.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "link.h"
#include "table.h"

#define WARNING_MAX 1024

struct judging {
	json_t *warnings;
	bool down;
};

__attribute__((format(printf, 3, 4))) static void warn(struct judging *judging, bool down, const char *format, ...)
{
	char text[WARNING_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_t *line = json_string(text);
	json_array_append_new(judging->warnings, line ? line : json_string("a message that is not text"));
	judging->down |= down;
}

static void judge_waxseald(struct judging *judging, const json_t *status, uint64_t now_ms)
{
	const json_t *waxseald = json_object_get(status, "waxseald"), *image = json_object_get(status, "image"), *row;
	size_t i;

	if (json_object_get(waxseald, "error")) {
		warn(judging, true, "waxseald is down: %s", link_text(waxseald, "error"));
		return;
	}
	json_array_foreach(json_object_get(status, "ports"), i, row)
	{
		if (!link_true(row, "link_up"))
			warn(judging, true, "port %s (%s) has no link: check the cable and the other end", link_text(row, "name"),
			     i == 0 ? "inside" : "outside");
	}
	json_array_foreach(json_object_get(status, "workers"), i, row)
	{
		if (link_true(row, "stalled"))
			warn(judging, true, "worker %zu stands still: restart waxseald and keep its log", i);
		else if (link_number(row, "busy_permille") >= STATUS_BUSY_PERMILLE)
			warn(judging, false, "worker %zu is %" PRIu64 " %% busy: give it more workers ([dataplane] workers)", i,
			     link_number(row, "busy_permille") / 10);
		if (link_number(row, "flows_max") && link_number(row, "flows") >= link_number(row, "flows_max"))
			warn(judging, false, "worker %zu's flow table is full: raise [limits] flows", i);
		if (link_number(row, "takeovers_max") && link_number(row, "takeovers") >= link_number(row, "takeovers_max"))
			warn(judging, false, "worker %zu can take over no more sessions: raise [limits] takeovers", i);
	}
	if (*link_text(waxseald, "image_error"))
		warn(judging, false, "waxseald refused the last image and keeps the one before: %s", link_text(waxseald, "image_error"));
	else if (json_object_get(image, "generation") && link_number(image, "compiled_at") > link_number(waxseald, "compiled_at") &&
		 now_ms > link_number(image, "compiled_at") * 1000 + STATUS_REDIS_LAG_MS)
		warn(judging, false, "waxseald runs image generation %" PRIu64 ", the file has %" PRIu64 ": does it read %s?",
		     link_number(waxseald, "generation"), link_number(image, "generation"), link_text(image, "path"));
}

static void judge_agent(struct judging *judging, const json_t *status, uint64_t now_ms)
{
	const json_t *agent = json_object_get(status, "agent"), *redis = json_object_get(agent, "redis"), *refusal;
	uint64_t heartbeat = link_number(agent, "heartbeat_ms"), count = link_number(agent, "refused_count");
	size_t i;

	if (json_object_get(agent, "error")) {
		warn(judging, true, "waxseal-agent is not running: %s", link_text(agent, "error"));
		return;
	}
	if (!json_is_true(json_object_get(agent, "running"))) {
		warn(judging, true, "waxseal-agent was stopped; edits in Redis take no effect: systemctl start waxseal-agent");
		return;
	}
	if (heartbeat + STATUS_HEARTBEAT_MAX_MS < now_ms) {
		warn(judging, true, "waxseal-agent has not been heard of for %" PRIu64 " s; edits in Redis take no effect: systemctl restart waxseal-agent",
		     (now_ms - heartbeat) / 1000);
		return;
	}
	if (strcmp(link_text(redis, "state"), "live"))
		warn(judging, true, "waxseal-agent is not in step with Redis (%s); the last rules stay in force: %s", link_text(redis, "state"),
		     link_text(redis, "error"));
	if (json_is_true(json_object_get(agent, "empty_refused")))
		warn(judging, false, "Redis has no rules, which removes none: the last %" PRIu64 " stay in force; INCR the generation key if that was meant",
		     link_number(agent, "rules"));
	if (*link_text(json_object_get(agent, "image"), "error"))
		warn(judging, false, "the agent's last image failed: %s", link_text(json_object_get(agent, "image"), "error"));
	json_array_foreach(json_object_get(agent, "refused"), i, refusal)
	{
		if (i == STATUS_REFUSED_SHOWN)
			break;
		warn(judging, false, "refused, last good form stays in force: %s: %s", link_text(refusal, "key"), link_text(refusal, "error"));
	}
	if (count > STATUS_REFUSED_SHOWN)
		warn(judging, false, "%" PRIu64 " more keys are refused; waxseal status --json lists them", count - STATUS_REFUSED_SHOWN);
}

static void judge_expired(struct judging *judging, const json_t *status, uint64_t now_ms)
{
	const json_t *rule;
	char age[TABLE_AGE_MAX];
	size_t i;

	json_array_foreach(json_object_get(json_object_get(status, "agent"), "expiring"), i, rule)
	{
		uint64_t expires = link_number(rule, "expires"), now_s = now_ms / 1000;
		if (link_true(rule, "over"))
			warn(judging, false, "%s ended by itself %s ago and holds no more (owner: %s; reason: %s); waxseal policy rm takes it away",
			     link_text(rule, "key"), table_age(now_s > expires ? now_s - expires : 0, age), link_text(rule, "owner"),
			     link_text(rule, "reason"));
	}
}

/* Nothing here is "down": the last known addresses hold, and each RCPT is decided without any. */
static void judge_dns(struct judging *judging, const json_t *status)
{
	const json_t *agent = json_object_get(status, "agent"), *dns = json_object_get(agent, "dns");
	uint64_t domains = link_number(dns, "domains"), failing = link_number(dns, "failing");

	if (*link_text(dns, "error"))
		warn(judging, false, "the DNS cannot be asked: %s", link_text(dns, "error"));
	else if (failing && failing == domains)
		warn(judging, false, "the DNS answers for none of %" PRIu64 " domains; known addresses are kept for a while: check [dns] servers", domains);
	if (link_number(dns, "left_out"))
		warn(judging, false, "%" PRIu64 " domains or addresses are past a limit, and go by *", link_number(dns, "left_out"));
	if (*link_text(dns, "tie"))
		warn(judging, false, "%s", link_text(dns, "tie"));
	if (*link_text(json_object_get(agent, "redis"), "write_error"))
		warn(judging, false, "Redis takes nothing from the agent, so that waxseal fleet and explain know less: %s",
		     link_text(json_object_get(agent, "redis"), "write_error"));
}

void status_judge(json_t *status, uint64_t now_ms)
{
	const json_t *image = json_object_get(status, "image"), *redis = json_object_get(status, "redis");
	struct judging judging = {.warnings = json_array()};

	judge_waxseald(&judging, status, now_ms);
	if (json_object_get(image, "error"))
		warn(&judging, true, "no usable policy image: %s", link_text(image, "error"));
	judge_agent(&judging, status, now_ms);
	judge_expired(&judging, status, now_ms);
	judge_dns(&judging, status);
	if (json_object_get(redis, "error"))
		warn(&judging, true, "%s", link_text(redis, "error"));
	json_object_set_new(status, "warnings", judging.warnings);
	json_object_set_new(status, "ok", json_boolean(!judging.down));
}
