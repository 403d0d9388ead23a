/* holders - who has something open in a tree.
 *
 * Looks through /proc for processes whose directory, root, program, open file, mapped file or bound
 * Unix socket lies in the tree. Sees what this process may see: those that have all
 * its ids and no capability it has not; of a process with very many threads the first 64. Not for PID 1:
 * allocates a little. */
#ifndef VAULT_HOLDERS_H
#define VAULT_HOLDERS_H

#include <sys/types.h>

#include "base/err.h"

enum { HOLDERS_MAX = 256 };

struct holders {
    pid_t pids[HOLDERS_MAX]; /* the first so many */
    unsigned n;              /* how many there are in all */
    unsigned unseen;         /* processes that may not be looked at */
    char names[200];         /* "12 (vim), 40 (bash)", cut with "..." */
};

/* tree: descriptor of its top. whole: all of its file system is the tree. Two processes are left out:
 * this one and `spared`. Without a /proc nobody can be looked at, and unseen is 1. 0, or -1 with *e if /proc
 * can't be read. */
int holders_find(int tree, int whole, pid_t spared, struct holders *h, struct err *e);

#endif
