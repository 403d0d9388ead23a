/* work_seal - plaintext in, vault file out: whole and durable, or nothing. */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../init/wire.h"
#include "../vault/base/io.h"
#include "../vault/kdf.h"
#include "../vault/seal.h"
#include "../vault/seen.h"
#include "work.h"

enum in_place {
    IN_PLACE_SAME,
    IN_PLACE_CUT,  /* the same, but its end is not there any more */
    IN_PLACE_OURS, /* of a save that PID 1 has not heard of: its worker died after the rename */
    IN_PLACE_GONE,
    IN_PLACE_OTHER,
};

/* What PID 1 says of the packer. */
enum { PACKED_WELL = 1, PACKED_LESS = 2 /* something was left out */ };

_Static_assert(WIRE_MARK_SIZE == STORE_MARK && WIRE_MARK_SIZE < sizeof ((struct header *)NULL)->fsalt, "a part of the salt is the file's own");

/* A later generation of the same vault, whose file salt begins with this PID 1's mark: nobody else
 * with the key draws the same. */
static int is_ours(const struct work *w, const struct header *known, const uint8_t *bytes, size_t have,
                   struct header *h)
{
    struct err ignored;
    size_t n = header_length(bytes, have, &ignored);

    return n > 0 && n <= have && seal_sum_valid(bytes, n) && header_parse(bytes, n, h, &ignored) == 0 &&
           memcmp(h->fsalt, w->job->mark, WIRE_MARK_SIZE) == 0 &&
           memcmp(h->vault_id, known->vault_id, sizeof h->vault_id) == 0 && h->gen > known->gen &&
           seal_header_check(bytes, n, h, w->key, &ignored) == 0;
}

/* Is the file as long as it says at its end? -1 with errno. */
static int is_whole(int fd, uint64_t size)
{
    uint8_t mark[END_MARK];
    ssize_t n = size > END_MARK ? io_read_at(fd, mark, END_MARK, (off_t)(size - END_MARK)) : 0;

    return n < 0 ? -1 : n == END_MARK && end_mark_valid(mark, size);
}

/* Is the vault on disk the one this pod knows? Its header tells: the hmac changes with each save.
 * IN_PLACE_OURS: *h becomes its header, else it stays the job's. */
static int look_in_place(struct work *w, struct header *h, enum in_place *found, struct err *e)
{
    uint8_t bytes[HEADER_MAX];
    struct header theirs;
    uint64_t size;
    ssize_t n;
    int fd, whole, there = store_exists(w->store, e);

    if (there < 0)
        return -1;
    *found = IN_PLACE_GONE;
    if (!there)
        return 0;
    *found = IN_PLACE_OTHER;
    fd = store_read(w->store, &size, e);
    if (fd < 0)
        return e->code == ERR_IO ? -1 : 0; /* a link or a directory: not ours to replace */
    n = io_read_at(fd, bytes, sizeof bytes, 0);
    whole = n < 0 ? -1 : is_whole(fd, size);
    if (whole < 0)
        err_sys(e, "read the vault in place");
    close(fd);
    if (whole < 0)
        return -1;
    if ((size_t)n >= w->job->header_len && memcmp(bytes, w->job->header, w->job->header_len) == 0) {
        *found = whole ? IN_PLACE_SAME : IN_PLACE_CUT;
    } else if (is_ours(w, h, bytes, (size_t)n, &theirs)) {
        *found = IN_PLACE_OURS;
        *h = theirs;
    }
    return 0;
}

/* PID 1 says how the packer ended: the end of a pipe alone does not tell. 0: not well. */
static int wait_for_packer(void)
{
    uint8_t byte = 0;
    struct message m = {&byte, 1, NULL, 0};
    int passed, n = (int)wire_recv(WORK_CHANNEL, &m, &passed, 0);

    return n == 1 && (byte == PACKED_WELL || byte == PACKED_LESS) ? byte : 0;
}

/* Somebody who takes no lock may have replaced the file while this one was written. */
static int look_again(struct work *w, enum in_place *found, struct err *e)
{
    enum in_place before = *found;
    struct header h;

    if (before == IN_PLACE_OURS)
        return 0;
    if (look_in_place(w, &h, found, e) < 0)
        return -1;
    if (*found != before)
        *found = IN_PLACE_OTHER;
    return 0;
}

/* Which saves make no earlier generation of the file in place. One that left something out is none to go
 * back to, while the one before it is. An autosave makes one now and then, unless it leaves something out
 * itself: what was there before that is kept. */
static int how_to_commit(struct work *w, int packed, uint64_t now)
{
    uint8_t bytes[HEADER_MAX];
    struct header h;
    struct err ignored;
    size_t have, n;

    if (w->job->flags & JOB_REPLACE)
        return STORE_REPLACE;
    if (!(w->job->flags & JOB_AUTOSAVE) || packed == PACKED_LESS)
        return STORE_KEEP;
    have = store_newest_kept(w->store, bytes, sizeof bytes);
    n = header_length(bytes, have, &ignored);
    if (n == 0 || n > have || !seal_sum_valid(bytes, n) || header_parse(bytes, n, &h, &ignored) < 0)
        return STORE_KEEP;
    /* One of the future tells of a clock that was set, not of its age. */
    return h.saved_at <= now && now - h.saved_at <= w->job->kdf_mem_kib / 1000 ? STORE_REPLACE : STORE_KEEP;
}

int work_make_durable(int fd, const uint8_t *bytes, size_t len, struct err *e)
{
    uint8_t back[HEADER_MAX];

    if (fsync(fd) < 0)
        return err_sys(e, "sync the vault");
    if (io_read_at(fd, back, len, 0) != (ssize_t)len || memcmp(back, bytes, len) != 0)
        return err_set(e, ERR_IO, "io", "the new vault does not read back as written");
    return 0;
}

/* With same_is_enough, content that is already on disk is not made durable once more. */
static int write_all(struct work *w, struct header *h, int same_is_enough, uint8_t *bytes, size_t *len,
                     uint8_t digest[DIGEST], int *packed, struct err *e)
{
    uint64_t size;
    int fd = store_begin(w->store, e), rc = -1;

    if (fd < 0)
        return -1;
    *len = seal_header_make(h, w->key, bytes);
    if (io_write(fd, bytes, *len) < 0) {
        err_sys(e, "write the vault");
        goto out;
    }
    if (seal_stream(w->key, h, bytes, *len, WORK_IN, fd, digest, &size, e) < 0)
        goto out;
    *packed = wait_for_packer();
    if (!*packed) {
        err_set(e, ERR_INTERNAL, "aborted", "the packer did not succeed");
        goto out;
    }
    if (same_is_enough && memcmp(digest, w->job->digest, DIGEST) == 0) {
        rc = 0;
        goto out;
    }
    rc = work_make_durable(fd, bytes, *len, e);
out:
    close(fd);
    return rc;
}

static void tell(struct work *w, const struct header *h, const uint8_t *bytes, size_t len,
                 const uint8_t digest[DIGEST])
{
    struct result *r = w->result;

    r->header_len = (uint32_t)len;
    memcpy(r->header, bytes, len);
    memcpy(r->digest, digest, DIGEST);
    r->generation = h->gen;
    r->saved_at = (int64_t)h->saved_at;
}

int work_seal(struct work *w, struct err *e)
{
    const struct job *job = w->job;
    int fresh = (job->flags & JOB_MUST_NOT_EXIST) != 0, packed = 0, rc = -1;
    uint8_t bytes[HEADER_MAX], digest[DIGEST];
    struct header h, before;
    struct timespec now;
    enum in_place in_place;
    size_t len;

    if (w->key->len != DATA_KEY || job->header_len == 0 ||
        header_length(job->header, job->header_len, e) != job->header_len ||
        header_parse(job->header, job->header_len, &h, e) < 0 ||
        seal_header_check(job->header, job->header_len, &h, w->key, e) < 0)
        return err_set(e, ERR_INTERNAL, "protocol", "the job's key and header do not belong together");
    store_history(w->store, job->kdf_ops, job->mark);
    if (store_lock(w->store, e) < 0 || look_in_place(w, &h, &in_place, e) < 0)
        return -1;
    if (in_place == IN_PLACE_OURS) /* made already, by a worker that could not tell */
        fresh = 0;
    if (fresh && in_place != IN_PLACE_GONE)
        return err_set(e, ERR_CANT_CREATE, "exists", "a vault is there already: open it with tazpod unlock");

    before = h;
    h.gen++;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    h.saved_at = (uint64_t)now.tv_sec;
    h.comp = COMP_ZSTD;
    memcpy(h.fsalt, job->mark, WIRE_MARK_SIZE);
    kdf_random(h.fsalt + WIRE_MARK_SIZE, sizeof h.fsalt - WIRE_MARK_SIZE);
    if (write_all(w, &h, in_place == IN_PLACE_SAME, bytes, &len, digest, &packed, e) < 0)
        goto out;
    if (in_place == IN_PLACE_SAME && memcmp(digest, job->digest, DIGEST) == 0) {
        store_abandon(w->store);
        tell(w, &before, job->header, job->header_len, digest);
        seen_note(w->store, job->header, job->header_len, &before);
        w->result->flags = STATUS_UNCHANGED;
        rc = 0;
        goto out;
    }
    if (!fresh && look_again(w, &in_place, e) < 0)
        goto out;
    if (in_place == IN_PLACE_OTHER) {
        (void)store_conflict(w->store, h.gen, e);
        goto out;
    }
    if (store_commit(w->store, fresh ? STORE_FRESH : how_to_commit(w, packed, h.saved_at), e) < 0)
        goto out;
    seen_note(w->store, bytes, len, &h);
    tell(w, &h, bytes, len, digest);
    if (in_place == IN_PLACE_GONE && !fresh)
        w->result->flags = STATUS_FILE_GONE;
    if (w->store->links_refused)
        w->result->flags |= WARN_NO_LINKS;
    rc = 0;
out:
    if (rc < 0)
        store_abandon(w->store);
    return rc;
}
