/* meanwhile - the vault is locked while its file is rewritten, if it is open, and opened again.
 *
 * So what is in RAM is saved before, and process 1 holds no key that the new file may not have. */
#ifndef CLI_MEANWHILE_H
#define CLI_MEANWHILE_H

#include <stdbool.h>

#include "../init/protocol.h"
#include "../vault/base/secret.h"

struct locked_meanwhile {
    bool open;           /* it was, and is to be again */
    uint64_t generation; /* then */
};

/* order: with the credential that opens the vault, which is tried first: with a wrong one it would stay locked. Whoever
 * holds the vault open is ended by force, else that refuses it. This process gives up its directory and
 * descriptors, standard output unless it is wanted. 0, or -1 with *e and the vault as it was. */
int meanwhile_begin(struct locked_meanwhile *m, const struct secret *order, bool force, bool output,
                    struct wire_error *e);

/* Opens it again, with the order as one to open. rc: how the rewriting went, with its *e. Returns that, or -1 where
 * the vault could not be opened, which is told. */
int meanwhile_end(const struct locked_meanwhile *m, struct secret *order, int rc, struct wire_error *e);

#endif
