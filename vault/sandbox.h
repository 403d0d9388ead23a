/* sandbox - what a worker may still do.
 *
 * Two steps. sandbox_begin before anything is opened: no capability, no_new_privs, no core,
 * not dumpable, first in line for the OOM killer. sandbox_filter when all descriptors are there:
 * a seccomp filter that kills on any call not named for the role. Neither can be undone.
 * Returns 0, or -1 with *e: then the worker must end. Linux only; workers only. */
#ifndef VAULT_SANDBOX_H
#define VAULT_SANDBOX_H

#include "base/err.h"

enum sandbox_role { SANDBOX_OPENER, SANDBOX_UNPACKER, SANDBOX_PACKER, SANDBOX_SEALER, SANDBOX_LOOKER };

int sandbox_begin(struct err *e);
int sandbox_filter(enum sandbox_role role, struct err *e);

#endif
