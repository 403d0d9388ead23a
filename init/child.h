/* child - the main command.
 *
 * Started once. It gets what PID 1 was given: descriptors, directory, terminal; and what PID 1 may
 * not pass on put right: empty mask, default dispositions. PID 1 only. */
#ifndef TAZPOD_CHILD_H
#define TAZPOD_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

/* Descriptors 0 to 2 that are closed become /dev/null, so that no later open lands there. */
void child_fill_standard(void);

/* Starts and executes command in a process group of its own, which becomes the terminal's
 * foreground where descriptor 0 is one. The child leaves with 126 or 127 if it can't be executed.
 * bar: whatever PID 1 may do, the child may not mount. Returns the pid, or -1 with errno. */
pid_t child_start(char **command, bool bar);

/* PID 1 lets go of what it was given for the child: its directory, its standard input and output
 * (not error, which is the log), and every descriptor but the `n` in keep. */
void child_let_go(const int *keep, int n);

/* The terminal's foreground process group, before child_start changes it; -1 without a terminal. And
 * back to it at the end, where somebody is left on that terminal: outside a container. */
pid_t child_foreground(void);
void child_give_back(pid_t foreground);

/* A wait status as an exit status: 128+n after signal n. */
int child_exit_status(int wait_status);

#endif
