#include "secret.h"

#include <sodium.h>

int secret_init(void)
{
    return sodium_init() < 0 ? -1 : 0;
}

int secret_new(struct secret *s, size_t size)
{
    s->data = sodium_malloc(size);
    s->size = s->data ? size : 0;
    s->len = 0;
    return s->data ? 0 : -1;
}

void secret_free(struct secret *s)
{
    sodium_free(s->data); /* wipes; NULL is fine */
    s->data = NULL;
    s->size = s->len = 0;
}

void secret_wipe(void *p, size_t len)
{
    sodium_memzero(p, len);
}

int secret_equal(const struct secret *a, const struct secret *b)
{
    return a->len == b->len && (a->len == 0 || sodium_memcmp(a->data, b->data, a->len) == 0);
}
