/*
 * policy_swap.h - the policy image in force, and how a new one takes its place.
 *
 * The main thread watches the image file (folder_watch.h ends its naps early); a good new image replaces the pointer that
 * the lcores read at the top of each loop, and the old one is unmapped when every lcore has passed a quiescent state (RCU,
 * rte_rcu_qsbr). A bad file is refused with its error kept for `waxseal status`; the last good one stays.
 */
#ifndef WAXSEAL_POLICY_SWAP_H
#define WAXSEAL_POLICY_SWAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"

struct policy_swap;

/* Starts with the file's image, or the built-in one (may, observe) where there is no file yet. A file that
 * is there and bad is an error: NULL. `lcores` is how many readers there will be. */
struct policy_swap *policy_swap_new(const char *path, unsigned lcores, char *error, size_t error_len);
void policy_swap_free(struct policy_swap *swap);

/* Readers; one lcore each, 0-based. The image is valid until that lcore's next call. */
void policy_swap_online(struct policy_swap *swap, unsigned lcore);
const struct policy_image *policy_swap_current(struct policy_swap *swap, unsigned lcore);
void policy_swap_offline(struct policy_swap *swap, unsigned lcore);

/* Main thread: has the file changed? true when the lcores go by a new image. What else follows from it (steering) is then to be
 * done, and policy_swap_tell to be called: whoever sees its generation is to find all of it in force. */
bool policy_swap_poll(struct policy_swap *swap);
void policy_swap_tell(struct policy_swap *swap);
const struct policy_image *policy_swap_image(const struct policy_swap *swap); /* main thread only */
/* Any thread: of the image told last; and what was wrong with the last one refused ("" if nothing). */
void policy_swap_status(struct policy_swap *swap, uint64_t *generation, uint64_t *compiled_at, uint64_t *refused, char *error, size_t error_len);

#endif
