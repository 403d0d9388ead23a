#include "pod.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "log.h"
#include "notify.h"
#include "procs.h"
#include "wire.h"

enum {
    WIPE_AT_ONCE = 500, /* entries deleted between two looks at the clients: about 2 ms */
    WIPE_PASSES = 300,    /* of so many: more than a vault can hold */
    REQUESTS_AT_ONCE = 8, /* of one client, before the others get their turn */
    LOOK_FIRST_MS = 1,
    LOOK_MOST_MS = 20,
    RAM_LEAST = 1024 * 1024,
    NOBODY = -1,
};

int64_t pod_now_us(void)
{
    struct timespec t;

    /* Not through the vdso: that page, far from all others, would cost 8 kB of page tables (key.c). */
    (void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t pod_now_ms(void)
{
    return pod_now_us() / 1000;
}

void pod_watch(struct pod *p, int fd, enum source kind, int index)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = SOURCE_TAG(kind, index)};

    (void)epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &ev); /* fails for no descriptor of ours */
}

int pod_keeps(const struct pod *p, int keep[POD_KEEPS])
{
    const int all[POD_KEEPS] = {p->epoll, p->signals, p->self, p->record, p->ram.dir, p->control.listener,
                                p->workers.program, p->workers.reserve, p->key.fd, -1};

    memcpy(keep, all, sizeof all);
    return POD_KEEPS;
}

/* --- answering --- */

static struct wire_status status_now(const struct pod *p)
{
    const struct facts *f = &p->workers.facts;
    struct wire_status s;

    memset(&s, 0, sizeof s);
    s.state = p->sup.vault;
    if (p->sup.creating)
        s.state = VAULT_OPENING;
    if (p->sup.lock_after)
        s.state = VAULT_LOCKING;
    if (p->sup.phase != PHASE_RUN)
        s.state = VAULT_STOPPING;
    s.ram = !p->ram.usable ? RAM_NONE : p->ram.own ? RAM_OWN : RAM_GIVEN;
    s.owner_uid = p->owner.uid;
    s.owner_gid = p->owner.gid;
    s.stale = ram_stale(&p->ram);
    s.skipped = f->skipped;
    s.left_out = f->left_out;
    s.swap = f->swap;
    s.warnings = f->warnings;
    s.generation = f->generation;
    s.saved_at = f->saved_at;
    s.files = f->files;
    s.bytes = f->bytes;
    memcpy(s.vault, p->vault, sizeof s.vault);
    memcpy(s.secrets, p->ram.secrets, sizeof s.secrets);
    memcpy(s.why, p->ram.why, sizeof p->ram.why);
    s.problem = p->sup.unsaved ? p->save_error : p->absent;
    return s;
}

static void answer(struct pod *p, int client, uint16_t type, const struct wire_error *e, uint32_t flags)
{
    struct wire_status s = status_now(p);

    s.flags = flags;
    control_answer(&p->control, client, type, e, &s, pod_now_ms());
}

static const struct wire_error NO_ERROR;

/* All who wait for one of these types, and for no later save than the one that has ended. */
static void answer_waiting(struct pod *p, unsigned types, const struct wire_error *e, uint32_t flags)
{
    for (int i = 0; i < CONTROL_CONNECTIONS; i++) {
        struct conn *c = &p->control.conns[i];

        if (c->fd < 0 || !c->waits || !(types >> c->waits & 1))
            continue;
        if (c->waits == REQ_SAVE && c->ticket > p->running_save)
            continue;
        answer(p, i, c->waits, e, flags);
    }
}

static void refuse_state(struct pod *p, int client, uint16_t type)
{
    struct wire_error e;

    if (p->sup.phase != PHASE_RUN)
        wire_error_set(&e, EX_TP_UNAVAILABLE, "stopping", "the pod is stopping");
    else if (p->sup.vault == VAULT_ABSENT)
        e = p->absent;
    else if (type == REQ_CREATE)
        wire_error_set(&e, EX_TP_CANT_CREATE, "exists", "a vault is open already");
    else
        wire_error_set(&e, EX_TP_LOCKED, "locked", "the vault is locked: open it with tazpod unlock");
    answer(p, client, type, &e, 0);
}

/* --- performing --- */

/* What came with the event: who asks, and what. */
struct asker {
    int client; /* NOBODY */
    const struct request *request;
    int passphrase; /* -1: none, or handed on */
};

static void run_started(struct pod *p)
{
    p->changed = true;
    p->run_started_us = pod_now_us();
    for (int i = 0; i < p->workers.n; i++)
        pod_watch(p, p->workers.w[i].channel, SOURCE_WORKER, i);
}

/* The texts of these quote a name inside the vault, which is nothing for a log unless asked for. */
static bool names_a_file(const char *word)
{
    return strcmp(word, "unreadable") == 0 || strcmp(word, "changing") == 0 || strcmp(word, "left-out") == 0 ||
           strcmp(word, "bad-entry") == 0;
}

static void log_run(const struct pod *p, enum run_type run, bool ok)
{
    static const char *const WORDS[] = {"", "unlock", "create", "save", "config", "look", "key"};
    const struct facts *f = &p->workers.facts;
    struct line l;

    line_start(&l, ok ? WORDS[run] : "error");
    if (!ok)
        line_text(&l, "in", WORDS[run]);
    if (!ok || p->last.word[0])
        line_text(&l, "error", p->last.word);
    if (ok) {
        line_number(&l, "generation", (int64_t)f->generation);
        line_number(&l, "files", (int64_t)f->files);
        line_number(&l, "bytes", (int64_t)f->bytes);
        if (run == RUN_SAVE && (f->flags & STATUS_UNCHANGED))
            line_text(&l, "unchanged", "yes");
        if (run == RUN_CREATE || run == RUN_UNLOCK)
            line_text(&l, "swap", f->swap == SWAP_SWAPPABLE ? "swappable" : "no");
        if (run != RUN_SAVE && (f->warnings & WARN_RAM_EXCEEDS))
            line_text(&l, "warning", "ram-exceeds-memory");
        if (f->skipped)
            line_number(&l, "skipped", f->skipped);
        if (f->left_out)
            line_number(&l, "left-out", f->left_out);
    }
    line_millis(&l, "ms", pod_now_us() - p->run_started_us);
    if (!ok && (p->workers.config.log_names || !names_a_file(p->last.word)))
        line_text(&l, "text", p->last.text);
    line_end(&l);
}

static void start_failed(struct pod *p, enum run_type run, const char *word, const char *text)
{
    wire_error_set(&p->last, word[0] == 'b' ? EX_TP_BUSY : EX_TP_IO, word, text);
    p->run_started_us = pod_now_us();
    log_run(p, run, false);
    if (run == RUN_SAVE)
        p->save_error = p->last;
    pod_event(p, &(struct event){.type = EVENT_JOB_FAILED});
}

static void fork_failed(struct pod *p, enum run_type run)
{
    start_failed(p, run, "busy", errno == EAGAIN ? NO_PROCESS : "no process could be started: try again");
}

static void drop_pending(struct pod *p)
{
    if (p->pending.passphrase >= 0)
        close(p->pending.passphrase);
    p->pending.passphrase = -1;
}

/* The configuration files are read when a vault is about to be opened, never for the main command's
 * start. While it is open what was read stays in force. */
static void start_open(struct pod *p, struct asker *a)
{
    drop_pending(p);
    p->pending.request = *a->request;
    p->pending.passphrase = a->passphrase;
    a->passphrase = -1;
    if (workers_config(&p->workers, pod_now_ms()) < 0)
        fork_failed(p, RUN_CONFIG);
    else
        run_started(p);
}

static uint64_t within(uint64_t v, uint64_t least, uint64_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* A flag or a variable is stronger than any file; a claim that a file makes can't be taken back. */
static void take_config(struct pod *p)
{
    const struct wire_config *c = &p->workers.config;
    static const enum ram_backend BACKENDS[] = {BACKEND_AUTO, BACKEND_OWN, BACKEND_GIVEN};
    const struct options *o = &p->options;

    if (c->version != 1)
        return;
    if (!o->backend_named && c->ram_backend < 3)
        ram_choose(&p->ram, BACKENDS[c->ram_backend]);
    /* The parser has checked these; but it read what anybody may have put into a workspace. */
    p->ram.size = o->ram_size ? (uint64_t)o->ram_size : within(c->ram_size_bytes, RAM_LEAST, (uint64_t)64 << 30);
    if (!o->stop_timeout_ms)
        p->sup.stop_timeout_ms = (int64_t)within(c->stop_timeout_ms, TIMEOUT_LEAST_MS, TIMEOUT_MOST_MS);
    if (!o->worker_timeout_ms)
        p->workers.timeout_ms = (int64_t)within(c->worker_timeout_ms, TIMEOUT_LEAST_MS, TIMEOUT_MOST_MS);
    if (!o->log_json_named)
        log_as_json(c->log_format == 1);
    if (p->pending.request.type == REQ_CREATE && !p->pending.request.kdf_ops)
        p->pending.request.kdf_ops = c->kdf_time;
    if (p->pending.request.type == REQ_CREATE && !p->pending.request.kdf_mem_kib)
        p->pending.request.kdf_mem_kib = (uint32_t)(c->kdf_memory_bytes / 1024);
}

/* A tmpfs of its own leaves room for everybody else where memory is limited. */
static void fit_size(struct pod *p)
{
    uint64_t limit = p->workers.memory_limit, size = p->ram.size;

    if (limit == UINT64_MAX || limit == 0)
        return;
    if (size > limit - MEMORY_FOR_OTHERS || limit < MEMORY_FOR_OTHERS)
        p->ram.size = limit > MEMORY_FOR_OTHERS + RAM_LEAST ? limit - MEMORY_FOR_OTHERS : RAM_LEAST;
}

static void open_pending(struct pod *p)
{
    const struct request *r = &p->pending.request;
    enum run_type run = r->type == REQ_CREATE ? RUN_CREATE : RUN_UNLOCK;
    int rc, tree = -1, passphrase = p->pending.passphrase;

    take_config(p);
    fit_size(p);
    if (!p->ram.usable) {
        p->last = p->ram.problem;
        pod_event(p, &(struct event){.type = EVENT_JOB_FAILED});
        return;
    }
    if (key_make(&p->key) < 0 || (tree = ram_stage(&p->ram)) < 0) {
        bool full = errno == ENOSPC || errno == ENOMEM;

        start_failed(p, run, full ? "no-room" : "io",
                     full ? "the run directory is full"
                          : "the place for the vault can't be made in the run directory");
        return;
    }
    p->pending.passphrase = -1;
    p->workers.tree_flags = (p->ram.own && p->ram.noswap ? JOB_OWN_NOSWAP : 0) |
                            (p->options.require_noswap || p->workers.config.ram_require_noswap
                                 ? JOB_REQUIRE_NOSWAP
                                 : 0);
    rc = run == RUN_CREATE
             ? workers_create(&p->workers, tree, passphrase, r->kdf_ops, r->kdf_mem_kib, pod_now_ms())
             : workers_unlock(&p->workers, tree, passphrase, pod_now_ms());
    close(tree);
    if (rc < 0)
        fork_failed(p, run);
    else
        run_started(p);
}

/* A tree that vanished from its place, or another in its place, is never saved over the vault. */
static void start_save(struct pod *p)
{
    int rc, tree = ram_tree(&p->ram);

    p->running_save = p->sup.saves_started;
    if (tree < 0 || (p->sup.lock_after && !p->ram.hidden)) {
        if (tree >= 0)
            close(tree);
        start_failed(p, RUN_SAVE, "io", "the open vault has gone from its place in the run directory");
        return;
    }
    p->workers.leave_out = p->sup.phase != PHASE_RUN;
    rc = workers_save(&p->workers, tree, p->sup.creating, pod_now_ms());
    close(tree);
    if (rc < 0)
        fork_failed(p, RUN_SAVE);
    else
        run_started(p);
}

/* Nobody looks for it by name any more: it is hidden. */
static void start_look(struct pod *p)
{
    int rc, tree = ram_tree(&p->ram);

    if (tree < 0 || !p->ram.hidden) {
        if (tree >= 0)
            close(tree);
        start_failed(p, RUN_LOOK, "io", "the open vault has gone from its place in the run directory");
        return;
    }
    rc = workers_look(&p->workers, tree, p->ram.own, pod_now_ms());
    close(tree);
    if (rc < 0)
        fork_failed(p, RUN_LOOK);
    else
        run_started(p);
}

static void start_key(struct pod *p, struct asker *a)
{
    bool open = p->sup.vault == VAULT_SAVING;
    int order = a->passphrase;

    if (!open && key_make(&p->key) < 0) {
        start_failed(p, RUN_KEY, "io", "the data key has no place in memory");
        return;
    }
    a->passphrase = -1;
    if (workers_rewrite(&p->workers, order, open, pod_now_ms()) < 0)
        fork_failed(p, RUN_KEY);
    else
        run_started(p);
}

static void signal_holders(struct pod *p, int sig)
{
    const struct holding *h = &p->workers.holding;
    struct line l;

    line_start(&l, "end-holders");
    line_number(&l, "signal", sig);
    line_text(&l, "processes", h->names);
    line_end(&l);
    for (uint32_t i = 0; i < h->n && i < WIRE_HOLDERS_MAX; i++)
        if (procs_signal_one(h->pids[i], sig) && sig == SIGTERM)
            (void)procs_signal_one(h->pids[i], SIGCONT);
}

static void wipe_now(struct pod *p)
{
    /* Bounded: whoever may write there could keep it going. What is left goes with the next sweep. */
    for (int n = 0; n < WIPE_PASSES && ram_wipe_some(&p->ram, WIPE_AT_ONCE) > 0; n++)
        ;
}

static void tell_all(struct pod *p)
{
    int instead = options_rewritten(&p->options, SIGTERM);

    if (p->main_pid > 0 && instead != SIGTERM) {
        if (instead)
            (void)kill(p->main_pid, instead);
        if (!procs_signal_but(SIGTERM, p->main_pid, 0))
            procs_signal(SIGTERM, p->main_pid); /* without /proc: better one too many than nobody */
    } else {
        procs_signal(SIGTERM, p->main_pid);
    }
    procs_signal(SIGCONT, p->main_pid); /* who is stopped would never see it */
    p->look_step_ms = LOOK_FIRST_MS;
    p->look_at_ms = pod_now_ms();
    p->hang_up_at_ms = p->look_at_ms + LOOK_FIRST_MS;
}

/* A first save goes on: it may have waited for nothing but their end. Without /proc its workers are hit
 * too, once: it is tried again. */
static void kill_all(struct pod *p)
{
    const struct workers *ws = &p->workers;

    if (ws->n > 0 && (procs_signal_but(SIGKILL, ws->w[0].pid, ws->w[1].pid) || p->killed))
        return;
    procs_signal(SIGKILL, p->main_pid);
    p->killed = true;
}

static void log_stop(struct pod *p, int status)
{
    struct line l;

    line_start(&l, "stop");
    line_number(&l, "status", status);
    if (p->sup.unsaved)
        line_text(&l, "error", p->save_error.word);
    if (p->stop_started_us)
        line_millis(&l, "ms", pod_now_us() - p->stop_started_us);
    line_end(&l);
}

static void perform(struct pod *p, uint32_t act, struct asker *a)
{
    uint16_t type = a->request ? a->request->type : 0;

    if (act & ACT_REFUSE_BUSY) {
        struct wire_error e;
        wire_error_set(&e, EX_TP_BUSY, "busy", "the vault is being opened or locked: try again");
        answer(p, a->client, type, &e, 0);
    }
    if (act & ACT_REFUSE_STATE)
        refuse_state(p, a->client, type);
    if (act & ACT_ALREADY)
        answer(p, a->client, type, &NO_ERROR, STATUS_ALREADY);
    if (act & ACT_JOIN) {
        p->control.conns[a->client].waits = type;
        p->control.conns[a->client].ticket = p->sup.saves_started + (p->sup.save_again ? 1 : 0);
    }
    if (act & ACT_CANCEL_JOB) {
        workers_end(&p->workers);
        drop_pending(p);
        ram_discard_staging(&p->ram);
        wipe_now(p);
        wire_error_set(&p->last, EX_TP_UNAVAILABLE, "stopping", "the pod is stopping");
        if (p->sup.unsaved)
            wire_error_set(&p->save_error, EX_TP_FAULT, "worker-timeout", "the last save did not end in time");
    }
    if (act & ACT_DROP_RESERVE)
        workers_drop_reserve(&p->workers);
    if (act & (ACT_START_UNLOCK | ACT_START_CREATE))
        start_open(p, a);
    if (act & ACT_UNHIDE)
        (void)ram_unhide(&p->ram);
    if (act & ACT_HIDE)
        (void)ram_hide(&p->ram); /* fails when the tree is not in its place; then the save does too */
    if (act & ACT_ANSWER_UNLOCK) {
        drop_pending(p);
        if (p->last.word[0]) {
            ram_discard_staging(&p->ram);
            wipe_now(p);
        }
        answer_waiting(p, 1u << REQ_UNLOCK | 1u << REQ_CREATE | 1u << REQ_KEY, &p->last, 0);
    }
    if (act & ACT_ANSWER_SAVE)
        answer_waiting(p, 1u << REQ_SAVE, &p->last, p->workers.facts.flags);
    if (act & ACT_FORGET_KEY) {
        key_forget(&p->key);
        workers_drop_reserve(&p->workers);
    }
    if (act & ACT_START_WIPE) {
        ram_discard_tree(&p->ram);
        p->wiping = true;
    }
    if (act & ACT_ANSWER_LOCK) {
        bool locked = p->sup.vault == VAULT_LOCKED;

        if (locked) /* its save answers for later ones too: nobody could write any more */
            p->running_save = UINT32_MAX;
        else if (!p->last.word[0] || (p->sup.phase != PHASE_RUN && strcmp(p->last.word, "held") == 0))
            wire_error_set(&p->last, EX_TP_UNAVAILABLE, "stopping", "the pod is stopping");
        answer_waiting(p, 1u << REQ_LOCK | (locked ? 1u << REQ_SAVE : 0), &p->last,
                       p->workers.facts.flags | (p->workers.holding.unseen ? STATUS_UNSEEN : 0));
    }
    if (act & ACT_TERM)
        tell_all(p);
    if (act & ACT_KILL) {
        kill_all(p);
        p->look_at_ms = pod_now_ms();
    }
    if (act & ACT_EXIT) {
        p->done = true;
        if (p->configured) {
            ram_sweep(&p->ram); /* what a lock had to put off, now that all have gone */
            log_stop(p, step_exit_status(&p->sup));
        }
    }
    if (act & (ACT_TERM_HOLDERS | ACT_KILL_HOLDERS))
        signal_holders(p, act & ACT_KILL_HOLDERS ? SIGKILL : SIGTERM);
    /* Last: these may fail at once, and that is an event of its own. */
    if (act & ACT_START_LOOK)
        start_look(p);
    if (act & ACT_START_SAVE)
        start_save(p);
    if (act & ACT_START_KEY)
        start_key(p, a);
}

static void decide(struct pod *p, const struct event *ev, struct asker *a)
{
    enum phase before = p->sup.phase;
    uint32_t act = step(&p->sup, ev, pod_now_ms());

    p->changed = true;
    if (before == PHASE_RUN && p->sup.phase != PHASE_RUN) {
        if (!p->stop_started_us)
            p->stop_started_us = pod_now_us();
        notify("STOPPING=1");
    }
    perform(p, act, a);
}

void pod_event(struct pod *p, const struct event *ev)
{
    struct asker nobody = {.client = NOBODY, .passphrase = -1};

    decide(p, ev, &nobody);
}

/* --- what happens --- */

void pod_on_stop(struct pod *p)
{
    struct event ev = {.type = EVENT_STOP};

    if (p->sup.phase == PHASE_RUN && p->configured) {
        p->stop_started_us = pod_now_us();
        if (p->sup.vault >= VAULT_OPEN) {
            p->stop_pid = procs_last_pid();
            ev.alone = !procs_any();
        }
    }
    pod_event(p, &ev);
}

/* The listener stays ready while somebody waits on it, so it is looked away from for a moment. */
static void listen_again(struct pod *p, bool now)
{
    struct epoll_event ev = {.events = now ? EPOLLIN : 0, .data.u64 = SOURCE_TAG(SOURCE_LISTENER, 0)};

    (void)epoll_ctl(p->epoll, EPOLL_CTL_MOD, p->control.listener, &ev);
    p->listen_again_ms = now ? INT64_MAX : pod_now_ms() + CONTROL_PATIENCE_MS;
}

void pod_on_listener(struct pod *p)
{
    int i;

    while ((i = control_accept(&p->control, pod_now_ms())) >= 0 || i == CONTROL_SENT_AWAY) {
        if (i < 0)
            continue;
        pod_watch(p, p->control.conns[i].fd, SOURCE_CLIENT, i);
        pod_on_client(p, i); /* most have asked already */
    }
    if (i == CONTROL_NOT_NOW)
        listen_again(p, false);
}

static const enum event_type EVENT_OF[] = {
    [REQ_UNLOCK] = EVENT_UNLOCK, [REQ_CREATE] = EVENT_CREATE, [REQ_SAVE] = EVENT_SAVE, [REQ_LOCK] = EVENT_LOCK,
    [REQ_KEY] = EVENT_KEY,
};

/* The requests, and why each is safe when the asker is hostile: he is root or the owner, so he may
 * read and write the tree and the vault file anyway. STATUS tells what he could list. UNLOCK and
 * CREATE cost one derivation at a time. SAVE writes what he could write himself, with the earlier
 * generation kept. LOCK never destroys what is not durable. KEY takes a credential that opens the file, and
 * keeps the earlier generation. None names a path or a program. */
void pod_on_client(struct pod *p, int i)
{
    struct request r;
    int passphrase, rc = 0;

    if (p->control.conns[i].fd < 0)
        return;
    for (int n = 0; n < REQUESTS_AT_ONCE; n++) {
        rc = control_read(&p->control, i, &r, &passphrase, pod_now_ms());
        if (rc <= 0)
            break;
        if (r.type == REQ_STATUS) {
            answer(p, i, r.type, &NO_ERROR, 0);
        } else {
            struct asker a = {.client = i, .request = &r, .passphrase = passphrase};

            decide(p, &(struct event){.type = EVENT_OF[r.type], .force = r.flags & REQUEST_FORCE}, &a);
            if (a.passphrase >= 0)
                close(a.passphrase);
        }
        if (p->control.conns[i].fd < 0)
            return;
    }
    if (rc < 0) {
        uint16_t waited = p->control.conns[i].waits;

        control_close(&p->control, i);
        if (waited == REQ_UNLOCK || waited == REQ_CREATE || waited == REQ_KEY)
            pod_event(p, &(struct event){.type = EVENT_CANCEL});
    }
}

/* What a lock is told that is refused for it. */
static void tell_held(struct pod *p)
{
    static const char BEFORE[] = "these processes hold files in it open: ", AFTER[] = ": end them, or tazpod lock --force";
    const struct holding *h = &p->workers.holding;
    char text[WIRE_TEXT_MAX];
    size_t n = strlen(h->names);

    p->last = NO_ERROR;
    if (h->n == 0)
        return;
    if (n > sizeof text - sizeof BEFORE - sizeof AFTER)
        n = sizeof text - sizeof BEFORE - sizeof AFTER;
    memcpy(text, BEFORE, sizeof BEFORE);
    memcpy(text + sizeof BEFORE - 1, h->names, n);
    memcpy(text + sizeof BEFORE - 1 + n, AFTER, sizeof AFTER);
    wire_error_set(&p->last, EX_TP_BUSY, "held", text);
}

/* Both workers have told their result, or died. */
static void run_ended(struct pod *p, enum run_state state, bool may_retry)
{
    enum run_type run = p->workers.run;
    struct event ev = {.type = EVENT_JOB_DONE, .may_retry = may_retry};

    workers_end(&p->workers);
    if (run == RUN_CONFIG && state == RUN_DONE) {
        p->last = NO_ERROR;
        open_pending(p);
        return;
    }
    if (run == RUN_LOOK && state == RUN_DONE) {
        tell_held(p);
        pod_event(p, &(struct event){.type = EVENT_LOOKED, .holders = p->workers.holding.n});
        return;
    }
    if (state == RUN_DONE && run == RUN_KEY) {
        p->last = NO_ERROR;
    } else if (state == RUN_DONE) {
        p->last = NO_ERROR;
        if (run == RUN_CREATE)
            p->workers.facts.files = p->workers.facts.bytes = 0;
        if (run != RUN_SAVE)
            p->workers.facts.skipped = p->workers.facts.left_out = 0;
        if (run != RUN_SAVE && ram_publish(&p->ram) < 0) {
            wire_error_set(&p->last, EX_TP_IO, "io", "the vault can't be put in its place in the run directory");
            state = RUN_FAILED;
        }
    }
    if (state == RUN_FAILED)
        ev.type = EVENT_JOB_FAILED;
    ev.left_out = p->workers.facts.left_out;
    if (ev.type == EVENT_JOB_DONE && ev.left_out > 0)
        wire_error_set(&p->last, EX_TP_IO, "left-out", p->workers.facts.note);
    log_run(p, run, state == RUN_DONE);
    if (run == RUN_SAVE)
        p->save_error = p->last;
    pod_event(p, &ev);
}

static void check_run(struct pod *p)
{
    bool may_retry = false;
    enum run_state state;

    if (p->workers.run == RUN_NONE)
        return;
    state = workers_state(&p->workers, &p->last, &may_retry);
    if (state != RUN_GOING)
        run_ended(p, state, may_retry);
}

void pod_on_worker(struct pod *p, int i)
{
    workers_on_channel(&p->workers, i, &p->key);
    check_run(p);
}

void pod_on_child(struct pod *p, pid_t pid, int wait_status)
{
    if (pid == p->main_pid) {
        int status = child_exit_status(wait_status);

        p->main_pid = 0;
        if (options_remapped(&p->options, status))
            status = 0;
        if (getpid() == 1) /* it may have been the last: asking costs process 1 one call */
            p->look_at_ms = 0;
        pod_event(p, &(struct event){.type = EVENT_MAIN_ENDED, .status = status});
    } else if (workers_on_exit(&p->workers, pid, wait_status, &p->key)) {
        check_run(p);
    }
}

/* While stopping only: is anybody left? Nothing tells PID 1 of the end of a process of
 * `docker exec`, whose parent is outside, so it looks, seldom and ever more seldom. */
static void look_around(struct pod *p, int64_t now)
{
    bool waiting = p->sup.phase == PHASE_WAIT || p->sup.phase == PHASE_KILL;

    if (!waiting) {
        p->look_at_ms = INT64_MAX;
        return;
    }
    if (now < p->look_at_ms)
        return;
    if (!procs_any()) {
        /* Process numbers are given out in order: two more are the workers of the first save. */
        pod_event(p, &(struct event){.type = EVENT_ALL_GONE,
                                     .alone = p->stop_pid > 0 && procs_last_pid() == p->stop_pid + 2});
    } else if (now >= p->hang_up_at_ms) { /* most are gone by TERM, and /proc need not be walked through */
        p->hang_up_at_ms = INT64_MAX;
        procs_hang_up();
    }
    /* What was started while the others were walked through. */
    if (p->sup.phase == PHASE_KILL && (getpid() != 1 || p->workers.n > 0))
        kill_all(p);
    p->look_at_ms = now + p->look_step_ms;
    p->look_step_ms += p->look_step_ms < LOOK_MOST_MS ? (p->look_step_ms + 1) / 2 : 0;
}

static void wipe_on(struct pod *p)
{
    int rc = ram_wipe_some(&p->ram, WIPE_AT_ONCE);
    struct line l;

    if (rc > 0)
        return;
    p->wiping = false;
    line_start(&l, rc == 0 ? "lock" : "error");
    if (rc < 0) {
        line_text(&l, "error", "wipe-incomplete");
        wire_error_set(&p->last, EX_TP_IO, "wipe-incomplete",
                       "the vault is saved and closed, but something in RAM could not be deleted: it belongs to "
                       "somebody else");
    }
    line_number(&l, "generation", (int64_t)p->workers.facts.generation);
    line_end(&l);
    pod_event(p, &(struct event){.type = EVENT_WIPED});
}

void pod_on_time(struct pod *p)
{
    int64_t now = pod_now_ms();

    if (p->wiping)
        wipe_on(p);
    if (now >= p->listen_again_ms)
        listen_again(p, true);
    workers_on_timer(&p->workers, now);
    check_run(p);
    look_around(p, now);
    if (now >= step_deadline(&p->sup))
        pod_event(p, &(struct event){.type = EVENT_TIMER});
}

int pod_timeout(struct pod *p)
{
    int64_t now = pod_now_ms(), next = step_deadline(&p->sup), idle;

    if (p->wiping)
        return 0;
    idle = p->control.listener >= 0 ? control_expire(&p->control, now) : INT64_MAX;
    if (idle < next)
        next = idle;
    if (p->workers.deadline_ms < next)
        next = p->workers.deadline_ms;
    if (p->look_at_ms < next)
        next = p->look_at_ms;
    if (p->listen_again_ms < next)
        next = p->listen_again_ms;
    if (next == INT64_MAX)
        return -1;
    return next <= now ? 0 : (int)(next - now < 3600000 ? next - now : 3600000);
}
