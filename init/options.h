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
#include "signals.h"

struct options {
    const char *vault;   /* NULL: not named. "none": switched off */
    const char *run_dir; /* never NULL */
    bool run_dir_named;
    enum ram_backend backend;
    bool backend_named;
    bool require_noswap; /* refuse to open a vault in RAM that may be swapped out */
    const char *program; /* NULL: look in the usual places */
    int64_t owner;       /* -1: not named */
    int64_t stop_timeout_ms; /* 0: not named */
    int64_t worker_timeout_ms; /* 0: not named */
    int64_t lock_wait_ms; /* 0: not named */
    int64_t ram_size; /* own: bytes, 0: not named */
    bool log_json, log_json_named;
    bool group;              /* forward to the main command's process group */
    bool warn;               /* log each process that is collected but the main command */
    int verbose;             /* 1: start and end of the main command, 2: signals and ends too */
    int parent_death;        /* signal at the parent's death, 0: none */
    uint8_t remap[32];       /* bits by exit status: these become 0 */
    uint8_t rewrite[SIGNAL_MAX + 1]; /* by signal: 0 as it is, else 1 + what it becomes; 1: dropped */
    bool version, help, license;
    char **command; /* NULL-terminated; command[0] is NULL without one */
};

#define DEFAULT_RUN_DIR "/run/tazpod"

enum {
    STOP_TIMEOUT_MS = 8000,    /* where nobody says: of the 10 s that Docker gives */
    WORKER_TIMEOUT_MS = 60000, /* the same, for one save or unlock */
    LOCK_WAIT_MS = 1000,       /* for who holds the vault open */
    TIMEOUT_LEAST_MS = 100,    /* bounds, those of vault/config.c */
    TIMEOUT_MOST_MS = 3600000,
};

/* What the main command gets in place of sig, 0: nothing. */
int options_rewritten(const struct options *o, int sig);

/* Is the main command's exit status to become 0? */
bool options_remapped(const struct options *o, int status);

/* 0, or -1 with *bad pointing at the word that was not understood. */
int options_parse(int argc, char **argv, struct options *o, const char **bad);

#endif
