/* secret - bytes that must not leave RAM.
 *
 * Guarded, locked pages of their own (sodium_malloc: no core dump, no swap where mlock is
 * allowed), wiped when freed. Size in bytes; the length in use may be smaller.
 * Allocates; workers and command line only; not for signal context. */
#ifndef VAULT_BASE_SECRET_H
#define VAULT_BASE_SECRET_H

#include <stddef.h>
#include <stdint.h>

struct secret {
    uint8_t *data;
    size_t size; /* bytes allocated */
    size_t len;  /* bytes in use */
};

/* Must be called once before anything else of libsodium. 0, or -1 if the library can't start. */
int secret_init(void);

/* 0, or -1 when no memory is to be had; *s is then empty. */
int secret_new(struct secret *s, size_t size);

/* Wipes and releases; an empty one is fine. */
void secret_free(struct secret *s);

/* Wipes bytes that live elsewhere (a message buffer, a stack). */
void secret_wipe(void *p, size_t len);

/* The two contents are equal; time depends on the length alone. */
int secret_equal(const struct secret *a, const struct secret *b);

#endif
