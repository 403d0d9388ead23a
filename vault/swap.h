/* swap - may the clear text in a directory reach a swap device?
 *
 * A tmpfs is swapped out, in the clear, unless one of three things holds: its mount says noswap, the
 * machine has no swap, or the container may use none. ramfs never is. Reads /proc and the cgroup's
 * files, so before a filter. No allocation but a stdio buffer; workers only. */
#ifndef VAULT_SWAP_H
#define VAULT_SWAP_H

enum swap {
    SWAP_IS_NOSWAP = 1, /* the mount says so, or it is ramfs */
    SWAP_IS_NONE,       /* the machine has no swap */
    SWAP_IS_DENIED,     /* the container may use none (memory.swap.max 0, or its version 1 form) */
    SWAP_IS_POSSIBLE,   /* none of these, or it can't be told */
};

/* fd: the directory. A mount that is in no namespace yet is in no table: who made it must know. */
enum swap swap_look(int fd);

#endif
