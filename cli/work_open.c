/* work_open - passphrase and vault file in; data key, header and plaintext out. */
#include <string.h>
#include <unistd.h>

#include "../vault/base/io.h"
#include "../vault/kdf.h"
#include "../vault/memory.h"
#include "../vault/seal.h"
#include "work.h"

enum { BESIDE_DERIVATION = 16 * 1024 * 1024 };

static int read_passphrase(int fd, struct secret *p, struct err *e)
{
    ssize_t n;

    if (fd < 0)
        return err_set(e, ERR_INTERNAL, "protocol", "no passphrase came with the job");
    if (secret_new(p, PASSPHRASE_MAX + 2) < 0)
        return err_set(e, ERR_INTERNAL, "failed", "out of memory");
    n = io_read(fd, p->data, p->size);
    if (n < 0)
        return err_sys(e, "read the passphrase");
    p->len = (size_t)n;
    if (p->len > 0 && p->data[p->len - 1] == '\n')
        p->len--;
    if (p->len == 0)
        return err_set(e, ERR_PASSPHRASE, "empty-passphrase", "the passphrase is empty");
    if (p->len > PASSPHRASE_MAX)
        return err_set(e, ERR_PASSPHRASE, "long-passphrase", "the passphrase is longer than 1024 bytes");
    if (memchr(p->data, '\0', p->len))
        return err_set(e, ERR_PASSPHRASE, "wrong-passphrase", "a passphrase can't hold a NUL byte");
    return 0;
}

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

/* Steps 1 to 4 of the order of reading: all that can be known before a passphrase is tried. */
static int read_header(struct work *w, int fd, uint64_t size, uint8_t *bytes, size_t *len, struct header *h,
                       struct err *e)
{
    ssize_t n = io_read_at(fd, bytes, HEADER_MAX, 0);

    if (n < 0)
        return err_sys(e, "read the vault");
    *len = header_length(bytes, (size_t)n, e);
    if (*len == 0)
        return -1;
    if ((size_t)n < *len || size < *len)
        return err_set(e, ERR_DAMAGED, "truncated", "the vault file ends inside its header");
    if (!seal_sum_valid(bytes, *len))
        return err_set(e, ERR_DAMAGED, "damaged-header",
                       "the vault's header is damaged: put a whole copy or an earlier generation in its place");
    if (header_parse(bytes, *len, h, e) < 0)
        return -1;
    for (unsigned i = 0; i < h->nslots; i++)
        if (h->slots[i].type == SLOT_PASSPHRASE && check_memory(w, h->slots[i].mem_kib, e) < 0)
            return -1;
    return 0;
}

static int try_slots(const struct header *h, const struct secret *passphrase, struct secret *key,
                     struct err *e)
{
    for (unsigned i = 0; i < h->nslots; i++) {
        int rc = 0;

        if (h->slots[i].type == SLOT_PASSPHRASE)
            rc = kdf_unwrap(&h->slots[i], h->vault_id, passphrase, key, e);
        if (rc)
            return rc < 0 ? -1 : 0;
    }
    return err_set(e, ERR_PASSPHRASE, "wrong-passphrase", "wrong passphrase");
}

int work_open(struct work *w, struct err *e)
{
    struct secret passphrase = {0};
    uint8_t bytes[HEADER_MAX], digest[DIGEST];
    struct header h;
    uint64_t size = 0;
    size_t len = 0;
    int fd, rc = -1;

    fd = store_read(w->store, &size, e);
    if (fd < 0)
        return -1;
    if (read_header(w, fd, size, bytes, &len, &h, e) < 0 ||
        read_passphrase(w->passphrase, &passphrase, e) < 0 ||
        try_slots(&h, &passphrase, w->key, e) < 0)
        goto out;
    secret_free(&passphrase);
    if (seal_header_check(bytes, len, &h, w->key, e) < 0)
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
    secret_free(&passphrase);
    return rc;
}

/* A header of generation 0: the first save makes the file. */
int work_create(struct work *w, struct err *e)
{
    uint32_t ops = w->job->kdf_ops ? w->job->kdf_ops : KDF_OPS_DEFAULT;
    uint32_t mem = w->job->kdf_mem_kib ? w->job->kdf_mem_kib : KDF_MEM_KIB_DEFAULT;
    struct header h = {.comp = COMP_ZSTD, .nslots = 1};
    struct secret passphrase = {0};
    int rc = -1, there = store_exists(w->store, e);

    if (there < 0 || work_check_place(w, e) < 0)
        return -1;
    if (there)
        return err_set(e, ERR_CANT_CREATE, "exists", "a vault is there already: open it with tazpod unlock");
    if (!header_cost_valid(ops, mem))
        return err_set(e, ERR_CANT_CREATE, "kdf-limit", "a key derivation of that cost would not be read again: take 1 to 16 passes (--kdf-time) "
                       "over 8M to 1G (--kdf-memory)");
    if (check_memory(w, mem, e) < 0 || read_passphrase(w->passphrase, &passphrase, e) < 0)
        goto out;
    kdf_random(h.vault_id, sizeof h.vault_id);
    kdf_new_key(w->key);
    if (kdf_wrap(&h.slots[0], 0, "passphrase", ops, mem, h.vault_id, &passphrase, w->key, e) < 0)
        goto out;
    w->result->header_len = (uint32_t)seal_header_make(&h, w->key, w->result->header);
    secret_free(&passphrase);
    w->reserve = work_reserve(w);
    rc = 0;
out:
    secret_free(&passphrase);
    return rc;
}
