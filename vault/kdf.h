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

enum { DATA_KEY = 32, PASSPHRASE_MAX = 1024 };

/* Fills *key (DATA_KEY bytes, allocated by the caller) from the system's random source. */
void kdf_new_key(struct secret *key);

/* Fills any plain bytes (vault_id, fsalt) from the same source. */
void kdf_random(void *p, size_t len);

/* Makes slot `index` of the vault: wraps key under the passphrase. 0, or -1 with *e. */
int kdf_wrap(struct slot *slot, unsigned index, const char *label, uint32_t ops, uint32_t mem_kib,
             const uint8_t vault_id[VAULT_ID], const struct secret *passphrase,
             const struct secret *key, struct err *e);

/* 1: the slot opened, *key is filled (DATA_KEY bytes). 0: not this passphrase.
 * -1 with *e: no memory for the derivation (word kdf-memory), or the slot is inconsistent. */
int kdf_unwrap(const struct slot *slot, const uint8_t vault_id[VAULT_ID],
               const struct secret *passphrase, struct secret *key, struct err *e);

#endif
