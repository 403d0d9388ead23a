#include "kdf.h"

#include <sodium.h>
#include <string.h>

enum {
    NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    SEALED = DATA_KEY + crypto_aead_xchacha20poly1305_ietf_ABYTES,
    HALF = 32,
};

/* What wrap and commitment are bound to: suite, version, vault, and the slot without its result. */
enum { CTX = 3 + VAULT_ID + SLOT_BOUND };

static void context(const struct slot *slot, const uint8_t *vault_id, uint8_t ctx[CTX])
{
    uint8_t bytes[HEADER_SLOT];

    header_slot_format(slot, bytes);
    ctx[0] = 1; /* suite */
    ctx[1] = 1; /* version, little endian */
    ctx[2] = 0;
    memcpy(ctx + 3, vault_id, VAULT_ID);
    memcpy(ctx + 3 + VAULT_ID, bytes, SLOT_BOUND);
}

void kdf_random(void *p, size_t len)
{
    randombytes_buf(p, len);
}

void kdf_new_key(struct secret *key)
{
    randombytes_buf(key->data, DATA_KEY);
    key->len = DATA_KEY;
}

/* k64: key-encrypting key, then commitment key. */
static int derive(const struct slot *slot, const struct secret *passphrase, struct secret *k64,
                  struct err *e)
{
    if (secret_new(k64, 2 * HALF) < 0 ||
        crypto_pwhash(k64->data, 2 * HALF, (const char *)passphrase->data, passphrase->len, slot->salt,
                      slot->ops, (size_t)slot->mem_kib * 1024, crypto_pwhash_ALG_ARGON2ID13) != 0)
        return err_set(e, ERR_KDF_MEMORY, "kdf-memory",
                       "the key derivation could not get its %u MiB of memory", slot->mem_kib / 1024);
    k64->len = 2 * HALF;
    return 0;
}

static void commitment(const uint8_t *key, const uint8_t ctx[CTX], uint8_t out[SLOT_COMMIT])
{
    crypto_generichash_state st;

    crypto_generichash_init(&st, key, HALF, SLOT_COMMIT);
    crypto_generichash_update(&st, (const uint8_t *)"vault1 slot", 11);
    crypto_generichash_update(&st, ctx, CTX);
    crypto_generichash_final(&st, out, SLOT_COMMIT);
}

static void wrap_data(const uint8_t ctx[CTX], uint8_t ad[11 + CTX])
{
    memcpy(ad, "vault1 wrap", 11);
    memcpy(ad + 11, ctx, CTX);
}

static void slot_begin(struct slot *slot, enum slot_type type, unsigned index, const char *label)
{
    memset(slot, 0, sizeof *slot);
    slot->type = (uint8_t)type;
    slot->index = (uint8_t)index;
    memcpy(slot->label, label, strnlen(label, SLOT_LABEL)); /* the rest stays zero */
}

int kdf_wrap(struct slot *slot, enum slot_type type, unsigned index, const char *label, uint32_t ops,
             uint32_t mem_kib, const uint8_t vault_id[VAULT_ID], const struct secret *passphrase,
             const struct secret *key, struct err *e)
{
    struct secret k64 = {0};
    uint8_t ctx[CTX], ad[11 + CTX];
    int rc = -1;

    slot_begin(slot, type, index, label);
    slot->ops = ops;
    slot->mem_kib = mem_kib;
    randombytes_buf(slot->salt, sizeof slot->salt);
    if (derive(slot, passphrase, &k64, e) < 0)
        goto out;
    context(slot, vault_id, ctx);
    wrap_data(ctx, ad);
    randombytes_buf(slot->wrapped, NONCE);
    crypto_aead_xchacha20poly1305_ietf_encrypt(slot->wrapped + NONCE, NULL, key->data, DATA_KEY, ad,
                                               sizeof ad, NULL, slot->wrapped, k64.data);
    commitment(k64.data + HALF, ctx, slot->commit);
    rc = 0;
out:
    secret_free(&k64);
    return rc;
}

int kdf_unwrap(const struct slot *slot, const uint8_t vault_id[VAULT_ID],
               const struct secret *passphrase, struct secret *key, struct err *e)
{
    struct secret k64 = {0};
    uint8_t ctx[CTX], ad[11 + CTX], commit[SLOT_COMMIT];
    int rc = -1;

    if (derive(slot, passphrase, &k64, e) < 0)
        goto out;
    context(slot, vault_id, ctx);
    commitment(k64.data + HALF, ctx, commit);
    if (sodium_memcmp(commit, slot->commit, SLOT_COMMIT) != 0) {
        rc = 0;
        goto out;
    }
    wrap_data(ctx, ad);
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(key->data, NULL, NULL, slot->wrapped + NONCE, SEALED,
                                                   ad, sizeof ad, slot->wrapped, k64.data) != 0) {
        err_set(e, ERR_DAMAGED, "altered-header", "the vault's header was altered (key slot %u)" ERR_SEE_HISTORY,
                slot->index);
        goto out;
    }
    key->len = DATA_KEY;
    rc = 1;
out:
    secret_free(&k64);
    return rc;
}

int kdf_wrap_identity(struct slot *slot, unsigned index, const char *label, const uint8_t recipient[SLOT_RECIPIENT],
                      const uint8_t vault_id[VAULT_ID], const struct secret *key, struct err *e)
{
    uint8_t ctx[CTX];

    slot_begin(slot, SLOT_IDENTITY, index, label);
    memcpy(slot->recipient, recipient, SLOT_RECIPIENT);
    if (crypto_box_seal(slot->wrapped, key->data, DATA_KEY, recipient) != 0)
        return err_set(e, ERR_CANT_CREATE, "bad-identity", "that is no public key of an identity");
    context(slot, vault_id, ctx);
    commitment(key->data, ctx, slot->commit);
    return 0;
}

int kdf_unwrap_identity(const struct slot *slot, const uint8_t vault_id[VAULT_ID], const struct secret *identity,
                        struct secret *key, struct err *e)
{
    uint8_t public_key[SLOT_RECIPIENT], ctx[CTX], commit[SLOT_COMMIT];

    if (crypto_scalarmult_base(public_key, identity->data) != 0 ||
        sodium_memcmp(public_key, slot->recipient, SLOT_RECIPIENT) != 0)
        return 0;
    context(slot, vault_id, ctx);
    if (crypto_box_seal_open(key->data, slot->wrapped, SLOT_WRAPPED, public_key, identity->data) == 0) {
        key->len = DATA_KEY;
        commitment(key->data, ctx, commit);
        if (sodium_memcmp(commit, slot->commit, SLOT_COMMIT) == 0)
            return 1;
    }
    return err_set(e, ERR_DAMAGED, "altered-header", "the vault's header was altered (key slot %u)" ERR_SEE_HISTORY, slot->index);
}

void kdf_new_identity(uint8_t recipient[SLOT_RECIPIENT], struct secret *identity)
{
    (void)crypto_box_keypair(recipient, identity->data);
    identity->len = IDENTITY_KEY;
}
