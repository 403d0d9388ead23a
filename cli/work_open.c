/* work_open - passphrase and vault file in; data key, header and plaintext out. */
#include <string.h>
#include <unistd.h>

#include "../vault/base/io.h"
#include "../vault/seal.h"
#include "../vault/seen.h"
#include "slots.h"

int work_read_header(int fd, uint64_t size, uint8_t *bytes, size_t *len, struct header *h,
                     struct err *e)
{
    ssize_t n = io_read_at(fd, bytes, HEADER_MAX, 0);

    if (n < 0)
        return err_sys(e, "read the vault");
    *len = header_length(bytes, (size_t)n, e);
    if (*len == 0)
        return -1;
    if ((size_t)n < *len || size < *len)
        return err_set(e, ERR_DAMAGED, "truncated", "the vault file ends inside its header" ERR_SEE_HISTORY);
    if (!seal_sum_valid(bytes, *len))
        return err_set(e, ERR_DAMAGED, "damaged-header",
                       "the vault's header is damaged" ERR_SEE_HISTORY);
    return header_parse(bytes, *len, h, e);
}

int work_open(struct work *w, struct err *e)
{
    struct secret order = {0};
    uint8_t bytes[HEADER_MAX], digest[DIGEST];
    struct header h;
    uint64_t size = 0;
    size_t len = 0;
    unsigned used;
    int fd, accepted, rc = -1;

    fd = store_read(w->store, &size, e);
    if (fd < 0)
        return -1;
    if (work_read_header(fd, size, bytes, &len, &h, e) < 0 ||
        order_read(w->passphrase, &order, e) < 0 || order_is(&order, ORDER_OPEN, ORDER_OPEN, e) < 0 ||
        slots_open(w, &h, &order_of(&order)->current, w->key, &used, e) < 0)
        goto out;
    accepted = (order_of(&order)->flags & ORDER_ACCEPT_OLDER) != 0;
    secret_free(&order);
    if (seal_header_check(bytes, len, &h, w->key, e) < 0 ||
        (!(w->job->flags & JOB_ASIDE) && seen_check(w->store, bytes, len, &h, accepted, e) < 0))
        goto out;
    /* The whole stream is proven before one byte of it reaches the unpacker. */
    if (seal_open_stream(w->key, &h, bytes, len, fd, size, -1, NULL, e) < 0 ||
        seal_open_stream(w->key, &h, bytes, len, fd, size, WORK_OUT, digest, e) < 0)
        goto out;
    w->result->header_len = (uint32_t)len;
    memcpy(w->result->header, bytes, len);
    memcpy(w->result->digest, digest, DIGEST);
    w->result->generation = h.gen;
    w->result->saved_at = (int64_t)h.saved_at;
    rc = 0;
out:
    close(WORK_OUT); /* the unpacker's end of input */
    close(fd);
    secret_free(&order);
    return rc;
}

/* A header of generation 0: the first save makes the file. */
int work_create(struct work *w, struct err *e)
{
    uint32_t ops = w->job->kdf_ops ? w->job->kdf_ops : KDF_OPS_DEFAULT;
    uint32_t mem = w->job->kdf_mem_kib ? w->job->kdf_mem_kib : KDF_MEM_KIB_DEFAULT;
    struct header h = {.comp = COMP_ZSTD};
    struct secret order = {0};
    const struct order *o;
    int rc = -1, there = store_exists(w->store, e);

    if (there < 0 || work_check_place(w, e) < 0)
        return -1;
    if (there)
        return err_set(e, ERR_CANT_CREATE, "exists", "a vault is there already: open it with tazpod unlock");
    if (!header_cost_valid(ops, mem))
        return err_set(e, ERR_CANT_CREATE, "kdf-limit", "a key derivation of that cost would not be read again: take 1 to 16 passes (--kdf-time) "
                       "over 8M to 1G (--kdf-memory)");
    if (order_read(w->passphrase, &order, e) < 0 || order_is(&order, ORDER_OPEN, ORDER_CREATE, e) < 0)
        goto out;
    o = order_of(&order);
    kdf_random(h.vault_id, sizeof h.vault_id);
    kdf_new_key(w->key);
    if (slots_put(w, &h, 0, &o->current, "passphrase", ops, mem, w->key, e) < 0 ||
        (o->fresh.type != SLOT_EMPTY &&
         slots_put(w, &h, 1, &o->fresh, "recovery code", ops, mem, w->key, e) < 0))
        goto out;
    w->result->header_len = (uint32_t)seal_header_make(&h, w->key, w->result->header);
    secret_free(&order);
    w->reserve = work_reserve(w);
    rc = 0;
out:
    secret_free(&order);
    return rc;
}
