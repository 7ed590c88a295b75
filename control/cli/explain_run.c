/*
 * explain_run.c - waxseal explain: rules, what the DNS and probes say of the servers, what failed lately, and the answer
 * that a client would get.
 *
 * Rules and answers come from the image that waxseald reads, so that it tells what is in force and not what somebody has
 * just written into Redis; what is only known of, from Redis, and from the recorded sessions.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../policy/rules.h"
#include "answers.h"
#include "cli.h"
#include "explain.h"
#include "known.h"
#include "link.h"

struct asked {
	char domain[IMAGE_DOMAIN_MAX + 1];
	uint8_t addr[16], client[16];
	bool has_addr, has_client, inbound;
};

/* "user@Example.ORG." -> "example.org", by the parser of rules' keys. */
static int read_domain(const char *text, char domain[IMAGE_DOMAIN_MAX + 1], char *error, size_t error_len)
{
	struct rule_field level = {.name = "level", .value = "may"};
	const char *at = strrchr(text, '@');
	struct rule *rule = rule_parse(at ? at + 1 : text, &level, 1, error, error_len);

	if (rule && (strpbrk(rule_key(rule), "*:") || rule_key(rule)[0] == '.')) {
		snprintf(error, error_len, "%.100s: a rule's key; a recipient, its domain, or a server's address would be right", text);
		rule_free(rule);
		return -1;
	}
	if (rule)
		snprintf(domain, IMAGE_DOMAIN_MAX + 1, "%s", rule_key(rule));
	rule_free(rule);
	return rule ? 0 : -1;
}


/* CLI_OK, or what to end with. */
static int read_arguments(struct cli *cli, struct asked *asked)
{
	const char *client = NULL;
	char error[CLI_ERROR_MAX];

	asked->inbound = cli_flag(cli, "--inbound");
	asked->has_client = cli_value(cli, "--client", &client);
	if (asked->has_client && (!client || !event_address_parse(client, asked->client)))
		return cli_usage(cli, "--client: an address is wanted");
	if (cli->argc < 1 || cli->argc > 2)
		return cli_usage(cli, "a recipient, a domain or an address is wanted");
	for (int i = 0; i < cli->argc; i++) {
		uint8_t addr[16];
		if (cli->argv[i][0] == '-')
			return cli_usage(cli, "%s: not expected", cli->argv[i]);
		bool is_address = event_address_parse(cli->argv[i], addr);
		if (is_address && asked->has_addr)
			return cli_usage(cli, "%s: a second address", cli->argv[i]);
		if (is_address) {
			memcpy(asked->addr, addr, sizeof(addr));
			asked->has_addr = true;
		} else if (*asked->domain) {
			return cli_usage(cli, "%s: a second domain", cli->argv[i]);
		} else if (read_domain(cli->argv[i], asked->domain, error, sizeof(error)) != 0) {
			return cli_fail("%s", error);
		}
	}
	return CLI_OK;
}

static json_t *rules_of(const struct policy_image *image, const struct asked *asked)
{
	const char *domain = *asked->domain ? asked->domain : NULL;
	const uint8_t *addr = asked->has_addr ? asked->addr : NULL;

	if (asked->inbound)
		return explain_inbound(image, domain, addr);
	json_t *rules = explain_rules(image, domain, addr);
	if (addr)
		explain_in_place(image, rules, domain, addr);
	if (asked->has_client)
		explain_client(image, rules, asked->client);
	return rules;
}

static void tell_server(const struct policy_image *image, const struct asked *asked)
{
	struct policy_server server = policy_server_of(image, asked->addr, *asked->domain ? asked->domain : NULL);

	printf("\nThe server's name, for SNI and for match=hostname: %s\n",
	       server.mx ? server.mx : "not known; no MX that the agent looks after has this address");
}

static void tell(const struct policy_image *image, const struct asked *asked, const json_t *rules, const json_t *idle, const json_t *known,
		 const json_t *answers)
{
	uint64_t now_s = (uint64_t)time(NULL);

	const json_t *rule;
	size_t i;

	explain_print(rules, stdout);
	json_array_foreach(idle, i, rule)
		printf("Not in force: %s: %s\n", link_text(rule, "rule"), link_text(rule, "why"));
	if (!asked->has_addr && !asked->inbound)
		printf("\nThe rule of the server's destination goes before *; give its address, too, to see it.\n");
	else if (!*asked->domain && policy_image_header(image)->enforced_domain_rules)
		printf("\nA recipient's domain with a rule of its own goes first; give it, too, to see it.\n");
	if (*asked->domain)
		printf("%sBefore the RCPT is seen, only the destination's rule and * are asked.\n", asked->has_addr ? "\n" : "");
	if (asked->has_addr && !asked->inbound)
		tell_server(image, asked);
	if (*asked->domain && !asked->inbound)
		known_print(known, asked->domain, now_s, stdout);
	answers_print(answers, now_s, stdout);
}

int explain_run(struct cli *cli)
{
	struct asked asked = {0};
	char error[CLI_ERROR_MAX];
	struct events_source source = {0};
	int rc = events_take(cli, &source);

	if (rc == CLI_OK)
		rc = read_arguments(cli, &asked);
	if (rc != CLI_OK)
		return rc;
	struct policy_image *image = policy_image_open(cli->config.image, error, sizeof(error));
	if (!image)
		return cli_fail("%s; waxseal-agent or waxseal policy compile makes it", error);
	json_t *rules = rules_of(image, &asked);
	json_t *known = *asked.domain && !asked.inbound ? known_domain(cli, asked.domain) : NULL;
	json_t *idle = *asked.domain && !asked.inbound ? explain_not_in_force(cli, asked.domain, (uint64_t)time(NULL)) : json_array();
	json_t *answers = answers_of(image, &(struct answers_query){
		.domain = *asked.domain ? asked.domain : NULL, .addr = asked.has_addr ? asked.addr : NULL,
		.client = asked.has_client ? asked.client : NULL, .inbound = asked.inbound, .known = known, .source = &source});
	explain_postures(cli, json_object_get(answers, "answers"));
	if (cli->json) {
		json_t *object = json_object();
		if (known)
			json_object_set(object, "discovered", known);
		if (asked.has_addr)
			link_json_set(object, "server", policy_string(image, policy_destination(image, policy_destination_of(image, asked.addr))->servername));
		link_json_set(object, "image", cli->config.image);
		json_object_set_new(object, "generation", json_integer((json_int_t)policy_image_header(image)->generation));
		json_object_set(object, "rules", rules);
		json_object_set(object, "not_in_force", idle);
		json_object_update(object, answers);
		link_print_json(object);
	} else {
		tell(image, &asked, rules, idle, known, answers);
	}
	json_decref(answers);
	json_decref(idle);
	json_decref(known);
	json_decref(rules);
	policy_image_close(image);
	return CLI_OK;
}
