/* key - the data key of the open vault, and nothing else.
 *
 * One page of memfd_secret where the kernel has it (from 6.5 by default): not even the kernel maps
 * it, no child inherits it, and hibernation is blocked meanwhile. Else a locked page of a memfd,
 * safe only while PID 1 is not dumpable. WIRE_KEY_SIZE bytes. PID 1 only. */
#ifndef TAZPOD_KEY_H
#define TAZPOD_KEY_H

#include <stdbool.h>
#include <stdint.h>

struct key {
    uint8_t *bytes; /* NULL: no page */
    int fd;
    bool secret; /* memfd_secret, not the fallback */
};

/* 0, or -1 with errno. */
int key_make(struct key *k);

/* Maps the page again that `fd` holds, after a fault. False, and without a page, if there is none or no
 * key in it. */
bool key_take(struct key *k);

/* Wipes and releases; without a page it does nothing. */
void key_forget(struct key *k);

#endif
