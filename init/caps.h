/* caps - the one privilege PID 1 may have been given, and when it is in force.
 *
 * A capability given to a container does not reach a process that is not root, so the program's
 * file carries cap_sys_admin,cap_sys_chroot=p: permitted where the container has them, effective
 * only between caps_raise and caps_lower. No program PID 1 executes has SYS_ADMIN. PID 1 only. */
#ifndef TAZPOD_CAPS_H
#define TAZPOD_CAPS_H

#include <stdbool.h>
#include <stdint.h>

enum { CAP_IS_CHOWN = 0, CAP_IS_DAC_OVERRIDE = 1, CAP_IS_FOWNER = 3, CAP_IS_KILL = 5, CAP_IS_SETGID = 6, CAP_IS_SETUID = 7 };

/* SYS_ADMIN is permitted. */
bool caps_may_mount(void);

/* Why not, as a part of a sentence that names what to do. */
const char *caps_missing(void);

/* Which of the capabilities that root needs to serve another user's vault it lacks: bits by number. To
 * make and hand over files, to enter his directories, to signal his processes, to become him. */
uint32_t caps_root_lacks(void);

/* Puts SYS_ADMIN into force, and takes it out again. errno is kept. */
void caps_raise(void);
void caps_lower(void);

/* Both for good: where this is not process 1, anybody might have started it. */
void caps_drop(void);

/* In a child about to execute: SYS_ADMIN leaves the bounding set, so that not even root's exec
 * brings it back. */
void caps_bar_child(void);

#endif
