#include "header.h"

#include <string.h>

#include "entry.h"

static const uint8_t MAGIC[8] = {0x89, 0x56, 0x4c, 0x54, 0x0d, 0x0a, 0x1a, 0x0a};
static const uint8_t END[8] = {0x54, 0x50, 0x56, 0x0d, 0x0a, 0x45, 0x4e, 0x44};

enum { VERSION = 1, SUITE = 1 };

static void put_le(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = n; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

void put_le64(uint8_t *p, uint64_t v)
{
    put_le(p, v, 8);
}

size_t header_size(unsigned nslots)
{
    return HEADER_FIXED + (size_t)nslots * HEADER_SLOT + HEADER_SUM + HEADER_HMAC;
}

size_t header_length(const uint8_t *prefix, size_t have, struct err *e)
{
    uint64_t version, hlen;
    unsigned nslots;

    if (have < sizeof MAGIC || memcmp(prefix, MAGIC, sizeof MAGIC) != 0) {
        err_set(e, ERR_DAMAGED, "not-a-vault", "this file is not a vault" ERR_SEE_HISTORY);
        return 0;
    }
    if (have < HEADER_PREFIX) {
        err_set(e, ERR_DAMAGED, "truncated", "the vault file ends inside its header");
        return 0;
    }
    version = get_le(prefix + 8, 2);
    if (version > VERSION) {
        err_set(e, ERR_NEWER, "newer-version",
                "the vault is of format version %u, this program reads version %u: use a newer tazpod",
                (unsigned)version, (unsigned)VERSION);
        return 0;
    }
    hlen = get_le(prefix + 10, 2);
    nslots = prefix[14];
    if (version != VERSION || nslots < 1 || nslots > HEADER_SLOTS_MAX || hlen != header_size(nslots)) {
        err_set(e, ERR_DAMAGED, "damaged-header", "the vault's header is damaged" ERR_SEE_HISTORY);
        return 0;
    }
    return (size_t)hlen;
}

static int is_zero(const uint8_t *p, size_t n)
{
    uint8_t all = 0;

    for (size_t i = 0; i < n; i++)
        all |= p[i];
    return all == 0;
}

int header_cost_valid(uint32_t ops, uint32_t mem_kib)
{
    return ops >= KDF_OPS_MIN && ops <= KDF_OPS_MAX && mem_kib >= KDF_MEM_KIB_MIN &&
           mem_kib <= KDF_MEM_KIB_MAX && (uint64_t)ops * mem_kib <= KDF_WORK_KIB_MAX;
}

int header_label_valid(const uint8_t label[SLOT_LABEL])
{
    char text[SLOT_LABEL + 1] = {0};
    size_t n = 0;

    while (n < SLOT_LABEL && label[n] >= 32 && label[n] != 127)
        n++;
    memcpy(text, label, n);
    return is_zero(label + n, SLOT_LABEL - n) && entry_is_utf8(text);
}

static int slot_parse(const uint8_t *p, unsigned index, struct slot *s, struct err *e)
{
    s->type = p[0];
    s->index = p[1];
    s->ops = (uint32_t)get_le(p + 4, 4);
    s->mem_kib = (uint32_t)get_le(p + 8, 4);
    memcpy(s->salt, p + 16, SLOT_SALT);
    memcpy(s->label, p + 32, SLOT_LABEL);
    memcpy(s->recipient, p + 64, SLOT_RECIPIENT);
    memcpy(s->wrapped, p + 96, SLOT_WRAPPED);
    memcpy(s->commit, p + 176, SLOT_COMMIT);

    if (s->index != index || !is_zero(p + 2, 2) || !is_zero(p + 12, 4) || s->type > SLOT_IDENTITY)
        goto altered;
    switch (s->type) {
    case SLOT_EMPTY:
        if (!is_zero(p + 2, HEADER_SLOT - 2))
            goto altered;
        return 0;
    case SLOT_IDENTITY:
        if (s->ops || s->mem_kib || !is_zero(s->salt, SLOT_SALT) || !header_label_valid(s->label))
            goto altered;
        return 0;
    default:
        if (!is_zero(s->recipient, SLOT_RECIPIENT) || !is_zero(s->wrapped + 72, 8) ||
            !header_label_valid(s->label))
            goto altered;
    }
    if (!header_cost_valid(s->ops, s->mem_kib))
        return err_set(e, ERR_DAMAGED, "kdf-limit",
                       "key slot %u asks for %u passes over %u KiB, outside what is accepted "
                       "(1 to 16 passes, 8 MiB to 1 GiB, 4 GiB in all)" ERR_SEE_HISTORY,
                       index, s->ops, s->mem_kib);
    return 0;
altered:
    return err_set(e, ERR_DAMAGED, "altered-header", "the vault's header was altered (key slot %u)" ERR_SEE_HISTORY,
                   index);
}

int header_parse(const uint8_t *bytes, size_t len, struct header *h, struct err *e)
{
    memset(h, 0, sizeof *h);
    h->comp = bytes[13];
    h->nslots = bytes[14];
    if (bytes[12] != SUITE || h->comp > COMP_ZSTD || bytes[15] != 0 || len != header_size(h->nslots))
        return err_set(e, ERR_DAMAGED, "altered-header", "the vault's header was altered" ERR_SEE_HISTORY);
    memcpy(h->vault_id, bytes + 16, VAULT_ID);
    h->gen = get_le(bytes + 32, 8);
    h->saved_at = get_le(bytes + 40, 8);
    memcpy(h->fsalt, bytes + 48, 32);
    memcpy(h->rescue_pk, bytes + 80, 32);
    for (unsigned i = 0; i < h->nslots; i++)
        if (slot_parse(bytes + HEADER_FIXED + i * HEADER_SLOT, i, &h->slots[i], e) < 0)
            return -1;
    return 0;
}

void header_slot_format(const struct slot *s, uint8_t *out)
{
    memset(out, 0, HEADER_SLOT);
    out[0] = s->type;
    out[1] = s->index;
    put_le(out + 4, s->ops, 4);
    put_le(out + 8, s->mem_kib, 4);
    memcpy(out + 16, s->salt, SLOT_SALT);
    memcpy(out + 32, s->label, SLOT_LABEL);
    memcpy(out + 64, s->recipient, SLOT_RECIPIENT);
    memcpy(out + 96, s->wrapped, SLOT_WRAPPED);
    memcpy(out + 176, s->commit, SLOT_COMMIT);
}

size_t header_format(const struct header *h, uint8_t *bytes)
{
    memcpy(bytes, MAGIC, sizeof MAGIC);
    put_le(bytes + 8, VERSION, 2);
    put_le(bytes + 10, header_size(h->nslots), 2);
    bytes[12] = SUITE;
    bytes[13] = h->comp;
    bytes[14] = h->nslots;
    bytes[15] = 0;
    memcpy(bytes + 16, h->vault_id, VAULT_ID);
    put_le(bytes + 32, h->gen, 8);
    put_le(bytes + 40, h->saved_at, 8);
    memcpy(bytes + 48, h->fsalt, 32);
    memcpy(bytes + 80, h->rescue_pk, 32);
    for (unsigned i = 0; i < h->nslots; i++)
        header_slot_format(&h->slots[i], bytes + HEADER_FIXED + i * HEADER_SLOT);
    return HEADER_FIXED + (size_t)h->nslots * HEADER_SLOT;
}

void end_mark_format(uint64_t file_size, uint8_t out[END_MARK])
{
    memcpy(out, END, sizeof END);
    put_le(out + 8, file_size, 8);
}

int end_mark_valid(const uint8_t mark[END_MARK], uint64_t file_size)
{
    return memcmp(mark, END, sizeof END) == 0 && get_le(mark + 8, 8) == file_size;
}
