/*
 * saving.h - when and by whom the agent's memory is written.
 *
 * Many rules make a long file: a child writes what is in force at that moment, while edits go on; one at a time. What
 * goes wrong is told and ends nothing.
 */
#ifndef WAXSEAL_SAVING_H
#define WAXSEAL_SAVING_H

#include <stdbool.h>

struct agent;

void saving_now(struct agent *agent);    /* waits for a child that is at it */
bool saving_beside(struct agent *agent); /* false: a child is at it */
void saving_free(struct agent *agent);   /* likewise */

#endif
