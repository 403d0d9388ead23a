/* worker - the short-lived programs that compute, one run at a time.
 *
 * A run is a reading of the configuration, an unlock (opener | unpacker), a creation (opener), a
 * save (packer | sealer), a look (who holds it?) or a rewriting of the file (rewriter), joined by a pipe, each worker with a channel to PID 1 (docs/control-protocol.md). They execute through a
 * descriptor of `tazpod` taken at start, as the vault's owner, with an empty environment.
 * Nothing here waits: the loop reports what happens on the channels and who died.
 * Times are CLOCK_MONOTONIC milliseconds. PID 1 only; no allocation. */
#ifndef TAZPOD_WORKER_H
#define TAZPOD_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "key.h"
#include "protocol.h"

#define NO_PROCESS "no process could be started (pids limit): try again"

enum run_type { RUN_NONE = 0, RUN_UNLOCK, RUN_CREATE, RUN_SAVE, RUN_CONFIG, RUN_LOOK, RUN_KEY };
enum run_state { RUN_GOING = 0, RUN_DONE, RUN_FAILED };

/* What the last unlock or save has told of the vault. */
struct facts {
    uint32_t header_len; /* 0: no file known yet */
    uint8_t header[WIRE_HEADER_MAX];
    uint8_t digest[WIRE_DIGEST_SIZE];
    uint64_t generation;
    int64_t saved_at;
    uint64_t files;
    uint64_t bytes;
    uint32_t skipped;
    uint32_t left_out;
    uint32_t flags;
    uint32_t swap; /* enum swap_kind */
    uint32_t warnings; /* WARN_* */
    char note[WIRE_TEXT_MAX]; /* the packer's: the first entry left out */
};

/* Who held the tree open when it was looked at last. */
struct holding {
    uint32_t n;
    uint32_t unseen; /* processes of other users, which may not be looked at */
    int32_t pids[WIRE_HOLDERS_MAX];
    char names[WIRE_TEXT_MAX]; /* "12 (vim), 40 (bash)" */
};

struct worker {
    pid_t pid;   /* 0: not running */
    int channel; /* -1: closed */
    enum job_kind kind;
    bool ready;
    bool ended;  /* has told its result, or died */
    struct wire_error error; /* word "" if it succeeded */
};

struct workers {
    int program; /* O_PATH descriptor; -1: there is none */
    uid_t owner;
    gid_t group;
    bool become_owner; /* PID 1 is root and must change to owner */
    const char *vault;
    int64_t timeout_ms;

    enum run_type run;
    struct worker w[2];
    int n;
    pid_t former[2]; /* of the run before: killed, and perhaps not collected yet; 0: none */
    int passphrase; /* to hand to the opener, -1 */
    int reserve;    /* memory kept for the last save, -1; survives the run */
    struct job job;
    bool must_not_exist;
    uint8_t mark[WIRE_MARK_SIZE]; /* random: drawn at the first save after each unlock */
    bool marked;
    bool incomplete;     /* the last save that got into place left something out */
    bool whole;          /* of a look: JOB_WHOLE */
    bool known;          /* of a rewriting: it is told the header */
    bool leave_out;      /* of a save: JOB_LEAVE_OUT, set by the caller before it */
    uint32_t tree_flags; /* JOB_OWN_NOSWAP, JOB_REQUIRE_NOSWAP: set by the caller before a run */
    bool packed;    /* the packer has ended, and how */
    uint8_t packed_well; /* the sealer's word: 0 no, 1 yes, 2 with something left out */
    bool oom;       /* a worker of this run was killed */
    int64_t deadline_ms;
    struct facts facts;
    struct holding holding;
    uint64_t memory_limit;     /* the container's, bytes, as of the last reading; 0 unknown, UINT64_MAX none */
    struct wire_config config; /* version 0: not read yet */
};

/* Reads the configuration files: config is up to date when it is done. */
int workers_config(struct workers *ws, int64_t now_ms);

/* tree: descriptor of the directory to fill, which stays the caller's. Takes over passphrase. key must
 * have a page. */
int workers_unlock(struct workers *ws, int tree, int passphrase, int64_t now_ms);
int workers_create(struct workers *ws, int tree, int passphrase, uint32_t kdf_ops, uint32_t kdf_mem_kib,
                   int64_t now_ms);
/* tree: descriptor of the directory to save, the caller's. must_not_exist: of a new vault. */
int workers_save(struct workers *ws, int tree, bool must_not_exist, int64_t now_ms);
/* Rewrites the vault file as the order says that is in the descriptor, which is taken over. open: the vault is,
 * and the file has to be the one it came from. key must have a page. */
int workers_rewrite(struct workers *ws, int order, bool open, int64_t now_ms);
/* Who holds the tree open? holding is up to date when it is done. whole: it is a file system of its own. */
int workers_look(struct workers *ws, int tree, bool whole, int64_t now_ms);
/* All return 0, or -1 with errno when a worker could not be started; then nothing runs. Where there is no
 * room for a process they wait for those of the run before to be gone, a second at most. */

/* Something is to be read on the channel of worker i. */
void workers_on_channel(struct workers *ws, int i, struct key *key);

/* A child has ended; true if it was one of ours. */
bool workers_on_exit(struct workers *ws, pid_t pid, int wait_status, struct key *key);

/* Past the deadline: kills. */
void workers_on_timer(struct workers *ws, int64_t now_ms);

/* How the run stands. On RUN_FAILED *e says why, on RUN_DONE facts is up to date.
 * may_retry: worth another try at once (a worker was killed, a file changed). */
enum run_state workers_state(const struct workers *ws, struct wire_error *e, bool *may_retry);

/* Ends the run: closes channels, kills who is left (they are reaped as any child). */
void workers_end(struct workers *ws);

void workers_drop_reserve(struct workers *ws);

/* After a fault of PID 1, whose channels are closed: kills what is left of the run. */
void workers_abandon(struct workers *ws);

#endif
