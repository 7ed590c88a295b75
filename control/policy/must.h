/*
 * must.h - what the programs of control/ do without memory: they end. They are started again, and the dataplane goes on
 * from its last image meanwhile.
 */
#ifndef WAXSEAL_CONTROL_MUST_H
#define WAXSEAL_CONTROL_MUST_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static inline void *must(void *memory)
{
	if (!memory) {
		fprintf(stderr, "%s: out of memory\n", program_invocation_short_name);
		abort();
	}
	return memory;
}

#endif
