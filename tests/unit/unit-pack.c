/* unit-pack - a directory tree to a compressed tar stream and back, and archives that somebody else
 * made, a block at a time. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../vault/base/io.h"
#include "../../vault/pack.h"
#include "unit.h"

#define MIB (1024 * 1024)
#define PLENTY ((uint64_t)1 << 40)
enum { PAGE = 4096, BLOCK = 512 };

/* Asked by a leak checker alone. libarchive (3.6) forgets the state of its output when an archive is
 * given up; a packer that gives one up ends anyway. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libarchive.so\n";
}

struct place {
    char *from, *to;     /* a tree to pack, and an empty directory */
    int from_fd, to_fd;
    int archive;         /* a memfd */
    struct pack_stats st;
    struct err e;
};

static int open_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof *p);

    assert_non_null(p);
    p->from = unit_dir(true);
    p->to = unit_dir(true);
    p->from_fd = open_dir(p->from);
    p->to_fd = open_dir(p->to);
    p->archive = memfd_create("archive", MFD_CLOEXEC);
    *state = p;
    return p->archive < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;

    close(p->from_fd);
    close(p->to_fd);
    close(p->archive);
    unit_remove(p->from);
    unit_remove(p->to);
    free(p);
    return 0;
}

/* --- making trees --- */

static void mtime(int at, const char *name, int64_t seconds, long nanoseconds)
{
    const struct timespec t[2] = {{.tv_sec = 1}, {.tv_sec = seconds, .tv_nsec = nanoseconds}};

    assert_int_equal(utimensat(at, name, t, AT_SYMLINK_NOFOLLOW), 0);
}

static void put(int at, const char *name, const void *content, size_t size, mode_t mode)
{
    int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        fail_msg("make %s: %s", name, strerror(errno));
    assert_int_equal(io_write(fd, content, size), 0);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void put_random(int at, const char *name, size_t size)
{
    uint8_t *content = malloc(size + 1);

    assert_non_null(content);
    unit_fill(content, size, size + 1);
    put(at, name, content, size, 0600);
    free(content);
}

static int down(int at, const char *name)
{
    int fd;

    assert_int_equal(mkdirat(at, name, 0700), 0);
    fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* --- comparing trees --- */

static int names_in(int fd)
{
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
    DIR *dir = own < 0 ? NULL : fdopendir(own);

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n - 2;
}

static void same_content(int a, int b, const char *name, off_t size)
{
    int in_a = openat(a, name, O_RDONLY | O_CLOEXEC), in_b = openat(b, name, O_RDONLY | O_CLOEXEC);
    static uint8_t one[65536], two[65536];

    assert_true(in_a >= 0 && in_b >= 0);
    for (off_t at = 0; at < size;) {
        ssize_t n = io_read_at(in_a, one, sizeof one, at);

        assert_true(n > 0);
        assert_int_equal(io_read_at(in_b, two, sizeof two, at), n);
        if (memcmp(one, two, (size_t)n) != 0)
            fail_msg("%s: other content", name);
        at += n;
    }
    close(in_a);
    close(in_b);
}

static void same_link(int a, int b, const char *name)
{
    char one[1100], two[1100];
    ssize_t n = readlinkat(a, name, one, sizeof one);

    assert_true(n > 0);
    assert_int_equal(readlinkat(b, name, two, sizeof two), n);
    assert_memory_equal(one, two, (size_t)n);
}

/* Types, modes, times to the nanosecond, contents and targets. */
static void same_tree(int a, int b)
{
    int own = openat(a, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = own < 0 ? NULL : fdopendir(own);
    struct dirent *d;

    assert_non_null(dir);
    assert_int_equal(names_in(a), names_in(b));
    while ((d = readdir(dir))) {
        const char *name = d->d_name;
        struct stat sa, sb;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        assert_int_equal(fstatat(a, name, &sa, AT_SYMLINK_NOFOLLOW), 0);
        if (fstatat(b, name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
            fail_msg("%s is missing", name);
        if (sa.st_mode != sb.st_mode)
            fail_msg("%s: mode %o, not %o", name, sb.st_mode, sa.st_mode);
        if (sa.st_mtim.tv_sec != sb.st_mtim.tv_sec || sa.st_mtim.tv_nsec != sb.st_mtim.tv_nsec)
            fail_msg("%s: time %lld.%09ld, not %lld.%09ld", name, (long long)sb.st_mtim.tv_sec, sb.st_mtim.tv_nsec,
                     (long long)sa.st_mtim.tv_sec, sa.st_mtim.tv_nsec);
        assert_int_equal(sb.st_uid, geteuid());
        if (S_ISDIR(sa.st_mode)) {
            int da = openat(a, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            int db = openat(b, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

            same_tree(da, db);
            close(da);
            close(db);
        } else if (S_ISREG(sa.st_mode)) {
            if (sa.st_size != sb.st_size)
                fail_msg("%s: %lld bytes, not %lld", name, (long long)sb.st_size, (long long)sa.st_size);
            same_content(a, b, name, sa.st_size);
        } else {
            same_link(a, b, name);
        }
    }
    closedir(dir);
}

static void pack(struct place *p, uint64_t room)
{
    assert_int_equal(ftruncate(p->archive, 0), 0);
    assert_true(lseek(p->archive, 0, SEEK_SET) == 0);
    if (pack_tree(p->from_fd, room, p->archive, &p->st, &p->e) < 0)
        fail_msg("pack: %s", p->e.text);
}

static int unpack(struct place *p, uint64_t room)
{
    assert_true(lseek(p->archive, 0, SEEK_SET) == 0);
    return unpack_tree(p->archive, p->to_fd, room, &p->st, &p->e);
}

/* There and back, and nothing left behind. */
static void round_trip(struct place *p)
{
    int before = unit_open_files();

    pack(p, PLENTY);
    if (p->st.left_out)
        fail_msg("left out: %s", p->st.first_left_out);
    if (unpack(p, PLENTY) < 0)
        fail_msg("unpack: %s", p->e.text);
    same_tree(p->from_fd, p->to_fd);
    assert_int_equal(unit_open_files(), before);
}

/* --- there and back --- */

static void an_empty_tree_comes_back_empty(void **state)
{
    struct place *p = *state;

    round_trip(p);
    assert_int_equal(names_in(p->to_fd), 0);
    assert_int_equal(p->st.files, 0);
}

static void files_of_every_size_come_back(void **state)
{
    static const size_t SIZES[] = {0, 1, 511, 512, 513, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 3 * MIB + 7};
    enum { N = sizeof SIZES / sizeof *SIZES };
    struct place *p = *state;
    uint64_t sum = 0;

    for (size_t i = 0; i < N; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "f%zu", SIZES[i]);
        put_random(p->from_fd, name, SIZES[i]);
        sum += SIZES[i];
    }
    pack(p, PLENTY);
    assert_int_equal(p->st.files, N);
    assert_int_equal(p->st.bytes, sum);
    round_trip(p);
    assert_int_equal(p->st.files, N);
    assert_int_equal(p->st.bytes, sum);
}

static void modes_come_back(void **state)
{
    static const mode_t FILES[] = {0400, 0600, 0640, 0644, 0755, 0777, 0711};
    static const mode_t DIRS[] = {0500, 0700, 0750, 0755, 0777, 0511};
    struct place *p = *state;

    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "f%o", FILES[i]);
        put(p->from_fd, name, "x", 1, FILES[i]);
    }
    for (size_t i = 0; i < sizeof DIRS / sizeof *DIRS; i++) {
        char name[16];
        int fd;

        (void)snprintf(name, sizeof name, "d%o", DIRS[i]);
        fd = down(p->from_fd, name);
        put(fd, "inside", "x", 1, 0600);
        close(down(fd, "empty"));
        assert_int_equal(fchmod(fd, DIRS[i]), 0);
        close(fd);
    }
    round_trip(p);
}

/* No vault holds them, so none may ask for them. */
static void the_bits_above_0777_are_dropped(void **state)
{
    struct place *p = *state;
    struct stat sb;

    put(p->from_fd, "file", "x", 1, 04755);
    close(down(p->from_fd, "dir"));
    assert_int_equal(fchmodat(p->from_fd, "dir", 03770, 0), 0);
    pack(p, PLENTY);
    assert_int_equal(unpack(p, PLENTY), 0);
    assert_int_equal(fstatat(p->to_fd, "file", &sb, 0), 0);
    assert_int_equal(sb.st_mode & 07777, 0755);
    assert_int_equal(fstatat(p->to_fd, "dir", &sb, 0), 0);
    assert_int_equal(sb.st_mode & 07777, 0770);
}

static void times_come_back_to_the_nanosecond(void **state)
{
    static const struct {
        int64_t s;
        long ns;
    } TIMES[] = {{0, 0},          {0, 1},          {1, 999999999},  {1700000000, 123456789}, {2147483648, 5},
                 {4294967296, 0}, {8589934591, 1}, {8589934592, 2}, {-1, 0},                 {-2, 999999999},
                 {-1000000, 1},   {1700000000, 100000000}};
    struct place *p = *state;

    for (size_t i = 0; i < sizeof TIMES / sizeof *TIMES; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "f%zu", i);
        put(p->from_fd, name, "x", 1, 0600);
        mtime(p->from_fd, name, TIMES[i].s, TIMES[i].ns);
        name[0] = 'l';
        assert_int_equal(symlinkat("f0", p->from_fd, name), 0);
        mtime(p->from_fd, name, TIMES[i].s, TIMES[i].ns);
        name[0] = 'd';
        close(down(p->from_fd, name));
        mtime(p->from_fd, name, TIMES[i].s, TIMES[i].ns);
    }
    round_trip(p);
}

/* See pack.c: libarchive has no way to say it. */
static void a_time_within_the_second_before_1970_becomes_its_end(void **state)
{
    struct place *p = *state;
    struct stat sb;

    put(p->from_fd, "file", "x", 1, 0600);
    mtime(p->from_fd, "file", -1, 999999999);
    pack(p, PLENTY);
    assert_int_equal(unpack(p, PLENTY), 0);
    assert_int_equal(fstatat(p->to_fd, "file", &sb, 0), 0);
    assert_true(sb.st_mtim.tv_sec == 0 && sb.st_mtim.tv_nsec == 0);
}

static void a_directory_keeps_its_time_though_it_is_filled_later(void **state)
{
    struct place *p = *state;
    int a = down(p->from_fd, "a"), b = down(a, "b");

    put(b, "file", "x", 1, 0600);
    mtime(a, "b", 1000, 7);
    mtime(p->from_fd, "a", 2000, 8);
    close(a);
    close(b);
    round_trip(p);
}

static void links_come_back_as_links(void **state)
{
    struct place *p = *state;
    int d = down(p->from_fd, "d");

    assert_int_equal(symlinkat("../file", d, "up"), 0);
    assert_int_equal(symlinkat("not/there", p->from_fd, "dangling"), 0);
    assert_int_equal(symlinkat("d", p->from_fd, "to-dir"), 0);
    assert_int_equal(symlinkat("loop", p->from_fd, "loop"), 0);
    assert_int_equal(symlinkat("caf\xc3\xa9", p->from_fd, "\xf0\x9f\x94\x91"), 0);
    put(p->from_fd, "file", "x", 1, 0600);
    close(d);
    round_trip(p);
    assert_int_equal(p->st.skipped, 0);
}

static void names_of_every_script_and_length_come_back(void **state)
{
    static const char *const NAMES[] = {
        "caf\xc3\xa9", "e\xcc\x81", "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", "\xf0\x9f\x94\x91", " ", "-rf", "a\\b", "a b",
        "PaxHeader", "%s%n", "...", "~", "GNUSparseFile.0", "\xef\xbb\xbf" "bom", "=", "12 path=x", "\xc2\x85",
    };
    struct place *p = *state;
    char name[256], file[32];

    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        int fd;

        put(p->from_fd, NAMES[i], NAMES[i], strlen(NAMES[i]), 0600);
        (void)snprintf(file, sizeof file, "d%s", NAMES[i]);
        fd = down(p->from_fd, file);
        put(fd, NAMES[i], "x", 1, 0600);
        close(fd);
    }
    for (size_t n = 95; n <= 105; n++) { /* around the 100 of a plain tar header */
        (void)snprintf(name, sizeof name, "%0*d", (int)n, 0);
        put(p->from_fd, name, "x", 1, 0600);
    }
    memset(name, 'n', 255);
    name[255] = '\0';
    put(p->from_fd, name, "x", 1, 0600);
    name[0] = 'l';
    assert_int_equal(symlinkat(name + 1, p->from_fd, name), 0);
    round_trip(p);
}

/* 32 components, and 1024 bytes: a file each at the very limit. */
static void the_deepest_and_the_longest_path_come_back(void **state)
{
    struct place *p = *state;
    int fd = dup(p->from_fd);
    char name[205];

    for (int i = 0; i < 31; i++) {
        int next = down(fd, "d");

        close(fd);
        fd = next;
    }
    put(fd, "f", "deep", 4, 0600);
    close(fd);
    memset(name, 'n', 204);
    name[204] = '\0';
    fd = dup(p->from_fd);
    for (int i = 0; i < 4; i++) {
        int next = down(fd, name);

        close(fd);
        fd = next;
    }
    put(fd, name, "long", 4, 0600);
    close(fd);
    round_trip(p);
}

static void two_names_of_one_file_come_back_as_two_files(void **state)
{
    struct place *p = *state;
    struct stat a, b;

    put_random(p->from_fd, "a", 5000);
    assert_int_equal(linkat(p->from_fd, "a", p->from_fd, "b", 0), 0);
    round_trip(p);
    assert_int_equal(fstatat(p->to_fd, "a", &a, 0), 0);
    assert_int_equal(fstatat(p->to_fd, "b", &b, 0), 0);
    assert_true(a.st_ino != b.st_ino);
}

/* Whether content is "unchanged" is told by these bytes. */
static void the_same_tree_packs_to_the_same_bytes(void **state)
{
    static uint8_t one[65536], two[65536], three[65536];
    struct place *p = *state;
    ssize_t n;

    for (int i = 0; i < 20; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "f%d", i * 7 % 20); /* in no order */
        put(p->from_fd, name, name, strlen(name), 0600);
    }
    round_trip(p);
    n = io_read_at(p->archive, one, sizeof one, 0);
    pack(p, PLENTY);
    assert_int_equal(io_read_at(p->archive, two, sizeof two, 0), n);
    assert_memory_equal(one, two, (size_t)n);
    assert_int_equal(ftruncate(p->archive, 0), 0);
    assert_true(lseek(p->archive, 0, SEEK_SET) == 0);
    assert_int_equal(pack_tree(p->to_fd, PLENTY, p->archive, &p->st, &p->e), 0);
    assert_int_equal(io_read_at(p->archive, three, sizeof three, 0), n);
    assert_memory_equal(one, three, (size_t)n);
}

static void a_pipe_carries_it_as_well(void **state)
{
    struct place *p = *state;
    int ends[2], status;
    pid_t child;

    put_random(p->from_fd, "large", 2 * MIB + 5);
    put_random(p->from_fd, "small", 100);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    child = fork();
    if (child == 0)
        _exit(pack_tree(p->from_fd, PLENTY, ends[1], &p->st, &p->e) < 0);
    close(ends[1]);
    assert_int_equal(unpack_tree(ends[0], p->to_fd, PLENTY, &p->st, &p->e), 0);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    same_tree(p->from_fd, p->to_fd);
}

static void one_entry_more_than_allowed_is_left_out(void **state)
{
    struct place *p = *state;
    char name[16];

    for (int i = 0; i < 65537; i++) {
        (void)snprintf(name, sizeof name, "%05d", i);
        assert_int_equal(mknodat(p->from_fd, name, S_IFREG | 0600, 0), 0);
    }
    pack(p, PLENTY);
    assert_int_equal(p->st.files, 65536);
    assert_int_equal(p->st.left_out, 1);
    assert_string_equal(p->st.first_left_out, "more than 65536 entries: 65536");
}

/* --- what is left out, and what is skipped --- */

static void what_no_vault_holds_is_skipped_and_counted(void **state)
{
    struct place *p = *state;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), d = down(p->from_fd, "d");

    assert_int_equal(mkfifoat(p->from_fd, "fifo", 0600), 0);
    (void)snprintf(name.sun_path, sizeof name.sun_path, "%s/sock", p->from);
    assert_int_equal(bind(sock, (struct sockaddr *)&name, sizeof name), 0);
    assert_int_equal(symlinkat("/etc/passwd", p->from_fd, "absolute"), 0);
    assert_int_equal(symlinkat("..", p->from_fd, "above"), 0);
    assert_int_equal(symlinkat("../..", d, "above"), 0);
    assert_int_equal(symlinkat("../d/../file", d, "up-after-down"), 0);
    put(p->from_fd, "file", "x", 1, 0600);
    close(sock);
    close(d);
    pack(p, PLENTY);
    assert_int_equal(p->st.skipped, 6);
    assert_int_equal(p->st.left_out, 0);
    assert_int_equal(unpack(p, PLENTY), 0);
    assert_int_equal(names_in(p->to_fd), 2); /* d and file */
}

static void a_name_that_no_vault_holds_is_left_out_and_named(void **state)
{
    static const char *const BAD[] = {"a\nb", "caf\xe9", "\x1b[2J", "d\x7f"};
    struct place *p = *state;

    for (size_t i = 0; i < 4; i++)
        put(p->from_fd, BAD[i], "x", 1, 0600);
    put(p->from_fd, "good", "x", 1, 0600);
    pack(p, PLENTY);
    assert_int_equal(p->st.left_out, 4);
    assert_int_equal(p->st.files, 1);
    assert_non_null(strstr(p->st.first_left_out, "control character in a name: "));
    assert_int_equal(unpack(p, PLENTY), 0);
    assert_int_equal(names_in(p->to_fd), 1);
}

static void a_directory_with_a_bad_name_is_left_out_with_all_it_holds(void **state)
{
    struct place *p = *state;
    int d = down(p->from_fd, "bad\xff");

    put(d, "inside", "x", 1, 0600);
    close(d);
    put(p->from_fd, "good", "x", 1, 0600);
    pack(p, PLENTY);
    assert_int_equal(p->st.left_out, 1);
    assert_int_equal(p->st.files, 1);
    assert_string_equal(p->st.first_left_out, "a name that is not UTF-8: bad\xff");
    assert_int_equal(unpack(p, PLENTY), 0);
}

static void what_is_too_deep_or_too_long_is_left_out(void **state)
{
    struct place *p = *state;
    int fd = dup(p->from_fd);
    char name[256];

    for (int i = 0; i < 40; i++) {
        int next = down(fd, "d");

        close(fd);
        fd = next;
    }
    close(fd);
    memset(name, 'n', 255);
    name[255] = '\0';
    fd = dup(p->from_fd);
    for (int i = 0; i < 6; i++) {
        int next = down(fd, name);

        close(fd);
        fd = next;
    }
    close(fd);
    pack(p, PLENTY);
    assert_int_equal(p->st.left_out, 2); /* the 33rd d, and the fifth long one */
    assert_non_null(strstr(p->st.first_left_out, "deeper than 32: d/d/"));
    assert_int_equal(unpack(p, PLENTY), 0);
}

/* A tmpfs counts whole pages; names cost it nothing. */
static void what_exceeds_the_room_is_left_out_and_the_rest_kept(void **state)
{
    struct place *p = *state;

    put(p->from_fd, "a", "x", 1, 0600);
    put_random(p->from_fd, "b", PAGE);
    put_random(p->from_fd, "c", PAGE + 1);
    put(p->from_fd, "d", "", 0, 0600);
    put(p->from_fd, "e", "x", 1, 0600);
    pack(p, 5 * PAGE);
    assert_int_equal(p->st.left_out, 0);
    pack(p, 5 * PAGE - 1);
    assert_int_equal(p->st.left_out, 1);
    assert_string_equal(p->st.first_left_out, "more than the RAM of the vault holds: e");
    pack(p, 3 * PAGE);
    assert_int_equal(p->st.left_out, 1); /* c; then e still fits */
    assert_string_equal(p->st.first_left_out, "more than the RAM of the vault holds: c");
    assert_int_equal(p->st.files, 4);
    pack(p, 0);
    assert_int_equal(p->st.left_out, 4);
    assert_int_equal(p->st.files, 1);
}

static void what_was_packed_within_a_room_unpacks_within_it(void **state)
{
    struct place *p = *state;

    put_random(p->from_fd, "a", PAGE + 1);
    put_random(p->from_fd, "b", 1);
    close(down(p->from_fd, "dir"));
    pack(p, 3 * PAGE);
    assert_int_equal(p->st.left_out, 0);
    assert_int_equal(unpack(p, 3 * PAGE), 0);
    same_tree(p->from_fd, p->to_fd);
}

static void a_file_with_holes_counts_by_its_size_and_comes_back_whole(void **state)
{
    struct place *p = *state;
    int fd = openat(p->from_fd, "holes", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_int_equal(pwrite(fd, "end", 3, 8 * MIB), 3);
    close(fd);
    pack(p, 8 * MIB);
    assert_int_equal(p->st.left_out, 1);
    assert_int_equal(p->st.files, 0);
    round_trip(p);
    assert_int_equal(p->st.bytes, 8 * MIB + 3);
}

static void a_file_larger_than_any_ram_is_left_out_unread(void **state)
{
    struct place *p = *state;
    int fd = openat(p->from_fd, "huge", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct stat sb;

    assert_int_equal(ftruncate(fd, (off_t)1 << 40), 0);
    close(fd);
    pack(p, (uint64_t)1 << 30);
    assert_int_equal(p->st.left_out, 1);
    assert_int_equal(fstat(p->archive, &sb), 0);
    assert_true(sb.st_size < 4096);
}

/* --- errors of packing --- */

static void fails(struct place *p, const char *word)
{
    assert_int_equal(ftruncate(p->archive, 0), 0);
    assert_true(lseek(p->archive, 0, SEEK_SET) == 0);
    assert_int_equal(pack_tree(p->from_fd, PLENTY, p->archive, &p->st, &p->e), -1);
    assert_string_equal(p->e.word, word);
}

/* A file that can't be opened just now, for whatever user: somebody holds a lease on it. */
static int lease(int at, const char *name)
{
    int fd = openat(at, name, O_RDWR | O_CLOEXEC);

    (void)signal(SIGIO, SIG_IGN); /* "somebody wants it": that is what it is for */
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETLEASE, F_WRLCK), 0);
    return fd;
}

static void what_can_not_be_read_fails_the_pack_and_is_named(void **state)
{
    struct place *p = *state;
    int d = down(p->from_fd, "d"), before, held;

    put(d, "held", "x", 1, 0600);
    held = lease(d, "held");
    before = unit_open_files();
    fails(p, "unreadable");
    assert_int_equal(p->e.code, ERR_IO);
    assert_non_null(strstr(p->e.text, "d/held"));
    assert_int_equal(unit_open_files(), before);
    close(held);
    close(d);
}

/* The sealer hears of the failure by another way; but a half archive must not look like a whole one. */
static void a_pack_that_failed_leaves_no_whole_archive(void **state)
{
    struct place *p = *state;
    int held;

    put_random(p->from_fd, "a", 3 * MIB);
    put(p->from_fd, "z", "x", 1, 0600);
    held = lease(p->from_fd, "z");
    fails(p, "unreadable");
    close(held);
    assert_int_equal(unpack(p, PLENTY), -1);
}

/* What the owner has closed for himself is still his to keep, and stays closed. */
static void what_the_owner_may_not_read_is_kept_with_its_mode(void **state)
{
    static const mode_t MODES[] = {0, 0200, 0100, 0300, 0077};
    struct place *p = *state;

    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++) {
        char name[16];
        int fd;

        (void)snprintf(name, sizeof name, "f%o", MODES[i]);
        put(p->from_fd, name, name, strlen(name), MODES[i]);
        name[0] = 'd';
        fd = down(p->from_fd, name);
        put(fd, "inside", name, strlen(name), 0);
        mtime(fd, "inside", 1000, 7);
        assert_int_equal(fchmod(fd, MODES[i]), 0);
        close(fd);
        mtime(p->from_fd, name, 2000, 8);
    }
    pack(p, PLENTY);
    assert_int_equal(p->st.left_out, 0);
    assert_int_equal(unpack(p, PLENTY), 0);
    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++) {
        const int trees[] = {p->from_fd, p->to_fd};

        for (size_t t = 0; t < 2; t++) { /* as they were, and as they came back; then opened to be compared */
            char name[16];
            struct stat sb;
            int fd;

            (void)snprintf(name, sizeof name, "f%o", MODES[i]);
            assert_int_equal(fstatat(trees[t], name, &sb, 0), 0);
            assert_int_equal(sb.st_mode & 07777, MODES[i]);
            assert_int_equal(fchmodat(trees[t], name, 0600, 0), 0);
            name[0] = 'd';
            assert_int_equal(fstatat(trees[t], name, &sb, 0), 0);
            assert_int_equal(sb.st_mode & 07777, MODES[i]);
            assert_true(sb.st_mtim.tv_sec == 2000 && sb.st_mtim.tv_nsec == 8);
            assert_int_equal(fchmodat(trees[t], name, 0700, 0), 0);
            fd = openat(trees[t], name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            assert_int_equal(fstatat(fd, "inside", &sb, 0), 0);
            assert_int_equal(sb.st_mode & 07777, 0);
            assert_true(sb.st_mtim.tv_sec == 1000 && sb.st_mtim.tv_nsec == 7);
            assert_int_equal(fchmodat(fd, "inside", 0600, 0), 0);
            close(fd);
        }
    }
    same_tree(p->from_fd, p->to_fd);
}

static void a_reader_that_went_away_is_told_from_a_broken_disk(void **state)
{
    struct place *p = *state;
    int ends[2], full = open("/dev/full", O_WRONLY | O_CLOEXEC);

    (void)signal(SIGPIPE, SIG_IGN);
    put_random(p->from_fd, "large", 2 * MIB);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    assert_int_equal(pack_tree(p->from_fd, PLENTY, ends[1], &p->st, &p->e), -1);
    assert_int_equal(p->e.code, ERR_INTERNAL);
    close(ends[1]);
    assert_int_equal(pack_tree(p->from_fd, PLENTY, full, &p->st, &p->e), -1);
    assert_int_equal(p->e.code, ERR_IO);
    close(full);
}

/* A file that somebody else changes while it is packed. The packer looks at it before and after it
 * reads, so the change is made whenever it looks: nothing is left to who runs when. */
static struct {
    int fd; /* -1: no such file */
    ino_t inode;
    int times; /* it will change so often yet */
    bool grows;
    long changes;
} busy = {.fd = -1};

static void change(void)
{
    struct timespec t[2] = {{.tv_sec = 1}, {.tv_sec = 1000, .tv_nsec = ++busy.changes}};

    assert_int_equal(pwrite(busy.fd, &busy.changes, 1, busy.grows ? lseek(busy.fd, 0, SEEK_END) : 0), 1);
    assert_int_equal(futimens(busy.fd, t), 0);
}

/* In the C library's place. */
int fstat(int fd, struct stat *sb)
{
    if (busy.fd >= 0 && busy.times > 0 && fstatat(fd, "", sb, AT_EMPTY_PATH) == 0 && sb->st_ino == busy.inode) {
        busy.times--;
        change();
    }
    return fstatat(fd, "", sb, AT_EMPTY_PATH);
}

static void make_busy(struct place *p, size_t size, int times, bool grows)
{
    struct stat sb;

    put_random(p->from_fd, "log", size);
    assert_int_equal(fstatat(p->from_fd, "log", &sb, 0), 0);
    busy.fd = openat(p->from_fd, "log", O_RDWR | O_CLOEXEC);
    assert_true(busy.fd >= 0);
    busy.inode = sb.st_ino;
    busy.times = times;
    busy.grows = grows;
    busy.changes = 0;
}

static int rest(void **state)
{
    if (busy.fd >= 0)
        close(busy.fd);
    busy.fd = -1;
    return tear_down(state);
}

static void a_file_that_never_rests_is_not_stored(void **state)
{
    static const size_t SIZES[] = {100, MIB - 2, MIB, 3 * MIB};
    struct place *p = *state;

    for (size_t i = 0; i < 2 * sizeof SIZES / sizeof *SIZES; i++) {
        make_busy(p, SIZES[i / 2], 1000, i % 2);
        fails(p, "changing");
        assert_int_equal(p->e.code, ERR_BUSY);
        assert_non_null(strstr(p->e.text, "log"));
        assert_true(busy.changes >= 2);
        close(busy.fd);
        busy.fd = -1;
        assert_int_equal(unlinkat(p->from_fd, "log", 0), 0);
    }
}

static void at_a_stop_such_a_file_is_left_out_and_not_counted_as_stored(void **state)
{
    struct place *p = *state;

    put_random(p->from_fd, "quiet", 700);
    make_busy(p, 100, 1000, false);
    assert_int_equal(ftruncate(p->archive, 0), 0);
    assert_int_equal(pack_tree_what_can_be_read(p->from_fd, PLENTY, p->archive, &p->st, &p->e), 0);
    assert_int_equal(p->st.left_out, 1);
    assert_non_null(strstr(p->st.first_left_out, "log"));
    assert_int_equal(p->st.files, 1);
    assert_int_equal(p->st.bytes, 700);
}

/* Twice: before it is read, and after it was read for the first time. */
static void a_small_file_that_comes_to_rest_is_stored_as_it_is_then(void **state)
{
    struct place *p = *state;

    make_busy(p, 5000, 2, true);
    round_trip(p);
    assert_int_equal(busy.changes, 2);
    assert_int_equal(p->st.bytes, 5002);
}

/* --- archives made by hand --- */

struct tar {
    uint8_t bytes[64 * BLOCK];
    size_t len;
};

static void add(struct tar *t, const void *bytes, size_t len)
{
    size_t whole = (len + BLOCK - 1) / BLOCK * BLOCK;

    assert_true(t->len + whole <= sizeof t->bytes);
    memset(t->bytes + t->len, 0, whole);
    memcpy(t->bytes + t->len, bytes, len);
    t->len += whole;
}

static void header(struct tar *t, const char *name, char type, unsigned mode, size_t size, const char *target)
{
    char h[BLOCK];
    unsigned sum = 0;

    memset(h, 0, sizeof h);
    memcpy(h, name, strnlen(name, 100));
    (void)snprintf(h + 100, 8, "%07o", mode);
    (void)snprintf(h + 108, 8, "%07o", 12345u); /* somebody else's, which is ignored */
    (void)snprintf(h + 116, 8, "%07o", 12345u);
    (void)snprintf(h + 124, 12, "%011zo", size);
    (void)snprintf(h + 136, 12, "%011o", 1700000000u);
    memset(h + 148, ' ', 8);
    h[156] = type;
    memcpy(h + 157, target, strnlen(target, 100));
    memcpy(h + 257, "ustar\00000", 8);
    for (size_t i = 0; i < sizeof h; i++)
        sum += (unsigned char)h[i];
    (void)snprintf(h + 148, 8, "%06o", sum);
    add(t, h, sizeof h);
}

static void file(struct tar *t, const char *name)
{
    header(t, name, '0', 0600, 1, "");
    add(t, "x", 1);
}

/* An extended header with one record for the next entry. */
static void pax(struct tar *t, const char *key, const char *value)
{
    char record[4096];
    int want = 0, n;

    do { /* a record begins with its own length */
        n = want;
        want = snprintf(record, sizeof record, "%d %s=%s\n", n, key, value);
    } while (want != n);
    header(t, "PaxHeaders/x", 'x', 0600, (size_t)n, "");
    add(t, record, (size_t)n);
}

static void end(struct tar *t)
{
    static const uint8_t ZEROS[2 * BLOCK];

    add(t, ZEROS, sizeof ZEROS);
}

static int unpack_tar(struct place *p, const struct tar *t, uint64_t room)
{
    assert_int_equal(ftruncate(p->archive, 0), 0);
    assert_true(lseek(p->archive, 0, SEEK_SET) == 0);
    assert_int_equal(io_write(p->archive, t->bytes, t->len), 0);
    memset(&p->e, 0, sizeof p->e);
    return unpack(p, room);
}

/* A fresh place for each archive, so that no rest of one serves another. A test that fails leaves its
 * own behind, for the next or the end to clear away. */
static void *fresh;

static int clear(void **state)
{
    (void)state;
    if (fresh)
        (void)tear_down(&fresh);
    fresh = NULL;
    return 0;
}

static struct place *fresh_place(void)
{
    (void)clear(NULL);
    assert_int_equal(set_up(&fresh), 0);
    return fresh;
}

static void refuse_with(const struct tar *t, const char *what, const char *word)
{
    struct place *p = fresh_place();
    int before = unit_open_files();

    if (unpack_tar(p, t, MIB) == 0)
        fail_msg("%s: taken", what);
    if (strcmp(p->e.word, word) != 0)
        fail_msg("%s: %s (%s), not %s", what, p->e.word, p->e.text, word);
    assert_int_equal(unit_open_files(), before);
    (void)clear(NULL);
}

static void refuse(struct tar *t, const char *what)
{
    end(t);
    refuse_with(t, what, "bad-entry");
    t->len = 0;
}

static void a_tar_made_by_hand_is_taken(void **state)
{
    struct place *p = *state;
    struct tar t = {.len = 0};
    struct stat sb;

    header(&t, "d", '5', 0750, 0, "");
    file(&t, "d/f");
    header(&t, "l", '2', 0777, 0, "d/f");
    pax(&t, "path", "caf\xc3\xa9");
    file(&t, "replaced");
    pax(&t, "mtime", "1000.123456789");
    file(&t, "timed");
    pax(&t, "comment", "a key that nobody knows");
    file(&t, "commented");
    end(&t);
    assert_int_equal(unpack_tar(p, &t, MIB), 0);
    assert_int_equal(names_in(p->to_fd), 5);
    assert_int_equal(p->st.files, 4);
    assert_int_equal(fstatat(p->to_fd, "d", &sb, 0), 0);
    assert_int_equal(sb.st_mode & 07777, 0750);
    assert_int_equal(sb.st_uid, geteuid());
    assert_int_equal(fstatat(p->to_fd, "timed", &sb, 0), 0);
    assert_true(sb.st_mtim.tv_sec == 1000 && sb.st_mtim.tv_nsec == 123456789);
    assert_int_equal(fstatat(p->to_fd, "caf\xc3\xa9", &sb, 0), 0);
}

static void modes_of_zero_are_restored_last(void **state)
{
    struct place *p = *state;
    struct tar t = {.len = 0};
    struct stat sb;

    header(&t, "d", '5', 0, 0, "");
    header(&t, "d/e", '5', 0, 0, "");
    header(&t, "d/e/f", '0', 0, 1, "");
    add(&t, "x", 1);
    end(&t);
    assert_int_equal(unpack_tar(p, &t, MIB), 0);
    assert_int_equal(fstatat(p->to_fd, "d", &sb, 0), 0);
    assert_int_equal(sb.st_mode & 07777, 0);
    assert_int_equal(fchmodat(p->to_fd, "d", 0700, 0), 0);
    assert_int_equal(fstatat(p->to_fd, "d/e", &sb, 0), 0);
    assert_int_equal(sb.st_mode & 07777, 0);
    assert_true(sb.st_mtim.tv_sec == 1700000000);
}

static void names_that_lead_elsewhere_are_refused(void **state)
{
    static const char *const NAMES[] = {"/etc/x", "../x", "..", ".",      "./x",  "d/../x", "d/./x", "d//x",
                                        "a\nb",   "\x1b", "\xff", "\xc0\xaf", "d/..", "/",      "//x"};
    struct tar t = {.len = 0};

    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        header(&t, "d", '5', 0700, 0, "");
        file(&t, NAMES[i]);
        refuse(&t, NAMES[i]);
        header(&t, "d", '5', 0700, 0, "");
        pax(&t, "path", NAMES[i]);
        file(&t, "innocent");
        refuse(&t, NAMES[i]);
    }
    file(&t, "");
    refuse(&t, "an empty name");
}

static void links_that_lead_elsewhere_are_refused(void **state)
{
    static const char *const TARGETS[] = {"/etc/passwd", "..", "../x", "d/..", "d/../x", "./..", "\n", "\xff"};
    struct tar t = {.len = 0};

    (void)state;
    for (size_t i = 0; i < sizeof TARGETS / sizeof *TARGETS; i++) {
        header(&t, "d", '5', 0700, 0, "");
        header(&t, "l", '2', 0777, 0, TARGETS[i]);
        refuse(&t, TARGETS[i]);
        header(&t, "d", '5', 0700, 0, "");
        pax(&t, "linkpath", TARGETS[i]);
        header(&t, "l", '2', 0777, 0, "innocent");
        refuse(&t, TARGETS[i]);
    }
    header(&t, "l", '2', 0777, 0, "");
    refuse(&t, "a link to nothing");
}

static void entries_of_another_kind_are_refused(void **state)
{
    static const struct {
        char type;
        const char *what;
    } KINDS[] = {{'1', "hard link"}, {'3', "character device"}, {'4', "block device"}, {'6', "FIFO"}};
    struct tar t = {.len = 0};

    (void)state;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        file(&t, "a");
        header(&t, "b", KINDS[i].type, 0600, 0, "a");
        refuse(&t, KINDS[i].what);
        file(&t, "a");
        pax(&t, "comment", "only here may a link have content of its own");
        header(&t, "b", KINDS[i].type, 0600, 1, "a");
        add(&t, "x", 1);
        refuse(&t, KINDS[i].what);
    }
}

static void files_with_holes_are_refused(void **state)
{
    struct tar t = {.len = 0};

    (void)state;
    pax(&t, "GNU.sparse.size", "1000");
    pax(&t, "GNU.sparse.map", "100,1");
    file(&t, "x");
    refuse(&t, "a sparse map");
    pax(&t, "GNU.sparse.map", "100,1");
    file(&t, "x");
    refuse(&t, "a sparse map without a size");
}

static void attributes_that_no_vault_holds_are_refused(void **state)
{
    static const char *const KEYS[][2] = {
        {"SCHILY.xattr.user.x", "1"},
        {"LIBARCHIVE.xattr.user.x", "MQ"},
        {"SCHILY.acl.access", "user::rw-,group::---,other::---,user:1:r--,mask::r--"},
        {"SCHILY.acl.default", "user::rwx,group::---,other::---"},
        {"SCHILY.fflags", "nodump"},
    };
    static const unsigned MODES[] = {04600, 02600, 01600, 07777};
    struct tar t = {.len = 0};

    (void)state;
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) {
        pax(&t, KEYS[i][0], KEYS[i][1]);
        file(&t, "x");
        refuse(&t, KEYS[i][0]);
    }
    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++) {
        header(&t, "x", '0', MODES[i], 0, "");
        refuse(&t, "a mode above 0777");
        header(&t, "d", '5', MODES[i], 0, "");
        refuse(&t, "a directory's mode above 0777");
    }
}

static void an_entry_needs_a_directory_that_is_one(void **state)
{
    struct tar t = {.len = 0};

    (void)state;
    file(&t, "d/f");
    refuse(&t, "no directory");
    file(&t, "d");
    file(&t, "d/f");
    refuse(&t, "a file for a directory");
    header(&t, "d", '5', 0700, 0, "");
    header(&t, "l", '2', 0777, 0, "d");
    file(&t, "l/f");
    refuse(&t, "a link for a directory");
    file(&t, "d/f");
    header(&t, "d", '5', 0700, 0, "");
    refuse(&t, "a directory behind what it holds");
}

static void a_name_comes_once(void **state)
{
    struct tar t = {.len = 0};

    (void)state;
    file(&t, "a");
    file(&t, "a");
    refuse(&t, "a file twice");
    header(&t, "d", '5', 0700, 0, "");
    header(&t, "d", '5', 0700, 0, "");
    refuse(&t, "a directory twice");
    header(&t, "l", '2', 0777, 0, "elsewhere");
    file(&t, "l");
    refuse(&t, "a file in a link's place");
    file(&t, "a");
    header(&t, "a", '2', 0777, 0, "b");
    refuse(&t, "a link in a file's place");
}

static void what_is_no_whole_tar_is_refused(void **state)
{
    struct tar t = {.len = 0};
    size_t whole;

    (void)state;
    refuse_with(&t, "nothing at all", "bad-entry");
    add(&t, "this is no tar", 14);
    refuse_with(&t, "text", "bad-entry");
    t.len = 0;
    header(&t, "d", '5', 0700, 0, "");
    file(&t, "d/f");
    file(&t, "g");
    whole = t.len;
    for (t.len = 1; t.len < whole; t.len += t.len < 520 ? 37 : 100)
        if (t.len % BLOCK != 0)
            refuse_with(&t, "cut inside a block", "bad-entry");
    for (t.len = 2 * BLOCK; t.len < whole; t.len += 2 * BLOCK)
        refuse_with(&t, "cut between a header and its content", "bad-entry");
}

/* No error hides behind a cut that falls between two entries. */
static void a_tar_that_ends_inside_an_entry_is_refused(void **state)
{
    struct tar t = {.len = 0};

    (void)state;
    file(&t, "a");
    t.len -= BLOCK;
    refuse_with(&t, "no content", "bad-entry");
    t.len -= BLOCK / 2;
    refuse_with(&t, "half a header", "bad-entry");
}

static void a_changed_checksum_is_refused(void **state)
{
    struct tar t = {.len = 0};

    (void)state;
    file(&t, "a");
    file(&t, "b");
    end(&t);
    t.bytes[2 * BLOCK] ^= 1;
    refuse_with(&t, "a name changed", "bad-entry");
}

static void a_size_that_lies_is_refused(void **state)
{
    struct tar t = {.len = 0};

    (void)state;
    header(&t, "a", '0', 0600, 100 * BLOCK, "");
    add(&t, "x", 1);
    end(&t);
    refuse_with(&t, "a size beyond the end", "bad-entry");
    t.len = 0;
    pax(&t, "size", "-1");
    file(&t, "a");
    refuse(&t, "a negative size");
    pax(&t, "size", "99999999999999999999999");
    file(&t, "a");
    end(&t);
    refuse_with(&t, "a size beyond all numbers", "bad-entry");
}

static void more_than_the_room_is_refused_as_such(void **state)
{
    struct place *p = *state;
    struct tar t = {.len = 0};

    for (int i = 0; i < 3; i++) {
        const char name[] = {(char)('a' + i), '\0'};

        file(&t, name);
    }
    end(&t);
    assert_int_equal(unpack_tar(p, &t, 3 * PAGE - 1), -1);
    assert_string_equal(p->e.word, "no-room");
    assert_int_equal(p->e.code, ERR_IO);
    t.len = 0;
    header(&t, "huge", '0', 0600, (size_t)1 << 32, "");
    end(&t);
    refuse_with(&t, "a size beyond the room", "no-room");
}

static void nothing_is_touched_outside_of_the_root(void **state)
{
    struct place *p = *state;
    struct tar t = {.len = 0};
    int inside = down(p->to_fd, "inside"), own = p->to_fd;

    put(p->to_fd, "outside", "safe", 4, 0600);
    p->to_fd = inside;
    header(&t, "l", '2', 0777, 0, "../outside");
    file(&t, "l");
    end(&t);
    assert_int_equal(unpack_tar(p, &t, MIB), -1);
    t.len = 0;
    file(&t, "../outside");
    end(&t);
    assert_int_equal(unpack_tar(p, &t, MIB), -1);
    p->to_fd = own;
    same_content(p->to_fd, p->to_fd, "outside", 4);
    assert_int_equal(names_in(p->to_fd), 2);
    assert_int_equal(names_in(inside), 0);
    close(inside);
}

/* Any byte of a good archive changed: refused or taken, never a crash, and never anything outside. */
static void no_changed_byte_does_harm(void **state)
{
    struct tar good = {.len = 0};
    unsigned taken = 0, refused = 0;

    (void)state;
    header(&good, "d", '5', 0700, 0, "");
    pax(&good, "path", "d/caf\xc3\xa9");
    file(&good, "replaced");
    header(&good, "l", '2', 0777, 0, "d");
    end(&good);
    for (size_t at = 0; at < good.len; at += at % BLOCK < 360 ? 1 : 19) {
        struct tar t = good;
        struct place *p = fresh_place();

        t.bytes[at] ^= 0x04;
        *(unpack_tar(p, &t, MIB) == 0 ? &taken : &refused) += 1;
        assert_int_equal(names_in(p->from_fd), 0);
        (void)clear(NULL);
    }
    assert_true(taken > 0 && refused > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_tree_comes_back_empty, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_of_every_size_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(modes_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_bits_above_0777_are_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(times_come_back_to_the_nanosecond, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_time_within_the_second_before_1970_becomes_its_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_keeps_its_time_though_it_is_filled_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(links_come_back_as_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_of_every_script_and_length_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_deepest_and_the_longest_path_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_names_of_one_file_come_back_as_two_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_same_tree_packs_to_the_same_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pipe_carries_it_as_well, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_entry_more_than_allowed_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_no_vault_holds_is_skipped_and_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_that_no_vault_holds_is_left_out_and_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_with_a_bad_name_is_left_out_with_all_it_holds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_too_deep_or_too_long_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_exceeds_the_room_is_left_out_and_the_rest_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_packed_within_a_room_unpacks_within_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_with_holes_counts_by_its_size_and_comes_back_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_larger_than_any_ram_is_left_out_unread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_can_not_be_read_fails_the_pack_and_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pack_that_failed_leaves_no_whole_archive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_owner_may_not_read_is_kept_with_its_mode, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_that_went_away_is_told_from_a_broken_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_never_rests_is_not_stored, set_up, rest),
        cmocka_unit_test_setup_teardown(at_a_stop_such_a_file_is_left_out_and_not_counted_as_stored, set_up, rest),
        cmocka_unit_test_setup_teardown(a_small_file_that_comes_to_rest_is_stored_as_it_is_then, set_up, rest),
        cmocka_unit_test_setup_teardown(a_tar_made_by_hand_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(modes_of_zero_are_restored_last, set_up, tear_down),
        cmocka_unit_test(names_that_lead_elsewhere_are_refused),
        cmocka_unit_test(links_that_lead_elsewhere_are_refused),
        cmocka_unit_test(entries_of_another_kind_are_refused),
        cmocka_unit_test(files_with_holes_are_refused),
        cmocka_unit_test(attributes_that_no_vault_holds_are_refused),
        cmocka_unit_test(an_entry_needs_a_directory_that_is_one),
        cmocka_unit_test(a_name_comes_once),
        cmocka_unit_test(what_is_no_whole_tar_is_refused),
        cmocka_unit_test(a_tar_that_ends_inside_an_entry_is_refused),
        cmocka_unit_test(a_changed_checksum_is_refused),
        cmocka_unit_test(a_size_that_lies_is_refused),
        cmocka_unit_test_setup_teardown(more_than_the_room_is_refused_as_such, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_touched_outside_of_the_root, set_up, tear_down),
        cmocka_unit_test(no_changed_byte_does_harm),
    };

    unit_drop_root();
    return cmocka_run_group_tests_name("pack", tests, NULL, clear);
}
