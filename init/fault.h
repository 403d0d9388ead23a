/* fault - PID 1's own SEGV, BUS, ABRT, ILL and FPE.
 *
 * A fault of its own executes the program again in place: same pid, same children, and every
 * descriptor stays open over it. What the new one needs beside them is in the record (record.h).
 * The same signals, sent by somebody, are only passed on. PID 1 only; no allocation. */
#ifndef TAZPOD_FAULT_H
#define TAZPOD_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FAULT_MANY = 3,           /* so many in FAULT_WINDOW_MS, and the pod is saved and ends */
    FAULT_TOO_MANY = 8,       /* so many, and it can't even do that */
    FAULT_WINDOW_MS = 60000,
};

/* A descriptor of this program's own file, -1 if there is no /proc: then a fault is the end. */
int fault_self(void);

/* Installs the handler, on a stack of its own. argv lives as long as the process. sent: called for a
 * fault signal that somebody else sent. late_record: makes a record where `record` is -1. Both in signal
 * context. */
void fault_install(char **argv, int self, int record, void (*sent)(int sig), int (*late_record)(void));

/* The record this program was executed again with, and the signal that was the reason. -1: it was
 * not. */
int fault_announced(int *sig);

/* Notes a fault at now_ms among the FAULT_TOO_MANY last ones. Returns how many of them were in the
 * last FAULT_WINDOW_MS. Zeros are no faults. */
int fault_count(int64_t times_ms[FAULT_TOO_MANY], int64_t now_ms);

#endif
