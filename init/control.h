/* control - the control socket's connections.
 *
 * docs/control-protocol.md. Takes, checks and answers messages; what they mean is the loop's.
 * No client can make it wait: everything is non-blocking, a connection that does not play by the
 * rules is closed. Times are CLOCK_MONOTONIC milliseconds. PID 1 only; no allocation. */
#ifndef TAZPOD_CONTROL_H
#define TAZPOD_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"

enum {
    CONTROL_CONNECTIONS = 16, /* a person has one or two; agents that poll, a few */
    CONTROL_IDLE_MS = 5000,
    CONTROL_PATIENCE_MS = 20, /* a connection younger than this is not closed for a newer one */

    CONTROL_NOBODY = -1,    /* from control_accept: nobody is waiting */
    CONTROL_SENT_AWAY = -2, /* one was, who may not ask */
    CONTROL_NOT_NOW = -3,   /* no place, no descriptor or no memory: ask again after CONTROL_PATIENCE_MS */
};

struct conn {
    int fd;          /* -1: free */
    uint16_t waits;  /* enum request_type it waits for, 0: none */
    uint32_t ticket; /* REQ_SAVE: the save that answers it */
    int64_t heard_ms;
};

struct control {
    int listener; /* -1: there is none */
    uid_t owner;
    struct conn conns[CONTROL_CONNECTIONS];
};

/* Binds control.sock in the directory. A socket that nobody listens on any more is replaced.
 * 0, or -1 with errno; EADDRINUSE: another tazpod-init is alive there. */
int control_open(struct control *c, int dir, uid_t owner, gid_t group);

/* Accepts one client that may ask. Returns its index, or one of the negative answers above. */
int control_accept(struct control *c, int64_t now_ms);

/* Reads one valid request. 1: *r, and *passed (a descriptor for the caller, or -1). 0: nothing now.
 * -1: the connection has ended or broke the rules; it is still to be closed by control_close. */
int control_read(struct control *c, int i, struct request *r, int *passed, int64_t now_ms);

/* Answers connection i and ends its waiting; one that does not take it is closed. */
void control_answer(struct control *c, int i, uint16_t type, const struct wire_error *e,
                    const struct wire_status *s, int64_t now_ms);

void control_close(struct control *c, int i);

/* Closes what has been silent too long. Returns when to look again, INT64_MAX for never. */
int64_t control_expire(struct control *c, int64_t now_ms);

#endif
