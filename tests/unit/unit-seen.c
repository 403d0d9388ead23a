/* unit-seen - an older file in the vault's place is noticed, once, and nothing is ever locked out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../vault/seen.h"
#include "unit.h"

enum { LEN = HEADER_FIXED + HEADER_SLOT + HEADER_SUM + HEADER_HMAC };

struct place {
    char *dir;
    struct store s;
    struct err e;
};

/* As much of a header as is looked at: values, and the hmac at the end of its bytes. */
struct file {
    struct header h;
    uint8_t bytes[LEN];
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

static struct file file(uint64_t gen, uint8_t own)
{
    struct file f;

    memset(&f, 0, sizeof f);
    memset(f.h.vault_id, 0xa5, sizeof f.h.vault_id);
    f.h.gen = gen;
    f.h.saved_at = 1700000000 + gen * 86400;
    memset(f.bytes, own, sizeof f.bytes);
    return f;
}

static void note(struct place *p, struct file f)
{
    seen_note(&p->s, f.bytes, LEN, &f.h);
}

static int check(struct place *p, struct file f, int accept)
{
    memset(&p->e, 0, sizeof p->e);
    return seen_check(&p->s, f.bytes, LEN, &f.h, accept, &p->e);
}

static void refused(struct place *p, struct file f)
{
    assert_int_equal(check(p, f, 0), -1);
    assert_string_equal(p->e.word, "older");
    assert_int_equal(p->e.code, ERR_BUSY);
}

static size_t text_of(const struct place *p, char *text, size_t size)
{
    return unit_read(unit_path(p->dir, "vault.tpv.seen"), text, size);
}

static void nothing_seen_refuses_nothing(void **state)
{
    assert_int_equal(check(*state, file(1, 1), 0), 0);
    assert_int_not_equal(access(unit_path(((struct place *)*state)->dir, "vault.tpv.seen"), F_OK), 0);
}

static void only_a_lower_generation_is_older(void **state)
{
    struct place *p = *state;

    note(p, file(7, 7));
    assert_int_equal(check(p, file(7, 7), 0), 0);
    assert_int_equal(check(p, file(8, 8), 0), 0);
    assert_int_equal(check(p, file(7, 9), 0), 0); /* another one of that generation: no older one */
    refused(p, file(6, 6));
    refused(p, file(1, 1));
}

static void both_dates_and_the_way_out_are_told(void **state)
{
    struct place *p = *state;

    note(p, file(107, 7));
    refused(p, file(3, 3));
    assert_non_null(strstr(p->e.text, "generation 3, saved 2023-11-17T22:13:20Z"));
    assert_non_null(strstr(p->e.text, "generation 107, saved 2024-02-29T22:13:20Z"));
    assert_non_null(strstr(p->e.text, "--accept-older"));
}

static void every_date_is_the_one_that_the_c_library_says(void **state)
{
    static const uint64_t TIMES[] = {1, 951782399, 951782400, 951868800, 1735689599, 1735689600, 4107542399, 253402300799};
    struct place *p = *state;
    char want[64];

    note(p, file(1000, 7));
    for (size_t i = 0; i < sizeof TIMES / sizeof *TIMES; i++) {
        struct file f = file(3, 3);
        time_t t = (time_t)TIMES[i];

        f.h.saved_at = TIMES[i];
        refused(p, f);
        (void)strftime(want, sizeof want, "generation 3, saved %Y-%m-%dT%H:%M:%SZ, and", gmtime(&t));
        if (!strstr(p->e.text, want))
            fail_msg("%s is not in: %s", want, p->e.text);
    }
    for (int i = 0; i < 2; i++) {
        struct file f = file(3, 3);

        f.h.saved_at = i ? UINT64_MAX : 0;
        refused(p, f);
        assert_non_null(strstr(p->e.text, "generation 3, saved at an unknown time, and"));
    }
}

static void a_file_that_was_accepted_is_never_asked_about_again(void **state)
{
    struct place *p = *state;

    note(p, file(7, 7));
    refused(p, file(3, 3));
    assert_int_equal(check(p, file(3, 3), 1), 0);
    assert_int_equal(check(p, file(3, 3), 0), 0);
    refused(p, file(3, 4)); /* that one was not */
    assert_int_equal(check(p, file(3, 4), 1), 0);
    assert_int_equal(check(p, file(3, 3), 0), 0);
    assert_int_equal(check(p, file(3, 4), 0), 0);
    refused(p, file(2, 2));
}

static void an_acceptance_that_is_not_needed_writes_nothing(void **state)
{
    struct place *p = *state;
    char before[1024], after[1024];

    note(p, file(7, 7));
    (void)text_of(p, before, sizeof before);
    assert_int_equal(check(p, file(7, 7), 1), 0);
    assert_int_equal(check(p, file(9, 9), 1), 0);
    (void)text_of(p, after, sizeof after);
    assert_string_equal(before, after);
}

static void a_save_after_it_is_the_last_one_seen(void **state)
{
    struct place *p = *state;

    note(p, file(7, 7));
    assert_int_equal(check(p, file(3, 3), 1), 0);
    note(p, file(4, 4));
    assert_int_equal(check(p, file(4, 4), 0), 0);
    assert_int_equal(check(p, file(7, 7), 0), 0);
    refused(p, file(3, 3));
}

static void another_vault_is_not_older(void **state)
{
    struct place *p = *state;
    struct file f = file(1, 1);

    note(p, file(7, 7));
    f.h.vault_id[15] ^= 1;
    assert_int_equal(check(p, f, 0), 0);
    note(p, f);
    assert_int_equal(check(p, file(1, 2), 0), 0);
    refused(p, (note(p, file(7, 7)), file(1, 2)));
}

static void the_note_is_two_lines_that_are_written_once(void **state)
{
    struct place *p = *state;
    struct stat a, b;
    char text[1024], want[1024], id[33] = "", hmac[65] = "";

    for (int i = 0; i < 16; i++)
        memcpy(id + 2 * i, "a5", 3);
    for (int i = 0; i < 32; i++)
        memcpy(hmac + 2 * i, "07", 3);
    note(p, file(7, 7));
    (void)text_of(p, text, sizeof text);
    (void)snprintf(want, sizeof want, "tazpod-seen 1\n%s                    7           1700604800 %s\n", id, hmac);
    assert_string_equal(text, want);
    assert_int_equal(stat(unit_path(p->dir, "vault.tpv.seen"), &a), 0);
    assert_int_equal(a.st_mode & 0777, 0600);
    note(p, file(7, 7));
    assert_int_equal(stat(unit_path(p->dir, "vault.tpv.seen"), &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    note(p, file(UINT64_MAX / 86400 - 20000, 8)); /* another stands in the same place, and is as long */
    assert_int_equal(stat(unit_path(p->dir, "vault.tpv.seen"), &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    assert_int_equal(a.st_size, b.st_size);
    refused(p, file(9, 9));
}

static void a_note_that_others_have_too_is_not_written_over(void **state)
{
    struct place *p = *state;
    char before[1024], after[1024];
    const char *backup = unit_path(p->dir, "backup");

    note(p, file(7, 7));
    (void)text_of(p, before, sizeof before);
    assert_int_equal(link(unit_path(p->dir, "vault.tpv.seen"), backup), 0);
    note(p, file(8, 8));
    (void)unit_read(backup, after, sizeof after);
    assert_string_equal(before, after);
    refused(p, file(7, 7));
}

/* Every cut and every single changed byte: what is left either still says something older was seen, which
 * only costs a word, or nothing; it is never an error of another kind, and a save mends it. */
static void a_damaged_note_never_refuses(void **state)
{
    struct place *p = *state;
    char text[1024], broken[1024];
    const char *path = unit_path(p->dir, "vault.tpv.seen");
    unsigned refusals = 0;
    size_t n;

    note(p, file(7, 7));
    n = text_of(p, text, sizeof text);
    for (size_t cut = 0; cut < n; cut++) {
        unit_write(path, text, cut);
        assert_int_equal(check(p, file(3, 3), 0), 0);
    }
    for (size_t at = 0; at < n; at++) {
        memcpy(broken, text, n);
        broken[at] = 'x';
        unit_write(path, broken, n);
        refusals += check(p, file(3, 3), 0) < 0;
    }
    assert_int_equal(refusals, 0);
    note(p, file(7, 7));
    refused(p, file(3, 3));
}

static void what_is_no_file_never_refuses(void **state)
{
    struct place *p = *state;
    const char *path = unit_path(p->dir, "vault.tpv.seen");

    note(p, file(7, 7));
    assert_int_equal(rename(path, unit_path(p->dir, "elsewhere")), 0);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_int_equal(check(p, file(3, 3), 0), 0);
    assert_int_equal(check(p, file(3, 3), 1), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(check(p, file(3, 3), 1), 0); /* and nobody waits */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(check(p, file(3, 3), 1), 0);
    note(p, file(7, 7)); /* can't: no reason for anything to fail, and nothing is left */
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(unlink(unit_path(p->dir, "elsewhere")), 0);
    assert_int_equal(rmdir(p->dir), 0);
    assert_int_equal(mkdir(p->dir, 0700), 0);
}

static void many_acceptances_fill_no_disk(void **state)
{
    struct place *p = *state;
    static char text[65536];
    size_t n;

    note(p, file(1000, 7));
    for (int i = 0; i < 300; i++) {
        struct file f = file(3, 3);

        f.bytes[LEN - 1] = (uint8_t)i;
        f.bytes[LEN - 2] = (uint8_t)(i >> 8);
        assert_int_equal(check(p, f, 1), 0);
    }
    n = text_of(p, text, sizeof text);
    assert_in_range(n, 4000, 9000);
    refused(p, file(2, 2)); /* it still works */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_seen_refuses_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_a_lower_generation_is_older, set_up, tear_down),
        cmocka_unit_test_setup_teardown(both_dates_and_the_way_out_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_date_is_the_one_that_the_c_library_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_was_accepted_is_never_asked_about_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_acceptance_that_is_not_needed_writes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_save_after_it_is_the_last_one_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_vault_is_not_older, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_note_is_two_lines_that_are_written_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_note_that_others_have_too_is_not_written_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_note_never_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_file_never_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_acceptances_fill_no_disk, set_up, tear_down),
    };

    unit_drop_root();
    return cmocka_run_group_tests_name("seen", tests, NULL, NULL);
}
