#include "pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "entry.h"

enum {
    BLOCK = 65536,
    WHOLE_MAX = 1024 * 1024, /* a file up to this is read whole, so that it is consistent */
    READ_TRIES = 3,
    PAGE = 4096,
    SECOND_NS = 1000000000,
};

/* What a file takes of a tmpfs: its content in whole pages, names and inodes being free. So a tree
 * that fills its tmpfs to the last page is saved, and fits again. */
static uint64_t in_pages(uint64_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* A pax time is a decimal number. libarchive takes what stands in front of the point for seconds and
 * what stands behind it for nanoseconds, both ways; but 1.25 s before 1970 are -2 seconds and 750
 * million nanoseconds. -0.25 it can't say at all, so a time within that one second becomes its end. */
static struct timespec to_pax(struct timespec t)
{
    if (t.tv_sec < 0 && t.tv_nsec > 0) {
        t.tv_sec++;
        t.tv_nsec = t.tv_sec < 0 ? SECOND_NS - t.tv_nsec : 0;
    }
    return t;
}

static struct timespec from_pax(struct timespec t)
{
    if (t.tv_sec < 0 && t.tv_nsec > 0) {
        t.tv_sec--;
        t.tv_nsec = SECOND_NS - t.tv_nsec;
    }
    return t;
}

/* --- packing --- */

struct packer {
    struct archive *a;
    struct archive_entry *entry;
    uint8_t *buf; /* WHOLE_MAX */
    int to;
    uint64_t room;
    uint64_t used;
    uint32_t entries;
    int lenient; /* what can't be read is left out */
    struct pack_stats *st;
    struct err *e;
    char path[ENTRY_PATH_MAX + ENTRY_NAME_MAX + 2];
};

static la_ssize_t write_out(struct archive *a, void *ctx, const void *buf, size_t len)
{
    struct packer *p = ctx;

    if (io_write(p->to, buf, len) < 0) {
        archive_set_error(a, errno, "write");
        return -1;
    }
    return (la_ssize_t)len;
}

static int archive_failed(struct packer *p)
{
    int code = archive_errno(p->a);

    if (code == EPIPE)
        return err_set(p->e, ERR_INTERNAL, "partner-ended", "the sealer ended early");
    return err_set(p->e, ERR_IO, "io", "pack: %s", archive_error_string(p->a));
}

static void leave_out(struct packer *p, const char *why)
{
    if (p->st->left_out++ == 0)
        (void)snprintf(p->st->first_left_out, sizeof p->st->first_left_out, "%s: %.120s", why,
                       p->path);
}

/* Only before the entry's header is written. */
static int unreadable(struct packer *p)
{
    if (p->lenient && (errno == EACCES || errno == EPERM)) {
        leave_out(p, "not to be read");
        return 0;
    }
    return err_set(p->e, ERR_IO, "unreadable", "can't read %.200s: %s", p->path, strerror(errno));
}

/* Room for one more entry of that many bytes, else it is left out. */
static int fits(struct packer *p, uint64_t size)
{
    uint64_t need = in_pages(size);

    if (p->entries >= ENTRY_COUNT_MAX) {
        leave_out(p, "more than 65536 entries");
        return 0;
    }
    if (need > p->room - p->used) {
        leave_out(p, "more than the RAM of the vault holds");
        return 0;
    }
    p->entries++;
    p->used += need;
    return 1;
}

static void entry_start(struct packer *p, const struct stat *sb)
{
    struct timespec t = to_pax(sb->st_mtim);

    archive_entry_clear(p->entry);
    archive_entry_copy_pathname(p->entry, p->path);
    archive_entry_set_mode(p->entry, (sb->st_mode & S_IFMT) | (sb->st_mode & 0777));
    archive_entry_set_mtime(p->entry, t.tv_sec, t.tv_nsec);
    archive_entry_set_size(p->entry, 0);
}

static int entry_write(struct packer *p)
{
    return archive_write_header(p->a, p->entry) == ARCHIVE_OK ? 0 : archive_failed(p);
}

static int data_write(struct packer *p, const void *buf, size_t len)
{
    return archive_write_data(p->a, buf, len) == (la_ssize_t)len ? 0 : archive_failed(p);
}

static int same_file(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int changing(struct packer *p)
{
    return err_set(p->e, ERR_BUSY, "changing", "%.200s changes while it is read: save again", p->path);
}

enum { LEFT_OUT = 1 };

/* Read whole and looked at again: what is stored is one state of the file. 0, LEFT_OUT, or -1. */
static int pack_small(struct packer *p, int fd, struct stat *sb)
{
    for (int i = 0; i < READ_TRIES; i++) {
        struct stat after;
        /* No byte more than there were: what grew meanwhile shows in its size. */
        ssize_t n = io_read_at(fd, p->buf, (size_t)sb->st_size, 0);

        if (n < 0 || fstat(fd, &after) < 0)
            return unreadable(p);
        if (n == after.st_size && same_file(sb, &after)) {
            entry_start(p, sb);
            archive_entry_set_size(p->entry, n);
            if (entry_write(p) < 0)
                return -1;
            return n > 0 ? data_write(p, p->buf, (size_t)n) : 0;
        }
        if (after.st_size > WHOLE_MAX)
            break;
        *sb = after;
    }
    if (p->lenient) {
        leave_out(p, "changing while it is read");
        return LEFT_OUT;
    }
    return changing(p);
}

/* Too large for memory: streamed, and the save is given up if it changed meanwhile. */
static int pack_large(struct packer *p, int fd, const struct stat *sb)
{
    struct stat after;
    off_t at = 0;

    entry_start(p, sb);
    archive_entry_set_size(p->entry, sb->st_size);
    if (entry_write(p) < 0)
        return -1;
    while (at < sb->st_size) {
        off_t left = sb->st_size - at;
        ssize_t n = io_read_at(fd, p->buf, left < WHOLE_MAX ? (size_t)left : WHOLE_MAX, at);

        if (n < 0)
            return unreadable(p);
        if (n == 0)
            return changing(p);
        if (data_write(p, p->buf, (size_t)n) < 0)
            return -1;
        at += n;
    }
    if (fstat(fd, &after) < 0)
        return unreadable(p);
    return same_file(sb, &after) ? 0 : changing(p);
}

/* What the owner has made unreadable for himself is still his to keep: it is opened up for as long
 * as it is read, and the caller puts the mode back when *opened is set. Others' files stay
 * unreadable, which is an error. */
static int open_to_read(int dir, const char *name, int flags, const struct stat *sb, int *opened)
{
    mode_t need = S_ISDIR(sb->st_mode) ? 0500 : 0400;

    *opened = (sb->st_mode & need) != need && sb->st_uid == geteuid() &&
              fchmodat(dir, name, (sb->st_mode & 0777) | need, 0) == 0;
    return openat(dir, name, flags | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

static void close_up(int fd, int opened, const struct stat *sb)
{
    if (opened)
        (void)fchmod(fd, sb->st_mode & 0777);
    close(fd);
}

static int pack_file(struct packer *p, int dir, const char *name, const struct stat *seen)
{
    struct stat sb;
    int opened, rc = -1, fd = open_to_read(dir, name, O_NONBLOCK, seen, &opened);

    if (fd < 0)
        return errno == ENOENT ? 0 : unreadable(p); /* deleted meanwhile: it is not there to be kept */
    if (fstat(fd, &sb) < 0) {
        unreadable(p);
        goto out;
    }
    if (opened)
        sb.st_mode = seen->st_mode;
    if (!S_ISREG(sb.st_mode)) { /* replaced meanwhile */
        rc = changing(p);
        goto out;
    }
    if (!fits(p, (uint64_t)sb.st_size)) {
        rc = 0;
        goto out;
    }
    rc = sb.st_size <= WHOLE_MAX ? pack_small(p, fd, &sb) : pack_large(p, fd, &sb);
    if (rc == 0) {
        p->st->files++;
        p->st->bytes += (uint64_t)sb.st_size;
    }
    if (rc == LEFT_OUT)
        rc = 0;
out:
    close_up(fd, opened, seen);
    return rc;
}

static int pack_link(struct packer *p, int dir, const char *name, const struct stat *sb)
{
    char target[ENTRY_PATH_MAX + 2];
    ssize_t n = readlinkat(dir, name, target, sizeof target - 1);

    if (n < 0)
        return errno == ENOENT ? 0 : unreadable(p);
    target[n] = '\0';
    if (entry_link_refused(p->path, target)) {
        p->st->skipped++;
        return 0;
    }
    if (!fits(p, 0))
        return 0;
    entry_start(p, sb);
    archive_entry_copy_symlink(p->entry, target);
    return entry_write(p);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* The names in a directory, sorted by their bytes. Takes over fd. *names is the caller's to free. */
static int read_names(struct packer *p, int fd, char ***names, size_t *count)
{
    size_t n = 0, room = 0;
    char **list = NULL;
    struct dirent *d;
    DIR *dir = fdopendir(fd);

    if (!dir) {
        close(fd);
        return unreadable(p);
    }
    for (errno = 0; (d = readdir(dir)); errno = 0) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        if (n == room) {
            char **more = realloc(list, (room = room ? 2 * room : 64) * sizeof *list);
            if (!more)
                break;
            list = more;
        }
        if (!(list[n] = strdup(d->d_name)))
            break;
        n++;
    }
    if (errno) {
        unreadable(p);
        closedir(dir);
        free_names(list, n);
        return -1;
    }
    closedir(dir);
    if (n)
        qsort(list, n, sizeof *list, by_name);
    *names = list;
    *count = n;
    return 0;
}

static int pack_directory(struct packer *p, int fd, size_t prefix);

static int pack_subdirectory(struct packer *p, int dir, const char *name, const struct stat *sb)
{
    int fd, opened, rc = -1;

    if (!fits(p, 0))
        return 0;
    fd = open_to_read(dir, name, O_DIRECTORY, sb, &opened);
    if (fd < 0)
        return errno == ENOENT ? 0 : unreadable(p);
    entry_start(p, sb);
    if (entry_write(p) == 0)
        rc = pack_directory(p, fd, strlen(p->path));
    close_up(fd, opened, sb);
    return rc;
}

static int pack_entry(struct packer *p, int dir, const char *name)
{
    const char *refused = entry_path_refused(p->path);
    struct stat sb;

    if (fstatat(dir, name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : unreadable(p);
    if (!S_ISREG(sb.st_mode) && !S_ISDIR(sb.st_mode) && !S_ISLNK(sb.st_mode)) {
        p->st->skipped++;
        return 0;
    }
    if (refused) {
        leave_out(p, refused);
        return 0;
    }
    if (S_ISDIR(sb.st_mode))
        return pack_subdirectory(p, dir, name, &sb);
    if (S_ISLNK(sb.st_mode))
        return pack_link(p, dir, name, &sb);
    return pack_file(p, dir, name, &sb);
}

/* prefix: bytes of p->path that name this directory. The depth is bounded by entry_path_refused,
 * and with it the recursion. */
static int pack_directory(struct packer *p, int fd, size_t prefix)
{
    size_t n = 0, start = prefix ? prefix + 1 : 0;
    char **names = NULL;
    int rc = 0, listed = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* goes with the DIR that reads it */

    if (listed < 0)
        return unreadable(p);
    if (read_names(p, listed, &names, &n) < 0)
        return -1;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (prefix)
            p->path[prefix] = '/';
        (void)snprintf(p->path + start, sizeof p->path - start, "%s", names[i]);
        rc = pack_entry(p, fd, names[i]);
    }
    p->path[prefix] = '\0';
    free_names(names, n);
    return rc;
}

static struct archive *archive_for_writing(struct packer *p)
{
    struct archive *a = archive_write_new();

    if (!a)
        return NULL;
    /* hdrcharset=BINARY: names as they are, whatever locale the container lacks. */
    if (archive_write_set_format_pax(a) != ARCHIVE_OK || archive_write_add_filter_zstd(a) != ARCHIVE_OK ||
        archive_write_set_options(a, "pax:hdrcharset=BINARY,zstd:compression-level=1") != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(a, BLOCK) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
        archive_write_open(a, p, NULL, write_out, NULL) != ARCHIVE_OK) {
        archive_write_free(a);
        return NULL;
    }
    return a;
}

static int pack(int root, uint64_t room, int to, int lenient, struct pack_stats *st, struct err *e)
{
    struct packer p = {.to = to, .room = room, .lenient = lenient, .st = st, .e = e};
    int fd, rc = -1;

    memset(st, 0, sizeof *st);
    p.buf = malloc(WHOLE_MAX);
    p.entry = archive_entry_new();
    p.a = archive_for_writing(&p);
    if (!p.buf || !p.entry || !p.a) {
        err_set(e, ERR_INTERNAL, "failed", "pack: out of memory");
        goto out;
    }
    fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        unreadable(&p);
        goto out;
    }
    rc = pack_directory(&p, fd, 0);
    close(fd);
    if (rc < 0)
        goto out;
    rc = -1;
    if (archive_write_close(p.a) != ARCHIVE_OK) {
        archive_failed(&p);
        goto out;
    }
    rc = 0;
out:
    if (p.a) {
        if (rc < 0)
            (void)archive_write_fail(p.a); /* no end marks behind a cut archive */
        archive_write_free(p.a);
    }
    archive_entry_free(p.entry);
    free(p.buf);
    return rc;
}

int pack_tree(int root, uint64_t room, int to, struct pack_stats *st, struct err *e)
{
    return pack(root, room, to, 0, st, e);
}

int pack_tree_what_can_be_read(int root, uint64_t room, int to, struct pack_stats *st, struct err *e)
{
    return pack(root, room, to, 1, st, e);
}

/* --- unpacking --- */

/* A directory's mode and time are set last: making its entries would change the time, and its
 * mode may forbid them. */
struct made_dir {
    char *path;
    mode_t mode;
    struct timespec times[2];
};

struct unpacker {
    struct archive *a;
    int root;
    uint64_t room;
    uint64_t used;
    uint32_t entries;
    struct made_dir *dirs;
    size_t ndirs, room_dirs;
    char parent[ENTRY_PATH_MAX + 1]; /* the directory of the entry before, as parent_fd; -1: none yet */
    int parent_fd;
    struct pack_stats *st;
    struct err *e;
};

static int bad(struct unpacker *u, const char *why)
{
    return err_set(u->e, ERR_DAMAGED, "bad-entry",
                   "the vault holds what no tazpod writes (%s) and was not unpacked", why);
}

static int cant_make(struct unpacker *u)
{
    if (errno == ENOSPC || errno == EDQUOT || errno == ENOMEM)
        return err_set(u->e, ERR_IO, "no-room",
                       "the vault does not fit into its RAM (%llu MiB): give the run directory a larger size=",
                       (unsigned long long)(u->room >> 20));
    if (errno == EEXIST)
        return bad(u, "a name twice");
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
        return bad(u, "an entry without its directory");
    return err_sys(u->e, "unpack the vault");
}

/* The directory that an entry stands in, without following any link on the way. Stays open for the
 * next entry, which is mostly in the same one: no entry can be put in the place of another, so what a
 * name led to it still leads to. */
static int open_parent(struct unpacker *u, const char *path, const char **name)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;

    *name = slash ? slash + 1 : path;
    if (u->parent_fd >= 0 && strlen(u->parent) == n && memcmp(u->parent, path, n) == 0)
        return u->parent_fd;
    if (u->parent_fd >= 0)
        close(u->parent_fd);
    memcpy(u->parent, path, n);
    u->parent[n] = '\0';
    u->parent_fd = (int)syscall(SYS_openat2, u->root, n ? u->parent : ".", &how, sizeof how);
    return u->parent_fd < 0 ? cant_make(u) : u->parent_fd;
}

static void entry_times(struct archive_entry *entry, struct timespec t[2])
{
    struct timespec mtime = {archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)};

    t[0] = t[1] = from_pax(mtime);
}

static int make_file(struct unpacker *u, struct archive_entry *entry, int dir, const char *name)
{
    struct timespec times[2];
    int64_t want = archive_entry_size(entry), got = 0;
    int fd, rc = -1;

    fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return cant_make(u);
    for (;;) {
        const void *buf;
        size_t len;
        la_int64_t at;
        int r = archive_read_data_block(u->a, &buf, &len, &at);

        if (r == ARCHIVE_EOF)
            break;
        if (r != ARCHIVE_OK || at != got) {
            bad(u, "a file shorter than it says");
            goto out;
        }
        if (io_write(fd, buf, len) < 0) {
            cant_make(u);
            goto out;
        }
        got += (int64_t)len;
    }
    if (got != want) {
        bad(u, "a file of another size than it says");
        goto out;
    }
    entry_times(entry, times);
    if (fchmod(fd, archive_entry_mode(entry) & 0777) < 0 || futimens(fd, times) < 0) {
        cant_make(u);
        goto out;
    }
    u->st->files++;
    u->st->bytes += (uint64_t)got;
    rc = 0;
out:
    close(fd);
    return rc;
}

static int make_dir(struct unpacker *u, struct archive_entry *entry, const char *path, int dir,
                    const char *name)
{
    struct made_dir *d;

    if (u->ndirs == u->room_dirs) {
        size_t room = u->room_dirs ? 2 * u->room_dirs : 64;
        struct made_dir *more = realloc(u->dirs, room * sizeof *more);
        if (!more)
            return cant_make(u);
        u->dirs = more;
        u->room_dirs = room;
    }
    if (mkdirat(dir, name, 0700) < 0)
        return cant_make(u);
    d = &u->dirs[u->ndirs];
    if (!(d->path = strdup(path)))
        return cant_make(u);
    d->mode = archive_entry_mode(entry) & 0777;
    entry_times(entry, d->times);
    u->ndirs++;
    return 0;
}

static int make_link(struct unpacker *u, struct archive_entry *entry, const char *path, int dir,
                     const char *name)
{
    const char *target = archive_entry_symlink(entry);
    const char *refused = target ? entry_link_refused(path, target) : "a link without a target";
    struct timespec times[2];

    if (refused)
        return bad(u, refused);
    entry_times(entry, times);
    if (symlinkat(target, dir, name) < 0 || utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return cant_make(u);
    return 0;
}

/* The allow-list. A directory's name comes with a slash at its end, which is dropped in place. */
static const char *refused_entry(struct archive_entry *entry, const char *path)
{
    const char *why = entry_path_refused(path);

    if (why)
        return why;
    if (archive_entry_hardlink(entry))
        return "a hard link";
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
    case AE_IFDIR:
    case AE_IFLNK:
        break;
    default:
        return "a device, FIFO or socket";
    }
    if (archive_entry_mode(entry) & 07000)
        return "a setuid, setgid or sticky bit";
    if (archive_entry_xattr_count(entry) > 0)
        return "an extended attribute";
    if (archive_entry_acl_types(entry) != 0)
        return "an access control list";
    if (archive_entry_fflags_text(entry))
        return "file flags";
    if (archive_entry_sparse_count(entry) > 0)
        return "a sparse file";
    if (archive_entry_filetype(entry) == AE_IFREG &&
        (!archive_entry_size_is_set(entry) || archive_entry_size(entry) < 0))
        return "a file without a size";
    return NULL;
}

static int unpack_entry(struct unpacker *u, struct archive_entry *entry)
{
    const char *name, *raw = archive_entry_pathname(entry), *refused;
    char path[ENTRY_PATH_MAX + 2];
    size_t n;
    int dir;

    if (!raw)
        return bad(u, "a name that is not UTF-8");
    n = strlen(raw);
    if (n > ENTRY_PATH_MAX + 1)
        return bad(u, "a path over 1024 bytes");
    memcpy(path, raw, n + 1);
    if (archive_entry_filetype(entry) == AE_IFDIR && n > 1 && path[n - 1] == '/')
        path[n - 1] = '\0';
    refused = refused_entry(entry, path);
    if (refused)
        return bad(u, refused);
    if (++u->entries > ENTRY_COUNT_MAX)
        return bad(u, "more than 65536 entries");
    if (archive_entry_filetype(entry) == AE_IFREG) {
        uint64_t size = (uint64_t)archive_entry_size(entry);

        if (size > u->room || in_pages(size) > u->room - u->used) {
            errno = ENOSPC;
            return cant_make(u);
        }
        u->used += in_pages(size);
    }

    dir = open_parent(u, path, &name);
    if (dir < 0)
        return -1;
    switch (archive_entry_filetype(entry)) {
    case AE_IFDIR: return make_dir(u, entry, path, dir, name);
    case AE_IFLNK: return make_link(u, entry, path, dir, name);
    default: return make_file(u, entry, dir, name);
    }
}

static int finish_dirs(struct unpacker *u)
{
    while (u->ndirs > 0) {
        struct made_dir *d = &u->dirs[u->ndirs - 1];
        struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                               .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
        int fd = (int)syscall(SYS_openat2, u->root, d->path, &how, sizeof how);
        int failed = fd < 0 || fchmod(fd, d->mode) < 0 || futimens(fd, d->times) < 0;

        if (failed)
            cant_make(u);
        if (fd >= 0)
            close(fd);
        if (failed)
            return -1;
        free(d->path);
        u->ndirs--;
    }
    return 0;
}

struct reader {
    int fd;
    uint8_t buf[BLOCK];
};

static la_ssize_t read_in(struct archive *a, void *ctx, const void **buf)
{
    struct reader *r = ctx;
    ssize_t n;

    do
        n = read(r->fd, r->buf, sizeof r->buf);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        archive_set_error(a, errno, "read");
    *buf = r->buf;
    return n;
}

int unpack_tree(int from, int root, uint64_t room, struct pack_stats *st, struct err *e)
{
    static struct reader reader;
    struct unpacker u = {.root = root, .parent_fd = -1, .room = room, .st = st, .e = e};
    struct archive_entry *entry;
    int r, rc = -1;

    memset(st, 0, sizeof *st);
    reader.fd = from;
    /* Archives of other writers may name files in pax UTF-8, which libarchive converts to the
     * locale; where the container has none such a name is refused below, never mangled. */
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    u.a = archive_read_new();
    if (!u.a || archive_read_support_format_tar(u.a) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(u.a) != ARCHIVE_OK ||
        archive_read_open(u.a, &reader, NULL, read_in, NULL) != ARCHIVE_OK) {
        bad(&u, "no archive");
        goto out;
    }
    /* Any answer but OK is the end, warnings included: each means something was not understood. */
    while ((r = archive_read_next_header(u.a, &entry)) == ARCHIVE_OK)
        if (unpack_entry(&u, entry) < 0)
            goto out;
    if (r != ARCHIVE_EOF) {
        bad(&u, "an archive that can't be read");
        goto out;
    }
    if (io_read(from, reader.buf, sizeof reader.buf) > 0) {
        bad(&u, "bytes after the archive");
        goto out;
    }
    if (finish_dirs(&u) < 0)
        goto out;
    rc = 0;
out:
    while (u.ndirs > 0)
        free(u.dirs[--u.ndirs].path);
    free(u.dirs);
    if (u.parent_fd >= 0)
        close(u.parent_fd);
    archive_read_free(u.a);
    return rc;
}
