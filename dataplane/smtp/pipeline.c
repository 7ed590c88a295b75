/*
 * pipeline.c - the commands whose replies are outstanding (RFC 2920): first in, first out.
 *
 * Enters: commands in the order the server gets them. Leaves: the one that a whole reply answers. Domains of
 * recipients stand in a ring of their own, made only when a session is let go in clear: most sessions never
 * need it. Refuses: more than SMTP_PIPELINE_MAX commands or SMTP_PIPELINE_DOMAIN_BYTES of domains.
 */
#include "private.h"

#include <string.h>

bool smtp_pipeline_keep_domains(struct smtp_pipeline *pipeline)
{
	if (!pipeline->domains)
		pipeline->domains = malloc(SMTP_PIPELINE_DOMAIN_BYTES);
	return pipeline->domains != NULL;
}

void smtp_pipeline_dispose(struct smtp_pipeline *pipeline)
{
	free(pipeline->domains);
	pipeline->domains = NULL;
}

bool smtp_pipeline_push(struct smtp_pipeline *pipeline, unsigned verb, bool last, const char *domain)
{
	size_t len = pipeline->domains ? strlen(domain) : 0;

	BUG_ON(len >= SMTP_DOMAIN_MAX);
	if (pipeline->count == SMTP_PIPELINE_MAX || len > (size_t)SMTP_PIPELINE_DOMAIN_BYTES - pipeline->domain_count)
		return false;
	for (size_t i = 0; i < len; i++)
		pipeline->domains[(pipeline->domain_first + pipeline->domain_count + i) % SMTP_PIPELINE_DOMAIN_BYTES] = (uint8_t)domain[i];
	pipeline->domain_count += (uint16_t)len;
	pipeline->pending[(pipeline->first + pipeline->count) % SMTP_PIPELINE_MAX] =
		(struct smtp_pending){.verb = (uint8_t)verb, .last = last, .domain_len = (uint8_t)len};
	pipeline->count++;
	return true;
}

const struct smtp_pending *smtp_pipeline_front(const struct smtp_pipeline *pipeline)
{
	return pipeline->count ? &pipeline->pending[pipeline->first] : NULL;
}

bool smtp_pipeline_pop(struct smtp_pipeline *pipeline, struct smtp_pending *out, char domain[SMTP_DOMAIN_MAX])
{
	if (!pipeline->count)
		return false;
	*out = pipeline->pending[pipeline->first];
	pipeline->first = (uint16_t)((pipeline->first + 1) % SMTP_PIPELINE_MAX);
	pipeline->count--;
	for (size_t i = 0; i < out->domain_len; i++)
		domain[i] = (char)pipeline->domains[(pipeline->domain_first + i) % SMTP_PIPELINE_DOMAIN_BYTES];
	domain[out->domain_len] = 0;
	pipeline->domain_first = (uint16_t)((pipeline->domain_first + out->domain_len) % SMTP_PIPELINE_DOMAIN_BYTES);
	pipeline->domain_count -= out->domain_len;
	return true;
}
