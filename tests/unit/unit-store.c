/* unit-store - the vault file and the names beside it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../vault/store.h"
#include "unit.h"

struct place {
    char *dir;
    struct store s;
    struct err e;
};

static int set_up(void **state)
{
    static struct place p;

    memset(&p, 0, sizeof p);
    p.dir = unit_dir(false);
    *state = &p;
    return store_open(&p.s, unit_path(p.dir, "vault.tpv"), 0, &p.e);
}

static int tear_down(void **state)
{
    struct place *p = *state;

    store_close(&p->s);
    unit_remove(p->dir);
    return 0;
}

static const char *in(const struct place *p, const char *name)
{
    return unit_path(p->dir, name);
}

static bool exists(const struct place *p, const char *name)
{
    struct stat sb;

    return lstat(in(p, name), &sb) == 0;
}

static int entries(const struct place *p)
{
    DIR *dir = opendir(p->dir);
    int n = -2;

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void check(const struct place *p, const char *name, const char *content)
{
    char text[64];

    (void)unit_read(in(p, name), text, sizeof text);
    if (strcmp(text, content) != 0)
        fail_msg("%s holds %s, not %s", name, text, content);
}

/* One save with that content, up to its commit. */
static int save(struct place *p, const char *content, int fresh)
{
    int fd = store_begin(&p->s, &p->e);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    close(fd);
    return store_commit(&p->s, fresh, &p->e);
}

static void save_number(struct place *p, int n)
{
    char text[16];

    (void)snprintf(text, sizeof text, "save %d", n);
    assert_int_equal(save(p, text, 0), 0);
}

static void word_is(const struct place *p, const char *word, int code)
{
    assert_string_equal(p->e.word, word);
    assert_int_equal(p->e.code, code);
}

/* --- opening --- */

static void a_missing_directory_is_no_vault_and_can_be_made(void **state)
{
    struct place *p = *state;
    struct stat sb;
    struct store s;

    assert_int_equal(store_open(&s, in(p, "new/vault.tpv"), 0, &p->e), -1);
    word_is(p, "no-vault", ERR_NO_VAULT);
    store_close(&s);
    assert_int_equal(store_open(&s, in(p, "new/vault.tpv"), 1, &p->e), 0);
    assert_int_equal(stat(in(p, "new"), &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0700);
    store_close(&s);
    assert_int_equal(store_open(&s, in(p, "new/vault.tpv"), 1, &p->e), 0); /* it is there already */
    store_close(&s);
    assert_int_equal(store_open(&s, in(p, "a/b/vault.tpv"), 1, &p->e), -1); /* one level, no more */
    word_is(p, "cant-create", ERR_CANT_CREATE);
    store_close(&s);
}

static void a_path_that_names_no_file_is_refused(void **state)
{
    static const char *const PATHS[] = {"", "vault.tpv", "/", "/tmp/"};
    struct place *p = *state;
    char longer[STORE_NAME_MAX + 8];
    struct store s;

    memset(longer, 'x', sizeof longer);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        assert_int_equal(store_open(&s, PATHS[i], 0, &p->e), -1);
        assert_true(s.dir == -1 && s.lock == -1);
    }
    assert_int_equal(store_open(&s, longer, 0, &p->e), -1);
    assert_int_equal(store_open(&s, in(p, "vault.tpv/"), 0, &p->e), -1);
}

static void a_vault_right_below_the_root_directory_can_be_named(void **state)
{
    struct place *p = *state;
    struct store s;

    assert_int_equal(store_open(&s, "/no-such-vault.tpv", 0, &p->e), 0);
    assert_int_equal(store_exists(&s, &p->e), 0);
    store_close(&s);
}

static void only_a_regular_file_is_read(void **state)
{
    struct place *p = *state;
    uint64_t size = 0;
    int fd;

    assert_int_equal(store_exists(&p->s, &p->e), 0);
    assert_int_equal(store_read(&p->s, &size, &p->e), -1);
    word_is(p, "no-vault", ERR_NO_VAULT);

    unit_write(in(p, "elsewhere"), "12345", 5);
    assert_int_equal(symlink("elsewhere", in(p, "vault.tpv")), 0);
    assert_int_equal(store_exists(&p->s, &p->e), 1);
    assert_int_equal(store_read(&p->s, &size, &p->e), -1);
    word_is(p, "not-a-vault", ERR_DAMAGED);
    assert_int_equal(unlink(in(p, "vault.tpv")), 0);

    assert_int_equal(mkdir(in(p, "vault.tpv"), 0700), 0);
    assert_int_equal(store_read(&p->s, &size, &p->e), -1);
    word_is(p, "not-a-vault", ERR_DAMAGED);
    assert_int_equal(rmdir(in(p, "vault.tpv")), 0);

    assert_int_equal(mkfifo(in(p, "vault.tpv"), 0600), 0);
    assert_int_equal(store_read(&p->s, &size, &p->e), -1); /* and does not wait for a writer */
    word_is(p, "not-a-vault", ERR_DAMAGED);
    assert_int_equal(unlink(in(p, "vault.tpv")), 0);

    assert_int_equal(rename(in(p, "elsewhere"), in(p, "vault.tpv")), 0);
    fd = store_read(&p->s, &size, &p->e);
    assert_true(fd >= 0);
    assert_int_equal(size, 5);
    close(fd);
}

static void reading_goes_on_in_a_directory_that_was_moved(void **state)
{
    struct place *p = *state;
    uint64_t size;
    int fd;

    unit_write(in(p, "vault.tpv"), "12345", 5);
    assert_int_equal(mkdir(in(p, "new"), 0700), 0);
    assert_int_equal(rename(in(p, "vault.tpv"), in(p, "new/vault.tpv")), 0);
    store_close(&p->s);
    assert_int_equal(store_open(&p->s, in(p, "new/vault.tpv"), 0, &p->e), 0);
    assert_int_equal(rename(in(p, "new"), in(p, "moved")), 0);
    fd = store_read(&p->s, &size, &p->e);
    assert_true(fd >= 0);
    close(fd);
}

/* --- the lock --- */

static void a_lock_held_by_another_process_is_busy_until_that_ends(void **state)
{
    struct place *p = *state;
    int pair[2], status;
    char byte;
    pid_t child;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    child = fork();
    if (child == 0) {
        int fd = open(in(p, "vault.tpv.lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        close(pair[0]);
        byte = fd >= 0 && flock(fd, LOCK_EX) == 0;
        (void)!write(pair[1], &byte, 1);
        (void)!read(pair[1], &byte, 1); /* until the test is done with it */
        _exit(0);
    }
    close(pair[1]);
    assert_int_equal(read(pair[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    assert_int_equal(store_lock(&p->s, &p->e), -1);
    word_is(p, "busy", ERR_BUSY);
    close(pair[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    store_close(&p->s);
    assert_int_equal(store_open(&p->s, in(p, "vault.tpv"), 0, &p->e), 0);
    assert_int_equal(store_lock(&p->s, &p->e), 0);
}

static void a_busy_lock_sweeps_nothing(void **state)
{
    struct place *p = *state;
    int fd = open(in(p, "vault.tpv.lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    unit_write(in(p, "vault.tpv.tmp-0123456789abcdef"), "x", 1);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(store_lock(&p->s, &p->e), -1);
    assert_true(exists(p, "vault.tpv.tmp-0123456789abcdef")); /* it is the other's, under way */
    close(fd);
}

static void the_lock_sweeps_temporary_files_of_this_vault_and_nothing_else(void **state)
{
    static const char *const KEPT[] = {
        "vault.tpv",      "vault.tpv.1",        "vault.tpv.5",       "vault.tpv.conflict-3", "vault.tpv.emergency-3",
        "vault.tpv.rescue", "vault.tpv.tmp",    "other.tpv.tmp-0123456789abcdef", "vault.tpv2.tmp-0123456789abcdef",
        "xvault.tpv.tmp-0123456789abcdef",
    };
    struct place *p = *state;

    for (size_t i = 0; i < sizeof KEPT / sizeof *KEPT; i++)
        unit_write(in(p, KEPT[i]), "x", 1);
    unit_write(in(p, "vault.tpv.tmp-0123456789abcdef"), "x", 1);
    unit_write(in(p, "vault.tpv.tmp-fedcba9876543210"), "x", 1);
    assert_int_equal(store_lock(&p->s, &p->e), 0);
    for (size_t i = 0; i < sizeof KEPT / sizeof *KEPT; i++)
        assert_true(exists(p, KEPT[i]));
    assert_int_equal(entries(p), sizeof KEPT / sizeof *KEPT + 1); /* and the lock */
}

static void the_lock_is_a_file_of_its_own_and_stays(void **state)
{
    struct place *p = *state;
    struct stat sb;

    assert_int_equal(store_lock(&p->s, &p->e), 0);
    store_close(&p->s);
    assert_int_equal(lstat(in(p, "vault.tpv.lock"), &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    assert_int_equal(sb.st_size, 0);
}

static void a_link_in_the_locks_place_is_not_followed(void **state)
{
    struct place *p = *state;

    assert_int_equal(symlink("victim", in(p, "vault.tpv.lock")), 0);
    assert_int_equal(store_lock(&p->s, &p->e), -1);
    assert_false(exists(p, "victim"));
}

/* --- saving --- */

static void a_temporary_file_is_private_from_its_first_moment(void **state)
{
    struct place *p = *state;
    mode_t mask = umask(0);
    int fd = store_begin(&p->s, &p->e);
    struct stat sb;

    (void)umask(mask);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    assert_int_equal(strncmp(p->s.tmp, "vault.tpv.tmp-", 14), 0);
    assert_int_equal(strlen(p->s.tmp), 14 + 16);
    assert_int_equal(strspn(p->s.tmp + 14, "0123456789abcdef"), 16);
    close(fd);
    store_abandon(&p->s);
    assert_int_equal(entries(p), 0);
    assert_string_equal(p->s.tmp, "");
    store_abandon(&p->s); /* none there: nothing happens */
}

static void two_saves_have_temporary_names_of_their_own(void **state)
{
    struct place *p = *state;
    char first[sizeof p->s.tmp];
    int fd = store_begin(&p->s, &p->e);

    close(fd);
    memcpy(first, p->s.tmp, sizeof first);
    fd = store_begin(&p->s, &p->e);
    close(fd);
    assert_string_not_equal(first, p->s.tmp);
}

static void an_abandoned_save_leaves_the_vault_as_it_was(void **state)
{
    struct place *p = *state;
    int fd;

    save_number(p, 1);
    fd = store_begin(&p->s, &p->e);
    assert_int_equal(write(fd, "half", 4), 4);
    close(fd);
    store_abandon(&p->s);
    check(p, "vault.tpv", "save 1");
    assert_int_equal(entries(p), 1);
}

static void the_last_five_generations_are_kept_and_no_more(void **state)
{
    struct place *p = *state;
    char name[32], content[32];

    for (int n = 1; n <= 12; n++) {
        int kept = n - 1 < STORE_GENERATIONS ? n - 1 : STORE_GENERATIONS;

        save_number(p, n);
        (void)snprintf(content, sizeof content, "save %d", n);
        check(p, "vault.tpv", content);
        for (int i = 1; i <= kept; i++) {
            (void)snprintf(name, sizeof name, "vault.tpv.%d", i);
            (void)snprintf(content, sizeof content, "save %d", n - i);
            check(p, name, content);
        }
        assert_int_equal(entries(p), kept + 1);
    }
}

static void a_gap_among_the_generations_is_filled_before_any_is_pushed_out(void **state)
{
    struct place *p = *state;

    for (int n = 1; n <= 6; n++)
        save_number(p, n);
    assert_int_equal(unlink(in(p, "vault.tpv.3")), 0);
    save_number(p, 7);
    check(p, "vault.tpv.1", "save 6");
    check(p, "vault.tpv.2", "save 5");
    check(p, "vault.tpv.3", "save 4");
    check(p, "vault.tpv.4", "save 2");
    check(p, "vault.tpv.5", "save 1");
    assert_int_equal(unlink(in(p, "vault.tpv.1")), 0);
    save_number(p, 8);
    check(p, "vault.tpv.1", "save 7");
    check(p, "vault.tpv.2", "save 5");
    check(p, "vault.tpv.5", "save 1");
}

static void names_that_look_like_generations_are_left_alone(void **state)
{
    struct place *p = *state;

    unit_write(in(p, "vault.tpv.6"), "mine", 4);
    unit_write(in(p, "vault.tpv.10"), "mine", 4);
    unit_write(in(p, "vault.tpv.1.bak"), "mine", 4);
    for (int n = 1; n <= 9; n++)
        save_number(p, n);
    check(p, "vault.tpv.6", "mine");
    check(p, "vault.tpv.10", "mine");
    check(p, "vault.tpv.1.bak", "mine");
}

/* The save was killed between the link and the rename: both names are one file, and renaming one name
 * of a file to another does nothing at all. */
static void a_save_cut_between_link_and_rename_loses_no_generation(void **state)
{
    struct place *p = *state;

    for (int n = 1; n <= 3; n++)
        save_number(p, n);
    assert_int_equal(rename(in(p, "vault.tpv.2"), in(p, "vault.tpv.3")), 0);
    assert_int_equal(rename(in(p, "vault.tpv.1"), in(p, "vault.tpv.2")), 0);
    assert_int_equal(link(in(p, "vault.tpv"), in(p, "vault.tpv.1")), 0);
    save_number(p, 4);
    check(p, "vault.tpv", "save 4");
    check(p, "vault.tpv.1", "save 3");
    save_number(p, 5);
    check(p, "vault.tpv", "save 5");
    check(p, "vault.tpv.1", "save 4");
    check(p, "vault.tpv.2", "save 3");
    check(p, "vault.tpv.4", "save 1"); /* still there, and no place was spent on the cut save */
    assert_false(exists(p, "vault.tpv.5"));
}

static void saves_that_never_get_into_place_push_no_generation_out(void **state)
{
    struct place *p = *state;

    for (int n = 1; n <= 6; n++)
        save_number(p, n);
    for (int n = 0; n < 7; n++) {
        int fd = store_begin(&p->s, &p->e);

        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(unlinkat(p->s.dir, p->s.tmp, 0), 0); /* somebody took it away */
        assert_int_equal(store_commit(&p->s, 0, &p->e), -1);
        store_abandon(&p->s);
    }
    check(p, "vault.tpv", "save 6");
    check(p, "vault.tpv.2", "save 5");
    check(p, "vault.tpv.5", "save 2");
}

/* A file system without hard links: this takes the place of the C library's. */
static int links_refused;

int linkat(int from, const char *name, int to, const char *other, int flags)
{
    if (links_refused) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_linkat, from, name, to, other, flags);
}

static void where_links_are_refused_a_copy_is_kept(void **state)
{
    struct place *p = *state;

    links_refused = 1;
    for (int n = 1; n <= 3; n++)
        save_number(p, n);
    links_refused = 0;
    check(p, "vault.tpv", "save 3");
    check(p, "vault.tpv.1", "save 2");
    check(p, "vault.tpv.2", "save 1");
    assert_int_equal(entries(p), 3);
}

static void saves_cut_again_and_again_do_not_keep_the_next_from_its_place(void **state)
{
    struct place *p = *state;
    char name[32];

    save_number(p, 1);
    for (int i = 1; i <= STORE_GENERATIONS; i++) {
        (void)snprintf(name, sizeof name, "vault.tpv.%d", i);
        assert_int_equal(link(in(p, "vault.tpv"), in(p, name)), 0);
    }
    save_number(p, 2);
    check(p, "vault.tpv", "save 2");
    check(p, "vault.tpv.1", "save 1");
    save_number(p, 3);
    check(p, "vault.tpv", "save 3");
    check(p, "vault.tpv.1", "save 2");
}

static void the_first_save_of_a_vault_that_vanished_makes_it_anew(void **state)
{
    struct place *p = *state;

    save_number(p, 1);
    save_number(p, 2);
    assert_int_equal(unlink(in(p, "vault.tpv")), 0);
    save_number(p, 3);
    check(p, "vault.tpv", "save 3");
    check(p, "vault.tpv.2", "save 1");
    assert_false(exists(p, "vault.tpv.1")); /* nothing was in place to keep */
}

static void a_new_vault_never_replaces_one(void **state)
{
    struct place *p = *state;

    assert_int_equal(save(p, "first", 1), 0);
    check(p, "vault.tpv", "first");
    assert_int_equal(entries(p), 1);
    assert_int_equal(save(p, "second", 1), -1);
    word_is(p, "exists", ERR_CANT_CREATE);
    check(p, "vault.tpv", "first");
    store_abandon(&p->s);
    assert_int_equal(entries(p), 1);
}

static void a_new_vault_does_not_even_replace_a_dangling_link(void **state)
{
    struct place *p = *state;

    assert_int_equal(symlink("nowhere", in(p, "vault.tpv")), 0);
    assert_int_equal(save(p, "first", 1), -1);
    word_is(p, "exists", ERR_CANT_CREATE);
    assert_false(exists(p, "nowhere"));
}

static void a_conflict_keeps_both_and_says_where(void **state)
{
    struct place *p = *state;
    int fd;

    save_number(p, 1);
    fd = store_begin(&p->s, &p->e);
    assert_int_equal(write(fd, "ours", 4), 4);
    close(fd);
    assert_int_equal(store_conflict(&p->s, 18446744073709551615u, &p->e), -1);
    word_is(p, "conflict", ERR_BUSY);
    assert_non_null(strstr(p->e.text, "vault.tpv.conflict-18446744073709551615"));
    check(p, "vault.tpv.conflict-18446744073709551615", "ours");
    check(p, "vault.tpv", "save 1");
    assert_int_equal(entries(p), 2);
    store_abandon(&p->s); /* it is no temporary file any more */
    assert_int_equal(entries(p), 2);
}

static void a_second_conflict_of_a_generation_keeps_the_first(void **state)
{
    struct place *p = *state;

    save_number(p, 1);
    for (int n = 0; n < 3; n++) {
        int fd = store_begin(&p->s, &p->e);

        assert_int_equal(write(fd, n ? n == 1 ? "two" : "six" : "one", 3), 3);
        close(fd);
        assert_int_equal(store_conflict(&p->s, 5, &p->e), -1);
        word_is(p, "conflict", ERR_BUSY);
    }
    check(p, "vault.tpv.conflict-5", "one");
    check(p, "vault.tpv.conflict-5-1", "two");
    check(p, "vault.tpv.conflict-5-2", "six");
}

static void a_save_that_can_not_be_put_in_place_keeps_the_vault(void **state)
{
    struct place *p = *state;

    assert_int_equal(mkdir(in(p, "vault.tpv"), 0700), 0);
    unit_write(in(p, "vault.tpv/file"), "x", 1);
    assert_int_equal(save(p, "new", 0), -1);
    assert_int_equal(p->e.code, ERR_IO);
    store_abandon(&p->s);
    assert_true(exists(p, "vault.tpv/file"));
    assert_int_equal(entries(p), 1);
}

static void the_longest_name_has_room_for_all_its_endings(void **state)
{
    struct place *p = *state;
    char name[STORE_NAME_MAX], conflict[STORE_NAME_MAX + 64];
    int fd;

    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    store_close(&p->s);
    assert_int_equal(store_open(&p->s, in(p, name), 0, &p->e), 0);
    save_number(p, 1);
    save_number(p, 2);
    check(p, name, "save 2");
    fd = store_begin(&p->s, &p->e);
    close(fd);
    (void)store_conflict(&p->s, 18446744073709551615u, &p->e);
    (void)snprintf(conflict, sizeof conflict, "%s.conflict-18446744073709551615", name);
    assert_true(exists(p, conflict));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_missing_directory_is_no_vault_and_can_be_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_path_that_names_no_file_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_vault_right_below_the_root_directory_can_be_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_a_regular_file_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reading_goes_on_in_a_directory_that_was_moved, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lock_held_by_another_process_is_busy_until_that_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_busy_lock_sweeps_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_lock_sweeps_temporary_files_of_this_vault_and_nothing_else, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_lock_is_a_file_of_its_own_and_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_link_in_the_locks_place_is_not_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_temporary_file_is_private_from_its_first_moment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_saves_have_temporary_names_of_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_abandoned_save_leaves_the_vault_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_five_generations_are_kept_and_no_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_gap_among_the_generations_is_filled_before_any_is_pushed_out, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(names_that_look_like_generations_are_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_save_cut_between_link_and_rename_loses_no_generation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(saves_cut_again_and_again_do_not_keep_the_next_from_its_place, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_first_save_of_a_vault_that_vanished_makes_it_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_vault_never_replaces_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_vault_does_not_even_replace_a_dangling_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_conflict_keeps_both_and_says_where, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_second_conflict_of_a_generation_keeps_the_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(saves_that_never_get_into_place_push_no_generation_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(where_links_are_refused_a_copy_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_save_that_can_not_be_put_in_place_keeps_the_vault, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_longest_name_has_room_for_all_its_endings, set_up, tear_down),
    };

    unit_drop_root();
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
