/* step - what PID 1 decides.
 *
 * Pure: (state, event, now) -> (state, actions). No system call, no allocation, no clock of its
 * own; times are CLOCK_MONOTONIC milliseconds. The loop in main.c turns what happens into events
 * and performs the actions. All states times all events are defined: what makes no sense changes
 * nothing. The state is plain data without pointers. */
#ifndef TAZPOD_STEP_H
#define TAZPOD_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

/* A stop goes through these in order; each is left when its work is done or its time is over. */
enum phase {
    PHASE_RUN = 0,
    PHASE_FIRST_SAVE, /* before anybody is signalled */
    PHASE_WAIT,       /* TERM is sent; waiting for all to go */
    PHASE_KILL,       /* KILL is sent; waiting for all to be gone */
    PHASE_LAST_SAVE,
    PHASE_WIPE,
    PHASE_DONE,
};

struct supervisor {
    enum vault_state vault; /* never VAULT_STOPPING: that is phase != PHASE_RUN */
    enum phase phase;
    bool has_main;
    bool main_running;
    int main_status;         /* exit status once it has ended */
    int64_t stop_timeout_ms; /* set by the caller at start */

    bool keying;       /* what runs is no unlock and no save: it rewrites the vault file */
    bool creating;     /* the running save makes a new vault */
    bool lock_after;   /* the running save is a lock's */
    bool save_again;   /* somebody asked after the running save had begun */
    bool lock_again;   /* the same, for a lock */
    bool unsaved;      /* the last save failed or left something out */
    bool was_open;     /* the stop began with an open vault: it has a total */
    bool alone;        /* nobody was there when the stop began, see EVENT_STOP */
    bool first_save_began; /* with the stop: one that was under way does not count for that */
    bool looking;      /* the lock is finding out who holds the vault open */
    bool waiting;      /* somebody does, and is given time: until look_at_ms */
    bool held;         /* somebody does: the running save is not the lock's last */
    bool force;        /* the lock may end them */
    int forced;        /* 1: TERM was sent to them, 2: KILL */
    bool some_untold;  /* not to all: there were more than a look can name */
    int64_t lock_wait_ms;  /* how long they are waited for; set by the caller at start */
    int64_t hold_end_ms;   /* until then; INT64_MAX: nobody was found yet */
    int64_t look_at_ms;    /* waiting: the next look */
    uint32_t saves_started;
    uint32_t retries;  /* of the running save, in a row */

    int64_t kill_at_ms; /* end of PHASE_WAIT, INT64_MAX for none */
    int64_t end_at_ms;  /* end of the stop, INT64_MAX for none */
    bool hurry;         /* a second stop signal: no waiting, but every save */
    bool faulted;       /* PID 1 had too many faults */
};

enum event_type {
    EVENT_STOP,         /* a stop signal; alone: there is no other process */
    EVENT_MAIN_ENDED,   /* status */
    EVENT_ALL_GONE,     /* no other process is left; alone: and none was started since EVENT_STOP but
                           the workers of the first save */
    EVENT_UNLOCK,
    EVENT_CREATE,
    EVENT_SAVE,
    EVENT_LOCK,         /* force */
    EVENT_KEY,
    EVENT_LOOKED,       /* holders: how many hold the vault of the lock open */
    EVENT_JOB_DONE,     /* the running unlock or create succeeded and its tree is in place, or the
                           running save succeeded; left_out; or the vault file is rewritten */
    EVENT_JOB_FAILED,   /* it did not; may_retry: without the reserve, or because a file changed */
    EVENT_CANCEL,       /* whoever asked for the unlock has gone */
    EVENT_WIPED,        /* the tree is deleted */
    EVENT_TIMER,
    EVENT_RESUMED,      /* PID 1 faulted and is back, with the state of before: tree, hidden, key, many */
};

struct event {
    enum event_type type;
    int status;
    uint32_t left_out;
    uint32_t holders;
    bool force;
    bool may_retry;
    bool alone;
    bool tree;   /* the published tree is there */
    bool hidden; /* out of its place */
    bool key;
    bool many;   /* too many faults: the pod is to end */
};

/* Actions, performed in the order of their bits. */
enum action {
    ACT_REFUSE_BUSY = 1u << 0,   /* answer the asker: busy */
    ACT_REFUSE_STATE = 1u << 1,  /* answer the asker: locked, no vault, exists, or stopping */
    ACT_ALREADY = 1u << 2,       /* answer the asker: it is as you wish */
    ACT_JOIN = 1u << 3,          /* the asker waits for the job that is under way or next */
    ACT_CANCEL_JOB = 1u << 4,    /* kill the workers; the staging tree goes */
    ACT_DROP_RESERVE = 1u << 5,
    ACT_START_UNLOCK = 1u << 6,
    ACT_START_CREATE = 1u << 7,
    ACT_UNHIDE = 1u << 8,        /* the vault comes back to its place, when a lock's save failed */
    ACT_HIDE = 1u << 9,          /* it leaves its place, for a lock's save */
    ACT_ANSWER_UNLOCK = 1u << 10, /* and who waits for the rewriting of the file */
    ACT_ANSWER_SAVE = 1u << 11,  /* all who wait for a save up to this one */
    ACT_FORGET_KEY = 1u << 12,
    ACT_START_WIPE = 1u << 13,
    ACT_ANSWER_LOCK = 1u << 14,
    ACT_TERM = 1u << 15,         /* TERM and CONT to all, HUP to terminals; then look whether all are gone */
    ACT_KILL = 1u << 16,         /* all but the workers of a save that is under way */
    ACT_EXIT = 1u << 17,
    ACT_TERM_HOLDERS = 1u << 18,
    ACT_KILL_HOLDERS = 1u << 19,
    ACT_START_LOOK = 1u << 20,   /* from here on: they may fail at once, which is an event of its own */
    ACT_START_SAVE = 1u << 21,
    ACT_START_KEY = 1u << 22,
};

/* Returns the actions. */
uint32_t step(struct supervisor *s, const struct event *ev, int64_t now_ms);

/* When EVENT_TIMER is due: INT64_MAX for never. */
int64_t step_deadline(const struct supervisor *s);

/* The status to leave with, in PHASE_DONE. */
int step_exit_status(const struct supervisor *s);

#endif
