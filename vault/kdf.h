/* kdf - the data key and the slots that wrap it.
 *
 * docs/vault-format.md, section 2. Secrets stay the caller's. Costs must have passed
 * header_cost_valid. Allocates the derivation's memory (mem_kib of the slot) for the time of the
 * call; opener only; not for signal context. */
#ifndef VAULT_KDF_H
#define VAULT_KDF_H

#include "base/err.h"
#include "base/secret.h"
#include "header.h"

enum { DATA_KEY = 32, PASSPHRASE_MAX = 1024, RECOVERY_CODE = 20, IDENTITY_KEY = 32 };

/* Fills *key (DATA_KEY bytes, allocated by the caller) from the system's random source. */
void kdf_new_key(struct secret *key);

/* Fills any plain bytes (vault_id, fsalt) from the same source. */
void kdf_random(void *p, size_t len);

/* Makes slot `index` of the vault: wraps key under a passphrase or the RECOVERY_CODE bytes of a code, as
 * type says. label: up to SLOT_LABEL bytes. 0, or -1 with *e. */
int kdf_wrap(struct slot *slot, enum slot_type type, unsigned index, const char *label, uint32_t ops,
             uint32_t mem_kib, const uint8_t vault_id[VAULT_ID], const struct secret *passphrase,
             const struct secret *key, struct err *e);

/* 1: the slot opened, *key is filled (DATA_KEY bytes). 0: not this passphrase.
 * -1 with *e: no memory for the derivation (word kdf-memory), or the slot is inconsistent. */
int kdf_unwrap(const struct slot *slot, const uint8_t vault_id[VAULT_ID],
               const struct secret *passphrase, struct secret *key, struct err *e);

/* The same for an X25519 identity, of which wrapping takes the public key alone: SLOT_RECIPIENT bytes;
 * the secret one is IDENTITY_KEY bytes. No derivation, no memory. */
int kdf_wrap_identity(struct slot *slot, unsigned index, const char *label, const uint8_t recipient[SLOT_RECIPIENT],
                      const uint8_t vault_id[VAULT_ID], const struct secret *key, struct err *e);
int kdf_unwrap_identity(const struct slot *slot, const uint8_t vault_id[VAULT_ID], const struct secret *identity,
                        struct secret *key, struct err *e);

/* A new pair; *identity is the caller's, IDENTITY_KEY bytes at least. */
void kdf_new_identity(uint8_t recipient[SLOT_RECIPIENT], struct secret *identity);

#endif
