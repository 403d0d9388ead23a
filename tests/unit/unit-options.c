/* unit-options - argv and environment of tazpod-init. */
#include <stdlib.h>
#include <string.h>

#include "../../init/options.h"
#include "unit.h"

enum { WORDS = 12 };

static const char *const VARIABLES[] = {"TAZPOD_VAULT", "TAZPOD_RUN_DIR",      "TAZPOD_PROGRAM",
                                        "TAZPOD_OWNER", "TAZPOD_STOP_TIMEOUT", "TAZPOD_WORKER_TIMEOUT"};

static struct options o;
static const char *bad;
static char *argv_of[WORDS + 2];

/* Parses words that end with NULL. */
static int parse(const char *first, ...)
{
    va_list ap;
    int n = 1;

    bad = NULL;
    argv_of[0] = (char *)"tazpod-init";
    va_start(ap, first);
    for (const char *w = first; w && n <= WORDS; w = va_arg(ap, const char *))
        argv_of[n++] = (char *)w;
    va_end(ap);
    argv_of[n] = NULL;
    return options_parse(n, argv_of, &o, &bad);
}

static void refused(const char *word, int rc)
{
    assert_int_equal(rc, -1);
    assert_string_equal(bad, word);
}

static int clean_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof VARIABLES / sizeof *VARIABLES; i++)
        unsetenv(VARIABLES[i]);
    return 0;
}

static void without_words_all_is_as_documented(void **state)
{
    (void)state;
    assert_int_equal(parse(NULL), 0);
    assert_null(o.vault);
    assert_string_equal(o.run_dir, "/run/tazpod");
    assert_false(o.run_dir_named);
    assert_null(o.program);
    assert_true(o.owner == -1);
    assert_int_equal(o.stop_timeout_ms, 0); /* not named: a file may say, else the default */
    assert_int_equal(o.worker_timeout_ms, 0);
    assert_int_equal(o.backend, BACKEND_AUTO);
    assert_false(o.backend_named || o.require_noswap || o.log_json || o.log_json_named);
    assert_int_equal(o.ram_size, 0);
    assert_false(o.help || o.version);
    assert_null(o.command[0]);
}

static void an_option_takes_its_value_with_a_blank_or_a_sign(void **state)
{
    (void)state;
    assert_int_equal(parse("--vault", "/a", "--run-dir=/b", "--owner", "7", "--program=/p", "--stop-timeout", "500ms",
                           "--worker-timeout=3", NULL), 0);
    assert_string_equal(o.vault, "/a");
    assert_string_equal(o.run_dir, "/b");
    assert_true(o.run_dir_named);
    assert_true(o.owner == 7);
    assert_string_equal(o.program, "/p");
    assert_int_equal(o.stop_timeout_ms, 500);
    assert_int_equal(o.worker_timeout_ms, 3000);
}

static void a_value_may_hold_signs_and_look_like_an_option(void **state)
{
    (void)state;
    assert_int_equal(parse("--vault=/a=b=c", NULL), 0);
    assert_string_equal(o.vault, "/a=b=c");
    assert_int_equal(parse("--vault", "--", "--", "cmd", NULL), 0);
    assert_string_equal(o.vault, "--");
    assert_string_equal(o.command[0], "cmd");
}

static void the_last_of_two_counts(void **state)
{
    (void)state;
    assert_int_equal(parse("--vault=/a", "--vault=none", NULL), 0);
    assert_string_equal(o.vault, "none");
}

static void the_command_begins_at_the_first_word_that_is_no_option(void **state)
{
    (void)state;
    assert_int_equal(parse("sleep", "--vault", "9", NULL), 0);
    assert_string_equal(o.command[0], "sleep");
    assert_string_equal(o.command[1], "--vault");
    assert_string_equal(o.command[2], "9");
    assert_null(o.command[3]);
    assert_null(o.vault);
}

static void the_command_begins_behind_two_dashes(void **state)
{
    (void)state;
    assert_int_equal(parse("--", "--help", "--", NULL), 0);
    assert_string_equal(o.command[0], "--help");
    assert_string_equal(o.command[1], "--");
    assert_null(o.command[2]);
    assert_false(o.help);
    assert_int_equal(parse("--", NULL), 0);
    assert_null(o.command[0]);
}

static void help_and_version_take_no_value(void **state)
{
    (void)state;
    assert_int_equal(parse("--help", NULL), 0);
    assert_true(o.help && !o.version);
    assert_int_equal(parse("-h", NULL), 0);
    assert_true(o.help);
    assert_int_equal(parse("--version", NULL), 0);
    assert_true(o.version && !o.help);
    refused("--help=x", parse("--help=x", NULL));
}

static void what_is_not_understood_is_named(void **state)
{
    (void)state;
    refused("--valt", parse("--vault", "/a", "--valt", "/b", NULL));
    refused("-x", parse("-x", NULL));
    refused("-", parse("-", NULL));
    refused("--=x", parse("--=x", NULL));
    refused("--vault", parse("--vault", NULL));
    refused("--owner", parse("--owner", "root", "cmd", NULL));
    refused("--a-name-that-is-longer-than-any-option", parse("--a-name-that-is-longer-than-any-option", NULL));
    refused("--vault-of-somebody-else=1", parse("--vault-of-somebody-else=1", NULL));
    refused("--vault-that-is-longer-than-any-option=1", parse("--vault-that-is-longer-than-any-option=1", NULL));
}

static void times_are_seconds_or_milliseconds_from_100ms_to_an_hour(void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } TIMES[] = {
        {"8", 8000},        {"8s", 8000},          {"500ms", 500},       {"100ms", 100},
        {"0008", 8000},     {"3600", 3600000},     {"3600s", 3600000},   {"3600000ms", 3600000},
        {"3601", -1},       {"3600001ms", -1},     {"99ms", -1},         {"0", -1},    {"s", -1},            {"ms", -1},
        {"-1", -1},         {"+1", -1},            {" 1", -1},           {"1 ", -1},
        {"1.5", -1},        {"1m", -1},            {"8S", -1},           {"1msx", -1},
        {"0x10", -1},       {"99999999999999999999", -1}, {"99999999999999999999ms", -1}, {"9223372036854775807", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof TIMES / sizeof *TIMES; i++) {
        int rc = parse("--stop-timeout", TIMES[i].text, NULL);

        if (rc != (TIMES[i].ms < 0 ? -1 : 0) || (rc == 0 && o.stop_timeout_ms != TIMES[i].ms))
            fail_msg("%s: %d, %lld ms", TIMES[i].text, rc, (long long)o.stop_timeout_ms);
        rc = parse("--worker-timeout", TIMES[i].text, NULL);
        if (rc != (TIMES[i].ms < 0 ? -1 : 0) || (rc == 0 && o.worker_timeout_ms != TIMES[i].ms))
            fail_msg("%s: %d, %lld ms", TIMES[i].text, rc, (long long)o.worker_timeout_ms);
    }
}

static void sizes_have_a_unit_and_bounds(void **state)
{
    static const struct {
        const char *text;
        long long bytes; /* -1: refused */
    } SIZES[] = {
        {"64M", 64 << 20},   {"64MiB", 64 << 20},  {"1G", 1 << 30},         {"1GiB", 1 << 30},
        {"1024K", 1 << 20},  {"2048KiB", 2 << 20}, {"064M", 64 << 20},      {"64G", 64LL << 30},
        {"65G", -1},         {"1023K", -1},        {"0M", -1},              {"64", -1},
        {"67108864", -1},    {"M", -1},            {"", -1},                {"-1M", -1},
        {"64m", -1},         {"64MB", -1},         {"64Mi", -1},            {"64MiBs", -1},
        {"64 M", -1},        {"1.5G", -1},         {"600000000000G", -1},   {"17179869185G", -1},
        {"999999999G", -1},  {"99999999999999999999M", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        int rc = parse("--ram-size", SIZES[i].text, NULL);

        if (rc != (SIZES[i].bytes < 0 ? -1 : 0) || (rc == 0 && o.ram_size != SIZES[i].bytes))
            fail_msg("%s: %d, %lld bytes", SIZES[i].text, rc, (long long)o.ram_size);
    }
}

static void an_owner_is_a_number_and_never_root(void **state)
{
    static const char *const WRONG[] = {"0", "00", "-1", "+1", "1000 ", "0x10", "tazpod", "4294967295", "4294967296",
                                        "18446744073709551617", "99999999999999999999999"};

    (void)state;
    assert_int_equal(parse("--owner=1", NULL), 0);
    assert_true(o.owner == 1);
    assert_int_equal(parse("--owner=4294967294", NULL), 0);
    assert_true(o.owner == 4294967294);
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++)
        refused("--owner", parse("--owner", WRONG[i], NULL));
    refused("--owner=", parse("--owner=", NULL));
}

static void every_option_is_a_variable_too(void **state)
{
    (void)state;
    setenv("TAZPOD_VAULT", "/v", 1);
    setenv("TAZPOD_RUN_DIR", "/r", 1);
    setenv("TAZPOD_PROGRAM", "/p", 1);
    setenv("TAZPOD_OWNER", "5", 1);
    setenv("TAZPOD_STOP_TIMEOUT", "4s", 1);
    setenv("TAZPOD_WORKER_TIMEOUT", "3", 1);
    assert_int_equal(parse("cmd", NULL), 0);
    assert_string_equal(o.vault, "/v");
    assert_string_equal(o.run_dir, "/r");
    assert_true(o.run_dir_named);
    assert_string_equal(o.program, "/p");
    assert_true(o.owner == 5);
    assert_int_equal(o.stop_timeout_ms, 4000);
    assert_int_equal(o.worker_timeout_ms, 3000);
}

static void an_option_counts_more_than_its_variable(void **state)
{
    (void)state;
    setenv("TAZPOD_VAULT", "/v", 1);
    assert_int_equal(parse("--vault", "none", NULL), 0);
    assert_string_equal(o.vault, "none");
}

static void an_empty_variable_is_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof VARIABLES / sizeof *VARIABLES; i++)
        setenv(VARIABLES[i], "", 1);
    without_words_all_is_as_documented(state);
}

static void a_variable_that_is_not_understood_is_named(void **state)
{
    (void)state;
    setenv("TAZPOD_OWNER", "0", 1);
    refused("TAZPOD_OWNER", parse("cmd", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_words_all_is_as_documented, clean_environment),
        cmocka_unit_test_setup(an_option_takes_its_value_with_a_blank_or_a_sign, clean_environment),
        cmocka_unit_test_setup(a_value_may_hold_signs_and_look_like_an_option, clean_environment),
        cmocka_unit_test_setup(the_last_of_two_counts, clean_environment),
        cmocka_unit_test_setup(the_command_begins_at_the_first_word_that_is_no_option, clean_environment),
        cmocka_unit_test_setup(the_command_begins_behind_two_dashes, clean_environment),
        cmocka_unit_test_setup(help_and_version_take_no_value, clean_environment),
        cmocka_unit_test_setup(what_is_not_understood_is_named, clean_environment),
        cmocka_unit_test_setup(times_are_seconds_or_milliseconds_from_100ms_to_an_hour, clean_environment),
        cmocka_unit_test_setup(sizes_have_a_unit_and_bounds, clean_environment),
        cmocka_unit_test_setup(an_owner_is_a_number_and_never_root, clean_environment),
        cmocka_unit_test_setup(every_option_is_a_variable_too, clean_environment),
        cmocka_unit_test_setup(an_option_counts_more_than_its_variable, clean_environment),
        cmocka_unit_test_setup(an_empty_variable_is_none, clean_environment),
        cmocka_unit_test_setup(a_variable_that_is_not_understood_is_named, clean_environment),
    };

    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
