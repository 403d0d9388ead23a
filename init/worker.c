#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "caps.h"
#include "signals.h"
#include "wire.h"

enum { CHANNEL = 3, TREE = 4, ABOVE_STANDARD = 10, ABANDON_MS = 1000 };
enum { NR_PIDFD_OPEN = 434 }; /* the same number on every architecture */

static const char *const NAMES[] = {
    [JOB_OPEN] = "open", [JOB_CREATE] = "create", [JOB_UNPACK] = "unpack",
    [JOB_PACK] = "pack", [JOB_SEAL] = "seal", [JOB_CONFIG] = "config", [JOB_LOOK] = "look",
    [JOB_REWRITE] = "rewrite",
};

/* --- who is killed is not gone yet --- */

/* Until it has ended; one that hangs in a disk's hands is not waited for any longer. */
static void wait_for_end(pid_t pid)
{
    struct pollfd end = {.fd = (int)syscall(NR_PIDFD_OPEN, pid, 0), .events = POLLIN};

    if (end.fd < 0)
        return;
    (void)poll(&end, 1, ABANDON_MS);
    close(end.fd);
}

/* Until they are collected they count as processes, of which there may be no more. */
static void collect_former(struct workers *ws)
{
    for (int i = 0; i < 2; i++) {
        if (ws->former[i] == 0)
            continue;
        wait_for_end(ws->former[i]);
        (void)waitpid(ws->former[i], NULL, WNOHANG);
        ws->former[i] = 0;
    }
}

/* --- starting --- */

struct plan {
    enum job_kind kind;
    int in, out;
    int channel;
    int tree; /* packer and unpacker: the directory, which becomes TREE; else -1 */
};

/* In the child. Everything moves out of the way before anything is put in place. */
static void become(const struct workers *ws, const struct plan *p)
{
    char *argv[] = {(char *)"tazpod-worker", (char *)NAMES[p->kind], (char *)ws->vault, NULL};
    char *environment[] = {NULL};
    int in = fcntl(p->in, F_DUPFD_CLOEXEC, ABOVE_STANDARD);
    int out = fcntl(p->out, F_DUPFD_CLOEXEC, ABOVE_STANDARD);
    int channel = fcntl(p->channel, F_DUPFD_CLOEXEC, ABOVE_STANDARD);
    int program = fcntl(ws->program, F_DUPFD_CLOEXEC, ABOVE_STANDARD);
    int tree = p->tree < 0 ? -1 : fcntl(p->tree, F_DUPFD_CLOEXEC, ABOVE_STANDARD);

    if (p->tree >= 0 && (tree < 0 || dup2(tree, TREE) < 0))
        _exit(126);
    if (p->kind == JOB_PACK || p->kind == JOB_UNPACK || p->kind == JOB_LOOK)
        argv[2] = (char *)""; /* who reads archives is not told where the vault is */
    if (in < 0 || out < 0 || channel < 0 || program < 0 || dup2(in, STDIN_FILENO) < 0 ||
        dup2(out, STDOUT_FILENO) < 0 || dup2(channel, CHANNEL) < 0)
        _exit(126);
    (void)setpgid(0, 0); /* keys typed at PID 1's terminal are not for it */
    caps_bar_child(); /* before the rights to do so go */
    /* The system calls themselves: a C library's take care of threads, which are not here. */
    if (ws->become_owner && (syscall(SYS_setgroups, 0, NULL) < 0 ||
                             syscall(SYS_setresgid, ws->group, ws->group, ws->group) < 0 ||
                             syscall(SYS_setresuid, ws->owner, ws->owner, ws->owner) < 0))
        _exit(126);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        _exit(126);
    /* A stop tells everybody; a save that is under way then goes on. */
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN); /* a worker whose partner dies says so */
    signals_unblock();
    (void)syscall(SYS_execveat, program, "", argv, environment, AT_EMPTY_PATH);
    _exit(errno == EAGAIN ? EX_TP_BUSY : 127); /* the owner has as many processes as he may */
}

static int start_one(struct workers *ws, const struct plan *plan, struct worker *w)
{
    struct plan p = *plan;
    int pair[2], null = -1;

    memset(w, 0, sizeof *w);
    w->channel = -1;
    w->kind = p.kind;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    if (p.in < 0 || p.out < 0) {
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (p.in < 0)
            p.in = null;
        if (p.out < 0)
            p.out = null;
    }
    p.channel = pair[1];
    w->pid = _Fork(); /* fork takes care of threads, which are not here, in 2 kB */
    if (w->pid < 0 && errno == EAGAIN) {
        collect_former(ws);
        w->pid = _Fork();
    }
    if (w->pid == 0)
        become(ws, &p);
    if (null >= 0)
        close(null);
    close(pair[1]);
    if (w->pid < 0) {
        int saved = errno;
        close(pair[0]);
        w->pid = 0;
        errno = saved;
        return -1;
    }
    w->channel = pair[0];
    return 0;
}

/* One worker, or two with a pipe from the first to the second. */
static int start(struct workers *ws, enum run_type run, struct plan first, const struct plan *second,
                 int64_t now_ms)
{
    int pipe_fds[2] = {-1, -1}, rc = -1;

    ws->run = run;
    ws->n = 0;
    ws->packed = ws->oom = false;
    ws->packed_well = 0;
    ws->deadline_ms = now_ms + ws->timeout_ms;
    first.in = first.out = -1;
    if (second) {
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
            goto out;
        /* Fewer switches between the two; refused for who has many pipes, which is no error. */
        (void)fcntl(pipe_fds[1], F_SETPIPE_SZ, 256 * 1024);
        first.out = pipe_fds[1];
    }
    if (start_one(ws, &first, &ws->w[0]) < 0)
        goto out;
    ws->n = 1;
    if (second) {
        struct plan p = *second;

        p.in = pipe_fds[0];
        p.out = -1;
        if (start_one(ws, &p, &ws->w[1]) < 0)
            goto out;
        ws->n = 2;
    }
    rc = 0;
out:
    if (pipe_fds[0] >= 0) {
        close(pipe_fds[0]);
        close(pipe_fds[1]);
    }
    if (rc < 0) {
        int saved = errno;
        workers_end(ws);
        errno = saved;
    }
    return rc;
}

int workers_config(struct workers *ws, int64_t now_ms)
{
    memset(&ws->job, 0, sizeof ws->job);
    ws->passphrase = -1;
    return start(ws, RUN_CONFIG, (struct plan){.kind = JOB_CONFIG, .tree = -1}, NULL, now_ms);
}

int workers_unlock(struct workers *ws, int tree, int passphrase, int64_t now_ms)
{
    struct plan unpacker = {.kind = JOB_UNPACK, .tree = tree};

    memset(&ws->job, 0, sizeof ws->job);
    ws->passphrase = passphrase;
    ws->marked = ws->incomplete = false; /* what is found now is told from what will be saved */
    return start(ws, RUN_UNLOCK, (struct plan){.kind = JOB_OPEN, .tree = -1}, &unpacker, now_ms);
}

int workers_create(struct workers *ws, int tree, int passphrase, uint32_t kdf_ops, uint32_t kdf_mem_kib,
                   int64_t now_ms)
{
    memset(&ws->job, 0, sizeof ws->job);
    ws->job.kdf_ops = kdf_ops;
    ws->job.kdf_mem_kib = kdf_mem_kib;
    ws->passphrase = passphrase;
    return start(ws, RUN_CREATE, (struct plan){.kind = JOB_CREATE, .tree = tree}, NULL, now_ms);
}

static void draw_mark(struct workers *ws)
{
    if (!ws->marked && getrandom(ws->mark, sizeof ws->mark, 0) == (ssize_t)sizeof ws->mark)
        ws->marked = true;
}

int workers_rewrite(struct workers *ws, int order, bool open, int64_t now_ms)
{
    memset(&ws->job, 0, sizeof ws->job);
    ws->passphrase = order;
    ws->known = open;
    draw_mark(ws);
    return start(ws, RUN_KEY, (struct plan){.kind = JOB_REWRITE, .tree = -1}, NULL, now_ms);
}

int workers_save(struct workers *ws, int tree, bool must_not_exist, int64_t now_ms)
{
    struct plan sealer = {.kind = JOB_SEAL, .tree = -1};

    memset(&ws->job, 0, sizeof ws->job);
    ws->must_not_exist = must_not_exist;
    draw_mark(ws);
    return start(ws, RUN_SAVE, (struct plan){.kind = JOB_PACK, .tree = tree}, &sealer, now_ms);
}

int workers_look(struct workers *ws, int tree, bool whole, int64_t now_ms)
{
    memset(&ws->job, 0, sizeof ws->job);
    ws->whole = whole;
    return start(ws, RUN_LOOK, (struct plan){.kind = JOB_LOOK, .tree = tree}, NULL, now_ms);
}

/* --- talking --- */

static void fail(struct worker *w, const char *word, const char *text)
{
    w->ended = true;
    wire_error_set(&w->error, EX_TP_FAULT, word, text);
}

/* What this PID 1 knows of the file in place. */
static void tell_known(struct workers *ws)
{
    ws->job.header_len = ws->facts.header_len;
    memcpy(ws->job.header, ws->facts.header, sizeof ws->job.header);
    memcpy(ws->job.digest, ws->facts.digest, sizeof ws->job.digest);
}

/* What is kept beside it; zeros before the first reading of the configuration. */
static void tell_history(struct workers *ws)
{
    ws->job.kdf_ops = ws->config.history_generations;
    ws->job.kdf_mem_kib = (uint32_t)ws->config.history_interval_ms;
}

/* The worker is behind its filter: now it gets its job, and only now a key or a passphrase. */
static void send_job(struct workers *ws, struct worker *w, struct key *key)
{
    struct message m = {&ws->job, sizeof ws->job, NULL, 0};
    int pass = -1;

    ws->job.magic = WIRE_MAGIC;
    ws->job.kind = w->kind;
    ws->job.flags = 0;
    ws->job.header_len = 0;
    memcpy(ws->job.mark, ws->mark, sizeof ws->job.mark);
    switch (w->kind) {
    case JOB_OPEN:
        pass = ws->passphrase;
        break;
    case JOB_CREATE:
        pass = ws->passphrase;
        ws->job.flags = ws->tree_flags;
        break;
    case JOB_UNPACK:
        ws->job.flags = ws->tree_flags;
        break;
    case JOB_LOOK:
        ws->job.flags = ws->whole ? JOB_WHOLE : 0;
        break;
    case JOB_PACK:
        ws->job.flags = ws->leave_out ? JOB_LEAVE_OUT : 0;
        break;
    case JOB_REWRITE:
        pass = ws->passphrase;
        tell_history(ws);
        if (ws->known)
            tell_known(ws);
        break;
    case JOB_SEAL:
        ws->job.flags = (ws->must_not_exist ? JOB_MUST_NOT_EXIST : 0) | (ws->incomplete ? JOB_REPLACE : 0);
        tell_history(ws);
        tell_known(ws);
        m.tail = key->bytes;
        m.tail_len = WIRE_KEY_SIZE;
        break;
    default:
        break;
    }
    /* Who does not take it has died, or must: its exit says why, and whether another try makes sense. */
    if (wire_send(w->channel, &m, pass, MSG_DONTWAIT) < 0 && w->pid > 0)
        (void)kill(w->pid, SIGKILL);
    if (pass >= 0) {
        close(pass);
        ws->passphrase = -1;
    }
}

/* Tells the sealer how the packer ended, once there is both an end and a job for the sealer. */
static void send_commit(struct workers *ws)
{
    struct message m = {&ws->packed_well, 1, NULL, 0};
    const struct worker *sealer = &ws->w[1];

    if (ws->packed && sealer->ready && sealer->channel >= 0)
        (void)wire_send(sealer->channel, &m, -1, MSG_DONTWAIT); /* a dead sealer is noticed anyway */
}

static void packer_ended(struct workers *ws, uint8_t well)
{
    ws->packed = true;
    ws->packed_well = well;
    send_commit(ws);
}

/* What unpacker and creator say of the tree's place. */
static void take_place(struct facts *f, const struct result *r)
{
    f->swap = r->swap;
    f->warnings = r->flags;
}

static void take_result(struct workers *ws, struct worker *w, const struct result *r)
{
    struct facts *f = &ws->facts;

    w->ended = true;
    w->error = r->error;
    wire_error_close(&w->error);
    if (w->kind == JOB_PACK)
        packer_ended(ws, r->error.code ? 0 : r->left_out ? 2 : 1);
    if (r->error.code != 0) {
        if (w->error.word[0] == '\0') /* a failure without a word would pass for success */
            wire_error_set(&w->error, EX_TP_FAULT, "protocol", "a worker failed without saying why");
        return;
    }
    switch (w->kind) {
    case JOB_OPEN:
    case JOB_CREATE:
    case JOB_REWRITE:
    case JOB_SEAL:
        f->header_len = r->header_len <= WIRE_HEADER_MAX ? r->header_len : 0;
        memcpy(f->header, r->header, sizeof f->header);
        memcpy(f->digest, r->digest, sizeof f->digest);
        f->generation = r->generation;
        f->saved_at = r->saved_at;
        f->flags = r->flags;
        if (w->kind == JOB_CREATE)
            take_place(f, r);
        if (w->kind == JOB_SEAL) {
            ws->incomplete = ws->packed_well == 2;
            f->warnings |= r->flags & WARN_NO_LINKS;
        }
        break;
    case JOB_CONFIG:
        memcpy(&ws->config, r->header, sizeof ws->config);
        ws->memory_limit = r->bytes;
        break;
    case JOB_LOOK:
        ws->holding.n = r->left_out;
        ws->holding.unseen = r->skipped;
        memcpy(ws->holding.pids, r->header, sizeof ws->holding.pids);
        memcpy(ws->holding.names, w->error.text, sizeof ws->holding.names);
        break;
    case JOB_UNPACK:
        take_place(f, r);
        /* fall through */
    case JOB_PACK:
        f->files = r->files;
        f->bytes = r->bytes;
        f->skipped = r->skipped;
        f->left_out = r->left_out;
        memcpy(f->note, w->error.text, sizeof f->note);
        break;
    default:
        break;
    }
    w->error.word[0] = '\0';
}

static bool gives_key(const struct worker *w)
{
    return w->kind == JOB_OPEN || w->kind == JOB_CREATE || w->kind == JOB_REWRITE;
}

/* It is not what it was started as any more: nothing it says is heard again. */
static void out_of_turn(struct worker *w, const char *text)
{
    if (!w->ended)
        fail(w, "protocol", text);
    close(w->channel);
    w->channel = -1;
    if (w->pid > 0)
        (void)kill(w->pid, SIGKILL);
}

/* Reads one message. False when there is none now. */
static bool hear(struct workers *ws, struct worker *w, struct key *key)
{
    static struct result r; /* 2.5 KB that PID 1's stack need not hold */
    struct message m = {&r, sizeof r, NULL, 0};
    struct ready ready;
    int passed;
    ssize_t n;

    if (gives_key(w)) {
        m.tail = key->bytes;
        m.tail_len = WIRE_KEY_SIZE;
    }
    n = wire_recv(w->channel, &m, &passed, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) { /* the end: its exit says why */
        if (passed >= 0)
            close(passed);
        close(w->channel);
        w->channel = -1;
        return false;
    }
    if (passed >= 0) {
        if ((w->kind == JOB_UNPACK || w->kind == JOB_CREATE) && ws->reserve < 0)
            ws->reserve = passed;
        else
            close(passed);
    }
    memcpy(&ready, &r, sizeof ready);
    if (ready.magic != WIRE_MAGIC || ready.kind != w->kind || w->ended) {
        out_of_turn(w, "a worker spoke out of turn");
        return false;
    } else if (!w->ready && n == (ssize_t)sizeof ready) {
        w->ready = true;
        send_job(ws, w, key);
        if (w->kind == JOB_SEAL)
            send_commit(ws);
    } else if (w->ready && (n == (ssize_t)(m.head_len + m.tail_len) ||
                            (n == (ssize_t)m.head_len && r.error.code != 0))) {
        take_result(ws, w, &r);
    } else {
        out_of_turn(w, "a worker sent a message of another size");
        return false;
    }
    return true;
}

void workers_on_channel(struct workers *ws, int i, struct key *key)
{
    if (i < ws->n)
        while (ws->w[i].channel >= 0 && hear(ws, &ws->w[i], key))
            ;
}

static void died(struct workers *ws, struct worker *w, int wait_status)
{
    char text[80] = "the ";
    size_t n = 4;
    const char *parts[] = {NAMES[w->kind], WIFSIGNALED(wait_status) ? " worker was ended by signal "
                                                                    : " worker left early with status "};
    unsigned code = WIFSIGNALED(wait_status) ? (unsigned)WTERMSIG(wait_status)
                                             : (unsigned)WEXITSTATUS(wait_status);

    for (int i = 0; i < 2; i++) {
        memcpy(text + n, parts[i], strlen(parts[i]));
        n += strlen(parts[i]);
    }
    if (code >= 100)
        text[n++] = (char)('0' + code / 100);
    if (code >= 10)
        text[n++] = (char)('0' + code / 10 % 10);
    text[n++] = (char)('0' + code % 10);
    text[n] = '\0';
    if (WIFSIGNALED(wait_status) && code == SIGKILL)
        ws->oom = true;
    fail(w, "worker-died", text);
    if (!w->ready && WIFEXITED(wait_status) && code == EX_TP_BUSY) /* it could not execute: become() */
        wire_error_set(&w->error, EX_TP_BUSY, "busy", NO_PROCESS);
    if (w->kind == JOB_PACK)
        packer_ended(ws, 0);
}

bool workers_on_exit(struct workers *ws, pid_t pid, int wait_status, struct key *key)
{
    for (int i = 0; i < 2; i++)
        if (ws->former[i] == pid)
            ws->former[i] = 0; /* the number may be given out again */
    for (int i = 0; i < ws->n; i++) {
        struct worker *w = &ws->w[i];

        if (w->pid != pid)
            continue;
        workers_on_channel(ws, i, key); /* its last word may still be in the channel */
        w->pid = 0;
        if (!w->ended)
            died(ws, w, wait_status);
        return true;
    }
    return false;
}

void workers_on_timer(struct workers *ws, int64_t now_ms)
{
    if (ws->run == RUN_NONE || now_ms < ws->deadline_ms)
        return;
    for (int i = 0; i < ws->n; i++) {
        struct worker *w = &ws->w[i];

        if (w->ended)
            continue;
        fail(w, "worker-timeout", "a worker did not finish in time");
        if (w->pid > 0)
            (void)kill(w->pid, SIGKILL);
    }
}

/* --- ending --- */

/* Of two that failed, the one that did not fail because of the other. The one with the key knows
 * best, unless it says itself that it was its partner: whatever the unpacker makes of half a stream,
 * the opener's end was the cause. */
static const struct wire_error *cause(const struct workers *ws)
{
    const struct wire_error *keyed = &ws->w[ws->run == RUN_SAVE ? 1 : 0].error;
    const struct wire_error *other = &ws->w[ws->run == RUN_SAVE ? 0 : 1].error;

    if (ws->n < 2 || other->word[0] == '\0')
        return keyed;
    if (keyed->word[0] == '\0' || strcmp(keyed->word, "aborted") == 0 ||
        strcmp(keyed->word, "partner-ended") == 0)
        return other;
    return keyed;
}

enum run_state workers_state(const struct workers *ws, struct wire_error *e, bool *may_retry)
{
    bool failed = false;

    for (int i = 0; i < ws->n; i++) {
        if (!ws->w[i].ended)
            return RUN_GOING;
        failed |= ws->w[i].error.word[0] != '\0';
    }
    if (!failed)
        return RUN_DONE;
    *e = *cause(ws);
    *may_retry = ws->oom || strcmp(e->word, "changing") == 0;
    return RUN_FAILED;
}

void workers_end(struct workers *ws)
{
    for (int i = 0; i < ws->n; i++) {
        struct worker *w = &ws->w[i];

        if (w->pid > 0) /* also one that has told its result: that was durable, and it is about to go */
            (void)kill(w->pid, SIGKILL);
        if (w->channel >= 0)
            close(w->channel);
        w->channel = -1;
        ws->former[i] = w->pid; /* reaped as any other child */
        w->pid = 0;
    }
    ws->n = 0;
    ws->run = RUN_NONE;
    ws->deadline_ms = INT64_MAX;
    if (ws->passphrase >= 0)
        close(ws->passphrase);
    ws->passphrase = -1;
}

void workers_drop_reserve(struct workers *ws)
{
    if (ws->reserve >= 0)
        close(ws->reserve);
    ws->reserve = -1;
}

void workers_abandon(struct workers *ws)
{
    for (int i = 0; i < ws->n; i++) {
        struct worker *w = &ws->w[i];

        w->channel = -1;
        /* Its number may be somebody else's by now: only a child of ours is killed. */
        if (w->pid > 0 && waitid(P_PID, (id_t)w->pid, NULL, WEXITED | WNOHANG | WNOWAIT) == 0) {
            (void)kill(w->pid, SIGKILL);
            wait_for_end(w->pid); /* it may hold the lock on the vault until it is gone */
        }
        w->pid = 0;
    }
    ws->passphrase = -1;
    workers_end(ws);
}
