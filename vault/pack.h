/* pack - a directory tree to a compressed tar stream and back.
 *
 * docs/vault-format.md, section 6. The only place that knows libarchive. Never holds a key.
 * root is a descriptor of the tree's top directory; it and the streams stay the caller's.
 * Sizes are bytes. room is what the tree may take in RAM in all, counted in whole pages.
 * Returns 0, or -1 with *e. Memory: about 4 MiB. Allocates; packer and unpacker only. */
#ifndef VAULT_PACK_H
#define VAULT_PACK_H

#include <stdint.h>

#include "base/err.h"

struct pack_stats {
    uint64_t files;    /* regular files */
    uint64_t bytes;    /* of their contents */
    uint32_t skipped;  /* sockets, FIFOs, devices, links that are absolute or leave the tree */
    uint32_t left_out; /* what a vault can't hold: counts as unsaved */
    char first_left_out[200]; /* "WHY: NAME" of the first of them */
};

/* Words: unreadable (a file or directory that can't be read), changing (a file that changed at
 * each of three readings), else from err_sys. What is left out is no error. */
int pack_tree(int root, uint64_t room, int to, struct pack_stats *st, struct err *e);

/* The same, for when nobody is left to mend anything: what can't be read, or changes at each reading,
 * is left out and counted, in place of failing the rest. */
int pack_tree_what_can_be_read(int root, uint64_t room, int to, struct pack_stats *st, struct err *e);

/* root must be empty. On failure what was made is left for the caller to delete.
 * Words: bad-entry (the archive as a whole is refused), no-room, io. */
int unpack_tree(int from, int root, uint64_t room, struct pack_stats *st, struct err *e);

#endif
