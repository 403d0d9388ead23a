/* unit-store - the vault file and the names beside it. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
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

static int save_how(struct place *p, const void *content, size_t len, int how)
{
    int fd = store_begin(&p->s, &p->e);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, len), len);
    close(fd);
    return store_commit(&p->s, how, &p->e);
}

/* One save with that content, up to its commit. */
static int save(struct place *p, const char *content, int fresh)
{
    return save_how(p, content, strlen(content), fresh ? STORE_FRESH : STORE_KEEP);
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

/* --- what is kept --- */

static const uint8_t NOW[STORE_MARK] = "since the unlock", BEFORE[STORE_MARK] = "of another life ";

/* A file that looks like a vault as far as the store looks: one byte that is its own, and the mark where
 * the file salt begins. */
static void save_marked(struct place *p, const uint8_t mark[STORE_MARK], char own, int how)
{
    char bytes[200];

    memset(bytes, own, sizeof bytes);
    memcpy(bytes + 48, mark, STORE_MARK);
    assert_int_equal(save_how(p, bytes, sizeof bytes, how), 0);
}

/* "edcba": the vault in place, .1, .2 ...; '-' for none. */
static const char *kept(const struct place *p)
{
    static char all[64];
    char name[32] = "vault.tpv", bytes[256];

    for (size_t i = 0; i < 12; i++) {
        if (i > 0)
            (void)snprintf(name, sizeof name, "vault.tpv.%zu", i);
        all[i] = '-';
        if (exists(p, name) && unit_read(in(p, name), bytes, sizeof bytes) > 0)
            all[i] = bytes[0];
        all[i + 1] = '\0';
    }
    while (strlen(all) > 1 && all[strlen(all) - 1] == '-')
        all[strlen(all) - 1] = '\0';
    return all;
}

static void as_many_generations_are_kept_as_asked_for(void **state)
{
    static const struct {
        unsigned keep;
        const char *want;
    } CASES[] = {{1, "lk"}, {2, "lkj"}, {5, "lkjihg"}, {9, "lkjihgfedc"}, {0, "lkjihg"}};
    struct place *p = *state;

    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        store_history(&p->s, CASES[i].keep, NULL);
        for (char c = 'a'; c <= 'l'; c++)
            save_marked(p, BEFORE, c, STORE_KEEP);
        assert_string_equal(kept(p), CASES[i].want);
        tear_down(state);
        assert_int_equal(set_up(state), 0);
        p = *state;
    }
    store_history(&p->s, 1000, NULL);
    assert_int_equal(p->s.keep, STORE_PLACES);
}

static void a_smaller_number_deletes_nothing_that_was_kept_before(void **state)
{
    struct place *p = *state;

    store_history(&p->s, 8, NULL);
    for (char c = 'a'; c <= 'i'; c++)
        save_marked(p, BEFORE, c, STORE_KEEP);
    assert_string_equal(kept(p), "ihgfedcba");
    store_history(&p->s, 2, NULL);
    save_marked(p, BEFORE, 'j', STORE_KEEP);
    assert_string_equal(kept(p), "jihfedcba"); /* .2 made room, .3 and above are not touched */
}

/* A pod that has not read its configuration yet, and rewrites the file. */
static void where_nobody_said_how_many_none_is_pushed_out_without_need(void **state)
{
    struct place *p = *state;

    store_history(&p->s, 8, NULL);
    for (char c = 'a'; c <= 'i'; c++)
        save_marked(p, BEFORE, c, STORE_KEEP);
    store_history(&p->s, 0, NULL);
    save_marked(p, BEFORE, 'j', STORE_KEEP);
    assert_string_equal(kept(p), "jihgfedcb");
    assert_int_equal(unlink(in(p, "vault.tpv.7")), 0); /* .8 is beyond a gap, and that is filled */
    store_history(&p->s, 0, NULL);
    save_marked(p, BEFORE, 'k', STORE_KEEP);
    assert_string_equal(kept(p), "kjihgfe-b");
}

static void what_was_found_at_the_unlock_outlives_all_saves_until_the_next(void **state)
{
    struct place *p = *state;

    for (char c = 'a'; c <= 'h'; c++)
        save_marked(p, BEFORE, c, STORE_KEEP);
    assert_string_equal(kept(p), "hgfedc");
    store_history(&p->s, 5, NOW);
    for (char c = 'i'; c <= 'm'; c++)
        save_marked(p, NOW, c, STORE_KEEP);
    assert_string_equal(kept(p), "mlkjih");
    for (char c = 'n'; c <= 'z'; c++)
        save_marked(p, NOW, c, STORE_KEEP);
    assert_string_equal(kept(p), "zyxwvh");
    store_history(&p->s, 5, BEFORE); /* the next unlock draws another mark: h is one of many again */
    save_marked(p, BEFORE, 'A', STORE_KEEP);
    assert_string_equal(kept(p), "Azyxwv");
}

static void with_one_place_it_stays_in_that(void **state)
{
    struct place *p = *state;

    save_marked(p, BEFORE, 'a', STORE_KEEP);
    save_marked(p, BEFORE, 'b', STORE_KEEP);
    store_history(&p->s, 1, NOW);
    for (char c = 'c'; c <= 'f'; c++) {
        char want[3] = {c, 'b', '\0'};

        save_marked(p, NOW, c, STORE_KEEP);
        assert_string_equal(kept(p), want);
    }
    assert_int_equal(entries(p), 2);
}

static void first_is(const struct place *p, const char *name, char own)
{
    char bytes[256];

    assert_int_equal(unit_read(in(p, name), bytes, sizeof bytes), 200);
    assert_int_equal(bytes[0], own);
}

/* An old file that can't be read any more is neither what was found nor a reason to drop that. */
static void a_generation_that_can_not_be_read_pushes_no_other_out(void **state)
{
    struct place *p = *state;

    for (int unreadable = 2; unreadable <= 5; unreadable += 3) {
        char name[32];

        (void)snprintf(name, sizeof name, "vault.tpv.%d", unreadable);
        store_history(&p->s, 5, BEFORE);
        for (char c = 'a'; c <= 'f'; c++)
            save_marked(p, BEFORE, c, STORE_KEEP);
        store_history(&p->s, 5, NOW);
        for (char c = 'g'; c <= 'k'; c++)
            save_marked(p, NOW, c, STORE_KEEP);
        assert_string_equal(kept(p), "kjihgf");
        assert_int_equal(unlink(in(p, name)), 0);
        assert_int_equal(symlink("nowhere", in(p, name)), 0);
        save_marked(p, NOW, 'l', STORE_KEEP);
        assert_int_equal(readlink(in(p, unreadable == 2 ? "vault.tpv.3" : "vault.tpv.5"), name, sizeof name),
                         unreadable == 2 ? 7 : -1);
        first_is(p, "vault.tpv.5", unreadable == 2 ? 'f' : 'g');
        tear_down(state);
        assert_int_equal(set_up(state), 0);
        p = *state;
    }
}

/* A new vault: there was nothing to find. */
static void without_anything_found_the_oldest_goes(void **state)
{
    struct place *p = *state;

    store_history(&p->s, 3, NOW);
    for (char c = 'a'; c <= 'g'; c++)
        save_marked(p, NOW, c, STORE_KEEP);
    assert_string_equal(kept(p), "gfed");
}

static void a_save_that_replaces_makes_no_generation(void **state)
{
    struct place *p = *state;

    store_history(&p->s, 3, NOW);
    save_marked(p, NOW, 'a', STORE_KEEP);
    save_marked(p, NOW, 'b', STORE_KEEP);
    for (char c = 'c'; c <= 'h'; c++)
        save_marked(p, NOW, c, STORE_REPLACE);
    assert_string_equal(kept(p), "ha");
    save_marked(p, NOW, 'i', STORE_KEEP);
    assert_string_equal(kept(p), "iha");
}

static void what_was_found_at_the_unlock_is_never_replaced(void **state)
{
    struct place *p = *state;

    save_marked(p, BEFORE, 'a', STORE_KEEP);
    store_history(&p->s, 3, NOW);
    save_marked(p, NOW, 'b', STORE_REPLACE);
    assert_string_equal(kept(p), "ba");
    save_marked(p, NOW, 'c', STORE_REPLACE);
    assert_string_equal(kept(p), "ca");
}

static void the_newest_kept_one_can_be_looked_at(void **state)
{
    struct place *p = *state;
    uint8_t bytes[300];

    assert_int_equal(store_newest_kept(&p->s, bytes, sizeof bytes), 0);
    save_marked(p, NOW, 'a', STORE_KEEP);
    save_marked(p, NOW, 'b', STORE_KEEP);
    assert_int_equal(store_newest_kept(&p->s, bytes, sizeof bytes), 200);
    assert_int_equal(bytes[0], 'a');
    assert_int_equal(store_newest_kept(&p->s, bytes, 100), 100);
    assert_int_equal(rename(in(p, "vault.tpv"), in(p, "elsewhere")), 0);
    assert_int_equal(unlink(in(p, "vault.tpv.1")), 0);
    assert_int_equal(symlink("elsewhere", in(p, "vault.tpv.1")), 0);
    assert_int_equal(store_newest_kept(&p->s, bytes, sizeof bytes), 0); /* a link is nobody's generation */
}

/* A file system without hard links, or without a rename that replaces nothing: these take the place of the
 * C library's, and write down what is done in which order. */
static int links_refused, copy_cut, renameat2_refused;
static char order[256];

static void note(const char *what, const char *name)
{
    const char *ending = strncmp(name, "vault.tpv", 9) == 0 && name[9] ? name + 9 : name;
    size_t n = strlen(order);

    (void)snprintf(order + n, sizeof order - n, "%s %.5s;", what, ending);
}

int linkat(int from, const char *name, int to, const char *other, int flags)
{
    if (links_refused) {
        errno = links_refused;
        return -1;
    }
    return (int)syscall(SYS_linkat, from, name, to, other, flags);
}

int renameat(int from, const char *name, int to, const char *other)
{
    note("rename", other);
    if (copy_cut && strcmp(other, "vault.tpv") == 0) { /* killed, or the power went, just before */
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_renameat2, from, name, to, other, 0);
}

int fsync(int fd)
{
    struct stat sb;

    note("sync", fstat(fd, &sb) == 0 && S_ISDIR(sb.st_mode) ? "dir" : "file");
    return (int)syscall(SYS_fsync, fd);
}

long syscall(long number, ...)
{
    long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    va_list list;
    long a[5];

    va_start(list, number);
    for (int i = 0; i < 5; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_renameat2 && a[4] == 1 && renameat2_refused) {
        errno = renameat2_refused;
        return -1;
    }
    return real(number, a[0], a[1], a[2], a[3], a[4]);
}

static void where_links_are_refused_a_copy_is_kept(void **state)
{
    struct place *p = *state;

    links_refused = EPERM;
    for (int n = 1; n <= 3; n++)
        save_number(p, n);
    links_refused = 0;
    check(p, "vault.tpv", "save 3");
    check(p, "vault.tpv.1", "save 2");
    check(p, "vault.tpv.2", "save 1");
    assert_int_equal(entries(p), 3);
}

static void refused_links_are_said_and_others_are_not(void **state)
{
    static const int REFUSALS[] = {EPERM, EOPNOTSUPP, ENOSYS};
    struct place *p = *state;

    save_number(p, 1);
    save_number(p, 2);
    assert_false(p->s.links_refused);
    for (size_t i = 0; i < sizeof REFUSALS / sizeof *REFUSALS; i++) {
        links_refused = REFUSALS[i];
        save_number(p, 3 + (int)i);
        assert_true(p->s.links_refused);
        links_refused = 0;
    }
    links_refused = EMLINK; /* too many of them on that one file: the file system has links */
    save_number(p, 7);
    assert_false(p->s.links_refused);
    links_refused = EIO; /* no refusal: a save that can't keep what was there is none */
    assert_int_equal(save(p, "save 8", 0), -1);
    links_refused = 0;
    store_abandon(&p->s);
    check(p, "vault.tpv", "save 7");
    check(p, "vault.tpv.2", "save 5");
}

/* Content, then name, then the other's name: no power cut finds the earlier generation under neither. */
static void a_copy_is_durable_under_its_name_before_the_vault_is_replaced(void **state)
{
    struct place *p = *state;

    save_number(p, 1);
    links_refused = EPERM;
    order[0] = '\0';
    save_number(p, 2);
    links_refused = 0;
    assert_string_equal(order, "sync file;rename .1;sync dir;rename vault;sync dir;");
    order[0] = '\0';
    save_number(p, 3);
    assert_string_equal(order, "rename .2;rename vault;sync dir;");
}

static void saves_cut_after_the_copy_push_no_generation_out(void **state)
{
    struct place *p = *state;

    links_refused = EPERM;
    for (int n = 1; n <= 6; n++)
        save_number(p, n);
    for (int n = 0; n < 7; n++) {
        copy_cut = 1;
        assert_int_equal(save(p, "save 7", 0), -1);
        copy_cut = 0;
        store_abandon(&p->s);
    }
    links_refused = 0;
    check(p, "vault.tpv", "save 6");
    check(p, "vault.tpv.1", "save 6"); /* the first of the seven had come that far */
    check(p, "vault.tpv.2", "save 5");
    check(p, "vault.tpv.5", "save 2");
    assert_int_equal(entries(p), 6);
    save_number(p, 7);
    check(p, "vault.tpv.1", "save 6");
    check(p, "vault.tpv.5", "save 2");
}

static void a_copy_left_behind_by_a_killed_save_is_swept(void **state)
{
    struct place *p = *state;
    int status;
    pid_t child;

    save_number(p, 1);
    child = fork();
    if (child == 0) {
        links_refused = EPERM;
        (void)setrlimit(RLIMIT_FSIZE, &(struct rlimit){4, 4}); /* SIGXFSZ in the middle of the copy */
        p->s.tmp[0] = 'x';
        (void)store_commit(&p->s, STORE_KEEP, &p->e);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
    assert_int_equal(entries(p), 2);
    assert_int_equal(store_lock(&p->s, &p->e), 0);
    assert_int_equal(entries(p), 2); /* the vault and the lock */
    check(p, "vault.tpv", "save 1");
}

static void where_no_rename_spares_what_is_there_names_are_taken_first(void **state)
{
    struct place *p = *state;

    links_refused = EPERM;
    renameat2_refused = EINVAL;
    assert_int_equal(save(p, "first", 1), 0);
    assert_true(p->s.links_refused);
    check(p, "vault.tpv", "first");
    assert_int_equal(save(p, "second", 1), -1);
    word_is(p, "exists", ERR_CANT_CREATE);
    store_abandon(&p->s);
    for (int n = 0; n < 2; n++) {
        int fd = store_begin(&p->s, &p->e);

        assert_int_equal(write(fd, n ? "two" : "one", 3), 3);
        close(fd);
        assert_int_equal(store_conflict(&p->s, 5, &p->e), -1);
        word_is(p, "conflict", ERR_BUSY);
    }
    links_refused = renameat2_refused = 0;
    check(p, "vault.tpv", "first");
    check(p, "vault.tpv.conflict-5", "one");
    check(p, "vault.tpv.conflict-5-1", "two");
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

static void conflict_marked(struct place *p, const uint8_t mark[STORE_MARK], char own)
{
    char bytes[200];
    int fd = store_begin(&p->s, &p->e);

    memset(bytes, own, sizeof bytes);
    memcpy(bytes + 48, mark, STORE_MARK);
    assert_int_equal(write(fd, bytes, sizeof bytes), sizeof bytes);
    close(fd);
    assert_int_equal(store_conflict(&p->s, 5, &p->e), -1);
    word_is(p, "conflict", ERR_BUSY);
}

static void a_conflict_that_goes_on_has_one_copy_the_newest(void **state)
{
    struct place *p = *state;

    save_number(p, 1);
    store_history(&p->s, 5, BEFORE);
    conflict_marked(p, BEFORE, 'a');
    store_history(&p->s, 5, NOW);
    for (char c = 'b'; c <= 'f'; c++)
        conflict_marked(p, NOW, c);
    assert_non_null(strstr(p->e.text, "vault.tpv.conflict-5-1"));
    first_is(p, "vault.tpv.conflict-5", 'a'); /* of another life, which nobody may overwrite */
    first_is(p, "vault.tpv.conflict-5-1", 'f');
    check(p, "vault.tpv", "save 1");
    assert_int_equal(entries(p), 3);
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
        cmocka_unit_test_setup_teardown(as_many_generations_are_kept_as_asked_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_smaller_number_deletes_nothing_that_was_kept_before, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(where_nobody_said_how_many_none_is_pushed_out_without_need, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_was_found_at_the_unlock_outlives_all_saves_until_the_next, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(with_one_place_it_stays_in_that, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_generation_that_can_not_be_read_pushes_no_other_out, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(without_anything_found_the_oldest_goes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_save_that_replaces_makes_no_generation, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_was_found_at_the_unlock_is_never_replaced, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_newest_kept_one_can_be_looked_at, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(refused_links_are_said_and_others_are_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_copy_is_durable_under_its_name_before_the_vault_is_replaced, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(saves_cut_after_the_copy_push_no_generation_out, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_copy_left_behind_by_a_killed_save_is_swept, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(where_no_rename_spares_what_is_there_names_are_taken_first, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_conflict_that_goes_on_has_one_copy_the_newest, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_save_that_can_not_be_put_in_place_keeps_the_vault, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_longest_name_has_room_for_all_its_endings, set_up, tear_down),
    };

    unit_drop_root();
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
