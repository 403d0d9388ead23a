/* record - what outlives a fault of PID 1.
 *
 * A copy of its state in a memfd, written at the end of each turn of the loop that changed
 * something; of a plain init, whose state does not change, when it faults. So it is always the state of a
 * whole turn, whatever happened in the middle of the next one. It holds no key and no passphrase. Written and read by the same program only: another
 * version's is not understood. PID 1 only; no allocation. */
#ifndef TAZPOD_RECORD_H
#define TAZPOD_RECORD_H

#include <stdbool.h>

#include "pod.h"

/* A new one, empty. A descriptor, -1 with errno. */
int record_open(void);

/* An error is ignored: it would only be missed after a fault. */
void record_keep(int fd, const struct pod *p);

/* Fills *p as it was kept: pointers and connections in it mean nothing any more. False if there is
 * nothing whole that this process wrote. */
bool record_take(int fd, struct pod *p);

#endif
