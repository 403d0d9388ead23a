/* mount - a tmpfs of our own.
 *
 * Made where nobody sees it, put in its place in one move, taken away for good: with the new mount
 * calls (fsopen .. move_mount, Linux 5.2) it is in no namespace at all until then. Where an engine's
 * filter refuses those there is no mount of our own. Needs SYS_ADMIN, which is raised inside. Never a lazy unmount. 0, or -1 with errno. PID 1 only. */
#ifndef TAZPOD_MOUNT_H
#define TAZPOD_MOUNT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mount_options {
    uint64_t size;   /* bytes */
    uint64_t inodes;
    uid_t owner;
    gid_t group;
};

/* A new tmpfs, nosuid, nodev, 0700; *noswap tells whether the kernel took noswap (from 6.4, not in a
 * user namespace). Returns a descriptor of it for mount_put. */
int mount_make(const struct mount_options *o, bool *noswap);

/* It appears on the directory `name` in the directory `at`. All of these take names that way and not
 * paths, and follow no link: what lies above may be the owner's, who may put another in its place. */
int mount_put(int fd, int at, const char *name);

/* The mount on `from` appears on `to` instead. */
int mount_move(int at, const char *from, const char *to);

/* A real unmount: EBUSY while anybody holds it. */
int mount_remove(int at, const char *name);

#endif
