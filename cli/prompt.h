/* prompt - a question on the terminal itself.
 *
 * On /dev/tty, whatever standard input is. The terminal comes back as it was, on every way out but
 * SIGKILL. Not for signal context. */
#ifndef CLI_PROMPT_H
#define CLI_PROMPT_H

#include "../vault/base/secret.h"

enum prompt_result {
    PROMPT_OK = 0,
    PROMPT_NO_TTY,    /* there is no terminal */
    PROMPT_CANCELLED, /* Ctrl-C, Ctrl-\, Ctrl-D, a signal, the window closed */
    PROMPT_TOO_LONG,  /* more than the secret holds */
};

/* Reads a line without echo into an allocated secret; len 0 is an empty line. */
enum prompt_result prompt_secret(const char *question, struct secret *answer);

/* Asks for yes; anything but y or yes is no. *yes is set when PROMPT_OK. */
enum prompt_result prompt_yes(const char *question, int *yes);

/* From here on what is typed is not shown, so that neither the rest of a paste nor the beginning of the
 * next try appears while a key is derived; and as it was before, with what was typed meanwhile dropped.
 * Signals that end this process put the terminal right first. Without a terminal nothing happens. */
void prompt_hush(void);
void prompt_unhush(void);

#endif
