/* err - what went wrong, in a form that can be sent as it is.
 *
 * code is the exit status it leads to (docs/control-protocol.md, "Exit codes"), word a stable
 * lower-case word for scripts, text one line for a person, without line end.
 * The place that first sees a failure writes it; err_add puts context in front.
 * No allocation; any process; not for signal context (vsnprintf). */
#ifndef VAULT_BASE_ERR_H
#define VAULT_BASE_ERR_H

#include <stdint.h>

struct err {
    int32_t code;
    char word[24];
    char text[296];
};

/* Codes a vault function can lead to; the same numbers as enum tazpod_exit. */
enum {
    ERR_FAILED = 1,
    ERR_DAMAGED = 65,
    ERR_NO_VAULT = 66,
    ERR_INTERNAL = 70,
    ERR_KDF_MEMORY = 71,
    ERR_CANT_CREATE = 73,
    ERR_IO = 74,
    ERR_BUSY = 75,
    ERR_NEWER = 76,
    ERR_PASSPHRASE = 77,
    ERR_CONFIG = 78,
};

/* All of these return -1, so that a caller may write `return err_set(...)`. */
int err_set(struct err *e, int code, const char *word, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* From errno: code ERR_IO, word "io", or "disk-full" for ENOSPC and EDQUOT; strerror is appended. */
int err_sys(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "CONTEXT: " in front of the text. */
int err_add(struct err *e, const char *context);

/* The next step where a vault file can't be read. */
#define ERR_SEE_HISTORY ": tazpod history shows what else there is, tazpod restore brings it back"

#endif
