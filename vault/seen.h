/* seen - the last vault file that was read or written here, to notice an older one in its place.
 *
 * Kept beside the vault as NAME.seen (docs/files.md), in the clear: it says nothing that the header does
 * not say. A help for people, no proof: whoever can put back an older vault can put back an older note.
 * So one that is missing or damaged never refuses anything. Opener and sealer only; no allocation. */
#ifndef VAULT_SEEN_H
#define VAULT_SEEN_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "header.h"
#include "store.h"

/* Is the file whose proven header this is older than the one seen last? Then -1 with *e (word older),
 * unless that was accepted before, or accept says so now, which is noted. Else 0. */
int seen_check(struct store *s, const uint8_t *bytes, size_t len, const struct header *h, int accept,
               struct err *e);

/* The file with this header is the one seen last. An error is ignored: the next save tries again. Under the
 * lock. */
void seen_note(struct store *s, const uint8_t *bytes, size_t len, const struct header *h);

#endif
