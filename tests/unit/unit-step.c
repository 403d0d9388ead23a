/* unit-step - what PID 1 decides: in every state, in every reachable state, in named stories, and
 * over long random lives in a small world with workers, processes and a clock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../init/step.h"
#include "unit.h"

enum {
    T = 16000, /* the stop's total: a multiple of 16, so that its parts are whole */
    REFUSALS = ACT_REFUSE_BUSY | ACT_REFUSE_STATE | ACT_ALREADY,
    ANSWERS = REFUSALS | ACT_JOIN,
    STARTS = ACT_START_UNLOCK | ACT_START_CREATE | ACT_START_LOOK | ACT_START_SAVE | ACT_START_KEY,
};

static const char *const VAULTS[] = {"absent", "locked", "opening", "open", "saving", "locking", "stopping"};
static const char *const PHASES[] = {"run", "first-save", "wait", "kill", "last-save", "wipe", "done"};
static const char *const EVENTS[] = {"stop",     "main-ended", "all-gone",   "unlock", "create", "save",
                                     "lock",     "key",   "looked", "job-done",   "job-failed", "cancel", "wiped",  "timer", "resumed"};
static const char *const ACTIONS[] = {
    "refuse-busy", "refuse-state", "already",      "join",        "cancel-job", "drop-reserve", "start-unlock",
    "start-create", "unhide",      "hide",         "answer-unlock", "answer-save", "forget-key", "start-wipe",
    "answer-lock", "term",         "kill",         "exit",        "term-holders", "kill-holders", "start-look",
    "start-save",  "start-key"};

/* --- one step, and what is said about it when a claim fails --- */

struct move {
    struct supervisor before, after;
    struct event ev;
    int64_t now;
    uint32_t act;
};

static void print_state(const char *when, const struct supervisor *s)
{
    print_error("# %s: %s, %s%s%s%s%s%s%s%s%s%s%s%s retries=%u kill=%lld end=%lld\n", when, VAULTS[s->vault],
                PHASES[s->phase], s->has_main ? " main" : "", s->main_running ? " running" : "",
                s->creating ? " creating" : "", s->lock_after ? " lock-after" : "",
                s->save_again ? " save-again" : "", s->lock_again ? " lock-again" : "",
                s->looking ? " looking" : s->waiting ? " waiting" : "", s->unsaved ? " unsaved" : "", s->was_open ? " was-open" : "", s->hurry ? " hurry" : "",
                s->alone ? " alone" : "", s->retries, (long long)s->kill_at_ms, (long long)s->end_at_ms);
}

static void must(const struct move *m, bool claim, const char *what)
{
    if (claim)
        return;
    print_state("before", &m->before);
    print_error("# event %s status=%d left-out=%u may-retry=%d alone=%d at %lld\n", EVENTS[m->ev.type], m->ev.status,
                m->ev.left_out, m->ev.may_retry, m->ev.alone, (long long)m->now);
    for (size_t i = 0; i < sizeof ACTIONS / sizeof *ACTIONS; i++)
        if (m->act >> i & 1)
            print_error("#   -> %s\n", ACTIONS[i]);
    print_state("after", &m->after);
    fail_msg("%s", what);
}

static struct move take(const struct supervisor *s, struct event ev, int64_t now)
{
    struct move m;

    memset(&m, 0, sizeof m);
    memcpy(&m.before, s, sizeof *s);
    memcpy(&m.after, s, sizeof *s);
    m.ev = ev;
    m.now = now;
    m.act = step(&m.after, &ev, now);
    return m;
}

static bool same(const struct supervisor *a, const struct supervisor *b)
{
    return memcmp(a, b, sizeof *a) == 0; /* copies of zeroed structs: padding is equal too */
}

static bool is_request(enum event_type t)
{
    return t == EVENT_UNLOCK || t == EVENT_CREATE || t == EVENT_SAVE || t == EVENT_LOCK || t == EVENT_KEY;
}

/* A lock that looks, or waits for those it has seen. */
static bool no_save(const struct supervisor *s)
{
    return s->lock_after && (s->looking || s->waiting);
}

/* An event that has nothing to be about in that state. */
static bool makes_no_sense(const struct supervisor *s, const struct event *ev, int64_t now)
{
    switch (ev->type) {
    case EVENT_JOB_DONE:
        return (s->vault != VAULT_OPENING && s->vault != VAULT_SAVING) || (s->vault == VAULT_SAVING && no_save(s));
    case EVENT_JOB_FAILED:
        return (s->vault != VAULT_OPENING && s->vault != VAULT_SAVING) ||
               (s->vault == VAULT_SAVING && no_save(s) && !s->looking);
    case EVENT_LOOKED: return !s->looking;
    case EVENT_CANCEL: return s->vault != VAULT_OPENING;
    case EVENT_WIPED: return s->vault != VAULT_LOCKING;
    case EVENT_ALL_GONE: return s->phase != PHASE_WAIT && s->phase != PHASE_KILL;
    case EVENT_TIMER: return now < step_deadline(s);
    case EVENT_RESUMED: return s->phase == PHASE_DONE;
    default: return false;
    }
}

/* --- claims about a single step, from whatever state --- */

static void check_saves(const struct move *m)
{
    const struct supervisor *b = &m->before, *a = &m->after;
    bool retry = m->ev.type == EVENT_JOB_FAILED;
    bool count = (m->act & ACT_START_SAVE) && !retry;

    if (m->act & ACT_START_SAVE) {
        must(m, a->vault == VAULT_SAVING, "a save is started in the state saving only");
        must(m, b->vault == VAULT_OPEN || b->vault == VAULT_SAVING || (b->vault == VAULT_OPENING && b->creating),
             "only an open vault, or the one that is being made, is saved");
    }
    if (!(count && b->save_again)) /* a failed save that is followed by another counts that one */
        must(m, a->saves_started == b->saves_started + count || retry, "each save has a number of its own");
    if (m->ev.type == EVENT_JOB_FAILED && b->vault == VAULT_SAVING && !b->creating) {
        must(m, !(m->act & (ACT_FORGET_KEY | ACT_START_WIPE)), "a failed save destroys nothing");
        must(m, a->vault == VAULT_OPEN || a->vault == VAULT_SAVING, "a failed save leaves the vault open");
    }
    if (m->ev.type == EVENT_RESUMED && m->ev.key && (b->vault == VAULT_OPEN || b->vault == VAULT_SAVING))
        must(m, b->phase == PHASE_DONE || a->vault == VAULT_OPEN || a->vault == VAULT_SAVING,
             "a fault closes no vault that can be saved");
    must(m, !(m->act & ACT_HIDE) || (a->lock_after && (m->act & ACT_START_LOOK)),
         "the vault leaves its place for a lock only");
    must(m, !(m->act & ACT_START_LOOK) || (a->lock_after && a->looking && a->vault == VAULT_SAVING),
         "only a lock looks who holds it");
    must(m, !(m->act & (ACT_TERM_HOLDERS | ACT_KILL_HOLDERS)) || (b->force && a->lock_after && !a->held),
         "only a lock by force ends anybody, and not before a save");
    must(m, !(m->act & ACT_KILL_HOLDERS) || b->forced == 1, "nobody is killed who was not told");
    must(m, !(m->act & ACT_UNHIDE) || (b->lock_after && b->vault == VAULT_SAVING) ||
                (m->ev.type == EVENT_RESUMED && m->ev.hidden && b->vault == VAULT_OPEN),
         "only a lock's save brings it back");
}

static void check_lock_failed(const struct move *m)
{
    const uint32_t back = ACT_UNHIDE | ACT_ANSWER_LOCK | (m->before.looking ? 0 : ACT_ANSWER_SAVE);
    const struct supervisor *b = &m->before;
    bool ended = m->ev.type == EVENT_JOB_FAILED || (m->ev.type == EVENT_JOB_DONE && m->ev.left_out > 0);

    if (!ended || b->vault != VAULT_SAVING || !b->lock_after || (no_save(b) && !(b->looking && m->ev.type == EVENT_JOB_FAILED)) || b->creating || b->phase == PHASE_DONE ||
        m->act == (ACT_DROP_RESERVE | ACT_START_SAVE)) /* it is tried again */
        return;
    must(m, (m->act & back) == back, "a lock that could not save brings the vault back and says so");
    must(m, !(m->act & (ACT_FORGET_KEY | ACT_START_WIPE)), "a lock that could not save destroys nothing");
    must(m, !m->after.lock_after || m->after.vault == VAULT_SAVING, "the lock is over");
}

static void check_stop(const struct move *m)
{
    const struct supervisor *b = &m->before, *a = &m->after;

    must(m, a->phase >= b->phase, "a stop never goes back");
    must(m, !(m->act & ACT_EXIT) == !(b->phase != PHASE_DONE && a->phase == PHASE_DONE),
         "it leaves once, on reaching its last phase");
    must(m, !(m->act & ACT_TERM) || a->phase == PHASE_WAIT, "who is told to end is waited for");
    must(m, !(m->act & ACT_KILL) || (b->phase == PHASE_WAIT && a->phase == PHASE_KILL) ||
                (b->phase == PHASE_KILL && a->phase == PHASE_KILL && b->vault == VAULT_SAVING && a->vault != VAULT_SAVING),
         "nobody is killed who was not told before, and nobody is spared once the first save is over");
    must(m, !(m->act & ACT_EXIT) || !(m->act & (STARTS | ACT_START_WIPE)), "nothing is begun on leaving");
    if (b->phase == PHASE_DONE) {
        must(m, !(m->act & ~(uint32_t)ACT_REFUSE_STATE), "after the exit nothing is done");
        must(m, same(a, b), "after the exit nothing changes");
    }
}

static bool a_keys(const struct move *m)
{
    enum vault_state b = m->before.vault, a = m->after.vault;

    return m->after.keying && ((b == VAULT_LOCKED && a == VAULT_OPENING) || (b == VAULT_OPEN && a == VAULT_SAVING));
}

static void check_requests(const struct move *m)
{
    const struct supervisor *b = &m->before;
    uint32_t answers = m->act & ANSWERS;

    if (!is_request(m->ev.type)) {
        must(m, answers == 0, "nobody is answered who did not ask");
        return;
    }
    if (b->phase != PHASE_DONE)
        must(m, answers && (answers & (answers - 1)) == 0, "who asks gets exactly one answer");
    if (b->phase != PHASE_RUN)
        must(m, !(answers & ~(uint32_t)ACT_REFUSE_STATE) && same(&m->after, b), "a stop takes no requests");
    if (answers & REFUSALS)
        must(m, m->act == answers && same(&m->after, b), "what is refused changes nothing");
    must(m, !(m->act & (ACT_START_UNLOCK | ACT_START_CREATE)) ||
                (b->phase == PHASE_RUN && b->vault == VAULT_LOCKED && m->after.vault == VAULT_OPENING),
         "only a locked vault is opened");
    must(m, !(m->act & ACT_START_KEY) || (m->ev.type == EVENT_KEY && b->phase == PHASE_RUN && a_keys(m)),
         "the file is rewritten when that was asked for, and nothing else is under way");
    must(m, !(m->act & ACT_START_UNLOCK) || m->ev.type == EVENT_UNLOCK, "an unlock was asked for");
    must(m, !(m->act & ACT_START_CREATE) || m->ev.type == EVENT_CREATE, "a new vault was asked for");
}

static void check_move(const struct move *m)
{
    const struct supervisor *b = &m->before, *a = &m->after;

    must(m, a->vault >= VAULT_ABSENT && a->vault <= VAULT_LOCKING, "the vault is in a known state");
    must(m, !(m->act & ACT_START_WIPE) || (a->vault == VAULT_LOCKING && (m->act & ACT_FORGET_KEY)),
         "the key goes with the tree");
    must(m, !(m->act & ACT_START_WIPE) || b->vault == VAULT_SAVING ||
                (m->ev.type == EVENT_RESUMED && b->vault == VAULT_LOCKING) ||
                (m->ev.type == EVENT_ALL_GONE && m->ev.alone && b->alone && b->vault == VAULT_OPEN),
         "only a save's end leads to a wipe, but where nobody was there to write since");
    must(m, !(m->act & ACT_START_WIPE) || b->creating || !a->unsaved || b->vault == VAULT_LOCKING,
         "what is not saved is not wiped");
    must(m, !(m->act & ACT_FORGET_KEY) || a->vault == VAULT_LOCKED || a->vault == VAULT_LOCKING,
         "an open vault keeps its key");
    if (b->keying && !(m->act & (ACT_ANSWER_UNLOCK | ACT_CANCEL_JOB)) && m->ev.type != EVENT_RESUMED && a->phase != PHASE_DONE)
        must(m, a->keying, "who asked for a rewriting hears of its end");
    must(m, !a->keying || !(m->act & (ACT_START_WIPE | ACT_HIDE)), "beside a rewriting nothing is locked");
    must(m, a->main_status == b->main_status || m->ev.type == EVENT_MAIN_ENDED,
         "only the main command has a status");
    if (makes_no_sense(b, &m->ev, m->now))
        must(m, m->act == 0 && same(a, b), "what makes no sense changes nothing");
    check_saves(m);
    check_lock_failed(m);
    check_stop(m);
    check_requests(m);
}

static const struct event ALL_EVENTS[] = {
    {.type = EVENT_STOP},
    {.type = EVENT_STOP, .alone = true},
    {.type = EVENT_MAIN_ENDED, .status = 3},
    {.type = EVENT_ALL_GONE},
    {.type = EVENT_ALL_GONE, .alone = true},
    {.type = EVENT_UNLOCK},
    {.type = EVENT_CREATE},
    {.type = EVENT_SAVE},
    {.type = EVENT_LOCK},
    {.type = EVENT_LOCK, .force = true},
    {.type = EVENT_KEY},
    {.type = EVENT_LOOKED},
    {.type = EVENT_LOOKED, .holders = 2},
    {.type = EVENT_JOB_DONE},
    {.type = EVENT_JOB_DONE, .left_out = 2},
    {.type = EVENT_JOB_FAILED},
    {.type = EVENT_JOB_FAILED, .may_retry = true},
    {.type = EVENT_CANCEL},
    {.type = EVENT_WIPED},
    {.type = EVENT_TIMER},
    {.type = EVENT_RESUMED},
    {.type = EVENT_RESUMED, .tree = true},
    {.type = EVENT_RESUMED, .tree = true, .hidden = true},
    {.type = EVENT_RESUMED, .tree = true, .key = true},
    {.type = EVENT_RESUMED, .tree = true, .hidden = true, .key = true},
    {.type = EVENT_RESUMED, .tree = true, .key = true, .many = true},
    {.type = EVENT_RESUMED, .many = true},
};
enum { N_EVENTS = sizeof ALL_EVENTS / sizeof *ALL_EVENTS };

/* Bits of one number spread over the flags, so that a plain loop reaches every combination. */
static void set_flags(struct supervisor *s, unsigned bits)
{
    s->creating = bits & 1;
    s->lock_after = bits >> 1 & 1;
    s->save_again = bits >> 2 & 1;
    s->lock_again = bits >> 3 & 1;
    s->unsaved = bits >> 4 & 1;
    s->was_open = bits >> 5 & 1;
    s->hurry = bits >> 6 & 1;
    s->has_main = bits >> 7 & 1;
    s->main_running = s->has_main && (bits >> 8 & 1);
    s->retries = bits >> 9 & 1 ? 3 : 0;
    s->alone = s->first_save_began = bits >> 11 & 1;
    s->keying = (bits >> 12 & 1) && (s->vault == VAULT_OPENING || s->vault == VAULT_SAVING) && !s->creating &&
                !s->lock_after;
}

static void every_event_in_every_state_keeps_the_rules(void **state)
{
    static const int64_t NOWS[] = {1000, 1000 + T / 8 * 5, 1000 + T};
    struct supervisor s;
    struct move m;
    unsigned long moves = 0;

    (void)state;
    for (int vault = VAULT_ABSENT; vault <= VAULT_LOCKING; vault++)
        for (int phase = PHASE_RUN; phase <= PHASE_DONE; phase++)
            for (unsigned bits = 0; bits < 1u << 13; bits++)
                for (size_t now = 0; now < 3; now++)
                    for (size_t i = 0; i < N_EVENTS; i++) {
                        memset(&s, 0, sizeof s);
                        s.vault = (enum vault_state)vault;
                        s.phase = (enum phase)phase;
                        s.stop_timeout_ms = T;
                        set_flags(&s, bits);
                        s.kill_at_ms = s.end_at_ms = INT64_MAX;
                        if (phase != PHASE_RUN && phase != PHASE_DONE && !(bits >> 10 & 1)) {
                            s.kill_at_ms = 1000 + T / 8 * 5;
                            s.end_at_ms = 1000 + T;
                        }
                        m = take(&s, ALL_EVENTS[i], NOWS[now]);
                        check_move(&m);
                        moves++;
                    }
    assert_int_equal(moves, 6ul * 7 * 8192 * 3 * N_EVENTS);
}

/* --- every state that can come about --- */

/* What the world outside looks like by the actions so far. */
struct node {
    struct supervisor s; /* times relative to now */
    bool hidden;         /* the tree stands aside for a lock */
    bool key;
    bool tried;          /* since the stop began a save was started, or was under way */
};

enum { NODES = 1 << 18 };

struct graph {
    struct node *nodes; /* in the order they were found */
    uint32_t *table;    /* places in nodes, plus 1 */
    size_t n;
};

static uint64_t hash(const void *p, size_t len)
{
    const uint8_t *b = p;
    uint64_t h = 1469598103934665603u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ b[i]) * 1099511628211u;
    return h;
}

static void found(struct graph *g, const struct node *n)
{
    size_t at = (size_t)hash(n, sizeof *n) % (2 * NODES);

    for (; g->table[at]; at = (at + 1) % (2 * NODES))
        if (memcmp(&g->nodes[g->table[at] - 1], n, sizeof *n) == 0)
            return;
    assert_true(g->n < NODES);
    memcpy(&g->nodes[g->n], n, sizeof *n);
    g->table[at] = (uint32_t)++g->n;
}

static void rebase(int64_t *t, int64_t now)
{
    if (*t != INT64_MAX)
        *t -= now;
}

/* Claims that hold in a state that came about from the start, though not in any that can be made up. */
static void check_reachable(const struct move *m, const struct node *from, const struct node *to)
{
    const struct supervisor *a = &m->after;

    if (a->vault != VAULT_SAVING && a->vault != VAULT_OPENING)
        must(m, !a->creating, "only a vault that is being opened or saved is being made");
    if (a->vault != VAULT_SAVING && a->vault != VAULT_OPENING)
        must(m, !a->keying || a->phase == PHASE_DONE, "a rewriting is under way in two states alone");
    if (a->vault != VAULT_SAVING)
        must(m, !a->lock_after, "a lock's save is a save");
    if (a->vault != VAULT_SAVING && a->phase == PHASE_RUN)
        must(m, !a->save_again && !a->lock_again, "a wish for one more save ends with the saves");
    if (a->phase == PHASE_RUN && a->vault <= VAULT_OPENING)
        must(m, !a->unsaved, "a locked vault has nothing unsaved");
    must(m, (m->act & (ACT_HIDE | ACT_UNHIDE)) != (ACT_HIDE | ACT_UNHIDE),
         "hiding comes before bringing back, so never both");
    must(m, !(m->act & ACT_HIDE) || !from->hidden, "what is hidden is not hidden again");
    must(m, !(m->act & ACT_UNHIDE) || from->hidden, "what was not hidden is not brought back");
    must(m, !a->held || (a->vault == VAULT_SAVING && a->lock_after), "only a lock has holders");
    must(m, !no_save(a) || (a->vault == VAULT_SAVING && a->phase == PHASE_RUN), "only while the pod runs a lock looks");
    if (m->act & ACT_START_LOOK)
        must(m, to->hidden, "holders are looked for when the tree is hidden");
    if (m->act & ACT_START_SAVE) {
        must(m, to->key, "a save has its key");
        must(m, to->hidden == a->lock_after, "a lock saves the hidden tree, every other save the one in place");
    }
    must(m, a->vault != VAULT_OPEN || (to->key && !to->hidden), "an open vault is in its place, with its key");
    must(m, a->vault != VAULT_LOCKED || !to->key, "a locked vault has no key");
    must(m, !(m->act & ACT_KILL) || !a->was_open || to->tried, "nobody is killed before a save was tried");
    must(m, a->phase == PHASE_RUN || a->phase == PHASE_DONE || a->end_at_ms != INT64_MAX ||
                (a->phase == PHASE_WAIT && a->main_running),
         "a stop ends in its time, but for a main command's own");
}

static void visit(struct graph *g, const struct node *from, struct event ev, int64_t now)
{
    struct move m = take(&from->s, ev, now);
    struct node to;

    memcpy(&to, from, sizeof to);
    memcpy(&to.s, &m.after, sizeof to.s);
    if (m.act & ACT_HIDE)
        to.hidden = true;
    if ((m.act & (ACT_UNHIDE | ACT_START_WIPE)) || (ev.type == EVENT_RESUMED && m.after.vault == VAULT_LOCKED))
        to.hidden = false;
    if ((from->s.vault == VAULT_OPENING && ev.type == EVENT_JOB_DONE))
        to.key = true;
    if (m.act & ACT_FORGET_KEY)
        to.key = false;
    if (m.after.phase != PHASE_RUN && (from->s.vault == VAULT_SAVING || from->s.vault == VAULT_LOCKING ||
                                       (m.act & ACT_START_SAVE)))
        to.tried = true;
    check_move(&m);
    check_reachable(&m, from, &to);
    rebase(&to.s.kill_at_ms, now);
    rebase(&to.s.end_at_ms, now);
    rebase(&to.s.hold_end_ms, now);
    if (to.s.hold_end_ms < 0 && to.s.hold_end_ms != INT64_MAX)
        to.s.hold_end_ms = -1; /* over is over */
    if (!to.s.waiting)
        to.s.look_at_ms = 0;
    rebase(&to.s.look_at_ms, to.s.waiting ? now : 0);
    if (to.s.look_at_ms < 0)
        to.s.look_at_ms = 0;
    if (!to.s.lock_after)
        to.s.hold_end_ms = to.s.forced = to.s.some_untold = 0;
    to.s.saves_started = 0;
    found(g, &to);
}

/* Events that the world can bring about there. */
static bool may_happen(const struct node *n, const struct event *ev)
{
    const struct supervisor *s = &n->s;
    bool there = s->vault == VAULT_OPEN || s->vault == VAULT_SAVING;

    if (ev->type == EVENT_RESUMED && ev->key && !(n->key && there))
        return false;
    if (ev->type == EVENT_RESUMED && (ev->tree != there || ev->hidden != n->hidden))
        return false;
    if (ev->type == EVENT_MAIN_ENDED)
        return s->main_running;
    if (ev->type == EVENT_STOP && ev->alone)
        return !s->main_running;
    if (s->phase == PHASE_DONE) /* the loop has ended */
        return false;
    return true;
}

/* With nothing but the clock a stop comes to its end, and in time. */
static void check_end(const struct node *n)
{
    struct move m = {.after = n->s};
    int64_t end = n->s.end_at_ms, now = 0;

    if (n->s.phase == PHASE_RUN || end == INT64_MAX)
        return;
    for (int i = 0; m.after.phase != PHASE_DONE; i++) {
        int64_t due = step_deadline(&m.after);

        m.before = m.after;
        must(&m, i < 8 && due != INT64_MAX, "the clock alone ends a stop");
        now = due > now ? due : now;
        m = take(&m.before, (struct event){.type = EVENT_TIMER}, now);
        must(&m, !same(&m.before, &m.after), "a deadline that has come does something");
    }
    must(&m, now <= (end > 0 ? end : 0), "a stop ends within its total");
}

static void every_state_that_can_come_about_keeps_the_promises(void **state)
{
    struct graph g = {calloc(NODES, sizeof(struct node)), calloc(2 * NODES, sizeof(uint32_t)), 0};
    unsigned ends = 0, vaults = 0, phases = 0;

    (void)state;
    assert_true(g.nodes && g.table);
    for (int main_command = 0; main_command < 2; main_command++)
        for (int vault = VAULT_ABSENT; vault <= VAULT_LOCKED; vault++) {
            struct node n;

            memset(&n, 0, sizeof n);
            n.s.vault = (enum vault_state)vault;
            n.s.has_main = n.s.main_running = main_command;
            n.s.main_status = main_command ? 137 : 0;
            n.s.stop_timeout_ms = T;
            n.s.kill_at_ms = n.s.end_at_ms = INT64_MAX;
            found(&g, &n);
        }
    for (size_t at = 0; at < g.n; at++) {
        const struct node *n = &g.nodes[at];
        int64_t due = step_deadline(&n->s);

        vaults |= 1u << n->s.vault;
        phases |= 1u << n->s.phase;
        ends += n->s.phase == PHASE_DONE;
        check_end(n);
        for (size_t i = 0; i < N_EVENTS; i++) {
            if (!may_happen(n, &ALL_EVENTS[i]))
                continue;
            visit(&g, n, ALL_EVENTS[i], 0);
            if (due > 1 && due != INT64_MAX)
                visit(&g, n, ALL_EVENTS[i], due - 1);
            if (due > 0 && due != INT64_MAX)
                visit(&g, n, ALL_EVENTS[i], due);
        }
    }
    assert_int_equal(vaults, 0x3f); /* all of them but stopping, which is a phase */
    assert_int_equal(phases, 0x7f);
    assert_true(ends > 10);
    free(g.nodes);
    free(g.table);
}

/* --- stories --- */

/* A pod as the loop has it at time 0. */
static struct supervisor pod(enum vault_state vault, bool with_main)
{
    struct supervisor s;

    memset(&s, 0, sizeof s);
    s.vault = vault;
    s.has_main = s.main_running = with_main;
    s.main_status = with_main ? 137 : 0;
    s.stop_timeout_ms = T;
    s.kill_at_ms = s.end_at_ms = INT64_MAX;
    return s;
}

static uint32_t go(struct supervisor *s, int64_t now, struct event ev)
{
    struct move m = take(s, ev, now);

    check_move(&m);
    memcpy(s, &m.after, sizeof *s);
    return m.act;
}

static uint32_t at(struct supervisor *s, int64_t now, enum event_type type)
{
    return go(s, now, (struct event){.type = type});
}

static uint32_t alone(struct supervisor *s, int64_t now, enum event_type type)
{
    return go(s, now, (struct event){.type = type, .alone = true});
}

static uint32_t done(struct supervisor *s, int64_t now, uint32_t left_out)
{
    return go(s, now, (struct event){.type = EVENT_JOB_DONE, .left_out = left_out});
}

static uint32_t failed(struct supervisor *s, int64_t now, bool may_retry)
{
    return go(s, now, (struct event){.type = EVENT_JOB_FAILED, .may_retry = may_retry});
}

static uint32_t main_ended(struct supervisor *s, int64_t now, int status)
{
    return go(s, now, (struct event){.type = EVENT_MAIN_ENDED, .status = status});
}

static uint32_t due(struct supervisor *s)
{
    return at(s, step_deadline(s), EVENT_TIMER);
}

static void unlock(struct supervisor *s)
{
    assert_int_equal(at(s, 0, EVENT_UNLOCK), ACT_JOIN | ACT_START_UNLOCK);
    assert_int_equal(at(s, 0, EVENT_JOB_DONE), ACT_ANSWER_UNLOCK);
    assert_int_equal(s->vault, VAULT_OPEN);
}

/* A lock up to its save: nobody holds it. */
static void lock(struct supervisor *s, int64_t now)
{
    assert_int_equal(at(s, now, EVENT_LOCK), ACT_JOIN | ACT_HIDE | ACT_START_LOOK);
    assert_int_equal(at(s, now, EVENT_LOOKED), ACT_START_SAVE);
}

static uint32_t looked(struct supervisor *s, int64_t now, uint32_t holders)
{
    return go(s, now, (struct event){.type = EVENT_LOOKED, .holders = holders});
}

static void a_stop_with_nothing_open_and_nobody_left_is_over_at_once(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    assert_int_equal(at(&s, 100, EVENT_STOP), ACT_TERM);
    assert_int_equal(at(&s, 100, EVENT_ALL_GONE), ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 0);
}

static void a_stop_with_nothing_open_gives_the_main_command_its_own_time(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    assert_int_equal(at(&s, 100, EVENT_STOP), ACT_TERM);
    assert_true(step_deadline(&s) == INT64_MAX);
    assert_int_equal(at(&s, 900000, EVENT_TIMER), 0);
    assert_int_equal(at(&s, 900000, EVENT_STOP), ACT_TERM); /* told again, never killed */
    assert_int_equal(main_ended(&s, 900001, 7), ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 7);
}

static void a_pod_without_a_command_ends_processes_that_stay(void **state)
{
    struct supervisor s = pod(VAULT_ABSENT, false);

    (void)state;
    assert_int_equal(at(&s, 0, EVENT_STOP), ACT_TERM);
    assert_int_equal(step_deadline(&s), T / 8 * 5);
    assert_int_equal(due(&s), ACT_KILL);
    assert_int_equal(due(&s), ACT_EXIT); /* not even KILL ends them: nothing is waited for for ever */
    assert_int_equal(step_exit_status(&s), 0);
}

static void a_stop_with_an_open_vault_saves_tells_all_saves_again_and_wipes(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    assert_int_equal(at(&s, 0, EVENT_STOP), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(s.phase, PHASE_FIRST_SAVE);
    assert_int_equal(done(&s, 5, 0), ACT_ANSWER_SAVE | ACT_TERM);
    assert_int_equal(at(&s, 6, EVENT_ALL_GONE), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(s.phase, PHASE_LAST_SAVE);
    assert_int_equal(done(&s, 9, 0), ACT_ANSWER_SAVE | ACT_FORGET_KEY | ACT_START_WIPE);
    assert_int_equal(at(&s, 10, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 0);
}

static void a_pod_where_nobody_lives_is_saved_once(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    assert_int_equal(alone(&s, 0, EVENT_STOP), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(done(&s, 5, 0), ACT_ANSWER_SAVE | ACT_TERM);
    assert_int_equal(alone(&s, 6, EVENT_ALL_GONE), ACT_FORGET_KEY | ACT_START_WIPE);
    assert_int_equal(at(&s, 7, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 0);
}

/* Somebody came and went between; the save had begun before the stop; it failed or left something out;
 * somebody was there when the stop began. */
static void a_pod_where_somebody_may_have_written_is_saved_twice(void **state)
{
    (void)state;
    for (int why = 0; why < 5; why++) {
        struct supervisor s = pod(VAULT_LOCKED, false);

        unlock(&s);
        if (why == 1)
            (void)at(&s, 0, EVENT_SAVE);
        (void)(why == 4 ? at(&s, 1, EVENT_STOP) : alone(&s, 1, EVENT_STOP));
        if (why == 2)
            (void)failed(&s, 2, false);
        else
            (void)done(&s, 2, why == 3);
        assert_int_equal(why == 0 ? at(&s, 3, EVENT_ALL_GONE) : alone(&s, 3, EVENT_ALL_GONE),
                         ACT_DROP_RESERVE | ACT_START_SAVE);
    }
}

static void a_main_command_that_ignores_TERM_is_killed_in_time_for_the_last_save(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    assert_int_equal(done(&s, 5, 0) & (ACT_TERM | ACT_KILL), ACT_TERM);
    assert_int_equal(at(&s, T / 8 * 5 - 1, EVENT_TIMER), 0);
    assert_int_equal(at(&s, T / 8 * 5, EVENT_TIMER), ACT_KILL);
    assert_int_equal(main_ended(&s, T / 8 * 5 + 1, 137), 0);
    assert_int_equal(at(&s, T / 8 * 5 + 2, EVENT_ALL_GONE), ACT_DROP_RESERVE | ACT_START_SAVE);
    (void)done(&s, T / 8 * 5 + 9, 0);
    assert_int_equal(at(&s, T / 8 * 5 + 10, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 137);
}

static void who_can_not_even_be_killed_does_not_keep_the_last_save_waiting(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    (void)done(&s, 5, 0);
    assert_int_equal(due(&s), ACT_KILL);
    assert_int_equal(due(&s), ACT_DROP_RESERVE | ACT_START_SAVE);
    (void)done(&s, T - 100, 0);
    assert_int_equal(at(&s, T - 99, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 137);
}

static void a_second_TERM_skips_the_waiting_and_no_save(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    assert_int_equal(at(&s, 0, EVENT_STOP), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(at(&s, 1, EVENT_STOP), 0); /* the first save goes on */
    assert_int_equal(s.phase, PHASE_FIRST_SAVE);
    assert_int_equal(done(&s, 5, 0), ACT_ANSWER_SAVE | ACT_TERM);
    assert_int_equal(step_deadline(&s), 5);
    assert_int_equal(at(&s, 5, EVENT_TIMER), ACT_KILL);
    assert_int_equal(at(&s, 6, EVENT_ALL_GONE), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(at(&s, 7, EVENT_STOP), 0); /* nor does it end the last */
    (void)done(&s, 9, 0);
    assert_int_equal(at(&s, 10, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
}

static void a_second_TERM_while_waiting_kills_at_once(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    (void)done(&s, 5, 0);
    assert_int_equal(at(&s, 6, EVENT_STOP), ACT_KILL);
    assert_int_equal(at(&s, 7, EVENT_STOP), 0);
    assert_int_equal(at(&s, 8, EVENT_ALL_GONE), ACT_DROP_RESERVE | ACT_START_SAVE);
}

static void TERM_while_opening_gives_the_unlock_up(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    (void)at(&s, 0, EVENT_UNLOCK);
    assert_int_equal(at(&s, 1, EVENT_STOP), ACT_CANCEL_JOB | ACT_FORGET_KEY | ACT_ANSWER_UNLOCK | ACT_TERM);
    assert_int_equal(s.vault, VAULT_LOCKED);
    assert_int_equal(done(&s, 2, 0), 0); /* too late */
    assert_int_equal(at(&s, 3, EVENT_ALL_GONE), ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 0);
}

static void TERM_while_a_vault_is_made_gives_it_up_before_its_first_save(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    assert_int_equal(at(&s, 0, EVENT_CREATE), ACT_JOIN | ACT_START_CREATE);
    assert_int_equal(at(&s, 1, EVENT_STOP), ACT_CANCEL_JOB | ACT_FORGET_KEY | ACT_ANSWER_UNLOCK | ACT_TERM);
    assert_false(s.creating);
    assert_int_equal(at(&s, 3, EVENT_ALL_GONE), ACT_EXIT);
}

static void TERM_in_a_new_vaults_first_save_lets_it_end(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    (void)at(&s, 0, EVENT_CREATE);
    assert_int_equal(done(&s, 1, 0), ACT_START_SAVE);
    assert_int_equal(at(&s, 2, EVENT_STOP), ACT_DROP_RESERVE);
    assert_int_equal(done(&s, 3, 0), ACT_ANSWER_SAVE | ACT_ANSWER_UNLOCK | ACT_TERM);
    assert_int_equal(at(&s, 4, EVENT_ALL_GONE), ACT_DROP_RESERVE | ACT_START_SAVE);
    (void)done(&s, 5, 0);
    assert_int_equal(at(&s, 6, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
}

static void a_new_vault_that_can_not_be_written_is_no_vault(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    (void)at(&s, 0, EVENT_CREATE);
    (void)done(&s, 1, 0);
    assert_int_equal(failed(&s, 2, false), ACT_FORGET_KEY | ACT_START_WIPE | ACT_ANSWER_UNLOCK);
    assert_int_equal(at(&s, 3, EVENT_UNLOCK), ACT_REFUSE_BUSY);
    (void)at(&s, 4, EVENT_WIPED);
    assert_int_equal(s.vault, VAULT_LOCKED);
    (void)main_ended(&s, 5, 0);
    assert_int_equal(step_exit_status(&s), 0); /* nothing was lost */
}

static void TERM_while_saving_takes_that_save_for_the_first(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    assert_int_equal(at(&s, 0, EVENT_SAVE), ACT_JOIN | ACT_START_SAVE);
    assert_int_equal(at(&s, 1, EVENT_STOP), ACT_DROP_RESERVE);
    assert_int_equal(done(&s, 2, 0), ACT_ANSWER_SAVE | ACT_TERM);
    assert_int_equal(at(&s, 3, EVENT_ALL_GONE), ACT_DROP_RESERVE | ACT_START_SAVE);
}

static void TERM_in_a_locks_save_lets_the_lock_end(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    lock(&s, 0);
    assert_int_equal(at(&s, 1, EVENT_STOP), ACT_DROP_RESERVE);
    assert_int_equal(done(&s, 2, 0), ACT_ANSWER_SAVE | ACT_FORGET_KEY | ACT_START_WIPE | ACT_TERM);
    assert_int_equal(at(&s, 3, EVENT_WIPED), ACT_ANSWER_LOCK);
    assert_int_equal(at(&s, 4, EVENT_ALL_GONE), ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 0);
}

static void TERM_in_a_locks_save_that_fails_still_has_the_last_save(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    lock(&s, 0);
    (void)at(&s, 1, EVENT_STOP);
    assert_int_equal(failed(&s, 2, false), ACT_ANSWER_SAVE | ACT_UNHIDE | ACT_ANSWER_LOCK | ACT_TERM);
    assert_int_equal(at(&s, 3, EVENT_ALL_GONE), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(done(&s, 4, 0), ACT_ANSWER_SAVE | ACT_FORGET_KEY | ACT_START_WIPE);
    assert_int_equal(at(&s, 5, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 0);
}

static void TERM_while_locking_waits_for_the_wipe(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    lock(&s, 0);
    (void)done(&s, 1, 0);
    assert_int_equal(s.vault, VAULT_LOCKING);
    assert_int_equal(at(&s, 2, EVENT_STOP), ACT_TERM);
    assert_int_equal(at(&s, 3, EVENT_ALL_GONE), 0);
    assert_int_equal(s.phase, PHASE_WIPE);
    assert_int_equal(at(&s, 4, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
}

static void a_save_asked_for_while_saving_is_answered_by_the_next(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    assert_int_equal(at(&s, 0, EVENT_SAVE), ACT_JOIN | ACT_START_SAVE);
    assert_int_equal(s.saves_started, 1);
    assert_int_equal(at(&s, 1, EVENT_SAVE), ACT_JOIN);
    assert_true(s.save_again);
    assert_int_equal(at(&s, 1, EVENT_SAVE), ACT_JOIN); /* a third shares it */
    assert_int_equal(done(&s, 2, 0), ACT_ANSWER_SAVE | ACT_START_SAVE);
    assert_int_equal(s.saves_started, 2);
    assert_false(s.save_again);
    assert_int_equal(done(&s, 3, 0), ACT_ANSWER_SAVE);
    assert_int_equal(s.vault, VAULT_OPEN);
}

static void a_lock_asked_for_while_saving_saves_once_more_and_locks(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_SAVE);
    assert_int_equal(at(&s, 1, EVENT_LOCK), ACT_JOIN);
    assert_int_equal(done(&s, 2, 0), ACT_ANSWER_SAVE | ACT_HIDE | ACT_START_LOOK);
    assert_int_equal(looked(&s, 2, 0), ACT_START_SAVE);
    assert_int_equal(done(&s, 3, 0), ACT_ANSWER_SAVE | ACT_FORGET_KEY | ACT_START_WIPE);
    assert_int_equal(at(&s, 4, EVENT_WIPED), ACT_ANSWER_LOCK);
    assert_int_equal(s.vault, VAULT_LOCKED);
}

static void an_unlock_during_a_locks_save_is_told_to_try_again(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    assert_int_equal(at(&s, 0, EVENT_UNLOCK), ACT_ALREADY);
    lock(&s, 0);
    /* "It is open" would send a shell into a vault that is about to vanish. */
    assert_int_equal(at(&s, 1, EVENT_UNLOCK), ACT_REFUSE_BUSY);
    (void)done(&s, 2, 0);
    assert_int_equal(at(&s, 3, EVENT_UNLOCK), ACT_REFUSE_BUSY);
}

static void an_unlock_behind_a_waiting_lock_is_told_to_try_again(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_SAVE);
    (void)at(&s, 0, EVENT_LOCK);
    assert_int_equal(at(&s, 1, EVENT_UNLOCK), ACT_REFUSE_BUSY);
}

static void a_lock_asked_for_while_a_vault_is_made_ends_with_the_making(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    (void)at(&s, 0, EVENT_CREATE);
    (void)done(&s, 1, 0);
    assert_int_equal(at(&s, 2, EVENT_LOCK), ACT_JOIN);
    (void)failed(&s, 3, false);
    assert_int_equal(at(&s, 4, EVENT_WIPED), ACT_ANSWER_LOCK);
    unlock(&s);
    assert_int_equal(at(&s, 5, EVENT_SAVE), ACT_JOIN | ACT_START_SAVE);
    /* Nobody asked for a lock of this one. */
    assert_int_equal(done(&s, 6, 0), ACT_ANSWER_SAVE);
    assert_int_equal(s.vault, VAULT_OPEN);
}

static void a_save_is_tried_again_three_times_and_no_more(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_SAVE);
    for (int i = 0; i < 3; i++)
        assert_int_equal(failed(&s, 1, true), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(failed(&s, 1, true), ACT_ANSWER_SAVE);
    assert_int_equal(s.vault, VAULT_OPEN);
    assert_true(s.unsaved);
    assert_int_equal(at(&s, 2, EVENT_SAVE), ACT_JOIN | ACT_START_SAVE);
    assert_int_equal(failed(&s, 3, true), ACT_DROP_RESERVE | ACT_START_SAVE); /* counted anew */
    assert_int_equal(done(&s, 4, 0), ACT_ANSWER_SAVE);
    assert_false(s.unsaved);
}

static void a_save_that_can_not_get_better_is_not_tried_again(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_SAVE);
    assert_int_equal(failed(&s, 1, false), ACT_ANSWER_SAVE);
}

static void a_lock_that_left_something_out_destroys_nothing(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    lock(&s, 0);
    assert_int_equal(done(&s, 1, 1), ACT_ANSWER_SAVE | ACT_UNHIDE | ACT_ANSWER_LOCK);
    assert_int_equal(s.vault, VAULT_OPEN);
    assert_true(s.unsaved);
}

/* Saved first, then looked for again, and only when all have let go saved for the last time. */
static void a_lock_waits_for_who_holds_the_vault_and_saves_after_them(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    s.lock_wait_ms = 100;
    unlock(&s);
    assert_int_equal(at(&s, 0, EVENT_LOCK), ACT_JOIN | ACT_HIDE | ACT_START_LOOK);
    assert_int_equal(looked(&s, 1, 2), ACT_START_SAVE);
    assert_int_equal(done(&s, 5, 0), ACT_ANSWER_SAVE | ACT_START_LOOK);
    assert_int_equal(looked(&s, 6, 1), 0);
    assert_int_equal(step_deadline(&s), 56);
    assert_int_equal(at(&s, 55, EVENT_TIMER), 0);
    assert_int_equal(at(&s, 56, EVENT_TIMER), ACT_START_LOOK);
    assert_int_equal(step_deadline(&s), INT64_MAX);
    assert_int_equal(looked(&s, 57, 0), ACT_START_SAVE);
    assert_int_equal(done(&s, 58, 0), ACT_ANSWER_SAVE | ACT_FORGET_KEY | ACT_START_WIPE);
}

static void a_lock_whose_holders_stay_is_refused_and_the_vault_is_open(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    s.lock_wait_ms = 100;
    unlock(&s);
    (void)at(&s, 0, EVENT_LOCK);
    (void)looked(&s, 1, 2);
    (void)done(&s, 5, 0);
    (void)looked(&s, 6, 1);
    (void)at(&s, 7, EVENT_SAVE); /* somebody else's, meanwhile */
    (void)at(&s, 56, EVENT_TIMER);
    (void)looked(&s, 57, 1);
    (void)at(&s, 107, EVENT_TIMER);
    assert_int_equal(looked(&s, 108, 1), ACT_UNHIDE | ACT_ANSWER_LOCK | ACT_START_SAVE);
    assert_false(s.lock_after);
    assert_int_equal(done(&s, 109, 0), ACT_ANSWER_SAVE);
    assert_int_equal(s.vault, VAULT_OPEN);
}

static void a_lock_by_force_tells_them_then_kills_them_and_saves_last(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    s.lock_wait_ms = 100;
    unlock(&s);
    (void)go(&s, 0, (struct event){.type = EVENT_LOCK, .force = true});
    assert_int_equal(looked(&s, 1, 2), ACT_START_SAVE);
    assert_int_equal(done(&s, 5, 0), ACT_ANSWER_SAVE | ACT_START_LOOK);
    assert_int_equal(looked(&s, 6, 2), ACT_TERM_HOLDERS);
    (void)at(&s, 56, EVENT_TIMER);
    assert_int_equal(looked(&s, 57, 1), 0);
    (void)at(&s, 107, EVENT_TIMER);
    assert_int_equal(looked(&s, 108, 1), ACT_KILL_HOLDERS);
    (void)at(&s, 158, EVENT_TIMER);
    assert_int_equal(looked(&s, 159, 0), ACT_START_SAVE);
    assert_int_equal(done(&s, 160, 0), ACT_ANSWER_SAVE | ACT_FORGET_KEY | ACT_START_WIPE);
}

static void of_very_many_holders_none_is_killed_who_was_not_told(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    (void)go(&s, 0, (struct event){.type = EVENT_LOCK, .force = true});
    (void)looked(&s, 1, 300);
    (void)done(&s, 5, 0);
    assert_int_equal(looked(&s, 6, 300), ACT_TERM_HOLDERS);
    (void)at(&s, 56, EVENT_TIMER);
    assert_int_equal(looked(&s, 57, 44), ACT_TERM_HOLDERS);
    (void)at(&s, 107, EVENT_TIMER);
    assert_int_equal(looked(&s, 108, 2), ACT_KILL_HOLDERS);
}

static void a_lock_by_force_of_what_can_not_be_killed_is_refused(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);
    int64_t now = 5;

    (void)state;
    s.lock_wait_ms = 100;
    unlock(&s);
    (void)go(&s, 0, (struct event){.type = EVENT_LOCK, .force = true});
    (void)looked(&s, 1, 1);
    (void)done(&s, now, 0);
    for (int i = 0; s.vault == VAULT_SAVING && i < 20; i++) {
        (void)looked(&s, now, 1);
        now = step_deadline(&s);
        if (now != INT64_MAX)
            (void)at(&s, now, EVENT_TIMER);
    }
    assert_int_equal(s.vault, VAULT_OPEN);
    assert_int_equal(s.forced, 2);
}

static void TERM_while_a_lock_waits_is_a_stop_with_both_its_saves(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    s.lock_wait_ms = 100;
    unlock(&s);
    (void)at(&s, 0, EVENT_LOCK);
    assert_int_equal(at(&s, 1, EVENT_STOP),
                     ACT_CANCEL_JOB | ACT_DROP_RESERVE | ACT_UNHIDE | ACT_ANSWER_LOCK | ACT_START_SAVE);
    s = pod(VAULT_LOCKED, false);
    unlock(&s);
    (void)at(&s, 0, EVENT_LOCK);
    (void)looked(&s, 1, 2);
    (void)done(&s, 5, 0);
    (void)looked(&s, 6, 1); /* no time was set for them: refused */
    s.lock_wait_ms = 100;
    (void)at(&s, 7, EVENT_LOCK);
    (void)looked(&s, 8, 2);
    (void)done(&s, 9, 0);
    (void)looked(&s, 10, 1);
    assert_true(s.waiting);
    assert_int_equal(at(&s, 11, EVENT_STOP), ACT_DROP_RESERVE | ACT_UNHIDE | ACT_ANSWER_LOCK | ACT_START_SAVE);
    assert_int_equal(s.phase, PHASE_FIRST_SAVE);
}

static void a_last_save_that_fails_keeps_the_tree_and_ends_with_74(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);
    uint32_t act;

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    (void)failed(&s, 1, false);
    (void)main_ended(&s, 2, 0);
    (void)at(&s, 3, EVENT_ALL_GONE);
    act = failed(&s, 4, false);
    assert_int_equal(act, ACT_ANSWER_SAVE | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 74);
}

static void a_last_save_that_left_something_out_keeps_the_tree_and_ends_with_74(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    (void)main_ended(&s, 0, 0);
    (void)done(&s, 1, 1);
    (void)at(&s, 2, EVENT_ALL_GONE);
    assert_int_equal(done(&s, 3, 1), ACT_ANSWER_SAVE | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 74);
}

static void a_last_save_that_succeeds_makes_a_failed_first_one_good(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    (void)failed(&s, 1, false);
    (void)at(&s, 2, EVENT_ALL_GONE);
    (void)done(&s, 3, 0);
    assert_int_equal(at(&s, 4, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 0);
}

static void a_main_command_that_ends_by_itself_gives_its_status_after_the_saves(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    assert_int_equal(main_ended(&s, 0, 5), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(done(&s, 1, 0), ACT_ANSWER_SAVE | ACT_TERM);
    assert_int_equal(at(&s, 2, EVENT_ALL_GONE), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(done(&s, 3, 0), ACT_ANSWER_SAVE | ACT_FORGET_KEY | ACT_START_WIPE);
    assert_int_equal(at(&s, 4, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 5);
}

static void a_main_command_that_ends_beside_a_locked_vault_ends_the_pod(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    assert_int_equal(main_ended(&s, 0, 126), ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 126);
}

static void while_the_vault_is_locked_a_rewriting_opens_nothing(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    assert_int_equal(at(&s, 0, EVENT_KEY), ACT_JOIN | ACT_START_KEY);
    assert_int_equal(at(&s, 1, EVENT_UNLOCK), ACT_REFUSE_BUSY);
    assert_int_equal(done(&s, 2, 0), ACT_FORGET_KEY | ACT_ANSWER_UNLOCK);
    assert_int_equal(s.vault, VAULT_LOCKED);
    assert_int_equal(at(&s, 3, EVENT_KEY), ACT_JOIN | ACT_START_KEY);
    assert_int_equal(at(&s, 4, EVENT_CANCEL), ACT_CANCEL_JOB | ACT_FORGET_KEY);
    assert_int_equal(at(&s, 5, EVENT_KEY), ACT_JOIN | ACT_START_KEY);
    assert_int_equal(at(&s, 6, EVENT_STOP), ACT_CANCEL_JOB | ACT_FORGET_KEY | ACT_ANSWER_UNLOCK | ACT_TERM);
}

static void a_save_and_a_lock_asked_for_during_a_rewriting_follow_it(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    assert_int_equal(at(&s, 0, EVENT_KEY), ACT_JOIN | ACT_START_KEY);
    assert_int_equal(at(&s, 1, EVENT_KEY), ACT_REFUSE_BUSY);
    assert_int_equal(at(&s, 1, EVENT_SAVE), ACT_JOIN);
    assert_int_equal(failed(&s, 2, true), ACT_ANSWER_UNLOCK | ACT_START_SAVE);
    assert_int_equal(done(&s, 3, 0), ACT_ANSWER_SAVE);
    assert_int_equal(at(&s, 4, EVENT_KEY), ACT_JOIN | ACT_START_KEY);
    assert_int_equal(at(&s, 5, EVENT_LOCK), ACT_JOIN);
    assert_int_equal(done(&s, 6, 0), ACT_ANSWER_UNLOCK | ACT_HIDE | ACT_START_LOOK);
}

/* It took nothing from RAM: the stop's own first save is still to come. */
static void a_stop_during_a_rewriting_saves_behind_it(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    assert_int_equal(at(&s, 0, EVENT_KEY), ACT_JOIN | ACT_START_KEY);
    assert_int_equal(at(&s, 1, EVENT_STOP), ACT_DROP_RESERVE);
    assert_int_equal(done(&s, 2, 0), ACT_ANSWER_UNLOCK | ACT_START_SAVE);
    assert_int_equal(done(&s, 3, 0), ACT_ANSWER_SAVE | ACT_TERM);
}

static void a_slow_first_save_still_leaves_time_to_end_and_to_save(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    assert_int_equal(step_deadline(&s), T / 4 * 3);
    assert_int_equal(at(&s, T / 4 * 3 - 1, EVENT_TIMER), 0);
    assert_int_equal(at(&s, T / 4 * 3, EVENT_TIMER), ACT_TERM); /* the save goes on meanwhile */
    assert_int_equal(s.vault, VAULT_SAVING);
    assert_true(step_deadline(&s) > T / 4 * 3);
    assert_int_equal(done(&s, T / 4 * 3 + 1, 0), ACT_ANSWER_SAVE);
    assert_int_equal(due(&s), ACT_KILL);
    assert_true(step_deadline(&s) < T);
    assert_int_equal(due(&s), ACT_DROP_RESERVE | ACT_START_SAVE);
}

/* What it has written so far can't be bought back. The others go beside it: it may wait for nothing else. */
static void a_first_save_may_have_all_of_the_total(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    assert_int_equal(due(&s), ACT_TERM);
    assert_true(step_deadline(&s) <= T / 8 * 7);
    assert_int_equal(due(&s), ACT_KILL);
    assert_int_equal(s.vault, VAULT_SAVING);
    assert_int_equal(at(&s, T / 8 * 7, EVENT_ALL_GONE), 0);
    assert_int_equal(step_deadline(&s), T);
    assert_int_equal(failed(&s, T / 8 * 7, true), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(at(&s, T - 1, EVENT_TIMER), 0);
    assert_int_equal(at(&s, T, EVENT_TIMER), ACT_CANCEL_JOB | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 74);
}

static void when_a_first_save_ends_beside_which_others_were_killed_nobody_is_spared(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    assert_int_equal(due(&s), ACT_TERM);
    assert_int_equal(due(&s), ACT_KILL);
    assert_int_equal(done(&s, T / 8 * 7, 0), ACT_ANSWER_SAVE | ACT_KILL);
    assert_int_equal(at(&s, T / 8 * 7 + 1, EVENT_ALL_GONE), ACT_DROP_RESERVE | ACT_START_SAVE);
}

static void a_second_TERM_beside_a_slow_first_save_kills_at_once(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    assert_int_equal(due(&s), ACT_TERM);
    assert_int_equal(at(&s, T / 4 * 3 + 1, EVENT_STOP), ACT_KILL);
    assert_int_equal(done(&s, T / 4 * 3 + 2, 0), ACT_ANSWER_SAVE | ACT_KILL);
    assert_int_equal(at(&s, T / 4 * 3 + 3, EVENT_ALL_GONE), ACT_DROP_RESERVE | ACT_START_SAVE);
}

static void a_first_save_that_ends_late_does_not_stretch_the_total(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    (void)due(&s);
    assert_int_equal(done(&s, T - 1, 0), ACT_ANSWER_SAVE | ACT_KILL);
    assert_true(step_deadline(&s) <= T); /* whoever KILL does not end is not waited for beyond it */
}

/* What it holds was read before all had gone: somebody may have written since. */
static void a_first_save_that_ends_after_all_have_gone_is_followed_by_another(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);
    uint32_t act;

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    (void)due(&s);
    (void)at(&s, T / 4 * 3 + 1, EVENT_ALL_GONE);
    act = done(&s, T / 4 * 3 + 2, 0);
    assert_int_equal(act & (ACT_START_WIPE | ACT_EXIT), 0);
    if (!(act & ACT_START_SAVE))
        act = at(&s, T / 4 * 3 + 3, EVENT_ALL_GONE);
    assert_int_equal(act & ACT_START_SAVE, ACT_START_SAVE);
    assert_int_equal(done(&s, T - 100, 0), ACT_ANSWER_SAVE | ACT_FORGET_KEY | ACT_START_WIPE);
    assert_int_equal(at(&s, T - 99, EVENT_WIPED), ACT_ANSWER_LOCK | ACT_EXIT);
}

static void a_last_save_out_of_time_is_given_up_and_the_tree_kept(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    (void)done(&s, 1, 0);
    (void)at(&s, 2, EVENT_ALL_GONE);
    assert_int_equal(step_deadline(&s), T);
    assert_int_equal(at(&s, T - 1, EVENT_TIMER), 0);
    assert_int_equal(at(&s, T, EVENT_TIMER), ACT_CANCEL_JOB | ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 74);
    assert_true(step_deadline(&s) == INT64_MAX);
}

static void a_wipe_out_of_time_does_not_keep_the_pod(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    unlock(&s);
    (void)at(&s, 0, EVENT_STOP);
    (void)done(&s, 1, 0);
    (void)at(&s, 2, EVENT_ALL_GONE);
    (void)done(&s, 3, 0);
    assert_int_equal(at(&s, T, EVENT_TIMER), ACT_EXIT);
    assert_int_equal(step_exit_status(&s), 0); /* all is durable */
}

static void a_failed_unlock_leaves_it_locked_and_a_cancelled_one_too(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, false);

    (void)state;
    (void)at(&s, 0, EVENT_UNLOCK);
    assert_int_equal(at(&s, 0, EVENT_UNLOCK), ACT_REFUSE_BUSY);
    assert_int_equal(at(&s, 0, EVENT_SAVE), ACT_REFUSE_BUSY);
    assert_int_equal(at(&s, 0, EVENT_LOCK), ACT_REFUSE_BUSY);
    assert_int_equal(failed(&s, 1, true), ACT_FORGET_KEY | ACT_ANSWER_UNLOCK);
    assert_int_equal(s.vault, VAULT_LOCKED);
    (void)at(&s, 2, EVENT_CREATE);
    assert_int_equal(at(&s, 3, EVENT_CANCEL), ACT_CANCEL_JOB | ACT_FORGET_KEY);
    assert_int_equal(s.vault, VAULT_LOCKED);
    assert_int_equal(at(&s, 3, EVENT_LOCK), ACT_ALREADY);
    assert_int_equal(at(&s, 3, EVENT_SAVE), ACT_REFUSE_STATE);
    unlock(&s);
    assert_int_equal(at(&s, 4, EVENT_CREATE), ACT_REFUSE_STATE);
}

static uint32_t resumed(struct supervisor *s, int64_t now, bool hidden, bool many)
{
    return go(s, now, (struct event){.type = EVENT_RESUMED, .tree = true, .key = true, .hidden = hidden, .many = many});
}

static void after_a_fault_the_save_is_done_again_and_who_asked_is_gone(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    assert_int_equal(resumed(&s, 1, false, false), 0);
    assert_int_equal(s.vault, VAULT_OPEN);
    (void)at(&s, 2, EVENT_SAVE);
    (void)at(&s, 3, EVENT_LOCK); /* the next one, by somebody who is gone then */
    assert_int_equal(resumed(&s, 4, false, false), ACT_START_SAVE);
    assert_int_equal(done(&s, 5, 0), ACT_ANSWER_SAVE);
    assert_int_equal(s.vault, VAULT_OPEN);
    lock(&s, 6);
    assert_int_equal(resumed(&s, 7, true, false), ACT_START_SAVE);
    assert_true(s.lock_after);
    assert_int_equal(done(&s, 8, 0), ACT_ANSWER_SAVE | ACT_FORGET_KEY | ACT_START_WIPE);
}

static void a_lock_that_had_not_yet_moved_the_tree_is_forgotten(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    (void)at(&s, 1, EVENT_LOCK);
    assert_int_equal(resumed(&s, 2, false, false), 0);
    assert_int_equal(s.vault, VAULT_OPEN);
    lock(&s, 3);
    assert_int_equal(resumed(&s, 3, false, false), ACT_START_SAVE);
    (void)done(&s, 3, 0);
    assert_int_equal(s.vault, VAULT_OPEN);
    (void)at(&s, 3, EVENT_LOCK);
    assert_int_equal(resumed(&s, 3, true, false), ACT_START_LOOK);
    assert_int_equal(failed(&s, 3, false), ACT_UNHIDE | ACT_ANSWER_LOCK);
    /* And one that had moved it, but was not known yet, brings it back. */
    assert_int_equal(resumed(&s, 4, true, false), ACT_UNHIDE);
    assert_int_equal(s.vault, VAULT_OPEN);
}

static void too_many_faults_are_a_stop_with_a_status_of_their_own(void **state)
{
    struct supervisor s = pod(VAULT_LOCKED, true);

    (void)state;
    unlock(&s);
    assert_int_equal(resumed(&s, 1, false, true), ACT_DROP_RESERVE | ACT_START_SAVE);
    assert_int_equal(s.phase, PHASE_FIRST_SAVE);
    assert_int_equal(done(&s, 2, 0), ACT_ANSWER_SAVE | ACT_TERM);
    (void)go(&s, 3, (struct event){.type = EVENT_MAIN_ENDED, .status = 3});
    (void)at(&s, 4, EVENT_ALL_GONE);
    (void)done(&s, 5, 0);
    (void)at(&s, 6, EVENT_WIPED);
    assert_int_equal(s.phase, PHASE_DONE);
    assert_int_equal(step_exit_status(&s), EX_TP_FAULT);
    s.unsaved = true;
    assert_int_equal(step_exit_status(&s), EX_TP_IO);
}

static void where_there_is_no_vault_every_request_is_refused(void **state)
{
    struct supervisor s = pod(VAULT_ABSENT, true);

    (void)state;
    assert_int_equal(at(&s, 0, EVENT_UNLOCK), ACT_REFUSE_STATE);
    assert_int_equal(at(&s, 0, EVENT_CREATE), ACT_REFUSE_STATE);
    assert_int_equal(at(&s, 0, EVENT_SAVE), ACT_REFUSE_STATE);
    assert_int_equal(at(&s, 0, EVENT_LOCK), ACT_REFUSE_STATE);
}

/* --- long lives in a small world --- */

enum work { NO_JOB, OPENING_JOB, CREATING_JOB, SAVING_JOB, LOOKING_JOB, KEYING_JOB };
enum { ASKERS = 6, WALK_EVENTS = 1000000 };

struct asker {
    enum event_type wants;
    uint32_t ticket;   /* as the loop gives it: the save that answers */
    uint64_t written;  /* what was in RAM when it asked */
};

/* Versions count writes: `written` is what RAM holds, `durable` what the file does. */
struct world {
    struct supervisor s;
    uint64_t seed;
    int64_t now, stopped_at;

    bool main_alive, main_is_deaf;
    int others;
    bool others_are_deaf, some_unkillable;
    bool killed; /* everybody, and nobody was spared */
    bool told;
    unsigned started, started_at_stop; /* processes, as their numbers count them */

    enum work job;
    bool slow_disk;
    bool job_has_read;
    uint64_t job_holds;
    bool last_ok;
    uint32_t last_left_out, running_save;

    bool key, tree, hidden, wiping;
    uint64_t written, durable;
    uint32_t left_out; /* by the save that made `durable` */

    struct asker askers[ASKERS];
    int n_askers;

    unsigned holders; /* who have files of the tree open: no hiding keeps them from writing */
    bool was_open, over;
    int main_status;
    struct move last;
    struct tally *tally;
};

/* So that a walk which never got anywhere interesting is not taken for a proof. */
struct tally {
    unsigned long events, lives, stops_open, wipes, locks, lock_failed, last_failed, slow_first, kills, retries,
        creations_failed, hurried, left_out_at_stop,
        saved_once, faults, held, forced, kills_beside_a_save, keyed;
};

static unsigned pick(struct world *w, unsigned n)
{
    return (unsigned)(unit_random(&w->seed) % n);
}

static void must_w(struct world *w, bool claim, const char *what)
{
    if (!claim)
        print_error("# written %llu durable %llu job %d hidden %d tree %d now %lld\n", (unsigned long long)w->written,
                    (unsigned long long)w->durable, w->job, w->hidden, w->tree, (long long)w->now);
    must(&w->last, claim, what);
}

static void answer(struct world *w, enum event_type what, bool all)
{
    int kept = 0;

    for (int i = 0; i < w->n_askers; i++) {
        struct asker *a = &w->askers[i];

        if (a->wants != what || (what == EVENT_SAVE && !all && a->ticket > w->running_save)) {
            w->askers[kept++] = *a;
            continue;
        }
        if ((what == EVENT_SAVE || what == EVENT_LOCK) && w->last_ok && w->last_left_out == 0)
            must_w(w, w->durable >= a->written, "who is told that it is saved has it saved");
    }
    w->n_askers = kept;
}

static void happens(struct world *w, struct event ev);

static void check_wipe(struct world *w)
{
    if (w->last.ev.type == EVENT_RESUMED) /* it had been begun, and goes on */
        return;
    if (w->last.before.creating) { /* a vault that never came to be: nothing was promised */
        w->tally->creations_failed++;
        return;
    }
    must_w(w, w->last.ev.type == EVENT_JOB_DONE || w->last.ev.type == EVENT_ALL_GONE,
           "only a save that succeeded leads to a wipe");
    w->tally->saved_once += w->last.ev.type == EVENT_ALL_GONE;
    must_w(w, w->durable == w->written, "nothing is wiped unless a save after the last write succeeded");
    must_w(w, w->left_out == 0, "nothing is wiped that was left out");
    w->tally->wipes++;
}

static void check_exit(struct world *w)
{
    int status = step_exit_status(&w->s);
    bool lost = w->left_out > 0 || (w->tree && w->written > w->durable);

    w->over = true;
    if (lost)
        must_w(w, status == 74, "what is not durable is told with status 74");
    else if (status == 74)
        must_w(w, w->tree && !w->last_ok, "status 74 is for a last save that failed");
    else
        must_w(w, status == (w->s.has_main ? w->main_status : 0), "else the status is the main command's");
    if (w->was_open)
        must_w(w, w->now <= w->stopped_at + T, "a stop ends within its total");
}

/* In the order of the bits, as the loop does. */
static void perform(struct world *w, uint32_t act)
{
    struct move m = w->last;
    bool stopping = m.before.phase == PHASE_RUN && m.after.phase != PHASE_RUN;

    if (stopping) {
        w->stopped_at = w->now;
        w->was_open = w->s.was_open;
        w->tally->stops_open += w->was_open;
    }
    if ((act & ACT_JOIN) && w->n_askers < ASKERS)
        w->askers[w->n_askers++] = (struct asker){m.ev.type, w->s.saves_started + (w->s.save_again ? 1 : 0), w->written};
    if (act & ACT_CANCEL_JOB)
        w->job = NO_JOB, w->last_ok = false;
    if (act & ACT_START_UNLOCK)
        w->job = OPENING_JOB;
    if (act & ACT_START_CREATE)
        w->job = CREATING_JOB;
    if (act & ACT_HIDE) {
        must_w(w, w->tree && !w->hidden, "a tree in its place is hidden");
        w->hidden = true;
    }
    if (act & ACT_UNHIDE) {
        must_w(w, w->tree && w->hidden, "a hidden tree is brought back");
        w->hidden = false;
    }
    if (act & ACT_ANSWER_UNLOCK) {
        answer(w, EVENT_UNLOCK, true);
        answer(w, EVENT_CREATE, true);
        answer(w, EVENT_KEY, true);
    }
    if (act & ACT_ANSWER_SAVE)
        answer(w, EVENT_SAVE, false);
    if (act & ACT_FORGET_KEY)
        w->key = false;
    if (act & ACT_START_WIPE) {
        check_wipe(w);
        w->tree = w->hidden = false;
        w->wiping = true;
    }
    if (act & ACT_ANSWER_LOCK) {
        if (w->s.vault != VAULT_LOCKED)
            w->last_ok = false; /* it is told why not */
        answer(w, EVENT_LOCK, true);
        if (w->s.vault == VAULT_LOCKED)
            answer(w, EVENT_SAVE, true);
        w->tally->lock_failed += w->s.vault != VAULT_LOCKED;
        w->tally->locks += w->s.vault == VAULT_LOCKED;
    }
    if (act & ACT_TERM) {
        must_w(w, !w->was_open || m.before.vault == VAULT_SAVING || m.before.vault == VAULT_LOCKING,
               "nobody is told to end before the first save was tried");
        w->told = true;
    }
    if (act & ACT_KILL) {
        bool spares = w->job == SAVING_JOB || w->job == KEYING_JOB; /* its workers, and so who was just being forked */

        w->tally->kills++;
        w->tally->kills_beside_a_save += spares;
        must_w(w, spares || w->job == NO_JOB, "KILL would hit the workers");
        if (!spares || pick(w, 2)) {
            w->main_is_deaf = w->others_are_deaf = false;
            w->holders = 0;
            w->killed = !spares;
            if (w->others > 0 && !w->some_unkillable)
                w->others = 0;
        }
    }
    if (act & ACT_EXIT)
        check_exit(w);
    if (act & (ACT_TERM_HOLDERS | ACT_KILL_HOLDERS)) {
        if ((act & ACT_KILL_HOLDERS) || pick(w, 2))
            w->holders = 0;
        w->tally->forced++;
    }
    if (act & ACT_START_LOOK) {
        must_w(w, w->job == NO_JOB, "one run of workers at a time");
        must_w(w, w->tree && w->hidden, "a lock looks at the hidden tree");
        w->started++;
        w->job = LOOKING_JOB;
    }
    if (act & ACT_START_KEY) {
        must_w(w, w->job == NO_JOB, "one run of workers at a time");
        w->started++;
        w->job = KEYING_JOB;
        w->tally->keyed += w->tree;
    }
    if (act & ACT_START_SAVE) {
        must_w(w, w->job == NO_JOB, "one run of workers at a time");
        must_w(w, w->tree && w->key, "a save has a tree and a key");
        must_w(w, w->hidden == w->s.lock_after, "a lock saves the hidden tree");
        w->tally->retries += m.ev.type == EVENT_JOB_FAILED && m.before.retries != m.after.retries;
        w->running_save = w->s.saves_started;
        w->started += 2; /* a packer and a sealer */
        w->job = SAVING_JOB;
        w->job_has_read = false;
        if (pick(w, 40) == 0) { /* no process could be started: it fails on the spot */
            w->job = NO_JOB;
            w->last_ok = false;
            happens(w, (struct event){.type = EVENT_JOB_FAILED});
        }
    }
}

static void happens(struct world *w, struct event ev)
{
    w->last = take(&w->s, ev, w->now);
    check_move(&w->last);
    memcpy(&w->s, &w->last.after, sizeof w->s);
    w->tally->events++;
    perform(w, w->last.act);
}

static bool somebody_lives(const struct world *w)
{
    return w->main_alive || w->others > 0;
}

static void main_ends(struct world *w, int status)
{
    w->main_alive = false;
    w->main_status = status;
    happens(w, (struct event){.type = EVENT_MAIN_ENDED, .status = status});
}

/* The packer reads, then the sealer makes it durable; or one of them fails. */
static void job_goes_on(struct world *w)
{
    struct event ev = {.type = EVENT_JOB_DONE};
    enum work job = w->job;

    if (job == NO_JOB || (w->slow_disk && pick(w, 40) != 0))
        return;
    if (job == LOOKING_JOB) {
        w->job = NO_JOB;
        w->last_ok = false; /* if it is refused */
        if (pick(w, 20) == 0) {
            happens(w, (struct event){.type = EVENT_JOB_FAILED});
        } else {
            w->tally->held += w->holders > 0;
            happens(w, (struct event){.type = EVENT_LOOKED, .holders = w->holders});
        }
        return;
    }
    if (job == KEYING_JOB) { /* no part of what is in RAM */
        w->job = NO_JOB;
        happens(w, (struct event){.type = pick(w, 4) ? EVENT_JOB_DONE : EVENT_JOB_FAILED, .may_retry = pick(w, 2)});
        return;
    }
    if (job == SAVING_JOB && !w->job_has_read) {
        w->job_has_read = true;
        w->job_holds = w->written;
        return;
    }
    w->job = NO_JOB;
    w->last_ok = pick(w, 5) != 0;
    w->last_left_out = 0;
    if (!w->last_ok) {
        ev = (struct event){.type = EVENT_JOB_FAILED, .may_retry = pick(w, 2)};
    } else if (job == SAVING_JOB) {
        w->durable = w->job_holds;
        /* A new vault is empty: nothing to leave out. */
        w->left_out = ev.left_out = !w->s.creating && pick(w, 12) == 0 ? 1 : 0;
        w->last_left_out = ev.left_out;
        w->tally->slow_first += w->s.phase == PHASE_WAIT;
        w->tally->left_out_at_stop += ev.left_out && w->s.phase == PHASE_LAST_SAVE;
    } else {
        w->tree = w->key = true;
        w->hidden = false;
        w->written = w->durable;
        w->left_out = 0;
    }
    w->tally->last_failed += !w->last_ok && w->s.phase == PHASE_LAST_SAVE;
    happens(w, ev);
}

static void somebody_writes(struct world *w)
{
    /* Only who is told that it is open may rely on it; who can't be killed hangs, and writes nothing. Beside
     * a first save it takes a while until all are killed. */
    if (w->tree && !w->hidden && w->s.vault != VAULT_OPENING && !w->s.creating && somebody_lives(w) &&
        !w->killed)
        w->written++;
    else if (w->tree && w->hidden && w->holders > 0 && !w->killed)
        w->written++;
    /* A file is opened by name, so only while it has one. */
    if (w->tree && !w->hidden && somebody_lives(w) && pick(w, 8) == 0 && w->s.phase < PHASE_KILL)
        w->holders++;
    if (w->holders > 0 && pick(w, 8) == 0)
        w->holders--;
}

static void time_passes(struct world *w)
{
    int64_t until = step_deadline(&w->s);

    if (until != INT64_MAX && pick(w, 4) == 0)
        w->now = until > w->now ? until : w->now;
    else if (until == INT64_MAX || w->now + 50 < until)
        w->now += pick(w, 50);
    if (w->now >= until)
        happens(w, (struct event){.type = EVENT_TIMER});
}

static void processes_end(struct world *w)
{
    bool killed = w->killed;

    /* A deaf one ends too, some day: beside a locked vault nobody else would end it. */
    if (w->main_alive && (killed || (w->told && !w->main_is_deaf) || pick(w, w->told ? 300 : 60) == 0)) {
        main_ends(w, killed ? 137 : (int)pick(w, 3));
        return;
    }
    if (w->others > 0 && (w->told ? !w->others_are_deaf : pick(w, 3) == 0) && !(killed && w->some_unkillable))
        w->others--;
    /* The loop counts the workers: they are processes as well. */
    if (!somebody_lives(w) && w->job == NO_JOB && (w->s.phase == PHASE_WAIT || w->s.phase == PHASE_KILL))
        happens(w, (struct event){.type = EVENT_ALL_GONE, .alone = w->started == w->started_at_stop + 2});
}

/* Process 1 comes back: workers and clients are gone, all else is as it was. */
static void faults(struct world *w)
{
    w->tally->faults++;
    w->job = NO_JOB;
    w->n_askers = 0;
    w->wiping = false;
    happens(w, (struct event){.type = EVENT_RESUMED, .tree = w->tree, .hidden = w->hidden, .key = w->key});
}

static void live_on(struct world *w)
{
    static const enum event_type REQUESTS[] = {EVENT_UNLOCK, EVENT_UNLOCK, EVENT_CREATE, EVENT_SAVE, EVENT_LOCK, EVENT_KEY};

    switch (pick(w, 18)) {
    case 0:
    case 1:
    case 2:
        somebody_writes(w);
        break;
    case 3:
    case 4:
        if (w->n_askers < ASKERS)
            happens(w, (struct event){.type = REQUESTS[pick(w, 6)], .force = pick(w, 3) == 0});
        break;
    case 5:
        if (pick(w, 20) == 0) {
            w->tally->hurried += w->s.phase == PHASE_FIRST_SAVE || w->s.phase == PHASE_WAIT;
            if (w->s.phase == PHASE_RUN)
                w->started_at_stop = w->started;
            happens(w, (struct event){.type = EVENT_STOP, .alone = !somebody_lives(w) && w->job == NO_JOB});
        }
        break;
    case 6:
        if (w->s.vault == VAULT_OPENING && pick(w, 4) == 0) {
            happens(w, (struct event){.type = EVENT_CANCEL});
            answer(w, EVENT_UNLOCK, true); /* who asked has gone */
            answer(w, EVENT_CREATE, true);
            answer(w, EVENT_KEY, true);
        }
        break;
    case 7:
        if (w->wiping) {
            w->wiping = false;
            happens(w, (struct event){.type = EVENT_WIPED});
        }
        break;
    case 8:
        /* An engine starts processes in the middle of a stop, too. */
        if (w->others < 5 && (w->s.phase == PHASE_RUN || (w->s.phase < PHASE_KILL && pick(w, 4) == 0))) {
            w->others++;
            w->started++;
        }
        break;
    case 9:
    case 10:
        processes_end(w);
        break;
    case 11:
    case 12:
        time_passes(w);
        break;
    case 13:
        if (pick(w, 30) == 0)
            faults(w);
        break;
    default:
        job_goes_on(w);
    }
}

static void check_rest(struct world *w)
{
    if (w->over || w->s.phase != PHASE_RUN || w->job != NO_JOB || w->wiping || w->s.waiting)
        return;
    must_w(w, w->n_askers == 0, "nobody waits for what is not under way");
    must_w(w, w->s.vault <= VAULT_LOCKED || w->s.vault == VAULT_OPEN, "nothing is under way that nobody does");
    must_w(w, (w->s.vault == VAULT_OPEN) == w->tree, "a tree is there exactly while the vault is open");
}

static void nothing_is_wiped_unless_the_last_save_after_the_last_write_succeeded(void **state)
{
    struct tally t = {0};
    struct world w;

    (void)state;
    while (t.events < WALK_EVENTS) {
        memset(&w, 0, sizeof w);
        w.tally = &t;
        w.seed = ++t.lives;
        w.s = pod(VAULT_LOCKED, pick(&w, 2));
        w.main_alive = w.s.has_main;
        w.main_status = w.s.has_main ? 137 : 0;
        w.main_is_deaf = pick(&w, 3) == 0;
        w.others_are_deaf = pick(&w, 3) == 0;
        w.some_unkillable = pick(&w, 6) == 0;
        w.slow_disk = pick(&w, 6) == 0;
        for (int i = 0; !w.over; i++) {
            live_on(&w);
            check_rest(&w);
            must_w(&w, i < 100000, "every life ends");
        }
    }
    assert_true(t.lives > 5000 && t.stops_open > 3000 && t.wipes > 3000 && t.locks > 1000 && t.lock_failed > 500);
    assert_true(t.last_failed > 500 && t.slow_first > 100 && t.kills > 1000 && t.retries > 1000 && t.hurried > 500 && t.faults > 1000 && t.held > 100 && t.kills_beside_a_save > 20 && t.keyed > 200 && t.forced > 100);
    assert_true(t.creations_failed > 200 && t.left_out_at_stop > 50 && t.saved_once > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_in_every_state_keeps_the_rules),
        cmocka_unit_test(every_state_that_can_come_about_keeps_the_promises),
        cmocka_unit_test(a_stop_with_nothing_open_and_nobody_left_is_over_at_once),
        cmocka_unit_test(a_stop_with_nothing_open_gives_the_main_command_its_own_time),
        cmocka_unit_test(a_pod_without_a_command_ends_processes_that_stay),
        cmocka_unit_test(a_stop_with_an_open_vault_saves_tells_all_saves_again_and_wipes),
        cmocka_unit_test(a_pod_where_nobody_lives_is_saved_once),
        cmocka_unit_test(a_pod_where_somebody_may_have_written_is_saved_twice),
        cmocka_unit_test(a_main_command_that_ignores_TERM_is_killed_in_time_for_the_last_save),
        cmocka_unit_test(who_can_not_even_be_killed_does_not_keep_the_last_save_waiting),
        cmocka_unit_test(a_second_TERM_skips_the_waiting_and_no_save),
        cmocka_unit_test(a_second_TERM_while_waiting_kills_at_once),
        cmocka_unit_test(TERM_while_opening_gives_the_unlock_up),
        cmocka_unit_test(TERM_while_a_vault_is_made_gives_it_up_before_its_first_save),
        cmocka_unit_test(TERM_in_a_new_vaults_first_save_lets_it_end),
        cmocka_unit_test(a_new_vault_that_can_not_be_written_is_no_vault),
        cmocka_unit_test(TERM_while_saving_takes_that_save_for_the_first),
        cmocka_unit_test(TERM_in_a_locks_save_lets_the_lock_end),
        cmocka_unit_test(TERM_in_a_locks_save_that_fails_still_has_the_last_save),
        cmocka_unit_test(TERM_while_locking_waits_for_the_wipe),
        cmocka_unit_test(a_save_asked_for_while_saving_is_answered_by_the_next),
        cmocka_unit_test(a_lock_asked_for_while_saving_saves_once_more_and_locks),
        cmocka_unit_test(an_unlock_during_a_locks_save_is_told_to_try_again),
        cmocka_unit_test(an_unlock_behind_a_waiting_lock_is_told_to_try_again),
        cmocka_unit_test(a_lock_asked_for_while_a_vault_is_made_ends_with_the_making),
        cmocka_unit_test(a_save_is_tried_again_three_times_and_no_more),
        cmocka_unit_test(a_save_that_can_not_get_better_is_not_tried_again),
        cmocka_unit_test(a_lock_that_left_something_out_destroys_nothing),
        cmocka_unit_test(a_lock_waits_for_who_holds_the_vault_and_saves_after_them),
        cmocka_unit_test(a_lock_whose_holders_stay_is_refused_and_the_vault_is_open),
        cmocka_unit_test(a_lock_by_force_tells_them_then_kills_them_and_saves_last),
        cmocka_unit_test(of_very_many_holders_none_is_killed_who_was_not_told),
        cmocka_unit_test(a_lock_by_force_of_what_can_not_be_killed_is_refused),
        cmocka_unit_test(TERM_while_a_lock_waits_is_a_stop_with_both_its_saves),
        cmocka_unit_test(a_last_save_that_fails_keeps_the_tree_and_ends_with_74),
        cmocka_unit_test(a_last_save_that_left_something_out_keeps_the_tree_and_ends_with_74),
        cmocka_unit_test(a_last_save_that_succeeds_makes_a_failed_first_one_good),
        cmocka_unit_test(a_main_command_that_ends_by_itself_gives_its_status_after_the_saves),
        cmocka_unit_test(a_main_command_that_ends_beside_a_locked_vault_ends_the_pod),
        cmocka_unit_test(while_the_vault_is_locked_a_rewriting_opens_nothing),
        cmocka_unit_test(a_save_and_a_lock_asked_for_during_a_rewriting_follow_it),
        cmocka_unit_test(a_stop_during_a_rewriting_saves_behind_it),
        cmocka_unit_test(a_slow_first_save_still_leaves_time_to_end_and_to_save),
        cmocka_unit_test(a_first_save_may_have_all_of_the_total),
        cmocka_unit_test(when_a_first_save_ends_beside_which_others_were_killed_nobody_is_spared),
        cmocka_unit_test(a_second_TERM_beside_a_slow_first_save_kills_at_once),
        cmocka_unit_test(a_first_save_that_ends_late_does_not_stretch_the_total),
        cmocka_unit_test(a_first_save_that_ends_after_all_have_gone_is_followed_by_another),
        cmocka_unit_test(a_last_save_out_of_time_is_given_up_and_the_tree_kept),
        cmocka_unit_test(a_wipe_out_of_time_does_not_keep_the_pod),
        cmocka_unit_test(a_failed_unlock_leaves_it_locked_and_a_cancelled_one_too),
        cmocka_unit_test(after_a_fault_the_save_is_done_again_and_who_asked_is_gone),
        cmocka_unit_test(a_lock_that_had_not_yet_moved_the_tree_is_forgotten),
        cmocka_unit_test(too_many_faults_are_a_stop_with_a_status_of_their_own),
        cmocka_unit_test(where_there_is_no_vault_every_request_is_refused),
        cmocka_unit_test(nothing_is_wiped_unless_the_last_save_after_the_last_write_succeeded),
    };

    return cmocka_run_group_tests_name("step", tests, NULL, NULL);
}
