/* code - secret bytes as a person copies them from paper.
 *
 * Base32 in Crockford's alphabet (no I, L, O, U), upper case, in groups of four; the last group is a
 * checksum over bytes and context. Read again in either case, with or without hyphens and blanks, O for 0,
 * I and L for 1. docs/vault-format.md, section 2. No allocation; not for signal context. */
#ifndef VAULT_CODE_H
#define VAULT_CODE_H

#include <stddef.h>
#include <stdint.h>

enum { CODE_BYTES_MAX = 32, CODE_TEXT_MAX = 80 };

/* context: what the code is for, so that none is taken for another. len: up to CODE_BYTES_MAX. */
void code_write(const char *context, const uint8_t *bytes, size_t len, char text[CODE_TEXT_MAX]);

/* text: n bytes, no zero needed. 0, or -1 where it is no such code of len bytes, or mistyped. */
int code_read(const char *context, const char *text, size_t n, uint8_t *bytes, size_t len);

#endif
