#include "step.h"

#include "protocol.h"

enum { RETRIES = 3, LOOK_AGAIN_MS = 50 };

static bool is_open(const struct supervisor *s)
{
    return s->vault == VAULT_OPEN || s->vault == VAULT_SAVING;
}

/* --- the stop, in the order things happen --- */

static uint32_t finish(struct supervisor *s)
{
    s->phase = PHASE_DONE;
    s->kill_at_ms = s->end_at_ms = INT64_MAX;
    return ACT_EXIT;
}

/* The total is over and a save is not. */
static uint32_t give_up(struct supervisor *s)
{
    s->unsaved = true;
    return ACT_CANCEL_JOB | finish(s);
}

/* When the others are told although the first save still runs: a quarter of the total is theirs. */
static int64_t first_save_end(const struct supervisor *s)
{
    return s->end_at_ms - s->stop_timeout_ms / 4;
}

/* Everybody who could write is gone, or out of reach. */
static uint32_t last_save(struct supervisor *s)
{
    switch (s->vault) {
    case VAULT_OPEN:
        s->phase = PHASE_LAST_SAVE;
        s->vault = VAULT_SAVING;
        s->saves_started++;
        s->retries = 0;
        return ACT_DROP_RESERVE | ACT_START_SAVE;
    case VAULT_LOCKING:
        s->phase = PHASE_WIPE;
        return 0;
    default:
        return finish(s);
    }
}

static uint32_t start_wait(struct supervisor *s, int64_t now_ms)
{
    s->phase = PHASE_WAIT;
    if (s->kill_at_ms != INT64_MAX) {
        int64_t least = now_ms + s->stop_timeout_ms / 16;

        if (s->hurry)
            s->kill_at_ms = now_ms;
        else if (s->kill_at_ms < least) /* a slow first save took the time: some is left for an end */
            s->kill_at_ms = least;
    }
    return ACT_TERM;
}

static uint32_t start_kill(struct supervisor *s, int64_t now_ms)
{
    s->phase = PHASE_KILL;
    /* Who is not gone then can't be killed by us; the save does not wait for him. */
    s->kill_at_ms = now_ms + s->stop_timeout_ms / 16;
    if (s->kill_at_ms > s->end_at_ms)
        s->kill_at_ms = s->end_at_ms;
    return ACT_KILL;
}

static uint32_t start_save(struct supervisor *s)
{
    s->vault = VAULT_SAVING;
    s->saves_started++;
    s->retries = 0;
    return ACT_START_SAVE;
}

/* --- a lock: nobody can write there any more, it is saved, then deleted --- */

static uint32_t look(struct supervisor *s)
{
    s->vault = VAULT_SAVING;
    s->looking = true;
    s->waiting = false;
    return ACT_START_LOOK;
}

static uint32_t start_lock(struct supervisor *s)
{
    s->lock_after = true;
    s->held = false;
    s->forced = 0;
    s->some_untold = false;
    s->hold_end_ms = INT64_MAX;
    return ACT_HIDE | look(s);
}

/* A lock that has no save under way. */
static bool lock_looks_or_waits(const struct supervisor *s)
{
    return s->lock_after && (s->looking || s->waiting);
}

static uint32_t give_up_lock(struct supervisor *s)
{
    s->vault = VAULT_OPEN;
    s->lock_after = s->looking = s->waiting = s->held = false;
    return ACT_UNHIDE | ACT_ANSWER_LOCK;
}

/* What was asked for meanwhile. */
static uint32_t save_again(struct supervisor *s)
{
    if (!s->save_again || s->vault != VAULT_OPEN)
        return 0;
    if (s->lock_again) { /* if that is refused, a save is still owed */
        s->lock_again = false;
        return start_lock(s);
    }
    s->save_again = false;
    return start_save(s);
}

static uint32_t on_looked(struct supervisor *s, uint32_t holders, int64_t now_ms)
{
    if (!s->looking)
        return 0;
    s->looking = false;
    if (holders == 0)
        return start_save(s);
    if (s->hold_end_ms == INT64_MAX) { /* before anything else, what there is is saved */
        s->held = true;
        return start_save(s);
    }
    if (now_ms >= s->hold_end_ms && (!s->force || s->forced == 2))
        return give_up_lock(s) | save_again(s);
    s->waiting = true;
    s->look_at_ms = now_ms + LOOK_AGAIN_MS;
    if (now_ms < s->hold_end_ms)
        return 0;
    s->hold_end_ms = now_ms + s->lock_wait_ms;
    if (s->forced == 0 || s->some_untold) { /* nobody is killed who was not told */
        s->forced = 1;
        s->some_untold = holders > WIRE_HOLDERS_MAX;
        return ACT_TERM_HOLDERS;
    }
    s->forced = 2;
    return ACT_KILL_HOLDERS;
}

/* A vault that is open gives the stop a total; so does a pod without a main command, which nobody
 * else would end. A main command beside a locked vault ends in its own time, as under any init. */
static uint32_t begin_stop(struct supervisor *s, int64_t now_ms)
{
    uint32_t act = 0;

    if (lock_looks_or_waits(s))
        act |= (s->looking ? ACT_CANCEL_JOB : 0) | give_up_lock(s);
    if (s->vault == VAULT_OPENING) {
        s->vault = VAULT_LOCKED;
        s->creating = s->keying = false;
        act |= ACT_CANCEL_JOB | ACT_FORGET_KEY | ACT_ANSWER_UNLOCK;
    }
    s->was_open = is_open(s) || s->vault == VAULT_LOCKING;
    s->kill_at_ms = s->end_at_ms = INT64_MAX;
    if (s->was_open || !s->main_running) {
        s->kill_at_ms = now_ms + s->stop_timeout_ms / 8 * 5;
        s->end_at_ms = now_ms + s->stop_timeout_ms;
    }
    if (!s->was_open && s->has_main && !s->main_running)
        return act | finish(s);
    if (is_open(s)) {
        s->phase = PHASE_FIRST_SAVE;
        return act | ACT_DROP_RESERVE | (s->vault == VAULT_OPEN ? start_save(s) : 0);
    }
    return act | start_wait(s, now_ms);
}

static uint32_t on_stop(struct supervisor *s, int64_t now_ms)
{
    switch (s->phase) {
    case PHASE_RUN:
        return begin_stop(s, now_ms);
    case PHASE_FIRST_SAVE:
        s->hurry = true;
        return 0;
    case PHASE_WAIT:
        if (s->kill_at_ms == INT64_MAX) /* the main command's own time: it is told again */
            return ACT_TERM;
        s->hurry = true;
        return start_kill(s, now_ms);
    default:
        return 0;
    }
}

static uint32_t on_main_ended(struct supervisor *s, int status, int64_t now_ms)
{
    s->main_running = false;
    s->main_status = status;
    if (s->phase == PHASE_RUN)
        return begin_stop(s, now_ms);
    if (s->phase == PHASE_WAIT && !s->was_open)
        return finish(s);
    return 0;
}

static uint32_t on_all_gone(struct supervisor *s, bool alone)
{
    if (s->phase != PHASE_WAIT && s->phase != PHASE_KILL)
        return 0;
    /* A first save that still runs began before they had gone, so another has to follow: later. */
    if (s->vault == VAULT_SAVING)
        return 0;
    /* Nobody was there before the first save, during it, or after it: it was the last one. */
    if (s->alone && alone && s->vault == VAULT_OPEN && !s->unsaved && s->first_save_began) {
        s->phase = PHASE_WIPE;
        s->vault = VAULT_LOCKING;
        return ACT_FORGET_KEY | ACT_START_WIPE;
    }
    return last_save(s);
}

static uint32_t on_timer(struct supervisor *s, int64_t now_ms)
{
    switch (s->phase) {
    case PHASE_RUN:
        return s->waiting && now_ms >= s->look_at_ms ? look(s) : 0;
    case PHASE_FIRST_SAVE:
        /* The others are told now, so that they can end beside it. The save itself may have all of
         * the total: what it has written so far can't be bought back. */
        return now_ms < first_save_end(s) ? 0 : start_wait(s, now_ms);
    case PHASE_WAIT:
        return now_ms < s->kill_at_ms ? 0 : start_kill(s, now_ms);
    case PHASE_KILL:
        if (s->vault == VAULT_SAVING) /* the first save, which may have waited for their end */
            return now_ms < s->end_at_ms ? 0 : give_up(s);
        return now_ms < s->kill_at_ms ? 0 : last_save(s);
    case PHASE_LAST_SAVE:
        return now_ms < s->end_at_ms ? 0 : give_up(s);
    case PHASE_WIPE:
        return now_ms < s->end_at_ms ? 0 : finish(s);
    default:
        return 0;
    }
}

/* --- requests --- */

static uint32_t on_unlock(struct supervisor *s, bool create)
{
    if (s->phase != PHASE_RUN)
        return ACT_REFUSE_STATE;
    switch (s->vault) {
    case VAULT_LOCKED:
        s->vault = VAULT_OPENING;
        s->creating = create;
        return ACT_JOIN | (create ? ACT_START_CREATE : ACT_START_UNLOCK);
    case VAULT_OPENING:
    case VAULT_LOCKING:
        return ACT_REFUSE_BUSY;
    case VAULT_OPEN:
    case VAULT_SAVING:
        if (s->creating || s->lock_after || s->lock_again) /* it is not open yet, or not for long */
            return ACT_REFUSE_BUSY;
        return create ? ACT_REFUSE_STATE : ACT_ALREADY;
    default:
        return ACT_REFUSE_STATE;
    }
}

static uint32_t on_save(struct supervisor *s)
{
    if (s->phase != PHASE_RUN)
        return ACT_REFUSE_STATE;
    switch (s->vault) {
    case VAULT_OPEN:
        return ACT_JOIN | start_save(s);
    case VAULT_SAVING:
        s->save_again = true;
        return ACT_JOIN;
    case VAULT_OPENING:
        return ACT_REFUSE_BUSY;
    default:
        return ACT_REFUSE_STATE;
    }
}

static uint32_t on_lock(struct supervisor *s, bool force)
{
    if (s->phase != PHASE_RUN)
        return ACT_REFUSE_STATE;
    switch (s->vault) {
    case VAULT_OPEN:
        s->force = force;
        return ACT_JOIN | start_lock(s);
    case VAULT_SAVING:
        s->force = force || ((s->lock_after || s->lock_again) && s->force);
        if (!s->lock_after)
            s->save_again = s->lock_again = true;
        return ACT_JOIN;
    case VAULT_LOCKING:
        return ACT_JOIN;
    case VAULT_LOCKED:
        return ACT_ALREADY;
    case VAULT_OPENING:
        return ACT_REFUSE_BUSY;
    default:
        return ACT_REFUSE_STATE;
    }
}

/* File in, file out: while the vault is locked as an unlock that opens nothing, while it is open as a
 * save that takes nothing from RAM. */
static uint32_t on_key(struct supervisor *s)
{
    if (s->phase != PHASE_RUN || s->vault == VAULT_ABSENT)
        return ACT_REFUSE_STATE;
    if (s->vault != VAULT_LOCKED && s->vault != VAULT_OPEN)
        return ACT_REFUSE_BUSY;
    s->vault = s->vault == VAULT_OPEN ? VAULT_SAVING : VAULT_OPENING;
    s->keying = true;
    return ACT_JOIN | ACT_START_KEY;
}

/* --- jobs --- */

static uint32_t key_ended(struct supervisor *s, int64_t now_ms)
{
    s->keying = false;
    if (s->vault == VAULT_OPENING) {
        s->vault = VAULT_LOCKED;
        return ACT_FORGET_KEY | ACT_ANSWER_UNLOCK;
    }
    s->vault = VAULT_OPEN;
    if (s->phase == PHASE_FIRST_SAVE) /* which waited for it */
        return ACT_ANSWER_UNLOCK | start_save(s);
    if (s->phase == PHASE_KILL) /* its worker was spared: now nobody is */
        return ACT_ANSWER_UNLOCK | start_kill(s, now_ms);
    return ACT_ANSWER_UNLOCK | (s->phase == PHASE_RUN ? save_again(s) : 0);
}

/* The vault's part after a save: locked on success of a lock's save, else open again. */
static uint32_t after_save(struct supervisor *s, bool ok, int64_t now_ms)
{
    bool lock = s->lock_after, made = s->creating;

    if (lock && ok && s->held && s->phase != PHASE_RUN) { /* they may have written since: the stop's last save is due */
        s->vault = VAULT_OPEN;
        s->lock_after = s->held = false;
        return ACT_ANSWER_SAVE | ACT_UNHIDE | ACT_ANSWER_LOCK;
    }
    if (lock && ok && s->held) { /* who was found has a moment to end */
        s->held = false;
        s->hold_end_ms = s->force ? now_ms : now_ms + s->lock_wait_ms;
        return ACT_ANSWER_SAVE | look(s);
    }
    s->held = false;
    s->lock_after = s->creating = false;
    if (made && !ok) { /* there is no vault, so there is nothing to keep */
        s->vault = VAULT_LOCKING;
        s->unsaved = s->save_again = s->lock_again = false;
        return ACT_FORGET_KEY | ACT_START_WIPE | ACT_ANSWER_UNLOCK;
    }
    if (lock && ok) {
        s->vault = VAULT_LOCKING;
        s->save_again = s->lock_again = false; /* who asked meanwhile hears that it is locked */
        return ACT_ANSWER_SAVE | ACT_FORGET_KEY | ACT_START_WIPE;
    }
    s->vault = VAULT_OPEN;
    return ACT_ANSWER_SAVE | (made ? ACT_ANSWER_UNLOCK : 0u) | (lock ? ACT_UNHIDE | ACT_ANSWER_LOCK : 0u);
}

static uint32_t save_ended(struct supervisor *s, bool ok, int64_t now_ms)
{
    uint32_t act = after_save(s, ok, now_ms);

    switch (s->phase) {
    case PHASE_FIRST_SAVE:
        return act | start_wait(s, now_ms);
    case PHASE_WAIT: /* a first save that took so long that the others were told beside it */
        return act | (now_ms >= s->kill_at_ms ? start_kill(s, now_ms) : 0);
    case PHASE_KILL: /* and even killed, but for its workers: now nobody is spared */
        return act | start_kill(s, now_ms);
    case PHASE_LAST_SAVE:
        if (s->vault == VAULT_LOCKING) {
            s->phase = PHASE_WIPE;
            return act;
        }
        if (s->unsaved) /* the tree stays: where RAM outlives the container, it is the only copy */
            return act | finish(s);
        s->phase = PHASE_WIPE;
        s->vault = VAULT_LOCKING;
        return act | ACT_FORGET_KEY | ACT_START_WIPE;
    default:
        break;
    }
    return act | save_again(s);
}

static uint32_t on_job_done(struct supervisor *s, uint32_t left_out, int64_t now_ms)
{
    if (s->keying)
        return key_ended(s, now_ms);
    if (s->vault == VAULT_OPENING) {
        if (s->creating)
            return start_save(s);
        s->vault = VAULT_OPEN;
        s->unsaved = false;
        return ACT_ANSWER_UNLOCK;
    }
    if (s->vault != VAULT_SAVING || lock_looks_or_waits(s))
        return 0;
    s->unsaved = left_out > 0;
    /* A lock would destroy what was left out; a stop can't wait for anybody to mend it. */
    return save_ended(s, !s->unsaved || (s->phase != PHASE_RUN && !s->lock_after), now_ms);
}

static uint32_t on_job_failed(struct supervisor *s, bool may_retry, int64_t now_ms)
{
    if (s->keying)
        return key_ended(s, now_ms);
    if (s->vault == VAULT_OPENING) {
        s->vault = VAULT_LOCKED;
        s->creating = false;
        return ACT_FORGET_KEY | ACT_ANSWER_UNLOCK;
    }
    if (s->vault != VAULT_SAVING)
        return 0;
    if (s->looking) /* it can't be told who holds it */
        return give_up_lock(s) | save_again(s);
    if (lock_looks_or_waits(s))
        return 0;
    if (may_retry && s->retries < RETRIES) {
        s->retries++;
        return ACT_DROP_RESERVE | ACT_START_SAVE;
    }
    s->unsaved = true;
    return save_ended(s, false, now_ms);
}

static uint32_t on_wiped(struct supervisor *s)
{
    if (s->vault != VAULT_LOCKING)
        return 0;
    s->vault = VAULT_LOCKED;
    return ACT_ANSWER_LOCK | (s->phase == PHASE_WIPE ? finish(s) : 0);
}

/* --- after a fault of PID 1 --- */

/* The vault's part. What was under way has ended without a word, and who asked for it is gone. */
static uint32_t resume_vault(struct supervisor *s, const struct event *ev)
{
    s->save_again = s->lock_again = s->keying = false;
    switch (s->vault) {
    case VAULT_OPENING:
        s->vault = VAULT_LOCKED;
        s->creating = false;
        return ACT_FORGET_KEY;
    case VAULT_OPEN:
    case VAULT_SAVING:
        if (!ev->key) { /* it can't be saved: the tree, if there is one, is set aside */
            s->unsaved = s->phase != PHASE_RUN && (s->unsaved || ev->tree);
            s->vault = VAULT_LOCKED;
            s->lock_after = s->creating = s->looking = s->waiting = s->held = false;
            return ACT_FORGET_KEY;
        }
        if (lock_looks_or_waits(s) && ev->hidden)
            return s->phase == PHASE_RUN ? look(s) : 0u;
        if (s->lock_after && !ev->hidden) {
            if (lock_looks_or_waits(s))
                s->vault = VAULT_OPEN;
            s->lock_after = s->looking = s->waiting = s->held = false;
        }
        if (s->vault == VAULT_SAVING) {
            s->saves_started++;
            return ACT_START_SAVE;
        }
        return ev->hidden ? ACT_UNHIDE : 0u;
    case VAULT_LOCKING:
        return ACT_FORGET_KEY | ACT_START_WIPE;
    default:
        return 0;
    }
}

/* What is known is the end of a whole turn: its signals have been sent. */
static uint32_t on_resumed(struct supervisor *s, const struct event *ev, int64_t now_ms)
{
    uint32_t act = resume_vault(s, ev);

    s->faulted = s->faulted || ev->many;
    switch (s->phase) {
    case PHASE_RUN:
        return act | (s->faulted ? begin_stop(s, now_ms) : 0);
    case PHASE_FIRST_SAVE:
        if (s->vault == VAULT_OPEN)
            return act | start_save(s);
        return act | (s->vault == VAULT_SAVING ? 0 : start_wait(s, now_ms));
    case PHASE_LAST_SAVE:
        return act | (s->vault == VAULT_SAVING ? 0 : last_save(s));
    case PHASE_WIPE:
        return act | (s->vault == VAULT_LOCKED ? finish(s) : 0);
    default:
        return act;
    }
}

uint32_t step(struct supervisor *s, const struct event *ev, int64_t now_ms)
{
    if (s->phase == PHASE_DONE)
        return 0;
    switch (ev->type) {
    case EVENT_STOP:
        if (s->phase == PHASE_RUN) {
            s->alone = ev->alone;
            s->first_save_began = s->vault == VAULT_OPEN; /* and not before somebody may have written */
        }
        return on_stop(s, now_ms);
    case EVENT_MAIN_ENDED: return on_main_ended(s, ev->status, now_ms);
    case EVENT_ALL_GONE: return on_all_gone(s, ev->alone);
    case EVENT_UNLOCK: return on_unlock(s, false);
    case EVENT_CREATE: return on_unlock(s, true);
    case EVENT_SAVE: return on_save(s);
    case EVENT_LOCK: return on_lock(s, ev->force);
    case EVENT_KEY: return on_key(s);
    case EVENT_LOOKED: return on_looked(s, ev->holders, now_ms);
    case EVENT_JOB_DONE: return on_job_done(s, ev->left_out, now_ms);
    case EVENT_JOB_FAILED: return on_job_failed(s, ev->may_retry, now_ms);
    case EVENT_CANCEL:
        if (s->vault != VAULT_OPENING)
            return 0;
        s->vault = VAULT_LOCKED;
        s->creating = s->keying = false;
        return ACT_CANCEL_JOB | ACT_FORGET_KEY;
    case EVENT_WIPED: return on_wiped(s);
    case EVENT_TIMER: return on_timer(s, now_ms);
    case EVENT_RESUMED: return on_resumed(s, ev, now_ms);
    }
    return 0;
}

int64_t step_deadline(const struct supervisor *s)
{
    switch (s->phase) {
    case PHASE_FIRST_SAVE: return first_save_end(s);
    case PHASE_WAIT: return s->kill_at_ms;
    case PHASE_KILL: return s->vault == VAULT_SAVING ? s->end_at_ms : s->kill_at_ms;
    case PHASE_LAST_SAVE:
    case PHASE_WIPE: return s->end_at_ms;
    case PHASE_RUN: return s->waiting ? s->look_at_ms : INT64_MAX;
    default: return INT64_MAX;
    }
}

int step_exit_status(const struct supervisor *s)
{
    if (s->unsaved)
        return EX_TP_IO;
    if (s->faulted)
        return EX_TP_FAULT;
    return s->has_main ? s->main_status : EX_TP_OK;
}
