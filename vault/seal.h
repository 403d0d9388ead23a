/* seal - turn a byte stream into a vault file and back.
 *
 * docs/vault-format.md. Sizes are bytes. Descriptors stay the caller's and are never closed
 * here. Returns 0, or -1 with *e filled in; output is whole only when 0.
 * Memory: one chunk in, one chunk out. Sealer and opener only; not for signal context. */
#ifndef VAULT_SEAL_H
#define VAULT_SEAL_H

#include <stdint.h>

#include "base/err.h"
#include "base/secret.h"
#include "header.h"

/* Tells whether two streams had the same content: a Poly1305 of the plaintext under a key made
 * from DK, and its length. It never leaves RAM, so it serves as a hash nobody can aim at.
 * All zeros: no content known. */
enum { DIGEST = 32 };

/* The unkeyed sum of a header of len bytes is right. */
int seal_sum_valid(const uint8_t *bytes, size_t len);

/* The key made this header: hmac and rescue key are right, else word altered-header. */
int seal_header_check(const uint8_t *bytes, size_t len, const struct header *h,
                      const struct secret *key, struct err *e);

/* Fills in rescue_pk, formats, sums and signs. bytes holds HEADER_MAX. Returns the length. */
size_t seal_header_make(struct header *h, const struct secret *key, uint8_t *bytes);

/* Reads plaintext from `from` to its end, writes stream and end mark to `to`, which already holds
 * the header. *size: bytes of the whole file. */
int seal_stream(const struct secret *key, const struct header *h, const uint8_t *bytes, size_t len,
                int from, int to, uint8_t digest[DIGEST], uint64_t *size, struct err *e);

/* Checks the stream of the file in fd (file_size bytes, header of len bytes in front) up to its
 * final tag and end, writing the plaintext to `to` unless that is -1. Reads by offset. digest may be
 * NULL: it is a second MAC over all there is, and of two passes one will do. Without it and with no `to`
 * nothing is decrypted. */
int seal_open_stream(const struct secret *key, const struct header *h, const uint8_t *bytes, size_t len,
                     int fd, uint64_t file_size, int to, uint8_t digest[DIGEST], struct err *e);

/* A vault file to read: its header of len bytes has been checked with its key. */
struct seal_from {
    const struct secret *key;
    const struct header *h;
    const uint8_t *bytes;
    size_t len;
    int fd;
    uint64_t size; /* of the file */
};

/* The content of one vault file becomes the stream of another, chunk by chunk: `to` holds the new header. No
 * more than a chunk is ever in the clear. A file that does not hold is an error, found while `to` is written. */
int seal_copy_stream(const struct seal_from *from, const struct secret *key, const struct header *h,
                     const uint8_t *bytes, size_t len, int to, uint8_t digest[DIGEST], uint64_t *size, struct err *e);

#endif
