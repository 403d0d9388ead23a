/* wire - one message over a SOCK_SEQPACKET socket, perhaps with one descriptor.
 *
 * Shared by tazpod-init and tazpod. Sizes are bytes. No allocation. Nothing is retried but EINTR.
 * A received descriptor is close-on-exec and becomes the caller's. */
#ifndef TAZPOD_WIRE_H
#define TAZPOD_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"

/* A message in up to two parts; the second is for a key that lives in locked memory of its own. */
struct message {
    void *head;
    size_t head_len;
    void *tail; /* NULL, tail_len 0: one part */
    size_t tail_len;
};

/* pass: a descriptor to send along, or -1. flags: MSG_DONTWAIT or 0. 0, or -1 with errno. */
int wire_send(int fd, const struct message *m, int pass, int flags);

/* Returns the bytes of the message, 0 at the end of the conversation, -1 with errno: EMSGSIZE when
 * it was longer than the parts, EBADMSG when more than one descriptor came with it (all are then
 * closed). *passed is the descriptor, or -1. */
ssize_t wire_recv(int fd, const struct message *m, int *passed, int flags);

/* Fills in all three; text may be NULL. Longer words and texts are cut. */
void wire_error_set(struct wire_error *e, int code, const char *word, const char *text);

/* Every text inside is zero-terminated and fit for a terminal from here on, whatever was sent. */
void wire_error_close(struct wire_error *e);

#endif
