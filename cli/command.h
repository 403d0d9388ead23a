/* command - what every verb of tazpod shares: flags, exit, messages.
 *
 * One file a verb: cli_VERB(argc, argv) with argv[0] the verb, returning the exit status.
 * Talk goes to stderr, data to stdout. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "../init/protocol.h"

struct flags {
    const char *passphrase_file;
    int passphrase_fd; /* -1 */
    const char *new_passphrase_file;
    int new_passphrase_fd; /* -1 */
    const char *identity_file;
    const char *label;
    const char *recipient;
    int slot; /* -1 */
    bool recovery; /* the credential is a recovery code */
    bool weaker;
    bool drop_history;
    bool create;
    bool no_input; /* nobody may be asked */
    uint32_t kdf_ops;     /* 0: default */
    uint32_t kdf_mem_kib; /* 0: default */
    uint32_t timeout_ms;  /* 0: default */
    bool json;
    bool check;
    bool force;
    bool accept_older;
};

enum flag_set {
    FLAGS_NONE = 0,
    FLAGS_PASSPHRASE = 1, /* --passphrase-fd, --passphrase-file, --no-input */
    FLAGS_CREATE = 2,     /* --create, --kdf-time, --kdf-memory, --accept-older */
    FLAGS_TIMEOUT = 4,    /* --timeout */
    FLAGS_STATUS = 8,     /* --json, --check */
    FLAGS_LOCK = 16,      /* --force */
    FLAGS_CREDENTIAL = 32, /* --recovery, --identity-file */
    FLAGS_FRESH = 64,      /* --new-passphrase-file, --new-passphrase-fd */
    FLAGS_LABEL = 128,     /* --label, --recipient */
    FLAGS_COST = 256,      /* --kdf-time, --kdf-memory, --weaker */
    FLAGS_SLOT = 512,      /* --slot */
    FLAGS_REKEY = 1024,    /* --drop-history */
    FLAGS_JSON = 2048,     /* --json */
    FLAGS_OUTCOME = 4096,  /* --json: how it ended, by say_error or say_done */
};

/* Reads the flags that are allowed; nothing else may stand on the line. 0, or EX_TP_USAGE after a
 * message. --help is answered by the caller of the verb. */
int flags_parse(int argc, char **argv, unsigned allowed, struct flags *f);

/* "tazpod: " and the text to stderr. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "tazpod: can't DO: TEXT [WORD]"; returns the error's exit code. Where FLAGS_OUTCOME was parsed and --json
 * given, it is on standard output too, as an object. */
int say_error(const char *what, const struct wire_error *e);

/* The same for success, which is silent without --json; the words are the caller's. */
void say_done(uint64_t generation);

/* Where tazpod-init keeps its socket: TAZPOD_RUN_DIR or /run/tazpod. */
const char *run_dir(void);

int cli_unlock(int argc, char **argv);
int cli_lock(int argc, char **argv);
int cli_save(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_shell(int argc, char **argv);
int cli_verify(int argc, char **argv);
int cli_history(int argc, char **argv);
int cli_restore(int argc, char **argv);
int cli_health(int argc, char **argv);
int cli_config(int argc, char **argv);
int cli_key(int argc, char **argv);

/* A worker of PID 1; argv as in docs/control-protocol.md. */
int worker_main(int argc, char **argv);

#endif
