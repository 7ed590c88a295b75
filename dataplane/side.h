/*
 * side.h - the two peers of a session, and the two ports of the appliance.
 *
 * CLIENT is the peer that sent the SYN, SERVER the one whose port is 25. Everything that exists once
 * for each peer is an array side[SIDES]; direction is an argument, never a second copy of the code.
 * "Bytes of side X" are the bytes that X sent.
 *
 * INSIDE and OUTSIDE are the appliance's ports. A client may be on either one.
 */
#ifndef WAXSEAL_SIDE_H
#define WAXSEAL_SIDE_H

enum side { CLIENT = 0, SERVER = 1 };
enum { SIDES = 2 };

enum port_side { INSIDE = 0, OUTSIDE = 1 };
enum { PORTS = 2 };

static inline enum side side_other(enum side s) { return s == CLIENT ? SERVER : CLIENT; }
static inline enum port_side port_other(enum port_side p) { return p == INSIDE ? OUTSIDE : INSIDE; }

#endif
