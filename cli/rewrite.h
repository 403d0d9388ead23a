/* rewrite - has PID 1 rewrite the vault file as an order says (docs/control-protocol.md, KEY). */
#ifndef CLI_REWRITE_H
#define CLI_REWRITE_H

#include "../init/protocol.h"
#include "../vault/header.h"
#include "order.h"

/* An unlock, a save or another rewriting that is under way is waited for, some seconds. 0 with the reply,
 * or -1 with *e. The order stays the caller's. */
int rewrite_request(const struct secret *order, struct reply *reply, struct wire_error *e);

/* One request that carries an order, without waiting. */
int order_request(const struct request *r, const struct secret *order, struct reply *reply, struct wire_error *e);

/* The header of a vault file: slots, generation, date; nothing proves it. 0, or -1 with *e. */
int header_of_file(const char *path, struct header *h, struct wire_error *e);

#endif
