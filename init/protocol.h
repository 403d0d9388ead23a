/* protocol - what tazpod-init and tazpod say to each other.
 *
 * Two conversations, both over SOCK_SEQPACKET, one fixed-size message each way:
 *   control socket   client -> struct request, PID 1 -> struct reply
 *   worker channel   PID 1 -> struct job (and a commit byte), worker -> struct ready, struct result
 * Byte for byte in docs/control-protocol.md. Integers are in host order: both ends are always
 * on one machine. Sizes are checked below, so a change that moves a field does not compile.
 * Also the one home of exit codes. Values only: nothing here allocates or can fail. */
#ifndef TAZPOD_PROTOCOL_H
#define TAZPOD_PROTOCOL_H

#include <stdint.h>

/* --- exit codes: of tazpod, of tazpod-init, and the code of every error --- */
enum tazpod_exit {
    EX_TP_OK = 0,
    EX_TP_FAILURE = 1,
    EX_TP_LOCKED = 3,      /* the vault is locked, and the command needs it open */
    EX_TP_NEEDS_TTY = 4,   /* a passphrase is needed and there is no terminal */
    EX_TP_USAGE = 64,
    EX_TP_DAMAGED = 65,    /* vault damaged, altered or truncated */
    EX_TP_NO_VAULT = 66,
    EX_TP_UNAVAILABLE = 69, /* no tazpod-init answers, or it has no usable vault place */
    EX_TP_FAULT = 70,      /* tazpod-init: its own fault; both: a worker died */
    EX_TP_KDF_MEMORY = 71, /* not enough memory for the key derivation */
    EX_TP_CANT_CREATE = 73,
    EX_TP_IO = 74,         /* tazpod-init: the last save failed */
    EX_TP_BUSY = 75,       /* try again */
    EX_TP_NEWER = 76,      /* a vault of a newer version */
    EX_TP_PASSPHRASE = 77, /* wrong passphrase */
    EX_TP_CONFIG = 78,
    EX_TP_NOT_EXECUTABLE = 126,
    EX_TP_NOT_FOUND = 127,
    EX_TP_CANCELLED = 130,
};

/* Where the vault is when nobody says. */
#define DEFAULT_VAULT "/workspace/.tazpod/vault.tpv"

#define WIRE_MAGIC 0x31505a54u /* "TZP1" */
#define WIRE_VERSION 1

#define WIRE_PATH_MAX 256   /* bytes with the zero; longer paths are refused at start */
#define WIRE_WORD_MAX 24
#define WIRE_TEXT_MAX 296
#define WIRE_WHY_MAX 160
#define WIRE_HEADER_MAX 2048 /* a vault header is at most 1760 bytes */
#define WIRE_KEY_SIZE 32
#define WIRE_DIGEST_SIZE 32
#define WIRE_MARK_SIZE 16

/* What went wrong: exit code, stable word, one line for a person. word is "" for success. */
struct wire_error {
    int32_t code;
    char word[WIRE_WORD_MAX];
    char text[WIRE_TEXT_MAX];
};

enum vault_state {
    VAULT_ABSENT = 0, /* none configured, or its place can't be used: see the status error */
    VAULT_LOCKED,
    VAULT_OPENING,
    VAULT_OPEN,
    VAULT_SAVING,
    VAULT_LOCKING,
    VAULT_STOPPING,
};

enum ram_kind {
    RAM_NONE = 0,
    RAM_GIVEN, /* a tmpfs or ramfs that somebody else mounted */
    RAM_OWN,   /* a tmpfs of tazpod-init's own */
};

/* May the clear text reach a swap device? */
enum swap_kind {
    SWAP_UNKNOWN = 0, /* never opened */
    SWAP_NOSWAP,      /* the mount says noswap, or it is ramfs */
    SWAP_NONE,        /* the machine has no swap */
    SWAP_DENIED,      /* the container may use none */
    SWAP_SWAPPABLE,
};

/* --- control socket --- */
enum request_type {
    REQ_STATUS = 1,
    REQ_UNLOCK = 2, /* carries one descriptor: a pipe or file that holds the passphrase */
    REQ_CREATE = 3, /* the same; makes a new vault, kdf_* as given or 0 for the default */
    REQ_SAVE = 4,
    REQ_LOCK = 5,
    REQ_KEY = 6, /* carries one descriptor: a pipe or file that holds an order; rewrites the vault file */
};

#define REQUEST_FORCE 1u /* lock: whoever holds the vault open is ended */

struct request {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t flags; /* REQUEST_FORCE, else 0 */
    uint32_t kdf_ops;
    uint32_t kdf_mem_kib;
    uint32_t reserved[3]; /* 0 */
};

#define STATUS_UNCHANGED 1u /* reply to save, lock: what is in RAM was already on disk */
#define STATUS_ALREADY 2u   /* reply to unlock, lock: it was open, or locked, before */
#define STATUS_UNSEEN 8u    /* reply to lock: other users' processes could not be looked at */
#define STATUS_FILE_GONE 4u /* reply to save: the file had been deleted, and was written anew */

/* What a tmpfs leaves of a container's limited memory, bytes: workers, reserve, and a shell. */
#define MEMORY_FOR_OTHERS (48u << 20)

#define WARN_RAM_EXCEEDS 1u /* the RAM may take more than the container's memory limit less that */
#define WARN_NO_LINKS 256u  /* the vault's file system refuses hard links: no bit of STATUS_*, beside which a
                               sealer says it */

struct wire_status {
    uint32_t state; /* enum vault_state */
    uint32_t ram;   /* enum ram_kind */
    uint32_t flags;
    uint32_t owner_uid;
    uint32_t owner_gid;
    uint32_t stale;    /* number of .stale-N trees kept aside */
    uint32_t skipped;  /* last save: sockets, FIFOs, devices, links that leave the tree */
    uint32_t left_out; /* last save: entries a vault can't hold; they count as unsaved */
    uint32_t swap;     /* enum swap_kind, as of the last unlock */
    uint32_t warnings; /* WARN_*, as of the last unlock, or of a save since */
    uint64_t generation; /* of the file; 0 before the first unlock */
    int64_t saved_at;    /* unix seconds, 0 unknown */
    uint64_t files;      /* of the last save or unlock */
    uint64_t bytes;
    char vault[WIRE_PATH_MAX];
    char secrets[WIRE_PATH_MAX];
    char why[WIRE_WHY_MAX]; /* why the RAM is given and not own, "" if there is no question */
    struct wire_error problem; /* why the last save failed, or why there is no vault; word "" if none */
};

struct reply {
    uint32_t magic;
    uint16_t version;
    uint16_t type; /* the request's */
    struct wire_error error;
    uint32_t reserved;
    struct wire_status status;
};

/* --- worker channel, descriptor 3 of every worker --- */
enum job_kind {
    JOB_NONE = 0,
    JOB_OPEN,   /* opener: passphrase descriptor -> key, plaintext to descriptor 1 */
    JOB_CREATE, /* opener: passphrase descriptor -> new key and header, nothing to descriptor 1 */
    JOB_UNPACK, /* unpacker: plaintext from descriptor 0 -> files */
    JOB_PACK,   /* packer: files -> plaintext to descriptor 1 */
    JOB_SEAL,   /* sealer: plaintext from descriptor 0 -> vault file */
    JOB_CONFIG, /* configuration files -> struct wire_config, in the result's header */
    JOB_LOOK,   /* who holds the tree open? Process numbers, in the result's header */
    JOB_REWRITE, /* rewriter: order in the passphrase descriptor, vault file -> vault file, key */
};

struct ready {
    uint32_t magic;
    uint32_t kind;
};

#define JOB_MUST_NOT_EXIST 1u  /* sealer: a vault file in place is an error, not a conflict */
#define JOB_OWN_NOSWAP 2u      /* unpacker, creator: the tree is a mount of PID 1's own, with noswap */
#define JOB_REQUIRE_NOSWAP 4u  /* the same: a tree that may be swapped out is refused */
#define JOB_LEAVE_OUT 8u       /* packer, at a stop: what can't be read is left out, and counted */
#define JOB_WHOLE 16u          /* look: the tree is a file system of its own */
#define JOB_REPLACE 32u        /* sealer: the file in place left something out, and is not kept */
#define JOB_AUTOSAVE 64u       /* sealer: nobody asked for it, and it makes no new generation before its time */
#define JOB_ASIDE 128u         /* opener: of a command, not of a pod: whether the file is older does not matter */

struct job {
    uint32_t magic;
    uint32_t kind;
    uint32_t flags;
    uint32_t kdf_ops;     /* sealer, rewriter: history.generations */
    uint32_t kdf_mem_kib; /* the same: history.interval, ms */
    uint32_t header_len; /* sealer: the header read or written last; rewriter: the same, 0 while locked */
    uint8_t header[WIRE_HEADER_MAX];
    uint8_t digest[WIRE_DIGEST_SIZE]; /* sealer: of the content saved last; zeros: none */
    uint8_t mark[WIRE_MARK_SIZE]; /* sealer, rewriter: begins the file salt of every vault this PID 1 writes */
};

/* Of processes that hold the tree open, at most so many are named in a result. */
#define WIRE_HOLDERS_MAX (WIRE_HEADER_MAX / 4 / 2)

/* What the files say, and for each key whether one of them says it; flags and variables, which are
 * stronger, PID 1 knows itself. The same layout as struct config_record of vault/config.h. */
enum wire_origin { ORIGIN_DEFAULT = 0, ORIGIN_SYSTEM, ORIGIN_PROJECT };
enum wire_key { KEY_RAM_BACKEND = 0, KEY_RAM_SIZE, KEY_RAM_NOSWAP, KEY_KDF_MEMORY, KEY_KDF_TIME,
                KEY_LOG_FORMAT, KEY_LOG_NAMES, KEY_STOP_TIMEOUT, KEY_WORKER_TIMEOUT,
                KEY_HISTORY_GENERATIONS, KEY_HISTORY_INTERVAL };

struct wire_config {
    uint32_t version; /* 1 */
    uint32_t kdf_time;
    uint64_t kdf_memory_bytes;
    uint64_t ram_size_bytes;
    uint64_t stop_timeout_ms;
    uint64_t worker_timeout_ms;
    uint8_t ram_backend; /* 0 auto, 1 own, 2 given */
    uint8_t ram_require_noswap;
    uint8_t log_format; /* 0 text, 1 json */
    uint8_t log_names;
    uint8_t origin[20]; /* enum wire_origin, by enum wire_key */
    uint64_t history_interval_ms;
    uint32_t history_generations;
    uint32_t reserved;
};

struct result {
    uint32_t magic;
    uint32_t kind;
    struct wire_error error;
    uint32_t flags; /* STATUS_*; unpacker, creator, and WARN_NO_LINKS of the sealer: WARN_* */
    uint32_t header_len;
    uint32_t skipped;
    uint32_t left_out;
    uint32_t swap; /* unpacker, creator: enum swap_kind */
    uint64_t generation;
    int64_t saved_at;
    uint64_t files;
    uint64_t bytes;
    uint8_t header[WIRE_HEADER_MAX];
    uint8_t digest[WIRE_DIGEST_SIZE];
};
/* A job for the sealer and a result of opener and rewriter are followed, in the same message, by
 * WIRE_KEY_SIZE bytes: the data key, sent and received straight from and into locked memory. */

_Static_assert(sizeof(struct wire_config) == 80, "config");
_Static_assert(sizeof(struct wire_error) == 324, "wire_error");
_Static_assert(sizeof(struct request) == 32, "request");
_Static_assert(sizeof(struct wire_status) == 72 + 2 * WIRE_PATH_MAX + WIRE_WHY_MAX + 324 + 4, "status");
_Static_assert(sizeof(struct reply) == 8 + 324 + 4 + sizeof(struct wire_status), "reply");
_Static_assert(sizeof(struct job) == 24 + WIRE_HEADER_MAX + WIRE_DIGEST_SIZE + WIRE_MARK_SIZE, "job");
_Static_assert(sizeof(struct result) == 352 + 32 + WIRE_HEADER_MAX + WIRE_DIGEST_SIZE, "result");

#endif
