/* signals - masks by number, dispositions, and what each signal means to PID 1.
 *
 * Numbers 1 to 64 as the kernel has them. Raw system calls: the C libraries keep some numbers
 * (musl 32 to 34, glibc 32 and 33) out of their sets, and engines send them. */
#ifndef TAZPOD_SIGNALS_H
#define TAZPOD_SIGNALS_H

#include <stdint.h>

enum {
    SIGNAL_MAX = 64,
    SIGNAL_RTMIN = 34, /* the kernel has 32; the C libraries keep 32 and 33, and musl 34 */
    SIGNAL_ENGINE_STOP = 37, /* RTMIN+3 as engines and systemd count, from the kernel's 34 */
};

/* Blocks all but the five fault signals: PID 1's state for life. */
void signals_block(void);

/* For a child about to execute: nothing blocked. */
void signals_unblock(void);

/* Every disposition to default, whatever was inherited; what is ignored survives an exec. */
void signals_default(void);

/* A non-blocking, close-on-exec descriptor that reads struct signalfd_siginfo of all blocked
 * signals; -1 with errno. */
int signals_open(void);

/* Takes one that is pending, SIGCHLD last, or waits for one; 0: interrupted. For who waits for nothing else: from
 * the signal on it is one call in place of two. */
int signals_take(void);

/* "TERM", "SIGTERM", "15", "RTMIN+3", "RTMAX-1": the number, RTMIN being the kernel's 34. -1: no signal. */
int signals_number(const char *name);

/* TERM, INT, PWR, RTMIN+3: these stop a pod. */
int signals_is_stop(int sig);

#endif
