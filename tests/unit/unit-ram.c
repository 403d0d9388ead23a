/* unit-ram - the run directory and the trees of clear text in it, on a real tmpfs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../init/dir.h"
#include "../../init/ram.h"
#include "unit.h"

/* The tree that was published is in its place. */
static bool in_place(const struct ram *r)
{
    int fd = r->hidden ? -1 : ram_tree(r);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* 0, or -1 with errno; nobody fills it here, so its descriptor is closed. */
static int stage(struct ram *r)
{
    int fd = ram_stage(r);

    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : 0;
}

enum { STRANGER = 12345, BUDGET = 500 };

struct run {
    char *path;
    struct ram ram;
};

static int set_up(void **state)
{
    static struct run r;

    r.path = unit_dir(true);
    ram_open(&r.ram, r.path, geteuid(), getegid(), BACKEND_GIVEN);
    *state = &r;
    return r.ram.usable ? 0 : -1;
}

static int tear_down(void **state)
{
    struct run *r = *state;

    close(r->ram.dir);
    unit_remove(r->path);
    return 0;
}

static bool exists(const struct run *r, const char *name)
{
    struct stat sb;

    return fstatat(r->ram.dir, name, &sb, AT_SYMLINK_NOFOLLOW) == 0;
}

static unsigned mode_of(const struct run *r, const char *name)
{
    struct stat sb;

    assert_int_equal(fstatat(r->ram.dir, name, &sb, AT_SYMLINK_NOFOLLOW), 0);
    return sb.st_mode & 07777;
}

static int count_one(void *ctx, const char *name)
{
    (void)name;
    ++*(int *)ctx;
    return 0;
}

/* Entries in the run directory itself. */
static int entries(const struct run *r)
{
    int n = 0;

    assert_int_equal(dir_each(r->ram.dir, count_one, &n), 0);
    return n;
}

static void make_dir(const struct run *r, const char *name)
{
    assert_int_equal(mkdirat(r->ram.dir, name, 0700), 0);
}

static void make_file(const struct run *r, const char *name)
{
    unit_write(unit_path(r->path, name), "secret", 6);
}

static void check_file(const char *path)
{
    char text[16];

    assert_int_equal(unit_read(path, text, sizeof text), 6);
    assert_string_equal(text, "secret");
}

/* Deletes all that is marked; how many calls that took. */
static int wipe(struct run *r, int budget)
{
    int rc, calls = 0;

    while ((rc = ram_wipe_some(&r->ram, budget)) > 0)
        assert_true(++calls < 100000);
    assert_int_equal(rc, 0);
    return calls;
}

/* A vault in its place with one file. */
static void open_vault(struct run *r)
{
    assert_int_equal(stage(&r->ram), 0);
    make_file(r, ".staging/token");
    assert_int_equal(ram_publish(&r->ram), 0);
}

/* --- the place --- */

static void refused(const char *path, uid_t owner, const char *word)
{
    struct ram r;

    ram_open(&r, path, owner, getegid(), BACKEND_GIVEN);
    assert_false(r.usable);
    assert_string_equal(r.problem.word, word);
    assert_int_equal(r.problem.code, EX_TP_UNAVAILABLE);
    assert_non_null(strstr(r.problem.text, "--tmpfs"));
    assert_non_null(strstr(r.problem.text, path));
    if (r.dir >= 0)
        close(r.dir);
}

static void a_directory_that_is_not_ram_is_refused(void **state)
{
    (void)state;
    refused("/proc", geteuid(), "not-ram");
    refused("/sys", geteuid(), "not-ram");
}

static void what_is_no_directory_is_refused(void **state)
{
    struct run *r = *state;
    const char *link = unit_path(r->path, "link"), *file = unit_path(r->path, "file");

    refused(unit_path(r->path, "missing"), geteuid(), "bad-run-dir");
    make_file(r, "file");
    refused(file, geteuid(), "bad-run-dir");
    make_dir(r, "dir");
    assert_int_equal(symlink("dir", link), 0);
    refused(link, geteuid(), "bad-run-dir");
}

static void a_long_path_leaves_the_reason_in_its_place(void **state)
{
    char path[WIRE_TEXT_MAX + 100];
    struct ram r;

    (void)state;
    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    ram_open(&r, path, geteuid(), getegid(), BACKEND_GIVEN);
    assert_false(r.usable);
    assert_int_equal(strlen(r.problem.text), WIRE_TEXT_MAX - 1);
}

/* Docker brings it back as 0755 after a restart. */
static void a_directory_that_others_may_enter_is_closed(void **state)
{
    static const mode_t MODES[] = {0755, 0777, 01777, 02700, 0000, 0500};
    struct run *r = *state;

    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++) {
        struct ram again;

        assert_int_equal(fchmod(r->ram.dir, MODES[i]), 0);
        if ((MODES[i] & 0400) == 0)
            assert_int_equal(fchmod(r->ram.dir, 0700), 0); /* it could not even be opened */
        ram_open(&again, r->path, geteuid(), getegid(), BACKEND_GIVEN);
        assert_true(again.usable);
        assert_int_equal(mode_of(r, "."), 0700);
        close(again.dir);
    }
}

static void a_directory_of_somebody_else_is_refused(void **state)
{
    struct run *r = *state;

    refused(r->path, STRANGER, "bad-run-dir");
}

/* How Kubernetes gives a volume in memory. */
static void a_sticky_directory_of_roots_is_taken_as_it_is(void **state)
{
    struct run *r = *state;
    const char *path = geteuid() == 0 ? r->path : "/dev/shm";
    struct stat sb;
    struct ram ram;

    if (geteuid() == 0)
        assert_int_equal(fchmod(r->ram.dir, 01777), 0);
    ram_open(&ram, path, STRANGER, STRANGER, BACKEND_GIVEN);
    assert_true(ram.usable);
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 07777, 01777);
    close(ram.dir);
}

static void a_directory_that_can_not_be_used_is_left_alone(void **state)
{
    struct run *r = *state;

    make_dir(r, "secrets");
    make_dir(r, ".staging");
    r->ram.usable = false;
    ram_set_aside(&r->ram);
    ram_sweep(&r->ram);
    assert_int_equal(ram_stale(&r->ram), 0);
    assert_true(exists(r, "secrets") && exists(r, ".staging"));
}

/* --- clear text that is there at the start --- */

static void a_tree_found_at_the_start_is_kept_closed(void **state)
{
    struct run *r = *state;

    make_dir(r, "secrets");
    make_file(r, "secrets/token");
    ram_set_aside(&r->ram);
    assert_true(r->ram.usable);
    assert_false(exists(r, "secrets"));
    assert_int_equal(mode_of(r, ".stale-0"), 0);
    assert_int_equal(ram_stale(&r->ram), 1);
    assert_false(in_place(&r->ram));
    assert_int_equal(fchmodat(r->ram.dir, ".stale-0", 0700, 0), 0);
    check_file(unit_path(r->path, ".stale-0/token"));
}

static void every_start_keeps_what_it_finds_beside_what_was_kept(void **state)
{
    struct run *r = *state;

    for (uint32_t i = 0; i < 12; i++) {
        make_dir(r, "secrets");
        make_file(r, "secrets/token");
        make_dir(r, ".locking");
        make_file(r, ".locking/token");
        ram_set_aside(&r->ram);
        assert_int_equal(ram_stale(&r->ram), 2 * (i + 1));
    }
    assert_true(exists(r, ".stale-23"));
    assert_int_equal(entries(r), 24);
}

static void a_gap_among_the_kept_is_filled_and_all_are_counted(void **state)
{
    struct run *r = *state;

    make_dir(r, ".stale-1");
    make_dir(r, ".stale-900");
    make_dir(r, "secrets");
    make_file(r, "secrets/token");
    ram_set_aside(&r->ram);
    assert_true(exists(r, ".stale-0"));
    assert_int_equal(ram_stale(&r->ram), 3);
}

static void an_empty_directory_in_the_vaults_place_is_just_removed(void **state)
{
    struct run *r = *state;

    make_dir(r, "secrets");
    ram_set_aside(&r->ram);
    assert_int_equal(ram_stale(&r->ram), 0);
    assert_false(exists(r, "secrets"));
}

static void a_file_or_link_in_the_vaults_place_is_kept_too(void **state)
{
    struct run *r = *state;
    char text[16];

    make_file(r, "secrets");
    ram_set_aside(&r->ram);
    assert_int_equal(mode_of(r, ".stale-0"), 0);
    assert_int_equal(symlinkat("elsewhere", r->ram.dir, "secrets"), 0);
    ram_set_aside(&r->ram);
    assert_int_equal(readlinkat(r->ram.dir, ".stale-1", text, sizeof text), 9);
    assert_int_equal(ram_stale(&r->ram), 2);
}

/* Whoever may write the run directory must not have PID 1 change what lies elsewhere. */
static void what_a_link_points_to_keeps_its_mode(void **state)
{
    struct run *r = *state;

    make_file(r, "elsewhere");
    assert_int_equal(symlinkat("elsewhere", r->ram.dir, "secrets"), 0);
    ram_set_aside(&r->ram);
    assert_int_equal(mode_of(r, "elsewhere"), 0600);
    assert_int_equal(symlinkat("elsewhere", r->ram.dir, "secrets"), 0);
    assert_int_equal(stage(&r->ram), 0);
    assert_int_equal(mode_of(r, "elsewhere"), 0600);
}

static void what_a_killed_unlock_or_lock_left_is_removed_and_the_kept_stay(void **state)
{
    struct run *r = *state;

    make_dir(r, "secrets");
    make_file(r, "secrets/token");
    make_dir(r, ".staging");
    make_file(r, ".staging/half");
    make_dir(r, ".wiping-0");
    make_file(r, ".wiping-0/rest");
    make_dir(r, ".wiping-7");
    make_file(r, "control.sock");
    ram_set_aside(&r->ram);
    ram_sweep(&r->ram);
    assert_true(exists(r, ".stale-0") && exists(r, "control.sock"));
    assert_int_equal(entries(r), 2);
    assert_int_equal(fchmodat(r->ram.dir, ".stale-0", 0700, 0), 0);
    check_file(unit_path(r->path, ".stale-0/token"));
}

/* --- opening and locking --- */

static void a_staged_tree_is_seen_by_nobody_until_it_is_published(void **state)
{
    struct run *r = *state;

    assert_int_equal(stage(&r->ram), 0);
    assert_int_equal(mode_of(r, ".staging"), 0700);
    assert_false(exists(r, "secrets"));
    assert_false(in_place(&r->ram));
    make_file(r, ".staging/token");
    assert_int_equal(ram_publish(&r->ram), 0);
    assert_true(in_place(&r->ram));
    assert_false(exists(r, ".staging"));
    check_file(unit_path(r->path, "secrets/token"));
}

/* A volume of Kubernetes hands its setgid bit on to what is made in it. */
static void staging_starts_empty_and_0700_whatever_was_there(void **state)
{
    struct run *r = *state;

    assert_int_equal(fchmod(r->ram.dir, 02700), 0);
    make_dir(r, ".staging");
    assert_int_equal(fchmodat(r->ram.dir, ".staging", 0755, 0), 0);
    make_file(r, ".staging/old");
    assert_int_equal(stage(&r->ram), 0);
    assert_int_equal(mode_of(r, ".staging"), 0700);
    assert_false(exists(r, ".staging/old"));
    wipe(r, BUDGET);
    assert_int_equal(entries(r), 1);
}

static void staging_sets_aside_what_stands_in_the_vaults_place(void **state)
{
    struct run *r = *state;

    make_dir(r, "secrets");
    make_file(r, "secrets/somebodys");
    assert_int_equal(stage(&r->ram), 0);
    assert_false(exists(r, "secrets"));
    assert_int_equal(ram_stale(&r->ram), 1);
}

static void publishing_replaces_nothing(void **state)
{
    struct run *r = *state;

    assert_int_equal(stage(&r->ram), 0);
    make_dir(r, "secrets");
    assert_int_equal(ram_publish(&r->ram), -1);
    assert_false(in_place(&r->ram));
    assert_true(exists(r, ".staging"));
}

static void what_is_no_directory_is_not_published(void **state)
{
    struct run *r = *state;

    assert_int_equal(ram_publish(&r->ram), -1); /* nothing is there */
    make_dir(r, "dir");
    assert_int_equal(symlinkat("dir", r->ram.dir, ".staging"), 0);
    assert_int_equal(ram_publish(&r->ram), -1);
    assert_false(exists(r, "secrets"));
}

static void a_vault_hides_and_comes_back(void **state)
{
    struct run *r = *state;

    open_vault(r);
    assert_int_equal(ram_hide(&r->ram), 0);
    assert_false(exists(r, "secrets"));
    assert_false(in_place(&r->ram));
    check_file(unit_path(r->path, ".locking/token"));
    assert_int_equal(ram_unhide(&r->ram), 0);
    assert_true(in_place(&r->ram));
    check_file(unit_path(r->path, "secrets/token"));
}

static void another_tree_in_the_vaults_place_is_not_ours(void **state)
{
    struct run *r = *state;

    open_vault(r);
    assert_int_equal(renameat(r->ram.dir, "secrets", r->ram.dir, "moved"), 0);
    assert_false(in_place(&r->ram));
    assert_int_equal(ram_hide(&r->ram), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(symlinkat("moved", r->ram.dir, "secrets"), 0);
    assert_false(in_place(&r->ram)); /* not even through a link */
    assert_int_equal(unlinkat(r->ram.dir, "secrets", 0), 0);
    make_dir(r, "secrets");
    make_file(r, "secrets/somebodys");
    assert_false(in_place(&r->ram));
    assert_int_equal(ram_hide(&r->ram), -1);
    ram_discard_tree(&r->ram);
    wipe(r, BUDGET);
    check_file(unit_path(r->path, "secrets/somebodys"));
}

static void a_discarded_tree_that_somebody_puts_back_is_not_ours(void **state)
{
    struct run *r = *state;

    open_vault(r);
    ram_discard_tree(&r->ram);
    assert_int_equal(renameat(r->ram.dir, ".wiping-0", r->ram.dir, "secrets"), 0);
    assert_false(in_place(&r->ram));
}

static void a_discarded_vault_is_gone_at_once_and_wiped_later(void **state)
{
    struct run *r = *state;

    open_vault(r);
    ram_discard_tree(&r->ram);
    assert_false(exists(r, "secrets"));
    assert_false(in_place(&r->ram));
    assert_true(exists(r, ".wiping-0/token"));
    wipe(r, BUDGET);
    assert_int_equal(entries(r), 0);
}

static void a_hidden_vault_is_discarded_too(void **state)
{
    struct run *r = *state;

    open_vault(r);
    assert_int_equal(ram_hide(&r->ram), 0);
    ram_discard_tree(&r->ram);
    assert_int_equal(wipe(r, BUDGET), 0);
    assert_int_equal(entries(r), 0);
}

static void a_staging_tree_is_discarded_and_the_vault_stays(void **state)
{
    struct run *r = *state;

    open_vault(r);
    make_dir(r, ".staging");
    make_file(r, ".staging/half");
    ram_discard_staging(&r->ram);
    ram_discard_staging(&r->ram); /* none there: nothing happens */
    wipe(r, BUDGET);
    assert_int_equal(entries(r), 1);
    check_file(unit_path(r->path, "secrets/token"));
}

/* --- wiping --- */

/* Marked as a discarded vault is. Returns a descriptor of it. */
static int marked_tree(struct run *r)
{
    int fd;

    make_dir(r, ".wiping-0");
    fd = openat(r->ram.dir, ".wiping-0", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int down(int fd, const char *name)
{
    int next;

    assert_int_equal(mkdirat(fd, name, 0700), 0);
    next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(next >= 0);
    return next;
}

static void touch(int fd, const char *name)
{
    int file = openat(fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(file >= 0);
    close(file);
}

static void wiping_nothing_is_done_at_once(void **state)
{
    struct run *r = *state;

    assert_int_equal(ram_wipe_some(&r->ram, BUDGET), 0);
}

/* Levels of a deep tree, each with a mode, a file and a second directory. */
static void make_deep(int fd, int levels, mode_t mode)
{
    int *fds = calloc((size_t)levels + 1, sizeof *fds);

    assert_non_null(fds);
    fds[0] = fd;
    for (int i = 0; i < levels; i++) {
        touch(fds[i], "file");
        close(down(fds[i], "beside"));
        fds[i + 1] = down(fds[i], "d");
    }
    for (int i = levels; i > 0; i--) {
        assert_int_equal(fchmod(fds[i], mode), 0);
        close(fds[i]);
    }
    free(fds);
}

static void a_tree_of_500_levels_goes_with_a_handful_of_descriptors(void **state)
{
    struct run *r = *state;
    int fd = marked_tree(r), before;

    make_deep(fd, 500, 0700);
    close(fd);
    before = unit_open_files();
    wipe(r, BUDGET);
    assert_int_equal(unit_open_files(), before);
    assert_int_equal(entries(r), 0);
}

static void directories_without_permissions_go_too(void **state)
{
    static const mode_t MODES[] = {0000, 0500, 0444, 0111, 0222};
    struct run *r = *state;

    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++) {
        int fd = marked_tree(r);

        make_deep(fd, 20, MODES[i]);
        assert_int_equal(fchmod(fd, MODES[i]), 0);
        close(fd);
        wipe(r, BUDGET);
        assert_int_equal(entries(r), 0);
    }
}

static int count_tree(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), n = 0;

    if (fd < 0)
        return 0;
    assert_int_equal(dir_each(fd, count_one, &n), 0);
    close(fd);
    return n;
}

static void three_thousand_files_go_in_steps_of_the_budget(void **state)
{
    struct run *r = *state;
    int fd = marked_tree(r), left = 3000, rc, calls = 0;
    char name[16];

    for (int i = 0; i < left; i++) {
        (void)snprintf(name, sizeof name, "f%d", i);
        touch(fd, name);
    }
    close(fd);
    do {
        int now;

        rc = ram_wipe_some(&r->ram, BUDGET);
        now = count_tree(r->ram.dir, ".wiping-0");
        assert_true(rc >= 0 && left - now <= BUDGET);
        assert_true(rc == 0 || now < left);
        left = now;
        calls++;
    } while (rc > 0);
    assert_true(calls >= 3000 / BUDGET && calls <= 2 * 3000 / BUDGET);
    assert_int_equal(entries(r), 0);
}

static void a_wide_and_deep_tree_goes_whatever_the_budget(void **state)
{
    static const int BUDGETS[] = {2, 3, 7, 50, 100000};
    struct run *r = *state;

    for (size_t i = 0; i < sizeof BUDGETS / sizeof *BUDGETS; i++) {
        int fd = marked_tree(r);

        for (int a = 0; a < 12; a++) {
            char name[16];
            int sub;

            (void)snprintf(name, sizeof name, "d%d", a); /* the names that wiping itself gives */
            sub = down(fd, name);
            for (int b = 0; b < 6; b++) {
                int leaf;

                (void)snprintf(name, sizeof name, "d%d", b);
                leaf = down(sub, name);
                touch(leaf, "x");
                close(down(leaf, "d0"));
                close(leaf);
            }
            close(sub);
        }
        close(fd);
        wipe(r, BUDGETS[i]);
        assert_int_equal(entries(r), 0);
    }
}

static void links_are_removed_and_what_they_point_to_stays(void **state)
{
    struct run *r = *state;
    int fd = marked_tree(r), sub = down(fd, "sub");

    make_dir(r, "elsewhere");
    make_file(r, "elsewhere/token");
    assert_int_equal(fchmodat(r->ram.dir, "elsewhere", 0500, 0), 0);
    assert_int_equal(symlinkat("../elsewhere", fd, "link"), 0);
    assert_int_equal(symlinkat("../../elsewhere", sub, "link"), 0);
    assert_int_equal(symlinkat("../elsewhere/token", fd, "to-file"), 0);
    assert_int_equal(fchmod(sub, 0500), 0);
    close(sub);
    close(fd);
    assert_int_equal(symlinkat("elsewhere", r->ram.dir, ".wiping-1"), 0);
    wipe(r, BUDGET);
    assert_int_equal(entries(r), 1);
    assert_int_equal(mode_of(r, "elsewhere"), 0500);
    check_file(unit_path(r->path, "elsewhere/token"));
}

static void things_of_every_kind_go(void **state)
{
    struct run *r = *state;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = marked_tree(r), sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char longest[256];

    memset(longest, 'n', 255);
    longest[255] = '\0';
    assert_int_equal(mkfifoat(fd, "fifo", 0), 0);
    (void)snprintf(name.sun_path, sizeof name.sun_path, "/proc/self/fd/%d/sock", fd);
    assert_int_equal(bind(sock, (struct sockaddr *)&name, sizeof name), 0);
    close(sock);
    touch(fd, longest);
    touch(fd, "a\nb");
    touch(fd, "\xff\xfe");
    touch(fd, ".stale-0"); /* a name of ours, but inside a vault */
    assert_int_equal(linkat(fd, longest, fd, "second-name", 0), 0);
    close(fd);
    make_file(r, ".wiping-1"); /* no directory */
    wipe(r, BUDGET);
    assert_int_equal(entries(r), 0);
}

static void only_what_is_marked_is_wiped(void **state)
{
    struct run *r = *state;

    open_vault(r);
    make_dir(r, ".stale-0");
    make_dir(r, ".wiping"); /* not a mark: it lacks its number */
    make_dir(r, ".locking");
    make_file(r, "control.sock");
    close(marked_tree(r));
    wipe(r, BUDGET);
    assert_int_equal(entries(r), 5);
    assert_false(exists(r, ".wiping-0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_directory_that_is_not_ram_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_directory_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_path_leaves_the_reason_in_its_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_that_others_may_enter_is_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_of_somebody_else_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sticky_directory_of_roots_is_taken_as_it_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_that_can_not_be_used_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_tree_found_at_the_start_is_kept_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_start_keeps_what_it_finds_beside_what_was_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_gap_among_the_kept_is_filled_and_all_are_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_directory_in_the_vaults_place_is_just_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_or_link_in_the_vaults_place_is_kept_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_link_points_to_keeps_its_mode, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_killed_unlock_or_lock_left_is_removed_and_the_kept_stay, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_staged_tree_is_seen_by_nobody_until_it_is_published, set_up, tear_down),
        cmocka_unit_test_setup_teardown(staging_starts_empty_and_0700_whatever_was_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(staging_sets_aside_what_stands_in_the_vaults_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(publishing_replaces_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_directory_is_not_published, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_vault_hides_and_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_tree_in_the_vaults_place_is_not_ours, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_discarded_tree_that_somebody_puts_back_is_not_ours, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_discarded_vault_is_gone_at_once_and_wiped_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_hidden_vault_is_discarded_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_staging_tree_is_discarded_and_the_vault_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wiping_nothing_is_done_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_tree_of_500_levels_goes_with_a_handful_of_descriptors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(directories_without_permissions_go_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(three_thousand_files_go_in_steps_of_the_budget, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wide_and_deep_tree_goes_whatever_the_budget, set_up, tear_down),
        cmocka_unit_test_setup_teardown(links_are_removed_and_what_they_point_to_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(things_of_every_kind_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_what_is_marked_is_wiped, set_up, tear_down),
    };

    unit_drop_root();
    return cmocka_run_group_tests_name("ram", tests, NULL, NULL);
}
