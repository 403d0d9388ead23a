/* askpass - a passphrase from a program, by the contract of SSH_ASKPASS.
 *
 * TAZPOD_ASKPASS names the program: the question is its first argument, the answer its standard
 * output, and a status other than 0 means no. TAZPOD_ASKPASS_REQUIRE=never puts it out of use, force
 * makes it the only way. The answer goes straight into the secret. */
#ifndef CLI_ASKPASS_H
#define CLI_ASKPASS_H

#include <stdbool.h>

#include "../vault/base/secret.h"

/* One is named and may be used. */
bool askpass_wanted(void);

/* The terminal may not be used instead. */
bool askpass_forced(void);

/* 0 with the answer, less one line end; 1 when the program said no; -1 when it can't be executed. */
int askpass(const char *question, struct secret *answer);

#endif
