/* ram - the run directory, and the trees of clear text in it.
 *
 * Names in docs/files.md. All work is relative to one descriptor of the run directory, taken at
 * start. A tree is somewhere whole or not there: it changes place by rename alone.
 * PID 1 only. No allocation. Returns 0, or -1 with errno, unless said otherwise. */
#ifndef TAZPOD_RAM_H
#define TAZPOD_RAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"

struct ram {
    int dir; /* -1: there is no run directory */
    const char *path;
    uid_t owner;
    gid_t group;
    bool usable; /* it is RAM, and ours; else problem says why not */
    ino_t tree; /* inode of the published tree, 0 without one */
    struct wire_error problem;
};

/* Opens and checks path: a tmpfs or ramfs, the owner's, 0700; mode and owner are put right where
 * that is possible. A directory of root's with the sticky bit, which is how Kubernetes gives its
 * memory volumes, is taken as it is: what is made inside is 0700 and nobody else can move it.
 * Never fails: what is wrong stands in problem. */
void ram_open(struct ram *r, const char *path, uid_t owner, gid_t group);

/* At start: clear text that is there is not ours to serve, save or delete. It is moved aside as
 * .stale-N with mode 0. */
void ram_set_aside(struct ram *r);

/* Removes what a killed unlock or a finished lock left behind. */
void ram_sweep(struct ram *r);

/* How many trees are kept aside. */
uint32_t ram_stale(const struct ram *r);

/* An empty .staging, 0700, the owner's. Anything in the place of the vault is set aside first. */
int ram_stage(struct ram *r);

/* .staging becomes the vault. */
int ram_publish(struct ram *r);

/* The tree in place is the one that was published. */
bool ram_is_ours(const struct ram *r);

/* The vault leaves its place for a lock's save (.locking), and comes back. */
int ram_hide(struct ram *r);
int ram_unhide(struct ram *r);

/* Marks for deletion: the staging tree of an unlock that failed; the vault, published or hidden,
 * once it is durable. */
void ram_discard_staging(struct ram *r);
void ram_discard_tree(struct ram *r);

/* Deletes up to `budget` entries of what is marked. 1: there is more, 0: all is gone,
 * -1: something can't be deleted (errno). */
int ram_wipe_some(struct ram *r, int budget);

#define RAM_SECRETS "secrets"
#define RAM_STAGING ".staging"
#define RAM_LOCKING ".locking"

#endif
