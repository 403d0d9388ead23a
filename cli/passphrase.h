/* passphrase - where it comes from, and how it leaves.
 *
 * From a descriptor, a file, or the terminal; never from an argument or the environment. It leaves
 * through a pipe whose reading end is passed to the opener, so PID 1 never holds it. */
#ifndef CLI_PASSPHRASE_H
#define CLI_PASSPHRASE_H

#include <stdbool.h>

#include "../init/protocol.h"
#include "../vault/base/secret.h"
#include "command.h"

/* Reads one into an empty secret, which is the caller's to free. twice: a new one, asked for a
 * second time on the terminal. 0, or -1 with *e: needs-terminal, cancelled, empty-passphrase,
 * long-passphrase, wrong-passphrase (the two differ), usage. */
int passphrase_get(const struct flags *f, bool twice, struct secret *p, struct wire_error *e);

/* A terminal will be asked, so another try makes sense. */
bool passphrase_is_typed(const struct flags *f);

/* A pipe that holds it; returns the reading end, -1 with errno. */
int passphrase_pipe(const struct secret *p);

#endif
