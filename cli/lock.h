/* lock - what every command that has the vault locked does first. */
#ifndef CLI_LOCK_H
#define CLI_LOCK_H

#include <stdbool.h>

/* Whoever asks must not be in his own way, wherever he stands and whatever he was given: this process gives up
 * its directory and descriptors. Standard error stays: who has that in the vault would lose what it says;
 * standard output too, where it is asked for. */
void lock_let_go(bool output);

#endif
