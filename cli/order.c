#include "order.h"

#include <string.h>

#include "../vault/base/io.h"

static int passphrase_check(const struct secret *s, size_t len, struct err *e)
{
    if (len == 0)
        return err_set(e, ERR_PASSPHRASE, "empty-passphrase", "the passphrase is empty");
    if (len > PASSPHRASE_MAX)
        return err_set(e, ERR_PASSPHRASE, "long-passphrase", "the passphrase is longer than 1024 bytes");
    if (memchr(s->data, '\0', len))
        return err_set(e, ERR_PASSPHRASE, "wrong-passphrase", "a passphrase can't hold a NUL byte");
    return 0;
}

static int credential_valid(const struct credential *c)
{
    if (c->reserved || c->reserved2 || c->len > sizeof c->bytes)
        return 0;
    switch (c->type) {
    case SLOT_EMPTY: return c->len == 0;
    case SLOT_PASSPHRASE: return c->len > 0 && !memchr(c->bytes, '\0', c->len);
    case SLOT_RECOVERY: return c->len == RECOVERY_CODE;
    case SLOT_IDENTITY: return c->len == IDENTITY_KEY;
    default: return 0;
    }
}

static int order_valid(const struct order *o)
{
    return o->version == 1 && o->op >= ORDER_OPEN && o->op <= ORDER_RESTORE && !o->reserved[0] && !o->reserved[1] &&
           !o->reserved[2] && o->current.type != SLOT_EMPTY && credential_valid(&o->current) &&
           credential_valid(&o->fresh);
}

/* The bytes become the current credential of an order of their own. */
static void order_of_passphrase(struct secret *s, size_t len)
{
    struct order *o = order_of(s);

    memmove(o->current.bytes, s->data, len);
    memset(s->data, 0, (size_t)(o->current.bytes - s->data));
    memset(o->current.bytes + len, 0, s->size - (size_t)(o->current.bytes - s->data) - len);
    o->version = 1;
    o->op = ORDER_OPEN;
    o->slot = ORDER_NO_SLOT;
    o->current.type = SLOT_PASSPHRASE;
    o->current.len = (uint16_t)len;
}

int order_read(int fd, struct secret *s, struct err *e)
{
    ssize_t n;
    size_t len;

    if (fd < 0)
        return err_set(e, ERR_INTERNAL, "protocol", "no passphrase came with the job");
    if (secret_new(s, sizeof(struct order) + 1) < 0) /* one more than there may be, to notice */
        return err_set(e, ERR_INTERNAL, "failed", "out of memory");
    n = io_read(fd, s->data, s->size);
    if (n < 0)
        return err_sys(e, "read the passphrase");
    s->len = len = (size_t)n;
    if (len == sizeof(struct order) && s->data[0] == '\0') {
        if (order_valid(order_of(s)))
            return 0;
        return err_set(e, ERR_INTERNAL, "protocol", "an order that can't be understood came with the job");
    }
    if (len > 0 && s->data[len - 1] == '\n')
        len--;
    if (passphrase_check(s, len, e) < 0)
        return -1;
    order_of_passphrase(s, len);
    return 0;
}

int order_new(struct secret *s, enum order_op op)
{
    struct order *o;

    if (secret_new(s, sizeof *o) < 0)
        return -1;
    s->len = s->size;
    memset(s->data, 0, s->size);
    o = order_of(s);
    o->version = 1;
    o->op = (uint8_t)op;
    o->slot = ORDER_NO_SLOT;
    return 0;
}

int order_is(const struct secret *s, enum order_op first, enum order_op last, struct err *e)
{
    const struct order *o = order_of(s);

    if (o->op >= first && o->op <= last)
        return 0;
    return err_set(e, ERR_INTERNAL, "protocol", "that order is not for this worker");
}
