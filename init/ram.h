/* ram - the run directory, and the trees of clear text in it.
 *
 * Names in docs/files.md. Two backends. `given`: the run directory is RAM that somebody else
 * mounted, and a tree is a directory in it, which changes place by rename. `own`: a tree is a tmpfs
 * of our own, which changes place by a move of its mount. Either way it is somewhere whole or not
 * there. All names are relative to one descriptor of the run directory, taken at start.
 * PID 1 only. No allocation. Returns 0, or -1 with errno, unless said otherwise. */
#ifndef TAZPOD_RAM_H
#define TAZPOD_RAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"

enum ram_backend { BACKEND_AUTO = 0, BACKEND_GIVEN, BACKEND_OWN, BACKEND_UNDECIDED };

struct ram {
    int dir; /* -1: there is no run directory */
    const char *path;
    uid_t owner;
    gid_t group;
    bool usable; /* a vault can be opened here; else problem says why not */
    bool private; /* the directory passed its checks */
    enum ram_backend wish;
    bool own;
    bool noswap;   /* own: the kernel takes noswap */
    uint64_t size; /* own: bytes of the next tree's tmpfs */
    char why[WIRE_WHY_MAX]; /* why it is given, where own was possible or asked for; "" else */
    int made;        /* own: the tmpfs that is being filled, -1 */
    ino_t tree;      /* the published tree, 0 without one */
    dev_t tree_dev;
    bool hidden;     /* it is in .locking, not in its place */
    bool wipe_mount; /* own: the tree is to be deleted and unmounted where it is */
    char secrets[WIRE_PATH_MAX];
    struct wire_error problem;
};

/* Opens and checks path: the owner's, 0700, and for `given` a tmpfs or ramfs; mode and owner are put
 * right where that is possible. A directory of root's with the sticky bit, which is how Kubernetes
 * gives its memory volumes, is taken as it is: what is made inside is 0700 and nobody else can move
 * it. Where a mount may be tried the backend is left undecided, for ram_choose: trying takes a
 * fraction of a millisecond, which the main command's start need not wait for. Never fails: what is wrong stands in problem. */
void ram_open(struct ram *r, const char *path, uid_t owner, gid_t group, enum ram_backend wish);

/* Decides, or decides again while no tree is there: a configuration file was read. BACKEND_AUTO takes
 * `own` where a mount can be made and moved, which is tried, else `given`. */
void ram_choose(struct ram *r, enum ram_backend wish);

/* At start: clear text that is there is not ours to serve, save or delete. It is moved aside as
 * .stale-N with mode 0. */
void ram_set_aside(struct ram *r);

/* Removes what a killed unlock or a finished lock left behind. With `own`, a mount that a lock could
 * not take away because somebody held it is taken away once he has let go. */
void ram_sweep(struct ram *r);

/* After a fault of process 1, with what was known before: looks where the tree is now, and gives up a
 * staging tree. True if it is there. */
bool ram_resume(struct ram *r, const char *path);

/* How many trees are kept aside. */
uint32_t ram_stale(const struct ram *r);

/* A new empty tree that nobody is shown, 0700, the owner's. Anything in the place of the vault is
 * set aside first. Returns a descriptor of its top, the caller's to close. */
int ram_stage(struct ram *r);

/* The staged tree becomes the vault. */
int ram_publish(struct ram *r);

/* The vault's top for the packer, in its place or hidden: a descriptor, the caller's to close.
 * -1 with ENOENT if what is there is not the tree that was published. */
int ram_tree(const struct ram *r);

/* The vault leaves its place for a lock's save, and comes back. */
int ram_hide(struct ram *r);
int ram_unhide(struct ram *r);

/* Marks for deletion: the staging tree of an unlock that failed; the vault, published or hidden,
 * once it is durable. */
void ram_discard_staging(struct ram *r);
void ram_discard_tree(struct ram *r);

/* Deletes up to `budget` entries of what is marked, and at the end unmounts. 1: there is more,
 * 0: all is gone, -1: something can't be deleted or unmounted (errno; EBUSY: somebody holds the
 * mount, which is empty then). */
int ram_wipe_some(struct ram *r, int budget);

#endif
