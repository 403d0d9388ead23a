/* recovery - a vault's recovery code: made, shown once, never stored. */
#ifndef CLI_RECOVERY_H
#define CLI_RECOVERY_H

#include <stdbool.h>

#include "../init/protocol.h"
#include "../vault/header.h"
#include "command.h"
#include "order.h"

/* The vault has one. */
bool recovery_there(const struct header *h);

/* Prints it, with what to do with it: the code itself to stdout, the words around it to stderr. */
void recovery_show(const char *code);

/* order: with the credential that opens the vault. Puts a new code in the place of the old one, and shows
 * it. An exit status, after a message if it is not EX_TP_OK. */
int recovery_make(struct secret *order);

/* Behind an unlock at a terminal: a vault without one is offered one. order: as above. An exit status: EX_TP_OK
 * whatever was answered, EX_TP_CANCELLED if nothing was. */
int recovery_offer(const struct flags *f, const char *vault, struct secret *order);

#endif
