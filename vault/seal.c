#include "seal.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/io.h"

enum {
    CHUNK = 65536,
    CHUNK_SEALED = CHUNK + crypto_secretstream_xchacha20poly1305_ABYTES,
    STREAM_HEADER = crypto_secretstream_xchacha20poly1305_HEADERBYTES,
    SUBKEY = 32,
    AD = 32,
};

/* Static, not on the stack: a worker runs one stream at a time, and clear text in a static buffer
 * is wiped in one known place. */
static uint8_t plain[CHUNK];
static uint8_t sealed[CHUNK_SEALED + END_MARK];

struct sub {
    const char *label;
    const void *a, *b, *c;
    size_t alen, blen, clen;
};

static void subkey(const struct secret *key, struct sub s, uint8_t out[SUBKEY])
{
    crypto_generichash_state st;

    crypto_generichash_init(&st, key->data, key->len, SUBKEY);
    crypto_generichash_update(&st, (const uint8_t *)s.label, strlen(s.label));
    crypto_generichash_update(&st, s.a, s.alen);
    crypto_generichash_update(&st, s.b, s.blen);
    crypto_generichash_update(&st, s.c, s.clen);
    crypto_generichash_final(&st, out, SUBKEY);
    sodium_memzero(&st, sizeof st);
}

static struct sub of_vault(const char *label, const struct header *h)
{
    return (struct sub){.label = label, .a = h->vault_id, .alen = VAULT_ID};
}

static void rescue_key(const struct header *h, const struct secret *key, uint8_t pk[32])
{
    uint8_t seed[SUBKEY], sk[crypto_box_SECRETKEYBYTES];

    subkey(key, of_vault("vault1 rescue", h), seed);
    crypto_box_seed_keypair(pk, sk, seed);
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(sk, sizeof sk);
}

static void sign(const struct header *h, const struct secret *key, const uint8_t *bytes, size_t len,
                 uint8_t out[HEADER_HMAC])
{
    uint8_t k[SUBKEY];

    subkey(key, of_vault("vault1 header", h), k);
    crypto_generichash(out, HEADER_HMAC, bytes, len, k, sizeof k);
    sodium_memzero(k, sizeof k);
}

static void stream_key(const struct header *h, const struct secret *key, uint8_t out[SUBKEY])
{
    uint8_t gen[8];

    put_le64(gen, h->gen);
    subkey(key,
           (struct sub){.label = "vault1 stream",
                        .a = h->vault_id, .alen = VAULT_ID,
                        .b = h->fsalt, .blen = sizeof h->fsalt,
                        .c = gen, .clen = sizeof gen},
           out);
}

int seal_sum_valid(const uint8_t *bytes, size_t len)
{
    size_t body = len - HEADER_SUM - HEADER_HMAC;
    uint8_t sum[HEADER_SUM];

    crypto_generichash(sum, sizeof sum, bytes, body, NULL, 0);
    return sodium_memcmp(sum, bytes + body, sizeof sum) == 0;
}

int seal_header_check(const uint8_t *bytes, size_t len, const struct header *h,
                      const struct secret *key, struct err *e)
{
    uint8_t hmac[HEADER_HMAC], pk[32];

    sign(h, key, bytes, len - HEADER_HMAC, hmac);
    rescue_key(h, key, pk);
    if (sodium_memcmp(hmac, bytes + len - HEADER_HMAC, HEADER_HMAC) != 0 ||
        sodium_memcmp(pk, h->rescue_pk, sizeof pk) != 0)
        return err_set(e, ERR_DAMAGED, "altered-header", "the vault's header was altered");
    return 0;
}

size_t seal_header_make(struct header *h, const struct secret *key, uint8_t *bytes)
{
    size_t n;

    rescue_key(h, key, h->rescue_pk);
    n = header_format(h, bytes);
    crypto_generichash(bytes + n, HEADER_SUM, bytes, n, NULL, 0);
    n += HEADER_SUM;
    sign(h, key, bytes, n, bytes + n);
    return n + HEADER_HMAC;
}

/* The running digest: see DIGEST. */
struct digest_state {
    crypto_onetimeauth_state st;
    uint64_t length;
};

static void digest_start(struct digest_state *d, const struct header *h, const struct secret *key)
{
    uint8_t k[SUBKEY];

    subkey(key, of_vault("vault1 digest", h), k);
    crypto_onetimeauth_init(&d->st, k);
    d->length = 0;
    sodium_memzero(k, sizeof k);
}

static void digest_add(struct digest_state *d, const uint8_t *p, size_t len)
{
    crypto_onetimeauth_update(&d->st, p, len);
    d->length += len;
}

static void digest_end(struct digest_state *d, uint8_t out[DIGEST])
{
    memset(out, 0, DIGEST);
    crypto_onetimeauth_final(&d->st, out);
    put_le64(out + crypto_onetimeauth_BYTES, d->length);
    out[DIGEST - 1] = 1; /* never all zeros */
}

int seal_stream(const struct secret *key, const struct header *h, const uint8_t *bytes, size_t len,
                int from, int to, uint8_t digest[DIGEST], uint64_t *size, struct err *e)
{
    crypto_secretstream_xchacha20poly1305_state st;
    struct digest_state d;
    uint8_t k[SUBKEY], ad[AD], mark[END_MARK];
    uint64_t total = len;
    size_t have;
    int last = 0, rc = -1;
    ssize_t n;

    crypto_generichash(ad, sizeof ad, bytes, len, NULL, 0);
    stream_key(h, key, k);
    crypto_secretstream_xchacha20poly1305_init_push(&st, sealed, k);
    digest_start(&d, h, key);
    if (io_write(to, sealed, STREAM_HEADER) < 0) {
        err_sys(e, "write the vault");
        goto out;
    }
    total += STREAM_HEADER;

    /* A chunk is the last one exactly when the read after it would find the end: a full chunk is
     * held until one byte more has been seen. */
    n = io_read(from, plain, CHUNK);
    while (!last) {
        uint8_t next = 0;
        ssize_t more = 0;

        if (n < 0) {
            err_sys(e, "read the packed vault");
            goto out;
        }
        have = (size_t)n;
        if (have == CHUNK)
            more = io_read(from, &next, 1);
        if (more < 0) {
            err_sys(e, "read the packed vault");
            goto out;
        }
        last = more == 0;
        digest_add(&d, plain, have);
        crypto_secretstream_xchacha20poly1305_push(
            &st, sealed, NULL, plain, have, ad, sizeof ad,
            last ? crypto_secretstream_xchacha20poly1305_TAG_FINAL
                 : crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
        have += crypto_secretstream_xchacha20poly1305_ABYTES;
        if (io_write(to, sealed, have) < 0) {
            err_sys(e, "write the vault");
            goto out;
        }
        total += have;
        if (!last) {
            plain[0] = next;
            n = io_read(from, plain + 1, CHUNK - 1);
            n = n < 0 ? n : n + 1;
        }
    }
    total += END_MARK;
    end_mark_format(total, mark);
    if (io_write(to, mark, sizeof mark) < 0) {
        err_sys(e, "write the vault");
        goto out;
    }
    digest_end(&d, digest);
    *size = total;
    rc = 0;
out:
    sodium_memzero(&st, sizeof st);
    sodium_memzero(&d, sizeof d);
    sodium_memzero(k, sizeof k);
    sodium_memzero(plain, sizeof plain);
    return rc;
}

static int truncated(struct err *e)
{
    return err_set(e, ERR_DAMAGED, "truncated",
                   "the vault file was cut short: put a whole copy or an earlier generation in its place");
}

static int damaged(struct err *e)
{
    return err_set(e, ERR_DAMAGED, "damaged-body",
                   "the vault file was damaged or altered: put a whole copy or an earlier generation "
                   "in its place");
}

/* So many bytes from `at` into `sealed`. -1 on error, also when the file shrank meanwhile. */
static int read_at(int fd, uint64_t at, size_t want, struct err *e)
{
    ssize_t n = io_read_at(fd, sealed, want, (off_t)at);

    if (n < 0)
        return err_sys(e, "read the vault");
    return (size_t)n < want ? truncated(e) : 0;
}

int seal_open_stream(const struct secret *key, const struct header *h, const uint8_t *bytes, size_t len,
                     int fd, uint64_t file_size, int to, uint8_t digest[DIGEST], struct err *e)
{
    crypto_secretstream_xchacha20poly1305_state st;
    struct digest_state d;
    uint8_t k[SUBKEY], ad[AD], mark[END_MARK];
    uint64_t at = len, end = file_size;
    int marked = 0, last = 0, rc = -1;

    if (file_size >= len + STREAM_HEADER + END_MARK) {
        if (io_read_at(fd, mark, sizeof mark, (off_t)(file_size - END_MARK)) < 0)
            return err_sys(e, "read the vault");
        marked = end_mark_valid(mark, file_size);
    }
    if (marked)
        end -= END_MARK;
    crypto_generichash(ad, sizeof ad, bytes, len, NULL, 0);
    stream_key(h, key, k);
    if (digest)
        digest_start(&d, h, key);
    if (end < at + STREAM_HEADER) {
        truncated(e);
        goto out;
    }
    if (read_at(fd, at, STREAM_HEADER, e) < 0)
        goto out;
    crypto_secretstream_xchacha20poly1305_init_pull(&st, sealed, k);
    at += STREAM_HEADER;

    while (!last) {
        unsigned long long got = 0;
        uint8_t tag = 0;
        size_t n = end - at < CHUNK_SEALED ? (size_t)(end - at) : CHUNK_SEALED;

        if (n == 0) { /* no final chunk */
            truncated(e);
            goto out;
        }
        if (read_at(fd, at, n, e) < 0)
            goto out;
        at += n;
        if (crypto_secretstream_xchacha20poly1305_pull(&st, plain, &got, &tag, sealed,
                                                       n, ad, sizeof ad) != 0) {
            at == end && !marked ? truncated(e) : damaged(e);
            goto out;
        }
        last = tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL;
        if (!last && (tag != crypto_secretstream_xchacha20poly1305_TAG_MESSAGE || got != CHUNK)) {
            damaged(e);
            goto out;
        }
        if (digest)
            digest_add(&d, plain, (size_t)got);
        if (to >= 0 && io_write(to, plain, (size_t)got) < 0) {
            if (errno == EPIPE)
                err_set(e, ERR_INTERNAL, "partner-ended", "the unpacker ended early");
            else
                err_sys(e, "hand the vault to the unpacker");
            goto out;
        }
    }
    if (!marked && end - at <= END_MARK) { /* what is left of an end mark */
        truncated(e);
        goto out;
    }
    if (at != end) {
        damaged(e);
        goto out;
    }
    if (digest)
        digest_end(&d, digest);
    rc = 0;
out:
    sodium_memzero(&st, sizeof st);
    sodium_memzero(&d, sizeof d);
    sodium_memzero(k, sizeof k);
    sodium_memzero(plain, sizeof plain);
    return rc;
}
