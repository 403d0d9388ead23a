/* open - get the vault open, whatever that takes: asked for by unlock and by shell.
 *
 * Talks to the user on stderr and the terminal. */
#ifndef CLI_OPEN_H
#define CLI_OPEN_H

#include "../init/protocol.h"
#include "command.h"

/* EX_TP_OK with *s filled in, else an exit status after a message. what: the verb for messages. */
int open_vault(const struct flags *f, const char *what, struct wire_status *s);

/* "the vault is open: ..." and, if there are any, the trees kept aside. */
void open_say(const struct wire_status *s);

#endif
