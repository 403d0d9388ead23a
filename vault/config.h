/* config - every setting of TazPod: one table of keys, and the sources they come from.
 *
 * Sources, the strongest first: flags, TAZPOD_* variables, config.ini beside the vault file (the
 * project's), /etc/tazpod.ini (the system's), defaults. Sizes are bytes, times milliseconds, whatever
 * unit they were written with. The one home of inih.
 *
 * Strings of the source stay the caller's and are used only during the call; config_print alone
 * looks at the paths again. Everything returns 0, or -1 with *e: code ERR_CONFIG, word "config", and
 * a text that names the source, line, key and allowed values. *out is written only when 0.
 * No allocation, no state of its own; workers and command line only, not for signal context.
 *
 * What is broken: a line that is neither section, comment nor key = value; a key that is unknown or
 * comes twice in one file; a value that is not allowed; a NUL byte; a line over CONFIG_LINE_MAX; more
 * than CONFIG_FILE_MAX; a file that can't be read or is not a regular one. A weaker source that is
 * broken is an error even where a stronger one names the same key. A missing file is none, but a
 * link to nothing is: whoever put it there meant something.
 *
 * Links are followed for the system's file, because Kubernetes mounts a ConfigMap as links, and the
 * file is root's. Never for the project's: the workspace may be a checkout of somebody else's, and an
 * error quotes what it stumbles over, so a link from config.ini to a file of the open vault would put
 * a line of a secret into the log. */
#ifndef VAULT_CONFIG_H
#define VAULT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define CONFIG_SYSTEM "/etc/tazpod.ini"
#define CONFIG_PROJECT "config.ini" /* in the directory of the vault file */

enum {
    CONFIG_VERSION = 1,         /* of the record: another meaning, another number */
    CONFIG_FILE_MAX = 64 * 1024, /* bytes */
    CONFIG_LINE_MAX = 190,      /* bytes without line end; inih as Debian builds it takes 197 */
    CONFIG_KEYS = 11,
    CONFIG_ORIGINS = 20,        /* room for keys to come, so that the record keeps its size */
};

enum config_origin {
    CONFIG_FROM_DEFAULT = 0,
    CONFIG_FROM_SYSTEM,
    CONFIG_FROM_PROJECT,
    CONFIG_FROM_ENVIRONMENT,
    CONFIG_FROM_FLAG,
};

/* In the order of the words in the table. */
enum config_backend { CONFIG_BACKEND_AUTO, CONFIG_BACKEND_OWN, CONFIG_BACKEND_GIVEN };
enum config_log_format { CONFIG_LOG_TEXT, CONFIG_LOG_JSON };

/* What came out: plain values, fit to be sent as they are. Every value has been checked. */
struct config_record {
    uint32_t version;  /* CONFIG_VERSION */
    uint32_t kdf_time; /* passes */
    uint64_t kdf_memory_bytes;
    uint64_t ram_size_bytes;
    uint64_t stop_timeout_ms;
    uint64_t worker_timeout_ms;
    uint8_t ram_backend;        /* enum config_backend */
    uint8_t ram_require_noswap; /* 0 or 1, as all claims */
    uint8_t log_format;         /* enum config_log_format */
    uint8_t log_names;
    uint8_t origin[CONFIG_ORIGINS]; /* enum config_origin, in the order of the table; the rest 0 */
    uint64_t history_interval_ms;
    uint32_t history_generations;
    uint32_t reserved; /* 0 */
};

_Static_assert(sizeof(struct config_record) == 80, "config_record");

enum config_type {
    CONFIG_CHOICE, /* uint8_t: which of the words */
    CONFIG_CLAIM,  /* uint8_t: yes 1, no 0 */
    CONFIG_NUMBER, /* uint32_t */
    CONFIG_SIZE,   /* uint64_t bytes; written with K, M or G, powers of 1024 */
    CONFIG_TIME,   /* uint64_t ms; written as seconds, with or without s, or with ms */
};

struct config_key {
    const char *name;     /* "section.key" */
    enum config_type type;
    const char *standard; /* the default, as written in a file */
    const char *variable; /* NULL: files alone. A flag of tazpod-init has the same name: --stop-timeout */
    const char *allowed;  /* "word|word", or "LEAST to MOST" */
    const char *doc;      /* one line */
    size_t offset;        /* in the record */
    bool only_yes;        /* once a source has said yes, a stronger one can't take it back */
};

extern const struct config_key config_keys[CONFIG_KEYS];

/* flags and environment are lists of VARIABLE=VALUE that end in NULL, or NULL; for each name the first
 * one counts. Names that are no key's are passed over, and so is a variable that is empty. */
struct config_source {
    const char *project; /* path, NULL: none */
    const char *system;  /* path, NULL: none */
    const char *const *environment;
    const char *const *flags;
};

/* The bytes of both files. 128 KiB, so rather static than on the stack. */
struct config_files {
    struct config_text {
        size_t len; /* bytes; 0 where there is no file */
        char bytes[CONFIG_FILE_MAX + 1];
    } system, project;
};

/* "DIR/config.ini" for the vault "DIR/NAME". -1 if it does not fit. */
int config_beside(const char *vault, char *out, size_t size);

/* In two steps for a worker: load before its filter, parse after it, which makes no system call. */
int config_load(const struct config_source *s, struct config_files *f, struct err *e);
int config_parse(const struct config_source *s, const struct config_files *f, struct config_record *out,
                 struct err *e);

/* Both. Uses 128 KiB of stack. */
int config_read(const struct config_source *s, struct config_record *out, struct err *e);

/* Every key with its value and where it came from. s names the files, as it was for the reading. The
 * caller looks after errors of the stream. */
void config_print(FILE *to, const struct config_source *s, const struct config_record *r, bool json);

/* A file of all keys, commented out, with what the table says of them: docs/tazpod.ini. */
void config_sample(FILE *to);

#endif
