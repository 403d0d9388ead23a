/* options - argv and environment of tazpod-init, read once, no file.
 *
 * Strings point into argv or the environment, which live as long as the process. Times are
 * milliseconds. */
#ifndef TAZPOD_OPTIONS_H
#define TAZPOD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ram.h"

struct options {
    const char *vault;   /* NULL: not named. "none": switched off */
    const char *run_dir; /* never NULL */
    bool run_dir_named;
    enum ram_backend backend;
    bool require_noswap; /* refuse to open a vault in RAM that may be swapped out */
    const char *program; /* NULL: look in the usual places */
    int64_t owner;       /* -1: not named */
    int64_t stop_timeout_ms;
    int64_t worker_timeout_ms;
    bool version, help;
    char **command; /* NULL-terminated; command[0] is NULL without one */
};

#define DEFAULT_VAULT "/workspace/.tazpod/vault.tpv"
#define DEFAULT_RUN_DIR "/run/tazpod"

enum {
    STOP_TIMEOUT_MS = 8000,    /* of the 10 s that Docker gives */
    WORKER_TIMEOUT_MS = 60000, /* for one save or unlock */
};

/* 0, or -1 with *bad pointing at the word that was not understood. */
int options_parse(int argc, char **argv, struct options *o, const char **bad);

#endif
