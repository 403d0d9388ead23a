/* unit-seal - a byte stream into a vault file and back. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../vault/base/io.h"
#include "../../vault/seal.h"
#include "unit.h"

enum { CHUNK = 65536, STREAM = 24, MORE = 17, LARGEST = 200000 };

static const size_t SIZES[] = {0, 1, 65535, 65536, 65537, 131072, LARGEST};
enum { N_SIZES = sizeof SIZES / sizeof *SIZES };

static struct secret key;
static uint8_t content[LARGEST], back[LARGEST + CHUNK];

/* A vault file in a memfd, and what is known of it. */
struct file {
    struct header h;
    uint8_t bytes[HEADER_MAX];
    size_t len;
    int fd;
    uint64_t size;
    uint8_t digest[DIGEST];
};

static int memory_file(const void *bytes, size_t len)
{
    int fd = memfd_create("unit-seal", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(io_write(fd, bytes, len), 0);
    assert_true(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static struct header header_of(uint64_t gen)
{
    struct header h;

    memset(&h, 0, sizeof h);
    h.comp = COMP_NONE;
    h.nslots = 1;
    h.gen = gen;
    unit_fill(h.vault_id, sizeof h.vault_id, 1);
    unit_fill(h.fsalt, sizeof h.fsalt, 100 + gen);
    return h;
}

/* Seals what `from` gives into f, whose header is already filled in. */
static void seal_from(struct file *f, int from)
{
    struct err e = {0};

    f->len = seal_header_make(&f->h, &key, f->bytes);
    f->fd = memory_file(f->bytes, f->len);
    assert_true(lseek(f->fd, 0, SEEK_END) == (off_t)f->len);
    if (seal_stream(&key, &f->h, f->bytes, f->len, from, f->fd, f->digest, &f->size, &e) < 0)
        fail_msg("seal: %s", e.text);
    assert_true(lseek(f->fd, 0, SEEK_END) == (off_t)f->size);
}

static struct file seal(const void *plain, size_t size, uint64_t gen)
{
    struct file f = {.h = header_of(gen)};
    int from = memory_file(plain, size);

    seal_from(&f, from);
    close(from);
    return f;
}

/* Opens with any key and header; the plaintext lands in `back`. Returns its size, or -1. A pass that only
 * proves must have said the same of the file before. */
static ssize_t open_with(const struct secret *k, const struct header *h, const uint8_t *bytes, size_t len, int fd,
                         uint64_t size, uint8_t digest[DIGEST], struct err *e)
{
    int to = memory_file("", 0), proven, rc;
    struct err said = {0};
    ssize_t n = -1;

    memset(e, 0, sizeof *e);
    proven = seal_open_stream(k, h, bytes, len, fd, size, -1, NULL, &said);
    rc = seal_open_stream(k, h, bytes, len, fd, size, to, digest, e);
    assert_int_equal(proven, rc);
    assert_string_equal(said.word, e->word);
    if (rc == 0)
        n = io_read_at(to, back, sizeof back, 0);
    close(to);
    return n;
}

static ssize_t open_file(const struct file *f, uint8_t digest[DIGEST], struct err *e)
{
    return open_with(&key, &f->h, f->bytes, f->len, f->fd, f->size, digest, e);
}

static void content_of_every_size_comes_back(void **state)
{
    uint8_t digest[DIGEST];
    struct err e;

    (void)state;
    for (size_t i = 0; i < N_SIZES; i++) {
        size_t size = SIZES[i], chunks = size == 0 ? 1 : (size + CHUNK - 1) / CHUNK;
        struct file f = seal(content, size, 1);

        assert_int_equal(f.size, f.len + STREAM + size + chunks * MORE + END_MARK);
        assert_int_equal(open_file(&f, digest, &e), size);
        if (size)
            assert_memory_equal(back, content, size);
        assert_memory_equal(digest, f.digest, DIGEST);
        close(f.fd);
    }
}

static void a_pass_without_output_proves_the_same(void **state)
{
    struct file f = seal(content, LARGEST, 1);
    uint8_t digest[DIGEST];
    struct err e;

    (void)state;
    assert_int_equal(seal_open_stream(&key, &f.h, f.bytes, f.len, f.fd, f.size, -1, digest, &e), 0);
    assert_memory_equal(digest, f.digest, DIGEST);
    close(f.fd);
}

/* A pipe gives pieces of any size, and its end can come right behind a full chunk. */
static void what_comes_in_pieces_is_sealed_like_the_whole(void **state)
{
    static const size_t PIECES[] = {1, 4095, 4096, 65536, 1, 60000};

    (void)state;
    for (size_t i = 0; i < N_SIZES; i++) {
        struct file f = {.h = header_of(1)}, whole = seal(content, SIZES[i], 1);
        uint8_t digest[DIGEST];
        int ends[2], status;
        struct err e;
        pid_t child;

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        child = fork();
        if (child == 0) {
            for (size_t at = 0, n = 0; at < SIZES[i]; n++) {
                size_t piece = PIECES[n % 6] < SIZES[i] - at ? PIECES[n % 6] : SIZES[i] - at;

                if (io_write(ends[1], content + at, piece) < 0)
                    _exit(1);
                at += piece;
            }
            _exit(0);
        }
        close(ends[1]);
        seal_from(&f, ends[0]);
        close(ends[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_int_equal(f.size, whole.size);
        assert_memory_equal(f.digest, whole.digest, DIGEST);
        assert_int_equal(open_file(&f, digest, &e), SIZES[i]);
        close(f.fd);
        close(whole.fd);
    }
}

/* --- the digest --- */

static void equal_content_has_an_equal_digest_in_every_generation(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SIZES; i++) {
        struct file a = seal(content, SIZES[i], 1), b = seal(content, SIZES[i], 2);
        uint8_t one[64], two[64];

        assert_memory_equal(a.digest, b.digest, DIGEST);
        assert_int_equal(io_read_at(a.fd, one, 64, (off_t)a.len), io_read_at(b.fd, two, 64, (off_t)b.len));
        assert_memory_not_equal(one, two, STREAM + MORE); /* and yet the files have nothing in common */
        close(a.fd);
        close(b.fd);
    }
}

static void other_content_has_another_digest(void **state)
{
    struct file f = seal(content, LARGEST, 1);
    static const size_t PLACES[] = {0, 65535, 65536, 131072, LARGEST - 1};

    (void)state;
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) {
        struct file other;

        content[PLACES[i]] ^= 1;
        other = seal(content, LARGEST, 1);
        content[PLACES[i]] ^= 1;
        assert_memory_not_equal(f.digest, other.digest, DIGEST);
        close(other.fd);
    }
    close(f.fd);
}

static void content_that_is_longer_by_zeros_has_another_digest(void **state)
{
    static const uint8_t ZEROS[40];
    uint8_t seen[40][DIGEST];

    (void)state;
    for (size_t n = 0; n < 40; n++) {
        struct file f = seal(ZEROS, n, 1);

        memcpy(seen[n], f.digest, DIGEST);
        close(f.fd);
        for (size_t i = 0; i < n; i++)
            assert_memory_not_equal(seen[i], seen[n], DIGEST);
    }
}

static void a_digest_is_what_the_protocol_says(void **state)
{
    static const uint8_t ZEROS[7];
    struct file f = seal(content, LARGEST, 1);
    uint8_t text[13 + VAULT_ID], k[32], tag[16];

    (void)state;
    memcpy(text, "vault1 digest", 13);
    memcpy(text + 13, f.h.vault_id, VAULT_ID);
    crypto_generichash(k, 32, text, sizeof text, key.data, 32);
    crypto_onetimeauth(tag, content, LARGEST, k);
    assert_memory_equal(f.digest, tag, 16);
    assert_memory_equal(f.digest + 16, "\x40\x0d\x03\0\0\0\0\0", 8); /* 200000 */
    assert_memory_equal(f.digest + 24, ZEROS, 7);
    assert_int_equal(f.digest[31], 1);
    close(f.fd);
}

static void no_digest_is_all_zeros_which_means_no_content_known(void **state)
{
    struct file f = seal("", 0, 1);

    (void)state;
    assert_false(sodium_is_zero(f.digest, DIGEST));
    close(f.fd);
}

static void another_vault_has_another_digest_for_the_same_content(void **state)
{
    struct file a = seal(content, 1000, 1), b = {.h = header_of(1)};
    int from = memory_file(content, 1000);

    (void)state;
    b.h.vault_id[0] ^= 1;
    seal_from(&b, from);
    close(from);
    assert_memory_not_equal(a.digest, b.digest, DIGEST);
    close(a.fd);
    close(b.fd);
}

/* --- what is not ours is refused --- */

static void a_wrong_key_opens_nothing(void **state)
{
    struct file f = seal(content, 1000, 1);
    struct secret wrong;
    uint8_t digest[DIGEST];
    struct err e = {0};

    (void)state;
    assert_int_equal(secret_new(&wrong, 32), 0);
    memcpy(wrong.data, key.data, 32);
    wrong.len = 32;
    assert_int_equal(seal_header_check(f.bytes, f.len, &f.h, &wrong, &e), 0);
    wrong.data[31] ^= 1;
    assert_int_equal(seal_header_check(f.bytes, f.len, &f.h, &wrong, &e), -1);
    assert_string_equal(e.word, "altered-header");
    assert_int_equal(open_with(&wrong, &f.h, f.bytes, f.len, f.fd, f.size, digest, &e), -1);
    assert_string_equal(e.word, "damaged-body");
    secret_free(&wrong);
    close(f.fd);
}

static void a_header_is_known_by_every_byte(void **state)
{
    struct file f = seal("x", 1, 1);
    uint8_t bytes[HEADER_MAX];
    struct header h;
    struct err e;

    (void)state;
    assert_true(seal_sum_valid(f.bytes, f.len));
    for (size_t at = 0; at < f.len; at++) {
        bool in_sum = at < f.len - HEADER_HMAC;

        memcpy(bytes, f.bytes, f.len);
        bytes[at] ^= 0x10;
        assert_int_equal(!seal_sum_valid(bytes, f.len), in_sum);
        if (header_parse(bytes, f.len, &h, &e) < 0)
            continue;
        assert_int_equal(seal_header_check(bytes, f.len, &h, &key, &e), -1);
        assert_string_equal(e.word, "altered-header");
    }
    close(f.fd);
}

/* Somebody with the data key may sign any header; the rescue key must still be the one that follows
 * from it. */
static void a_header_with_another_rescue_key_is_refused_though_signed(void **state)
{
    struct file f = seal("x", 1, 1);
    uint8_t k[32];
    char text[14 + VAULT_ID];
    struct header h;
    struct err e = {0};

    (void)state;
    f.bytes[80] ^= 1;
    memcpy(text, "vault1 header", 13);
    memcpy(text + 13, f.h.vault_id, VAULT_ID);
    crypto_generichash(k, 32, (const uint8_t *)text, 13 + VAULT_ID, key.data, 32);
    crypto_generichash(f.bytes + f.len - 48, 16, f.bytes, f.len - 48, NULL, 0);
    crypto_generichash(f.bytes + f.len - 32, 32, f.bytes, f.len - 32, k, 32);
    assert_true(seal_sum_valid(f.bytes, f.len));
    assert_int_equal(header_parse(f.bytes, f.len, &h, &e), 0);
    assert_int_equal(seal_header_check(f.bytes, f.len, &h, &key, &e), -1);
    assert_string_equal(e.word, "altered-header");
    close(f.fd);
}

static void every_flipped_byte_of_a_stream_is_found(void **state)
{
    struct file f = seal(content, 100, 1);
    uint8_t whole[1024], digest[DIGEST];
    struct err e;

    (void)state;
    assert_int_equal(io_read_at(f.fd, whole, sizeof whole, 0), f.size);
    for (size_t at = f.len; at < f.size; at++) {
        bool in_mark = at >= f.size - END_MARK;
        uint8_t byte = whole[at] ^ 0x40;

        assert_int_equal(pwrite(f.fd, &byte, 1, (off_t)at), 1);
        assert_int_equal(open_file(&f, digest, &e), -1);
        assert_string_equal(e.word, in_mark ? "truncated" : "damaged-body");
        assert_int_equal(e.code, ERR_DAMAGED);
        assert_int_equal(pwrite(f.fd, whole + at, 1, (off_t)at), 1);
    }
    assert_int_equal(open_file(&f, digest, &e), 100);
    close(f.fd);
}

static void every_cut_of_a_file_is_found(void **state)
{
    struct file f = seal(content, 100, 1);
    uint8_t whole[1024], digest[DIGEST];
    struct err e;

    (void)state;
    assert_int_equal(io_read_at(f.fd, whole, sizeof whole, 0), f.size);
    for (uint64_t size = f.len; size < f.size; size++) {
        int fd = memory_file(whole, (size_t)size);

        assert_int_equal(open_with(&key, &f.h, f.bytes, f.len, fd, size, digest, &e), -1);
        assert_string_equal(e.word, "truncated");
        close(fd);
    }
    close(f.fd);
}

static void a_file_cut_at_a_chunk_is_found(void **state)
{
    struct file f = seal(content, LARGEST, 1);
    uint8_t digest[DIGEST];
    struct err e;

    (void)state;
    for (uint64_t n = 0; n < 4; n++) {
        uint64_t size = f.len + STREAM + n * (CHUNK + MORE);

        assert_int_equal(open_with(&key, &f.h, f.bytes, f.len, f.fd, size, digest, &e), -1);
        assert_string_equal(e.word, "truncated");
    }
    close(f.fd);
}

/* Behind a full last chunk, which alone is read to its end without the mark. */
static void a_broken_or_cut_end_mark_is_told_as_truncated(void **state)
{
    struct file f = seal(content, CHUNK, 1);
    uint8_t mark[END_MARK], digest[DIGEST];
    off_t at = (off_t)(f.size - END_MARK);
    struct err e;

    (void)state;
    assert_int_equal(io_read_at(f.fd, mark, END_MARK, at), END_MARK);
    for (size_t i = 0; i < END_MARK; i++) {
        uint8_t byte = mark[i] ^ 1;

        assert_int_equal(open_with(&key, &f.h, f.bytes, f.len, f.fd, (uint64_t)at + i, digest, &e), -1);
        assert_string_equal(e.word, "truncated");
        assert_int_equal(pwrite(f.fd, &byte, 1, at + (off_t)i), 1);
        assert_int_equal(open_file(&f, digest, &e), -1);
        assert_string_equal(e.word, "truncated");
        assert_int_equal(pwrite(f.fd, mark + i, 1, at + (off_t)i), 1);
    }
    assert_int_equal(ftruncate(f.fd, (off_t)f.size + 1), 0);
    f.size++;
    assert_int_equal(open_file(&f, digest, &e), -1);
    assert_string_equal(e.word, "damaged-body");
    close(f.fd);
}

/* The size was taken a moment before. */
static void a_file_that_shrinks_while_it_is_read_is_truncated(void **state)
{
    struct file f = seal(content, LARGEST, 1);
    uint8_t digest[DIGEST];
    struct err e;

    (void)state;
    assert_int_equal(ftruncate(f.fd, (off_t)(f.len + STREAM + CHUNK)), 0);
    assert_int_equal(open_file(&f, digest, &e), -1);
    assert_string_equal(e.word, "truncated");
    assert_int_equal(ftruncate(f.fd, (off_t)(f.len + STREAM / 2)), 0);
    assert_int_equal(open_file(&f, digest, &e), -1);
    assert_string_equal(e.word, "truncated");
    assert_int_equal(ftruncate(f.fd, (off_t)f.len), 0);
    assert_int_equal(open_file(&f, digest, &e), -1);
    assert_string_equal(e.word, "truncated");
    close(f.fd);
}

static void bytes_behind_the_end_are_refused(void **state)
{
    static const size_t MORE_BYTES[] = {1, 16, 17, 1000, 70000};
    uint8_t digest[DIGEST];

    (void)state;
    for (size_t i = 0; i < sizeof MORE_BYTES / sizeof *MORE_BYTES; i++) {
        struct file f = seal(content, 100, 1);
        struct err e;

        assert_int_equal(ftruncate(f.fd, (off_t)(f.size + MORE_BYTES[i])), 0);
        f.size += MORE_BYTES[i];
        assert_int_equal(open_file(&f, digest, &e), -1);
        assert_int_equal(e.code, ERR_DAMAGED);
        close(f.fd);
    }
}

static void a_stream_fits_its_own_header_only(void **state)
{
    struct file a = seal(content, 1000, 1), b = seal(content, 1000, 2);
    uint8_t digest[DIGEST];
    struct err e;

    (void)state;
    assert_int_equal(a.len, b.len);
    assert_int_equal(open_with(&key, &b.h, b.bytes, b.len, a.fd, a.size, digest, &e), -1);
    assert_string_equal(e.word, "damaged-body");
    /* The key of the stream is right, but the header is another by one bit that says nothing. */
    a.bytes[a.len - 1] ^= 1;
    assert_int_equal(open_file(&a, digest, &e), -1);
    assert_string_equal(e.word, "damaged-body");
    close(a.fd);
    close(b.fd);
}

/* --- written as the format says --- */

static void stream_keys(const struct file *f, uint8_t k[32], uint8_t ad[32])
{
    uint8_t text[13 + VAULT_ID + 32 + 8] = "vault1 stream";

    memcpy(text + 13, f->h.vault_id, 16);
    memcpy(text + 29, f->h.fsalt, 32);
    for (int i = 0; i < 8; i++)
        text[61 + i] = (uint8_t)(f->h.gen >> (8 * i));
    crypto_generichash(k, 32, text, sizeof text, key.data, 32);
    crypto_generichash(ad, 32, f->bytes, f->len, NULL, 0);
}

static void a_stream_is_what_the_format_says(void **state)
{
    struct file f = seal(content, LARGEST, 7);
    crypto_secretstream_xchacha20poly1305_state st;
    uint8_t k[32], ad[32], head[STREAM], chunk[CHUNK + MORE], plain[CHUNK], mark[16];
    uint64_t at = f.len + STREAM, want = LARGEST, got_all = 0;

    (void)state;
    stream_keys(&f, k, ad);
    assert_int_equal(io_read_at(f.fd, head, STREAM, (off_t)f.len), STREAM);
    crypto_secretstream_xchacha20poly1305_init_pull(&st, head, k);
    while (want > 0) {
        size_t size = want < CHUNK ? (size_t)want : CHUNK;
        unsigned long long got;
        uint8_t tag;

        assert_int_equal(io_read_at(f.fd, chunk, size + MORE, (off_t)at), size + MORE);
        assert_int_equal(crypto_secretstream_xchacha20poly1305_pull(&st, plain, &got, &tag, chunk, size + MORE, ad, 32),
                         0);
        want -= size;
        assert_int_equal(tag, want ? 0 : 3);
        assert_memory_equal(plain, content + got_all, got);
        got_all += got;
        at += size + MORE;
    }
    assert_int_equal(io_read_at(f.fd, mark, 16, (off_t)at), 16);
    assert_true(end_mark_valid(mark, f.size));
    assert_int_equal(at + 16, f.size);
    close(f.fd);
}

/* A stream that a holder of the key has made otherwise: each chunk with a size and a tag. */
struct piece {
    size_t size;
    uint8_t tag;
};

static struct file forge(const struct piece *pieces, size_t n)
{
    static uint8_t chunk[CHUNK + MORE];
    struct file f = {.h = header_of(1)};
    crypto_secretstream_xchacha20poly1305_state st;
    uint8_t k[32], ad[32], head[STREAM], mark[16];

    f.len = seal_header_make(&f.h, &key, f.bytes);
    f.fd = memory_file(f.bytes, f.len);
    assert_true(lseek(f.fd, 0, SEEK_END) > 0);
    stream_keys(&f, k, ad);
    crypto_secretstream_xchacha20poly1305_init_push(&st, head, k);
    assert_int_equal(io_write(f.fd, head, sizeof head), 0);
    for (size_t i = 0; i < n; i++) {
        crypto_secretstream_xchacha20poly1305_push(&st, chunk, NULL, content, pieces[i].size, ad, 32, pieces[i].tag);
        assert_int_equal(io_write(f.fd, chunk, pieces[i].size + MORE), 0);
    }
    f.size = (uint64_t)lseek(f.fd, 0, SEEK_END) + 16;
    end_mark_format(f.size, mark);
    assert_int_equal(io_write(f.fd, mark, 16), 0);
    return f;
}

static void a_stream_cut_into_other_pieces_is_refused(void **state)
{
    enum { MESSAGE = 0, PUSH = 1, REKEY = 2, FINAL = 3 };
    static const struct {
        struct piece pieces[3];
        size_t n;
        const char *word; /* NULL: taken */
    } STREAMS[] = {
        {{{CHUNK, MESSAGE}, {10, FINAL}}, 2, NULL},
        {{{CHUNK, FINAL}}, 1, NULL},
        {{{CHUNK, MESSAGE}, {0, FINAL}}, 2, NULL}, /* no writer makes it, and it is unambiguous */
        {{{0, 0}}, 0, "truncated"},
        {{{CHUNK, MESSAGE}}, 1, "truncated"},
        {{{10, MESSAGE}}, 1, "damaged-body"},
        {{{10, MESSAGE}, {10, FINAL}}, 2, "damaged-body"},
        {{{CHUNK, PUSH}, {10, FINAL}}, 2, "damaged-body"},
        {{{CHUNK, REKEY}, {10, FINAL}}, 2, "damaged-body"},
        {{{CHUNK, FINAL}, {10, FINAL}}, 2, "damaged-body"},
        {{{CHUNK, FINAL}, {10, MESSAGE}}, 2, "damaged-body"},
        {{{10, PUSH}}, 1, "damaged-body"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof STREAMS / sizeof *STREAMS; i++) {
        struct file f = forge(STREAMS[i].pieces, STREAMS[i].n);
        uint8_t digest[DIGEST];
        struct err e;
        ssize_t n = open_file(&f, digest, &e);

        if ((n >= 0) != (STREAMS[i].word == NULL))
            fail_msg("stream %zu: %s", i, n >= 0 ? "taken" : e.word);
        if (n < 0)
            assert_string_equal(e.word, STREAMS[i].word);
        close(f.fd);
    }
}

static void a_rescue_key_is_what_the_format_says(void **state)
{
    struct file f = seal("", 0, 1);
    uint8_t text[13 + VAULT_ID], seed[32], pk[32], sk[32];

    (void)state;
    memcpy(text, "vault1 rescue", 13);
    memcpy(text + 13, f.h.vault_id, VAULT_ID);
    crypto_generichash(seed, 32, text, sizeof text, key.data, 32);
    crypto_box_seed_keypair(pk, sk, seed);
    assert_memory_equal(f.bytes + 80, pk, 32);
    close(f.fd);
}

/* --- ends that fail --- */

static void a_full_disk_is_told_as_such(void **state)
{
    struct file f = {.h = header_of(1)};
    int from = memory_file(content, 1000), full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    struct err e = {0};

    (void)state;
    assert_true(full >= 0);
    f.len = seal_header_make(&f.h, &key, f.bytes);
    assert_int_equal(seal_stream(&key, &f.h, f.bytes, f.len, from, full, f.digest, &f.size, &e), -1);
    assert_string_equal(e.word, "disk-full");
    assert_int_equal(e.code, ERR_IO);
    close(from);
    close(full);
}

/* A file that may not grow beyond some point, inside the stream's header, a chunk, and the end mark. */
static void a_write_that_fails_anywhere_fails_the_seal(void **state)
{
    static const off_t ROOMS[] = {0, 10, STREAM, STREAM + 100, STREAM + CHUNK + MORE, STREAM + CHUNK + MORE + 5,
                                  STREAM + 2 * CHUNK + 2 * MORE, STREAM + 2 * CHUNK + 2 * MORE + 15};

    (void)state;
    for (size_t i = 0; i < sizeof ROOMS / sizeof *ROOMS; i++) {
        struct file f = {.h = header_of(1)};
        int from = memory_file(content, 2 * CHUNK), to = memfd_create("unit-seal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        struct err e = {0};

        f.len = seal_header_make(&f.h, &key, f.bytes);
        assert_int_equal(ftruncate(to, ROOMS[i]), 0);
        assert_int_equal(fcntl(to, F_ADD_SEALS, F_SEAL_GROW), 0);
        if (seal_stream(&key, &f.h, f.bytes, f.len, from, to, f.digest, &f.size, &e) == 0)
            fail_msg("sealed into %lld bytes", (long long)ROOMS[i]);
        assert_string_equal(e.word, "io");
        close(from);
        close(to);
    }
}

static void an_input_that_can_not_be_read_is_an_error(void **state)
{
    struct file f = {.h = header_of(1)};
    int from = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), to = memory_file("", 0);
    struct err e = {0};

    (void)state;
    f.len = seal_header_make(&f.h, &key, f.bytes);
    assert_int_equal(seal_stream(&key, &f.h, f.bytes, f.len, from, to, f.digest, &f.size, &e), -1);
    assert_string_equal(e.word, "io");
    close(from);
    close(to);
}

static void a_reader_that_went_away_is_the_cause_and_not_the_file(void **state)
{
    struct file f = seal(content, LARGEST, 1);
    uint8_t digest[DIGEST];
    struct err e = {0};
    int ends[2];

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    assert_int_equal(seal_open_stream(&key, &f.h, f.bytes, f.len, f.fd, f.size, ends[1], digest, &e), -1);
    assert_int_equal(e.code, ERR_INTERNAL);
    close(ends[1]);
    close(f.fd);
}

static int set_up(void **state)
{
    (void)state;
    if (secret_init() < 0 || secret_new(&key, 32) < 0)
        return -1;
    unit_fill(key.data, 32, 42);
    key.len = 32;
    unit_fill(content, sizeof content, 43);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    secret_free(&key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_of_every_size_comes_back),
        cmocka_unit_test(a_pass_without_output_proves_the_same),
        cmocka_unit_test(what_comes_in_pieces_is_sealed_like_the_whole),
        cmocka_unit_test(equal_content_has_an_equal_digest_in_every_generation),
        cmocka_unit_test(other_content_has_another_digest),
        cmocka_unit_test(content_that_is_longer_by_zeros_has_another_digest),
        cmocka_unit_test(a_digest_is_what_the_protocol_says),
        cmocka_unit_test(no_digest_is_all_zeros_which_means_no_content_known),
        cmocka_unit_test(another_vault_has_another_digest_for_the_same_content),
        cmocka_unit_test(a_wrong_key_opens_nothing),
        cmocka_unit_test(a_header_is_known_by_every_byte),
        cmocka_unit_test(a_header_with_another_rescue_key_is_refused_though_signed),
        cmocka_unit_test(every_flipped_byte_of_a_stream_is_found),
        cmocka_unit_test(every_cut_of_a_file_is_found),
        cmocka_unit_test(a_file_cut_at_a_chunk_is_found),
        cmocka_unit_test(a_broken_or_cut_end_mark_is_told_as_truncated),
        cmocka_unit_test(a_file_that_shrinks_while_it_is_read_is_truncated),
        cmocka_unit_test(bytes_behind_the_end_are_refused),
        cmocka_unit_test(a_stream_fits_its_own_header_only),
        cmocka_unit_test(a_stream_is_what_the_format_says),
        cmocka_unit_test(a_stream_cut_into_other_pieces_is_refused),
        cmocka_unit_test(a_rescue_key_is_what_the_format_says),
        cmocka_unit_test(a_full_disk_is_told_as_such),
        cmocka_unit_test(a_write_that_fails_anywhere_fails_the_seal),
        cmocka_unit_test(an_input_that_can_not_be_read_is_an_error),
        cmocka_unit_test(a_reader_that_went_away_is_the_cause_and_not_the_file),
    };

    return cmocka_run_group_tests_name("seal", tests, set_up, tear_down);
}
