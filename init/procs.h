/* procs - everybody else in the pod.
 *
 * As process 1 of a pid namespace that is every process but itself, those of `docker exec`, whose
 * parent is outside, included. Anywhere else only its own descendants: the rest is the host's.
 * A PID 1 that is not root can't signal other users' processes. PID 1 only; no allocation. */
#ifndef TAZPOD_PROCS_H
#define TAZPOD_PROCS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Sends sig to all. Not as process 1 and without a /proc that shows them: to the process group of the main
 * command, 0 if it has ended. */
void procs_signal(int sig, pid_t main_pid);

/* One of them; false if it is none of those: it is not signalled. */
bool procs_signal_one(pid_t pid, int sig);

/* The same, but for one or two, 0 for nobody; those that /proc shows, one by one. False if it shows none. */
bool procs_signal_but(int sig, pid_t spared, pid_t other);

/* Hangs up terminals: HUP to every process with a controlling terminal that leads its session or
 * ignores TERM. Both are what an interactive shell looks like; it would sit out any TERM. */
void procs_hang_up(void);

/* The number the last process of this pid namespace got, -1 if it can't be told. As process 1 only. */
int64_t procs_last_pid(void);

/* Somebody is left. */
bool procs_any(void);

#endif
