/* slots - credentials at the key slots of a header.
 *
 * docs/vault-format.md, sections 1 and 2. Derivations allocate their memory for the time of a call.
 * Opener and rewriter only. Returns 0, or -1 with *e. */
#ifndef CLI_SLOTS_H
#define CLI_SLOTS_H

#include "order.h"
#include "work.h"

/* The slot that the credential opens: *key is filled, *used its index. Each derivation is refused before
 * it runs where the container has not the memory (word kdf-memory). Words: wrong-passphrase,
 * wrong-recovery-code, wrong-identity. */
int slots_open(const struct work *w, const struct header *h, const struct credential *c, struct secret *key,
               unsigned *used, struct err *e);

/* Puts a slot for the credential at index, which may be one more than there are. */
int slots_put(const struct work *w, struct header *h, unsigned index, const struct credential *c, const char *label,
              uint32_t ops, uint32_t mem_kib, const struct secret *key, struct err *e);

/* Takes one away: its place is free. Free places at the end go altogether, but for the first. */
void slots_take(struct header *h, unsigned index);
void slots_trim(struct header *h);

/* The slot opens under the credential, and holds key. */
int slots_prove(const struct header *h, unsigned index, const struct credential *c, const struct secret *key,
                struct err *e);

/* The first free place, -1 if there is none. */
int slots_free(const struct header *h);

/* How many are in use. */
unsigned slots_used(const struct header *h);

#endif
