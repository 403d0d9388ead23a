/* worker - the way every worker goes: place, filter, ready, job, result.
 *
 * Executed by tazpod-init alone; started by hand it finds no channel and ends. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../init/wire.h"
#include "../vault/memory.h"
#include "../vault/sandbox.h"
#include "command.h"
#include "work.h"

static const struct kind {
    const char *name;
    enum job_kind kind;
    enum sandbox_role role;
    int (*work)(struct work *w, struct err *e);
} KINDS[] = {
    {"open", JOB_OPEN, SANDBOX_OPENER, work_open},
    {"create", JOB_CREATE, SANDBOX_OPENER, work_create},
    {"unpack", JOB_UNPACK, SANDBOX_UNPACKER, work_unpack},
    {"pack", JOB_PACK, SANDBOX_PACKER, work_pack},
    {"seal", JOB_SEAL, SANDBOX_SEALER, work_seal},
    {"config", JOB_CONFIG, SANDBOX_OPENER, work_config},
    {"look", JOB_LOOK, SANDBOX_LOOKER, work_look},
    {"rewrite", JOB_REWRITE, SANDBOX_SEALER, work_rewrite},
};

enum {
    /* Peak of packer and sealer together, measured: docs/architecture.md, "Memory". */
    RESERVE_BYTES = 16 * 1024 * 1024,
    RESERVE_LEAST = 4 * 1024 * 1024,
    LEFT_FOR_OTHERS = 8 * 1024 * 1024,
};

/* RAM that can't be swapped, and so much of it that it can fill the memory: everything else is then
 * swapped out to make room for it, a memfd too. So the reserve is a part of that RAM. */
static int reserve_in_tree(uint64_t want)
{
    int fd = -1;

    for (; fd < 0 && want >= RESERVE_LEAST; want /= 2) /* a full one has room for less */
        fd = memory_reserve_in(WORK_TREE, want);
    return fd;
}

int work_reserve(const struct work *w)
{
    uint64_t left = memory_left(), want = RESERVE_BYTES;
    int fd = -1;

    if (left == MEMORY_NO_LIMIT || left < LEFT_FOR_OTHERS + RESERVE_LEAST)
        return -1;
    if (left - LEFT_FOR_OTHERS < want)
        want = left - LEFT_FOR_OTHERS;
    if (w->exceeds && w->result->swap == SWAP_NOSWAP)
        fd = reserve_in_tree(want);
    return fd < 0 ? memory_reserve(want) : fd;
}

_Static_assert((int)SWAP_IS_NOSWAP == (int)SWAP_NOSWAP && (int)SWAP_IS_NONE == (int)SWAP_NONE &&
                   (int)SWAP_IS_DENIED == (int)SWAP_DENIED && (int)SWAP_IS_POSSIBLE == (int)SWAP_SWAPPABLE,
               "the vault's words for swap are the protocol's");

int work_check_place(struct work *w, struct err *e)
{
    w->result->flags = w->exceeds ? WARN_RAM_EXCEEDS : 0;
    w->result->swap = w->job->flags & JOB_OWN_NOSWAP ? SWAP_NOSWAP : (uint32_t)w->swap;
    if (w->result->swap == SWAP_SWAPPABLE && (w->job->flags & JOB_REQUIRE_NOSWAP))
        return err_set(e, EX_TP_UNAVAILABLE, "swappable",
                       "this RAM may be swapped out in the clear, and noswap is required: use a noswap "
                       "volume, --cap-add SYS_ADMIN, or docker run -m X --memory-swap X");
    return 0;
}

/* The place of a tree that is about to be filled. */
static int look_at_tree(struct work *w, struct err *e)
{
    struct statfs fs;

    if (fstatfs(WORK_TREE, &fs) < 0)
        return err_sys(e, "look at the vault's place in RAM");
    w->swap = swap_look(WORK_TREE);
    w->memory_limit = memory_limit();
    /* No blocks at all: ramfs, which has no limit of its own. */
    w->exceeds = w->memory_limit != MEMORY_NO_LIMIT &&
                 (fs.f_blocks == 0 || w->memory_limit < MEMORY_FOR_OTHERS ||
                  (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize > w->memory_limit - MEMORY_FOR_OTHERS);
    return 0;
}

/* The vault's directory is opened before the filter, the tree came as a descriptor; afterwards there
 * is only what is inside them. */
static int open_place(struct work *w, const struct kind *k, const char *place, struct err *e)
{
    static struct store store;
    struct statfs fs;

    if ((k->kind == JOB_CREATE || k->kind == JOB_UNPACK) && look_at_tree(w, e) < 0)
        return -1;
    if (k->kind == JOB_CONFIG) {
        w->memory_limit = memory_limit();
        return work_config_load(place, e);
    }
    if (k->kind == JOB_OPEN || k->kind == JOB_CREATE || k->kind == JOB_SEAL || k->kind == JOB_REWRITE) {
        w->store = &store;
        w->memory_left = memory_left();
        w->memory_limit = memory_limit();
        return store_open(&store, place, k->kind == JOB_CREATE || k->kind == JOB_SEAL, e);
    }
    if (k->kind == JOB_LOOK)
        return 0;
    if (fstatfs(WORK_TREE, &fs) < 0)
        return err_sys(e, "look at the vault's place in RAM");
    w->room = UINT64_MAX;
    if (fs.f_blocks > 0)
        w->room = (uint64_t)(k->kind == JOB_PACK ? fs.f_blocks : fs.f_bavail) * (uint64_t)fs.f_bsize;
    return 0;
}

static int send_ready(enum job_kind kind)
{
    struct ready ready = {WIRE_MAGIC, kind};
    struct message m = {&ready, sizeof ready, NULL, 0};

    return wire_send(WORK_CHANNEL, &m, -1, 0);
}

/* The key, if one comes, goes straight into locked memory. */
static int read_job(struct job *job, struct secret *key, int *passed, enum job_kind kind)
{
    struct message m = {job, sizeof *job, key->data, key->size};
    ssize_t n = wire_recv(WORK_CHANNEL, &m, passed, 0);

    if (n < (ssize_t)sizeof *job || job->magic != WIRE_MAGIC || job->kind != kind ||
        job->header_len > WIRE_HEADER_MAX)
        return -1;
    key->len = (size_t)n - sizeof *job;
    return 0;
}

static int send_result(struct work *w, enum job_kind kind, int ok, const struct err *e)
{
    struct result *r = w->result;
    struct message m = {r, sizeof *r, NULL, 0};

    r->magic = WIRE_MAGIC;
    r->kind = kind;
    if (!ok)
        wire_error_set(&r->error, e->code ? e->code : EX_TP_FAILURE, e->word, e->text);
    if ((ok && (kind == JOB_OPEN || kind == JOB_CREATE)) || (kind == JOB_REWRITE && r->header_len > 0)) {
        m.tail = w->key->data;
        m.tail_len = WIRE_KEY_SIZE;
    }
    return wire_send(WORK_CHANNEL, &m, w->reserve, 0);
}

int worker_main(int argc, char **argv)
{
    static struct job job;
    static struct result result;
    struct secret key = {0};
    struct work w = {.job = &job, .result = &result, .key = &key, .passphrase = -1, .reserve = -1};
    const struct kind *k = NULL;
    struct err e = {0};
    int ok;

    for (size_t i = 0; argc == 3 && i < sizeof KINDS / sizeof *KINDS; i++)
        if (strcmp(argv[1], KINDS[i].name) == 0)
            k = &KINDS[i];
    if (!k)
        return EX_TP_USAGE;
    if (secret_init() < 0 || secret_new(&key, WIRE_KEY_SIZE) < 0)
        return EX_TP_FAULT;

    /* A place that can't be opened is a result like any other, so it goes through the same door. */
    ok = sandbox_begin(&e) == 0 && open_place(&w, k, argv[2], &e) == 0;
    if (sandbox_filter(k->role, ok ? &e : &(struct err){0}) < 0 || send_ready(k->kind) < 0 ||
        read_job(&job, &key, &w.passphrase, k->kind) < 0)
        return EX_TP_FAULT;
    ok = ok && k->work(&w, &e) == 0;
    if (w.store)
        store_close(w.store); /* the lock goes before the next save can be asked for */
    ok = send_result(&w, k->kind, ok, &e) == 0 && ok;
    secret_free(&key);
    return ok ? EX_TP_OK : EX_TP_FAILURE;
}
