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
        return err_set(e, ERR_DAMAGED, "altered-header", "the vault's header was altered" ERR_SEE_HISTORY);
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

/* --- one direction each; chunks go through `plain` and `sealed` --- */

struct writer {
    crypto_secretstream_xchacha20poly1305_state st;
    struct digest_state d;
    uint8_t ad[AD];
    int to;
    uint64_t total; /* bytes of the file so far */
};

/* The header of len bytes stands in `to` already. */
static int writer_begin(struct writer *w, const struct secret *key, const struct header *h, const uint8_t *bytes,
                        size_t len, int to, struct err *e)
{
    uint8_t k[SUBKEY];

    w->to = to;
    w->total = len + STREAM_HEADER;
    crypto_generichash(w->ad, sizeof w->ad, bytes, len, NULL, 0);
    stream_key(h, key, k);
    crypto_secretstream_xchacha20poly1305_init_push(&w->st, sealed, k);
    sodium_memzero(k, sizeof k);
    digest_start(&w->d, h, key);
    return io_write(to, sealed, STREAM_HEADER) < 0 ? err_sys(e, "write the vault") : 0;
}

/* The first n bytes of `plain`. */
static int writer_put(struct writer *w, size_t n, int last, struct err *e)
{
    digest_add(&w->d, plain, n);
    crypto_secretstream_xchacha20poly1305_push(&w->st, sealed, NULL, plain, n, w->ad, sizeof w->ad,
                                               last ? crypto_secretstream_xchacha20poly1305_TAG_FINAL
                                                    : crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
    n += crypto_secretstream_xchacha20poly1305_ABYTES;
    w->total += n;
    return io_write(w->to, sealed, n) < 0 ? err_sys(e, "write the vault") : 0;
}

static int writer_end(struct writer *w, uint8_t digest[DIGEST], uint64_t *size, struct err *e)
{
    uint8_t mark[END_MARK];

    w->total += END_MARK;
    end_mark_format(w->total, mark);
    digest_end(&w->d, digest);
    *size = w->total;
    return io_write(w->to, mark, sizeof mark) < 0 ? err_sys(e, "write the vault") : 0;
}

static int truncated(struct err *e)
{
    return err_set(e, ERR_DAMAGED, "truncated",
                   "the vault file was cut short" ERR_SEE_HISTORY);
}

static int damaged(struct err *e)
{
    return err_set(e, ERR_DAMAGED, "damaged-body",
                   "the vault file was damaged or altered" ERR_SEE_HISTORY);
}

/* crypto_secretstream_xchacha20poly1305_pull without its last step: does the chunk hold, and what is its
 * tag? The library has no call for that, and to decrypt what nobody looks at is half of a pass over the
 * file. Its construction is fixed, as the format's is; the next pass goes through the library itself. A
 * chunk of TAG_REKEY is refused by the caller, so no key changes on the way. 0, or -1. */
static int prove_chunk(crypto_secretstream_xchacha20poly1305_state *st, const uint8_t *in, size_t n,
                       const uint8_t ad[AD], uint8_t *tag)
{
    enum { COUNTER = 4, BLOCK = 64, PIECE = 16 };
    static const uint8_t zeros[PIECE];
    uint8_t block[BLOCK] = {0}, length[8], mac[crypto_onetimeauth_poly1305_BYTES];
    crypto_onetimeauth_poly1305_state poly;
    size_t len;

    if (n < crypto_secretstream_xchacha20poly1305_ABYTES)
        return -1;
    len = n - crypto_secretstream_xchacha20poly1305_ABYTES;
    crypto_stream_chacha20_ietf(block, sizeof block, st->nonce, st->k);
    crypto_onetimeauth_poly1305_init(&poly, block);
    crypto_onetimeauth_poly1305_update(&poly, ad, AD);
    memset(block, 0, sizeof block);
    block[0] = in[0];
    crypto_stream_chacha20_ietf_xor_ic(block, block, sizeof block, st->nonce, 1, st->k);
    *tag = block[0];
    block[0] = in[0];
    crypto_onetimeauth_poly1305_update(&poly, block, sizeof block);
    crypto_onetimeauth_poly1305_update(&poly, in + 1, len);
    crypto_onetimeauth_poly1305_update(&poly, zeros, len % PIECE); /* the library pads with so many */
    put_le64(length, AD);
    crypto_onetimeauth_poly1305_update(&poly, length, sizeof length);
    put_le64(length, BLOCK + len);
    crypto_onetimeauth_poly1305_update(&poly, length, sizeof length);
    crypto_onetimeauth_poly1305_final(&poly, mac);
    sodium_memzero(&poly, sizeof poly);
    sodium_memzero(block, sizeof block);
    if (sodium_memcmp(mac, in + 1 + len, sizeof mac) != 0)
        return -1;
    for (size_t i = COUNTER; i < sizeof st->nonce; i++)
        st->nonce[i] ^= mac[i - COUNTER];
    sodium_increment(st->nonce, COUNTER);
    return 0;
}

struct reader {
    crypto_secretstream_xchacha20poly1305_state st;
    struct digest_state d;
    uint8_t ad[AD];
    int fd;
    uint64_t at, end; /* of the stream in the file */
    int marked;       /* it has its right end mark */
    int digests;      /* somebody asks for the digest */
    int proves;       /* nobody asks for what is in it */
};

/* So many bytes into `sealed`. -1 on error, also when the file shrank meanwhile. */
static int reader_take(struct reader *r, size_t want, struct err *e)
{
    ssize_t n = io_read_at(r->fd, sealed, want, (off_t)r->at);

    if (n < 0)
        return err_sys(e, "read the vault");
    r->at += want;
    return (size_t)n < want ? truncated(e) : 0;
}

static int reader_begin(struct reader *r, const struct secret *key, const struct header *h, const uint8_t *bytes,
                        size_t len, int fd, uint64_t file_size, int digests, struct err *e)
{
    uint8_t k[SUBKEY], mark[END_MARK];

    r->fd = fd;
    r->at = len;
    r->end = file_size;
    r->marked = 0;
    r->digests = digests;
    r->proves = 0;
    if (file_size >= len + STREAM_HEADER + END_MARK) {
        if (io_read_at(fd, mark, sizeof mark, (off_t)(file_size - END_MARK)) < 0)
            return err_sys(e, "read the vault");
        r->marked = end_mark_valid(mark, file_size);
    }
    if (r->marked)
        r->end -= END_MARK;
    crypto_generichash(r->ad, sizeof r->ad, bytes, len, NULL, 0);
    if (r->end < r->at + STREAM_HEADER)
        return truncated(e);
    if (reader_take(r, STREAM_HEADER, e) < 0)
        return -1;
    if (digests)
        digest_start(&r->d, h, key);
    stream_key(h, key, k);
    crypto_secretstream_xchacha20poly1305_init_pull(&r->st, sealed, k);
    sodium_memzero(k, sizeof k);
    return 0;
}

/* Takes the chunk in `sealed`, n bytes, to `plain` unless the pass only proves. 0, or -1: it does not hold. */
static int reader_pull(struct reader *r, size_t n, size_t *got, uint8_t *tag)
{
    unsigned long long len = 0;

    if (r->proves) {
        if (prove_chunk(&r->st, sealed, n, r->ad, tag) < 0)
            return -1;
        *got = n - crypto_secretstream_xchacha20poly1305_ABYTES;
        return 0;
    }
    if (crypto_secretstream_xchacha20poly1305_pull(&r->st, plain, &len, tag, sealed, n, r->ad, sizeof r->ad) != 0)
        return -1;
    *got = (size_t)len;
    return 0;
}

/* The next chunk into `plain`; *last: there is no other. */
static int reader_next(struct reader *r, size_t *got, int *last, struct err *e)
{
    size_t n = r->end - r->at < CHUNK_SEALED ? (size_t)(r->end - r->at) : CHUNK_SEALED;
    uint8_t tag = 0;

    if (n == 0) /* no final chunk */
        return truncated(e);
    if (reader_take(r, n, e) < 0)
        return -1;
    if (reader_pull(r, n, got, &tag) < 0)
        return r->at == r->end && !r->marked ? truncated(e) : damaged(e);
    *last = tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL;
    if (!*last && (tag != crypto_secretstream_xchacha20poly1305_TAG_MESSAGE || *got != CHUNK))
        return damaged(e);
    if (r->digests)
        digest_add(&r->d, plain, *got);
    return 0;
}

/* digest: NULL where none was asked for. */
static int reader_end(struct reader *r, uint8_t *digest, struct err *e)
{
    if (!r->marked && r->end - r->at <= END_MARK) /* what is left of an end mark */
        return truncated(e);
    if (r->at != r->end)
        return damaged(e);
    if (digest)
        digest_end(&r->d, digest);
    return 0;
}

/* --- whole streams --- */

/* A chunk is the last one exactly when the read after it would find the end: a full chunk is held
 * until one byte more has been seen. */
static int write_all_of(struct writer *w, int from, struct err *e)
{
    uint8_t next = 0;
    ssize_t n = io_read(from, plain, CHUNK), more = 1;

    while (n >= 0) {
        more = n == CHUNK ? io_read(from, &next, 1) : 0;
        if (more < 0)
            break;
        if (writer_put(w, (size_t)n, more == 0, e) < 0)
            return -1;
        if (more == 0)
            return 0;
        plain[0] = next;
        n = io_read(from, plain + 1, CHUNK - 1);
        n = n < 0 ? n : n + 1;
    }
    return err_sys(e, "read the packed vault");
}

int seal_stream(const struct secret *key, const struct header *h, const uint8_t *bytes, size_t len,
                int from, int to, uint8_t digest[DIGEST], uint64_t *size, struct err *e)
{
    struct writer w;
    int rc = writer_begin(&w, key, h, bytes, len, to, e);

    if (rc == 0)
        rc = write_all_of(&w, from, e);
    if (rc == 0)
        rc = writer_end(&w, digest, size, e);
    sodium_memzero(&w, sizeof w);
    sodium_memzero(plain, sizeof plain);
    return rc;
}

static int read_all_to(struct reader *r, int to, struct err *e)
{
    size_t n;
    int last = 0;

    while (!last) {
        if (reader_next(r, &n, &last, e) < 0)
            return -1;
        if (to >= 0 && io_write(to, plain, n) < 0)
            return errno == EPIPE ? err_set(e, ERR_INTERNAL, "partner-ended", "the unpacker ended early")
                                  : err_sys(e, "hand the vault to the unpacker");
    }
    return 0;
}

int seal_open_stream(const struct secret *key, const struct header *h, const uint8_t *bytes, size_t len,
                     int fd, uint64_t file_size, int to, uint8_t digest[DIGEST], struct err *e)
{
    struct reader r;
    int rc = reader_begin(&r, key, h, bytes, len, fd, file_size, digest != NULL, e);

    r.proves = to < 0 && !digest;
    if (rc == 0)
        rc = read_all_to(&r, to, e);
    if (rc == 0)
        rc = reader_end(&r, digest, e);
    sodium_memzero(&r, sizeof r);
    sodium_memzero(plain, sizeof plain);
    return rc;
}

int seal_copy_stream(const struct seal_from *from, const struct secret *key, const struct header *h,
                     const uint8_t *bytes, size_t len, int to, uint8_t digest[DIGEST], uint64_t *size, struct err *e)
{
    struct reader r;
    struct writer w;
    size_t n = 0;
    int last = 0, rc = -1;

    if (reader_begin(&r, from->key, from->h, from->bytes, from->len, from->fd, from->size, 0, e) < 0 ||
        writer_begin(&w, key, h, bytes, len, to, e) < 0)
        goto out;
    while (!last)
        if (reader_next(&r, &n, &last, e) < 0 || writer_put(&w, n, last, e) < 0)
            goto out;
    if (reader_end(&r, NULL, e) == 0 && writer_end(&w, digest, size, e) == 0)
        rc = 0;
out:
    sodium_memzero(&r, sizeof r);
    sodium_memzero(&w, sizeof w);
    sodium_memzero(plain, sizeof plain);
    return rc;
}
