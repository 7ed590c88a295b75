/*
 * status.c - waxseal status: asks waxseald, the image, the agent's state file and Redis.
 *
 * Each of the four is asked whatever the others say, so that one that is down does not hide the rest.
 */
#include "status.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "../../dataplane/policy/policy.h"
#include "cli.h"
#include "link.h"

#define WORKERS_MAX 64
#define PORTS_MAX 2

static uint64_t clock_ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void ask_waxseald(struct cli *cli, json_t *status)
{
	char error[CLI_ERROR_MAX];
	json_t *waxseald = NULL, *workers = NULL, *ports = NULL;
	struct telemetry *telemetry = telemetry_open(cli->config.file_prefix, error, sizeof(error));

	if (telemetry)
		waxseald = link_ask(telemetry, "/waxseal/status", error, sizeof(error));
	if (waxseald)
		workers = telemetry_ask_all(telemetry, "/waxseal/worker", WORKERS_MAX, error, sizeof(error));
	if (workers)
		ports = telemetry_ask_all(telemetry, "/waxseal/port", PORTS_MAX, error, sizeof(error));
	telemetry_close(telemetry);
	if (!ports) {
		json_decref(waxseald);
		json_decref(workers);
		waxseald = json_pack("{s:s}", "error", error);
		workers = json_array();
		ports = json_array();
	}
	json_object_set_new(status, "waxseald", waxseald);
	json_object_set_new(status, "workers", workers);
	json_object_set_new(status, "ports", ports);
}

static json_t *read_image(const char *path)
{
	char error[CLI_ERROR_MAX];
	struct policy_image *image = policy_image_open(path, error, sizeof(error));

	if (!image)
		return json_pack("{s:s, s:s}", "path", path, "error", error);
	const struct image_header *header = policy_image_header(image);
	json_t *object = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "path", path, "generation", (json_int_t)header->generation,
				   "compiled_at", (json_int_t)header->compiled_at, "bytes", (json_int_t)header->total_bytes, "domains",
				   (json_int_t)header->domains.count, "destinations", (json_int_t)header->destinations.count, "prefixes",
				   (json_int_t)header->prefix4.count + header->prefix6.count);
	uint64_t names = 0;
	for (uint32_t i = 0; i < header->rules.count; i++)
		names += policy_rule(image, i)->kind == POLICY_DOMAIN || policy_rule(image, i)->kind == POLICY_PARENT;
	json_object_set_new(object, "domains", json_integer((json_int_t)names)); /* of the table's slots most are free */
	policy_image_close(image);
	return object;
}

static json_t *read_agent(const char *path)
{
	json_error_t where;
	json_t *agent = json_load_file(path, 0, &where);
	char error[CLI_ERROR_MAX];

	if (json_is_object(agent))
		return agent;
	json_decref(agent);
	snprintf(error, sizeof(error), "%s: %.200s", path, where.line > 0 ? where.text : strerror(errno));
	return json_pack("{s:s}", "error", error);
}

static json_t *ping_redis(struct cli *cli)
{
	char error[CLI_ERROR_MAX];
	json_t *redis = json_pack("{s:s}", "address", cli->config.redis_address);
	redisContext *context = link_redis(cli, error, sizeof(error));
	uint64_t start = clock_ms(CLOCK_MONOTONIC);
	redisReply *reply = context ? link_command(context, error, sizeof(error), "PING") : NULL;

	if (reply)
		json_object_set_new(redis, "ping_ms", json_integer((json_int_t)(clock_ms(CLOCK_MONOTONIC) - start)));
	else
		json_object_set_new(redis, "error", json_string(error));
	if (reply)
		freeReplyObject(reply);
	if (context)
		redisFree(context);
	return redis;
}

int status_run(struct cli *cli)
{
	if (cli->argc != 0)
		return cli_usage(cli, "%s: not expected", cli->argv[0]);
	json_t *status = json_object();
	ask_waxseald(cli, status);
	json_object_set_new(status, "image", read_image(cli->config.image));
	json_object_set_new(status, "agent", read_agent(cli->config.state));
	json_object_set_new(status, "redis", ping_redis(cli));
	uint64_t now_ms = clock_ms(CLOCK_REALTIME);
	status_judge(status, now_ms);
	bool ok = json_is_true(json_object_get(status, "ok"));
	if (cli->json) {
		link_print_json(status);
	} else {
		status_print(status, now_ms, stdout);
		json_decref(status);
	}
	return ok ? CLI_OK : CLI_FAILED;
}
