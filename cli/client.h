/* client - one conversation with tazpod-init.
 *
 * docs/control-protocol.md. The descriptor passed along stays the caller's. Not for signal
 * context. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "../init/protocol.h"

/* A connection to a tazpod-init that is root's, ours, or (for root) the run directory's owner's.
 * Returns a descriptor, or -1 with *e (word no-init). */
int client_connect(struct wire_error *e);

/* The same, for a caller who can't wait: connecting and each later answer take at most so long. */
struct timeval;
int client_connect_within(const struct timeval *time, struct wire_error *e);

/* Asks and waits for the answer. 0 with the reply filled in (its error may still be one), -1 with
 * *e when the conversation broke, CLIENT_NOT_ASKED when it had not begun. pass: -1 or a descriptor. */
enum { CLIENT_NOT_ASKED = -2 };
int client_ask(int fd, struct request r, int pass, struct reply *reply, struct wire_error *e);

/* Connects, asks, closes. Errors of either kind land in reply->error, so that a caller has one place
 * to look: word "" is success. */
void client_request(enum request_type type, uint32_t flags, struct reply *reply);

/* The tazpod-init that answers is the parent of this process: this is its main command. */
int client_is_parent(void);

#endif
