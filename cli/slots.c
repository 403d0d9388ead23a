#include "slots.h"

#include <string.h>

#include "../vault/memory.h"

enum { BESIDE_DERIVATION = 16 * 1024 * 1024 };

/* Said before the derivation runs: nothing is left to the OOM killer, which might take the pod. */
static int check_memory(const struct work *w, uint32_t mem_kib, struct err *e)
{
    uint64_t need = (uint64_t)mem_kib * 1024;
    uint64_t usable = w->memory_left > BESIDE_DERIVATION ? w->memory_left - BESIDE_DERIVATION : 0;

    if (w->memory_limit == MEMORY_NO_LIMIT || need <= usable)
        return 0;
    return err_set(e, ERR_KDF_MEMORY, "kdf-memory",
                   "the key derivation needs %llu MiB and %llu MiB of the container's %llu MiB are free for "
                   "it: raise the limit (docker run -m), or make the vault with less (--create "
                   "--kdf-memory 16M)",
                   (unsigned long long)(need >> 20), (unsigned long long)(usable >> 20),
                   (unsigned long long)(w->memory_limit >> 20));
}

static int nobody(const struct header *h, const struct credential *c, struct err *e)
{
    int recovery = 0;

    for (unsigned i = 0; i < h->nslots; i++)
        recovery |= h->slots[i].type == SLOT_RECOVERY;
    switch (c->type) {
    case SLOT_RECOVERY:
        return err_set(e, ERR_PASSPHRASE, "wrong-recovery-code", "this vault has no slot for that recovery code: was a newer one made?");
    case SLOT_IDENTITY:
        return err_set(e, ERR_PASSPHRASE, "wrong-identity", "this vault has no slot for that identity: see tazpod key list");
    default:
        return err_set(e, ERR_PASSPHRASE, "wrong-passphrase", "wrong passphrase%s",
                       recovery ? " (forgotten? tazpod unlock --recovery takes the recovery code)" : "");
    }
}

/* As kdf_unwrap. */
static int try(const struct header *h, unsigned i, const struct credential *c, struct secret *key, struct err *e)
{
    const struct secret bytes = {(uint8_t *)(uintptr_t)c->bytes, c->len, c->len};

    return c->type == SLOT_IDENTITY ? kdf_unwrap_identity(&h->slots[i], h->vault_id, &bytes, key, e)
                                    : kdf_unwrap(&h->slots[i], h->vault_id, &bytes, key, e);
}

int slots_open(const struct work *w, const struct header *h, const struct credential *c, struct secret *key,
               unsigned *used, struct err *e)
{
    for (unsigned i = 0; i < h->nslots; i++)
        if (h->slots[i].type == c->type && check_memory(w, h->slots[i].mem_kib, e) < 0)
            return -1;
    for (unsigned i = 0; i < h->nslots; i++) {
        int rc = h->slots[i].type == c->type ? try(h, i, c, key, e) : 0;

        *used = i;
        if (rc)
            return rc < 0 ? -1 : 0;
    }
    return nobody(h, c, e);
}

int slots_prove(const struct header *h, unsigned index, const struct credential *c, const struct secret *key,
                struct err *e)
{
    struct secret again = {0};
    int rc;

    if (secret_new(&again, DATA_KEY) < 0)
        return err_set(e, ERR_INTERNAL, "failed", "out of memory");
    rc = try(h, index, c, &again, e);
    if (rc >= 0 && (rc == 0 || !secret_equal(&again, key)))
        rc = err_set(e, ERR_INTERNAL, "failed", "the new key slot does not open: nothing was changed");
    secret_free(&again);
    return rc < 0 ? -1 : 0;
}

int slots_put(const struct work *w, struct header *h, unsigned index, const struct credential *c, const char *label,
              uint32_t ops, uint32_t mem_kib, const struct secret *key, struct err *e)
{
    const struct secret bytes = {(uint8_t *)(uintptr_t)c->bytes, c->len, c->len};
    struct slot *s = &h->slots[index];

    if (c->type == SLOT_IDENTITY ? kdf_wrap_identity(s, index, label, c->bytes, h->vault_id, key, e) < 0
                                 : check_memory(w, mem_kib, e) < 0 ||
                                       kdf_wrap(s, c->type, index, label, ops, mem_kib, h->vault_id, &bytes, key, e) < 0)
        return -1;
    if (index >= h->nslots)
        h->nslots = (uint8_t)(index + 1);
    return 0;
}

void slots_take(struct header *h, unsigned index)
{
    memset(&h->slots[index], 0, sizeof h->slots[index]);
    h->slots[index].index = (uint8_t)index;
}

void slots_trim(struct header *h)
{
    while (h->nslots > 1 && h->slots[h->nslots - 1].type == SLOT_EMPTY)
        h->nslots--;
}

int slots_free(const struct header *h)
{
    for (unsigned i = 0; i < HEADER_SLOTS_MAX; i++)
        if (i >= h->nslots || h->slots[i].type == SLOT_EMPTY)
            return (int)i;
    return -1;
}

unsigned slots_used(const struct header *h)
{
    unsigned n = 0;

    for (unsigned i = 0; i < h->nslots; i++)
        n += h->slots[i].type != SLOT_EMPTY;
    return n;
}
