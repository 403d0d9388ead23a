/* order - what a client has to say to the worker that opens or rewrites a vault.
 *
 * It goes through the descriptor that UNLOCK, CREATE and KEY carry, past PID 1, which never reads it
 * (docs/control-protocol.md, "Order"). A text that does not begin with a zero byte is a passphrase
 * alone. Fixed size, host byte order: both ends are this program. Holds secrets: lives in struct
 * secret only, which wipes it. */
#ifndef CLI_ORDER_H
#define CLI_ORDER_H

#include <stdint.h>

#include "../vault/base/err.h"
#include "../vault/base/secret.h"
#include "../vault/header.h"
#include "../vault/kdf.h"

enum order_op {
    ORDER_OPEN = 1, /* of UNLOCK: current opens it */
    ORDER_CREATE,   /* of CREATE: current and, unless empty, fresh become slots */
    ORDER_ADD,      /* of KEY, from here on: fresh gets a slot */
    ORDER_REMOVE,   /* slot goes */
    ORDER_PASSWD,   /* fresh takes the place of the slot that current opens */
    ORDER_REKEY,    /* a new data key; slots that need a secret that is not here go */
    ORDER_RESTORE,  /* the content of an earlier generation becomes the newest */
};

enum {
    ORDER_WEAKER = 1,       /* the new slot may cost less than the one it replaces */
    ORDER_LAST = 2,         /* the last slot, or the one just used, may go */
    ORDER_DROP_HISTORY = 4, /* of rekey: earlier generations, which the old key opens, are deleted */
    ORDER_ACCEPT_OLDER = 8, /* of open: a file older than the one seen last */
};

enum { ORDER_NO_SLOT = 255 };

struct credential {
    uint8_t type; /* enum slot_type; SLOT_EMPTY: there is none */
    uint8_t reserved;
    uint16_t len;
    uint32_t reserved2;
    uint8_t bytes[PASSPHRASE_MAX]; /* a passphrase; the 20 bytes of a recovery code; the 32 of an identity's
                                      secret key, or where it is given a slot of its public one */
};

struct order {
    uint8_t zero;
    uint8_t version; /* 1 */
    uint8_t op;
    uint8_t flags;
    uint8_t slot; /* ORDER_NO_SLOT: none is named */
    uint8_t reserved[3];
    uint32_t kdf_ops;     /* of fresh; 0: as the slot it replaces, else the default */
    uint32_t kdf_mem_kib;
    uint64_t generation;  /* of restore */
    uint8_t label[SLOT_LABEL]; /* of fresh, padded with zeros */
    struct credential current;
    struct credential fresh;
};

_Static_assert(sizeof(struct credential) == 8 + 1024 && sizeof(struct order) == 56 + 2 * 1032, "order");

/* Reads the descriptor to its end: an order, or a passphrase alone, which becomes an order of
 * ORDER_OPEN. Allocates *s, whose data is a struct order then; the caller frees it. Words:
 * empty-passphrase, long-passphrase, wrong-passphrase for the passphrase, protocol. */
int order_read(int fd, struct secret *s, struct err *e);

/* Its op is one of these; else word protocol. */
int order_is(const struct secret *s, enum order_op first, enum order_op last, struct err *e);

/* For the other end: an order with this op and nothing else, in *s. 0 or -1. */
int order_new(struct secret *s, enum order_op op);

static inline struct order *order_of(const struct secret *s)
{
    return (struct order *)(void *)s->data;
}

#endif
