/* header - the fixed layout at the start of a vault file.
 *
 * docs/vault-format.md, sections 1, 3 and 4. Bytes in, values out: no cryptography, no
 * descriptors, no allocation; any process. Sizes are bytes. */
#ifndef VAULT_HEADER_H
#define VAULT_HEADER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    HEADER_FIXED = 112,
    HEADER_SLOT = 200,
    HEADER_SUM = 16,
    HEADER_HMAC = 32,
    HEADER_SLOTS_MAX = 8,
    HEADER_MAX = HEADER_FIXED + HEADER_SLOTS_MAX * HEADER_SLOT + HEADER_SUM + HEADER_HMAC,
    HEADER_PREFIX = 16, /* enough to know the length */
    END_MARK = 16,

    VAULT_ID = 16,
    SLOT_SALT = 16,
    SLOT_LABEL = 32,
    SLOT_RECIPIENT = 32,
    SLOT_WRAPPED = 80,
    SLOT_COMMIT = 24,
    SLOT_BOUND = 96, /* the part that wrap and commitment are bound to */
};

enum slot_type { SLOT_EMPTY, SLOT_PASSPHRASE, SLOT_RECOVERY, SLOT_IDENTITY };
enum { COMP_NONE, COMP_ZSTD };

/* Bounds of the derivation's cost, for reading and writing alike. */
enum {
    KDF_OPS_MIN = 1,
    KDF_OPS_MAX = 16,
    KDF_OPS_DEFAULT = 3,
    KDF_MEM_KIB_MIN = 8 * 1024,
    KDF_MEM_KIB_MAX = 1024 * 1024,
    KDF_MEM_KIB_DEFAULT = 64 * 1024,
};
#define KDF_WORK_KIB_MAX (4u * 1024 * 1024) /* ops times memory */

struct slot {
    uint8_t type;
    uint8_t index;
    uint32_t ops;
    uint32_t mem_kib;
    uint8_t salt[SLOT_SALT];
    uint8_t label[SLOT_LABEL];
    uint8_t recipient[SLOT_RECIPIENT];
    uint8_t wrapped[SLOT_WRAPPED];
    uint8_t commit[SLOT_COMMIT];
};

struct header {
    uint8_t comp;
    uint8_t nslots;
    uint8_t vault_id[VAULT_ID];
    uint64_t gen;
    uint64_t saved_at; /* unix seconds */
    uint8_t fsalt[32];
    uint8_t rescue_pk[32];
    struct slot slots[HEADER_SLOTS_MAX];
};

/* Bytes of a header with this many slots. */
size_t header_size(unsigned nslots);

/* Length of the whole header from its first HEADER_PREFIX bytes (fewer if the file is shorter),
 * checking magic, version, hlen and nslots. 0 with *e filled in. */
size_t header_length(const uint8_t *prefix, size_t have, struct err *e);

/* Everything after the sum has been found right: fields and zeros (word altered-header), cost
 * limits (kdf-limit). len is what header_length said. */
int header_parse(const uint8_t *bytes, size_t len, struct header *h, struct err *e);

/* Writes all but sum and hmac; returns the offset of sum. bytes holds HEADER_MAX. */
size_t header_format(const struct header *h, uint8_t *bytes);

/* One slot in its place, as wrap and commitment see it. out holds HEADER_SLOT. */
void header_slot_format(const struct slot *s, uint8_t *out);

/* UTF-8 without control bytes up to the first zero, or all of it; zeros behind that. */
int header_label_valid(const uint8_t label[SLOT_LABEL]);

/* Cost within the bounds above. */
int header_cost_valid(uint32_t ops, uint32_t mem_kib);

/* The end mark of a file of that many bytes, and whether 16 bytes are it. */
void end_mark_format(uint64_t file_size, uint8_t out[END_MARK]);
int end_mark_valid(const uint8_t mark[END_MARK], uint64_t file_size);

void put_le64(uint8_t *p, uint64_t v);

#endif
