/* work_rewrite - vault file in, vault file out: other slots, another key, or an earlier content.
 *
 * Nothing is unpacked and nothing of what is in RAM is saved; the content goes from the old stream to the
 * new one chunk by chunk. The new file is proven, its new slot too, before it takes the place of the old
 * one, which becomes the newest earlier generation. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../vault/base/io.h"
#include "../vault/seal.h"
#include "../vault/seen.h"
#include "slots.h"

/* A vault file that is read, and the key that opens it. */
struct source {
    int fd;
    uint64_t size;
    uint8_t bytes[HEADER_MAX];
    size_t len;
    struct header h;
};

static int source_read(struct source *s, struct err *e)
{
    return work_read_header(s->fd, s->size, s->bytes, &s->len, &s->h, e);
}

/* Opens it with the credential, and proves that the key made it. */
static int source_open(const struct work *w, struct source *s, const struct credential *c, struct secret *key,
                       unsigned *used, struct err *e)
{
    if (slots_open(w, &s->h, c, key, used, e) < 0)
        return -1;
    return seal_header_check(s->bytes, s->len, &s->h, key, e);
}

/* --- what is ordered --- */

static int weaker(const struct order *o, uint32_t ops, uint32_t mem, uint32_t than_ops, uint32_t than_mem, struct err *e)
{
    if ((o->flags & ORDER_WEAKER) || (ops >= than_ops && mem >= than_mem))
        return 0;
    return err_set(e, ERR_CANT_CREATE, "weaker",
                   "%u passes over %u MiB cost a guesser less than the %u over %u MiB of the slot there is: say "
                   "--weaker if that is meant",
                   ops, mem / 1024, than_ops, than_mem / 1024);
}

/* Costs of a new slot: as ordered, else those of `like`, and never below them unless that is ordered too. */
static int choose_cost(const struct order *o, const struct slot *like, uint32_t *ops, uint32_t *mem, struct err *e)
{
    int bound = like && like->ops > 0;

    *ops = o->kdf_ops ? o->kdf_ops : bound ? like->ops : KDF_OPS_DEFAULT;
    *mem = o->kdf_mem_kib ? o->kdf_mem_kib : bound ? like->mem_kib : KDF_MEM_KIB_DEFAULT;
    if (!header_cost_valid(*ops, *mem))
        return err_set(e, ERR_CANT_CREATE, "kdf-limit",
                       "a key derivation of that cost would not be read again: take 1 to 16 passes (--kdf-time) over "
                       "8M to 1G (--kdf-memory)");
    return bound ? weaker(o, *ops, *mem, like->ops, like->mem_kib, e) : 0;
}

/* The slot whose cost a new one must not fall below: the one used, else the first that has a cost. */
static const struct slot *cost_of(const struct header *h, unsigned used)
{
    if (h->slots[used].ops > 0)
        return &h->slots[used];
    for (unsigned i = 0; i < h->nslots; i++)
        if (h->slots[i].ops > 0)
            return &h->slots[i];
    return NULL;
}

static const char *default_label(const struct credential *c)
{
    return c->type == SLOT_RECOVERY ? "recovery code" : c->type == SLOT_IDENTITY ? "identity" : "passphrase";
}

/* label: unless the order names one. */
static int put_fresh(const struct work *w, const struct order *o, struct header *h, int index, const struct slot *like,
                     const char *label, const struct secret *key, struct err *e)
{
    char text[SLOT_LABEL + 1] = {0};
    uint32_t ops, mem;

    if (o->fresh.type == SLOT_EMPTY)
        return err_set(e, ERR_INTERNAL, "protocol", "the order names no new credential");
    if (index < 0)
        return err_set(e, ERR_CANT_CREATE, "no-slot", "all %d key slots are taken: remove one (tazpod key list, "
                       "tazpod key remove)", HEADER_SLOTS_MAX);
    if (choose_cost(o, like, &ops, &mem, e) < 0)
        return -1;
    if (o->label[0])
        label = (const char *)o->label;
    memcpy(text, label, strnlen(label, SLOT_LABEL));
    return slots_put(w, h, (unsigned)index, &o->fresh, text, ops, mem, key, e);
}

static int remove_slot(const struct order *o, struct header *h, unsigned used, struct err *e)
{
    unsigned i = o->slot;

    if (i >= h->nslots || h->slots[i].type == SLOT_EMPTY)
        return err_set(e, ERR_CANT_CREATE, "no-slot", "there is no key slot %u: see tazpod key list", i);
    if (!(o->flags & ORDER_LAST) && slots_used(h) == 1)
        return err_set(e, ERR_CANT_CREATE, "last-slot",
                       "that is the last key slot: without it nobody opens this vault again (--force)");
    if (!(o->flags & ORDER_LAST) && i == used)
        return err_set(e, ERR_CANT_CREATE, "own-slot",
                       "that is the key slot you have just used: without it this passphrase opens nothing (--force)");
    slots_take(h, i);
    slots_trim(h);
    return 0;
}

/* Which slot a new credential takes the place of: the one named, the one used if it is of the same type,
 * else the only one of its type, else a free one. */
static int slot_to_change(const struct order *o, const struct header *h, unsigned used, struct err *e)
{
    int found = -1;

    if (o->slot != ORDER_NO_SLOT) {
        if (o->slot < h->nslots && h->slots[o->slot].type == o->fresh.type)
            return o->slot;
        err_set(e, ERR_CANT_CREATE, "no-slot", "key slot %u is no %s: see tazpod key list", o->slot,
                default_label(&o->fresh));
        return -1;
    }
    if (h->slots[used].type == o->fresh.type)
        return (int)used;
    for (unsigned i = 0; i < h->nslots; i++) {
        if (h->slots[i].type != o->fresh.type)
            continue;
        if (found >= 0) {
            err_set(e, ERR_CANT_CREATE, "which-slot", "there is more than one %s: name its key slot with --slot N "
                    "(tazpod key list)", default_label(&o->fresh));
            return -1;
        }
        found = (int)i;
    }
    if (found >= 0)
        return found;
    found = slots_free(h);
    if (found < 0)
        err_set(e, ERR_CANT_CREATE, "no-slot", "all %d key slots are taken: remove one", HEADER_SLOTS_MAX);
    return found;
}

static int change_slot(const struct work *w, const struct order *o, struct header *h, unsigned used,
                       const struct secret *key, int *index, struct err *e)
{
    char label[SLOT_LABEL + 1] = {0};
    struct slot before;

    *index = slot_to_change(o, h, used, e);
    if (*index < 0)
        return -1;
    before = h->slots[*index];
    memcpy(label, before.label, SLOT_LABEL);
    return put_fresh(w, o, h, *index, before.type == o->fresh.type ? &before : cost_of(h, used),
                     before.type == o->fresh.type ? label : default_label(&o->fresh), key, e);
}

/* A new key in every slot for which its secret is here, or a public key: the others go. */
static int rekey(const struct work *w, const struct order *o, struct header *h, unsigned used, const struct secret *key,
                 struct err *e)
{
    char lost[160] = "";

    for (unsigned i = 0; i < h->nslots; i++) {
        struct slot before = h->slots[i];
        struct credential public_key = {.type = SLOT_IDENTITY, .len = SLOT_RECIPIENT};
        char label[SLOT_LABEL + 1] = {0};
        size_t n = strlen(lost);
        int rc = 0;

        memcpy(label, before.label, SLOT_LABEL);
        memcpy(public_key.bytes, before.recipient, SLOT_RECIPIENT);
        if (before.type == SLOT_IDENTITY) {
            rc = slots_put(w, h, i, &public_key, label, 0, 0, key, e);
        } else if (i == used) {
            rc = slots_put(w, h, i, &o->current, label, before.ops, before.mem_kib, key, e);
        } else if (before.type == SLOT_RECOVERY && o->fresh.type == SLOT_RECOVERY) {
            rc = slots_put(w, h, i, &o->fresh, label, before.ops, before.mem_kib, key, e);
        } else if (before.type != SLOT_EMPTY) {
            (void)snprintf(lost + n, sizeof lost - n, "%s%u (%s)", n ? ", " : "", i, label);
            slots_take(h, i);
        }
        if (rc < 0)
            return -1;
    }
    if (lost[0] && !(o->flags & ORDER_LAST))
        return err_set(e, ERR_CANT_CREATE, "drops-slots",
                       "a new key can't be put into the key slots whose passphrase is not here: %s: they go with --force, "
                       "and are made anew by tazpod key add", lost);
    slots_trim(h);
    return 0;
}

/* Changes h as ordered. *key is the vault's; *fresh becomes it, or a new one. */
static int apply(const struct work *w, const struct order *o, struct header *h, unsigned used, const struct secret *key,
                 struct secret *fresh, int *changed, struct err *e)
{
    memcpy(fresh->data, key->data, DATA_KEY);
    fresh->len = DATA_KEY;
    *changed = -1;
    switch (o->op) {
    case ORDER_ADD:
        *changed = slots_free(h);
        return put_fresh(w, o, h, *changed, cost_of(h, used), default_label(&o->fresh), fresh, e);
    case ORDER_PASSWD:
        return change_slot(w, o, h, used, fresh, changed, e);
    case ORDER_REMOVE:
        return remove_slot(o, h, used, e);
    case ORDER_REKEY:
        kdf_new_key(fresh);
        return rekey(w, o, h, used, fresh, e);
    case ORDER_RESTORE:
        return 0;
    default:
        return err_set(e, ERR_INTERNAL, "protocol", "that is no order for the rewriter");
    }
}

/* --- writing --- */

/* What opens the vault from now on really does: the slot that was changed, else, under a new key, the one
 * that was used. Of a new identity the secret key is not here. */
static int prove(const struct order *o, const struct header *h, unsigned used, int changed, const struct secret *key,
                 struct err *e)
{
    if (changed >= 0 && o->fresh.type != SLOT_IDENTITY)
        return slots_prove(h, (unsigned)changed, &o->fresh, key, e);
    return o->op == ORDER_REKEY ? slots_prove(h, used, &o->current, key, e) : 0;
}

static int write_file(struct work *w, const struct seal_from *from, struct header *h, const struct secret *key,
                      uint8_t digest[DIGEST], size_t *header_len, struct err *e)
{
    struct result *r = w->result;
    struct header again_h;
    uint8_t again[DIGEST];
    uint64_t size = 0;
    int rc = -1, fd = store_begin(w->store, e);
    size_t len;

    if (fd < 0)
        return -1;
    len = seal_header_make(h, key, r->header);
    if (header_length(r->header, len, e) != len || header_parse(r->header, len, &again_h, e) < 0)
        goto out; /* what no reader would take */
    if (io_write(fd, r->header, len) < 0) {
        err_sys(e, "write the vault");
        goto out;
    }
    if (seal_copy_stream(from, key, h, r->header, len, fd, digest, &size, e) < 0 || work_make_durable(fd, r->header, len, e) < 0)
        goto out;
    if (seal_open_stream(key, h, r->header, len, fd, size, -1, again, e) < 0 || memcmp(again, digest, DIGEST) != 0) {
        err_set(e, ERR_IO, "io", "the new vault does not read back as written");
        goto out;
    }
    *header_len = len;
    rc = 0;
out:
    close(fd);
    return rc;
}

/* The generation whose content is to be the newest: opened with the key, or, from before a rekey, with the
 * credential. */
static int find_generation(struct work *w, const struct order *o, struct source *s, struct secret *key, struct err *e)
{
    struct err ignored = {0};
    unsigned used;

    for (int i = 1; i <= STORE_PLACES; i++) {
        s->fd = store_read_earlier(w->store, i, &s->size);
        if (s->fd < 0)
            continue;
        if (source_read(s, &ignored) == 0 && s->h.gen == o->generation)
            return seal_header_check(s->bytes, s->len, &s->h, key, &ignored) == 0
                       ? 0
                       : source_open(w, s, &o->current, key, &used, e);
        close(s->fd);
        s->fd = -1;
    }
    return err_set(e, ERR_NO_VAULT, "no-generation", "there is no generation %llu beside the vault: see tazpod history",
                   (unsigned long long)o->generation);
}

/* While the vault is open its file has to be the one it came from. */
static int check_place(const struct work *w, const struct source *s, struct err *e)
{
    const struct job *job = w->job;

    if (job->header_len == 0 || (job->header_len == s->len && memcmp(job->header, s->bytes, s->len) == 0))
        return 0;
    return err_set(e, ERR_BUSY, "conflict", "%s was changed by somebody else since this pod read it: save first, and "
                   "see what is kept beside it", w->store->name);
}

static void next_generation(const struct work *w, struct header *h)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    h->gen++;
    h->saved_at = (uint64_t)now.tv_sec;
    h->comp = COMP_ZSTD;
    memcpy(h->fsalt, w->job->mark, WIRE_MARK_SIZE);
    kdf_random(h->fsalt + WIRE_MARK_SIZE, sizeof h->fsalt - WIRE_MARK_SIZE);
}

/* The highest number of those that are kept. */
static uint64_t newest_generation(struct work *w, struct source *s)
{
    struct err ignored;
    uint64_t newest = 0;

    for (int i = 1; i <= STORE_PLACES; i++) {
        s->fd = store_read_earlier(w->store, i, &s->size);
        if (s->fd < 0)
            continue;
        if (source_read(s, &ignored) == 0 && s->h.gen > newest)
            newest = s->h.gen;
        close(s->fd);
        s->fd = -1;
    }
    return newest;
}

/* A vault that can't be read takes no order but to be restored, and what is in its place is kept as any other. While
 * the vault is open there is what is in RAM. */
static int may_be_replaced(const struct work *w, const struct order *o, const struct err *e)
{
    return o->op == ORDER_RESTORE && w->job->header_len == 0 && (e->code == ERR_DAMAGED || e->code == ERR_NO_VAULT);
}

/* Slots and key are then the earlier generation's own. */
static int from_earlier_alone(struct work *w, const struct order *o, struct source *earlier, struct header *h, struct err *e)
{
    uint64_t newest = newest_generation(w, earlier);

    w->key->len = DATA_KEY; /* no key as yet: the credential opens it */
    if (find_generation(w, o, earlier, w->key, e) < 0)
        return -1;
    *h = earlier->h;
    h->gen = newest;
    return 0;
}

static int write_and_commit(struct work *w, const struct source *content, const struct secret *content_key, struct header *h,
                            struct err *e)
{
    const struct seal_from from = {.key = content_key, .h = &content->h, .bytes = content->bytes, .len = content->len,
                                   .fd = content->fd, .size = content->size};

    size_t len;
    int rc;

    next_generation(w, h);
    h->comp = content->h.comp;
    if (write_file(w, &from, h, w->key, w->result->digest, &len, e) < 0)
        return -1;
    rc = store_commit(w->store, STORE_KEEP, e);
    if (rc < 0 && w->store->tmp[0])
        return -1;
    /* In place, be it that its directory could not be synced: PID 1 has to know header and key. */
    seen_note(w->store, w->result->header, len, h);
    w->result->header_len = (uint32_t)len;
    w->result->generation = h->gen;
    w->result->saved_at = (int64_t)h->saved_at;
    return rc;
}

static int rewrite(struct work *w, const struct order *o, struct source *now, struct source *earlier, struct secret *key,
                   struct secret *content_key, struct err *e)
{
    struct source *content = now;
    struct header h;
    unsigned used;
    int changed;

    if (now->fd < 0 || source_read(now, e) < 0 || check_place(w, now, e) < 0 ||
        source_open(w, now, &o->current, key, &used, e) < 0 ||
        seen_check(w->store, now->bytes, now->len, &now->h, (o->flags & ORDER_ACCEPT_OLDER) != 0, e) < 0) {
        if (!may_be_replaced(w, o, e) || from_earlier_alone(w, o, earlier, &h, e) < 0)
            return -1;
        return write_and_commit(w, earlier, w->key, &h, e);
    }
    h = now->h;
    if (apply(w, o, &h, used, key, w->key, &changed, e) < 0 || prove(o, &h, used, changed, w->key, e) < 0)
        return -1;
    memcpy(content_key->data, key->data, DATA_KEY);
    content_key->len = DATA_KEY;
    if (o->op == ORDER_RESTORE) {
        if (find_generation(w, o, earlier, content_key, e) < 0)
            return -1;
        content = earlier;
    }
    if (write_and_commit(w, content, content_key, &h, e) < 0)
        return -1;
    if (o->op == ORDER_REKEY && (o->flags & ORDER_DROP_HISTORY))
        store_drop_earlier(w->store);
    return 0;
}

/* The answer could get lost, and process 1 would go on with the old key. */
static int may_run(const struct work *w, const struct secret *order, struct err *e)
{
    if (order_of(order)->op != ORDER_REKEY || w->job->header_len == 0)
        return 0;
    return err_set(e, ERR_CANT_CREATE, "open", "a new data key takes a locked vault: tazpod lock");
}

int work_rewrite(struct work *w, struct err *e)
{
    static struct source now, earlier;
    struct secret order = {0}, key = {0}, content_key = {0};
    int rc = -1;

    now.fd = earlier.fd = -1;
    if (secret_new(&key, DATA_KEY) < 0 || secret_new(&content_key, DATA_KEY) < 0) {
        err_set(e, ERR_INTERNAL, "failed", "out of memory");
        goto out;
    }
    store_history(w->store, w->job->kdf_ops, w->job->mark);
    if (order_read(w->passphrase, &order, e) < 0 || may_run(w, &order, e) < 0 || order_is(&order, ORDER_ADD, ORDER_RESTORE, e) < 0 ||
        store_lock(w->store, e) < 0)
        goto out;
    now.fd = store_read(w->store, &now.size, e);
    rc = rewrite(w, order_of(&order), &now, &earlier, &key, &content_key, e);
out:
    if (rc < 0)
        store_abandon(w->store);
    if (now.fd >= 0)
        close(now.fd);
    if (earlier.fd >= 0)
        close(earlier.fd);
    secret_free(&order);
    secret_free(&key);
    secret_free(&content_key);
    return rc;
}
