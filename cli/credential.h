/* credential - what opens a vault, from wherever the flags say: a passphrase, a recovery code, an identity.
 *
 * From a descriptor, a file or the terminal; never from an argument or the environment. The struct lives
 * in an order, which is a secret. */
#ifndef CLI_CREDENTIAL_H
#define CLI_CREDENTIAL_H

#include "../init/protocol.h"
#include "command.h"
#include "../vault/code.h"
#include "order.h"

#define RECOVERY_CONTEXT "tazpod recovery code"
#define IDENTITY_CONTEXT "tazpod identity"
#define RECIPIENT_CONTEXT "tazpod recipient"
#define IDENTITY_PREFIX "TAZPOD-IDENTITY-"
#define RECIPIENT_PREFIX "tazpod-recipient-"

/* The one that opens the vault. 0, or -1 with *e: the words of passphrase_get, wrong-recovery-code,
 * wrong-identity, usage. */
int credential_get(const struct flags *f, struct credential *c, struct wire_error *e);

/* A new passphrase: --new-passphrase-file, --new-passphrase-fd, or typed twice. */
int credential_new_passphrase(const struct flags *f, struct credential *c, struct wire_error *e);

/* A new recovery code, and its text. */
void credential_new_recovery(struct credential *c, char text[CODE_TEXT_MAX]);

/* The public key in a text. */
int credential_recipient(const char *text, struct credential *c, struct wire_error *e);

/* It is asked for on the terminal, so another try makes sense. */
bool credential_is_typed(const struct flags *f);

#endif
