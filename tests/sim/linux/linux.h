/* linux.h - what linux_sim.c asks of linux/stack.c, beside what sim.h has of any stack. */
#ifndef WAXSEAL_TESTS_SIM_LINUX_H
#define WAXSEAL_TESTS_SIM_LINUX_H

#include "../worker/sim.h"

static inline enum port_side stack_port(const struct stack *s)
{
	return (s->side == CLIENT) == !s->session->inbound ? INSIDE : OUTSIDE;
}
void stack_congestion(int fd, uint32_t drawn); /* which control it has; accepted sockets have their listener's */
void stack_accepted(struct stack *stack, int fd); /* the kernel has taken a connection for it; takes fd */
void stack_move(struct stack *stack);             /* its socket can be read or written */
void stack_broken(struct stack *stack);           /* its socket has an error */

#endif
