/* unit-options - argv and environment of tazpod-init, and the names of signals. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../init/options.h"
#include "unit.h"

enum { WORDS = 12 };

static const char *const VARIABLES[] = {
    "TAZPOD_VAULT",        "TAZPOD_RUN_DIR",        "TAZPOD_BACKEND",   "TAZPOD_REQUIRE_NOSWAP", "TAZPOD_RAM_SIZE",
    "TAZPOD_LOG_FORMAT",   "TAZPOD_PROGRAM",        "TAZPOD_OWNER",     "TAZPOD_STOP_TIMEOUT",   "TAZPOD_WORKER_TIMEOUT",
    "TAZPOD_LOCK_WAIT",    "TAZPOD_REWRITE",        "TAZPOD_REMAP_EXIT", "TAZPOD_GROUP",         "TAZPOD_WARN",
    "TAZPOD_SUBREAPER",    "TAZPOD_PARENT_DEATH",   "TAZPOD_VERBOSE",
};

/* tini's: not set and empty are two things there. */
static const char *const TINIS[] = {"TINI_KILL_PROCESS_GROUP", "TINI_VERBOSITY", "TINI_SUBREAPER"};

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
    for (size_t i = 0; i < sizeof TINIS / sizeof *TINIS; i++)
        unsetenv(TINIS[i]);
    return 0;
}

static unsigned remapped(void)
{
    unsigned n = 0;

    for (int status = 0; status <= 255; status++)
        n += options_remapped(&o, status);
    return n;
}

/* How many signals the main command gets as something else. */
static unsigned rewritten(void)
{
    unsigned n = 0;

    for (int sig = 1; sig <= SIGNAL_MAX; sig++)
        n += options_rewritten(&o, sig) != sig;
    return n;
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
    assert_int_equal(o.lock_wait_ms, 0);
    assert_false(o.help || o.version || o.license);
    assert_false(o.group || o.warn);
    assert_int_equal(o.verbose, 0);
    assert_int_equal(o.parent_death, 0);
    assert_int_equal(rewritten(), 0);
    assert_int_equal(remapped(), 0);
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
        rc = parse("--lock-wait", TIMES[i].text, NULL);
        if (rc != (TIMES[i].ms < 0 ? -1 : 0) || (rc == 0 && o.lock_wait_ms != TIMES[i].ms))
            fail_msg("%s: %d, %lld ms", TIMES[i].text, rc, (long long)o.lock_wait_ms);
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
    setenv("TAZPOD_LOCK_WAIT", "700ms", 1);
    setenv("TAZPOD_REWRITE", "TERM:USR1,HUP:0", 1);
    setenv("TAZPOD_REMAP_EXIT", "143,1", 1);
    setenv("TAZPOD_GROUP", "yes", 1);
    setenv("TAZPOD_WARN", "yes", 1);
    setenv("TAZPOD_SUBREAPER", "yes", 1);
    setenv("TAZPOD_PARENT_DEATH", "SIGKILL", 1);
    setenv("TAZPOD_VERBOSE", "2", 1);
    assert_int_equal(parse("cmd", NULL), 0);
    assert_string_equal(o.vault, "/v");
    assert_string_equal(o.run_dir, "/r");
    assert_true(o.run_dir_named);
    assert_string_equal(o.program, "/p");
    assert_true(o.owner == 5);
    assert_int_equal(o.stop_timeout_ms, 4000);
    assert_int_equal(o.worker_timeout_ms, 3000);
    assert_int_equal(o.lock_wait_ms, 700);
    assert_int_equal(options_rewritten(&o, SIGTERM), SIGUSR1);
    assert_int_equal(options_rewritten(&o, SIGHUP), 0);
    assert_int_equal(rewritten(), 2);
    assert_true(options_remapped(&o, 143) && options_remapped(&o, 1));
    assert_int_equal(remapped(), 2);
    assert_true(o.group && o.warn);
    assert_int_equal(o.parent_death, SIGKILL);
    assert_int_equal(o.verbose, 2);
}

static void an_option_counts_more_than_its_variable(void **state)
{
    (void)state;
    setenv("TAZPOD_VAULT", "/v", 1);
    setenv("TAZPOD_REWRITE", "TERM:USR1", 1);
    setenv("TAZPOD_GROUP", "yes", 1);
    setenv("TAZPOD_WARN", "yes", 1);
    setenv("TAZPOD_PARENT_DEATH", "HUP", 1);
    setenv("TAZPOD_VERBOSE", "2", 1);
    setenv("TAZPOD_LOCK_WAIT", "2s", 1);
    assert_int_equal(parse("--vault", "none", "--rewrite", "TERM:INT", "--group=no", "--warn=no", "--parent-death",
                           "TERM", "--verbose=1", "--lock-wait=3", NULL), 0);
    assert_string_equal(o.vault, "none");
    assert_int_equal(options_rewritten(&o, SIGTERM), SIGINT);
    assert_false(o.group || o.warn);
    assert_int_equal(o.parent_death, SIGTERM);
    assert_int_equal(o.verbose, 1);
    assert_int_equal(o.lock_wait_ms, 3000);
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

static void each_variable_that_is_not_understood_is_named(void **state)
{
    static const char *const WRONG[][2] = {
        {"TAZPOD_LOCK_WAIT", "99ms"},   {"TAZPOD_REWRITE", "TERM"},     {"TAZPOD_REMAP_EXIT", "256"},
        {"TAZPOD_GROUP", "1"},          {"TAZPOD_WARN", "true"},        {"TAZPOD_SUBREAPER", "maybe"},
        {"TAZPOD_PARENT_DEATH", "SIG"}, {"TAZPOD_VERBOSE", "10"},
    };

    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        (void)clean_environment(state);
        setenv(WRONG[i][0], WRONG[i][1], 1);
        refused(WRONG[i][0], parse("cmd", NULL));
    }
}

/* --- signals --- */

static void every_signal_has_its_names_and_its_number(void **state)
{
    static const struct {
        const char *name;
        int number;
    } NAMED[] = {
        {"HUP", SIGHUP},       {"INT", SIGINT},     {"QUIT", SIGQUIT},     {"ILL", SIGILL},   {"TRAP", SIGTRAP},
        {"ABRT", SIGABRT},     {"BUS", SIGBUS},     {"FPE", SIGFPE},       {"KILL", SIGKILL}, {"USR1", SIGUSR1},
        {"SEGV", SIGSEGV},     {"USR2", SIGUSR2},   {"PIPE", SIGPIPE},     {"ALRM", SIGALRM}, {"TERM", SIGTERM},
        {"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD},   {"CONT", SIGCONT},     {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},
        {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU},   {"URG", SIGURG},       {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
        {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF},   {"WINCH", SIGWINCH},   {"IO", SIGIO},     {"PWR", SIGPWR},
        {"SYS", SIGSYS},
    };
    char text[24];

    (void)state;
    assert_int_equal(sizeof NAMED / sizeof *NAMED, 31); /* all that are no real-time ones */
    for (size_t i = 0; i < sizeof NAMED / sizeof *NAMED; i++) {
        assert_int_equal(signals_number(NAMED[i].name), NAMED[i].number);
        (void)snprintf(text, sizeof text, "SIG%s", NAMED[i].name);
        assert_int_equal(signals_number(text), NAMED[i].number);
    }
    for (int n = 1; n <= SIGNAL_MAX; n++) {
        (void)snprintf(text, sizeof text, "%d", n);
        assert_int_equal(signals_number(text), n);
    }
}

/* The kernel's count, whatever the C library's SIGRTMIN: an engine's RTMIN+3 is 37. */
static void real_time_signals_count_from_34_up_and_from_64_down(void **state)
{
    char text[24];

    (void)state;
    assert_int_equal(signals_number("RTMIN"), 34);
    assert_int_equal(signals_number("SIGRTMAX"), 64);
    assert_int_equal(signals_number("SIGRTMIN+3"), SIGNAL_ENGINE_STOP);
    for (int n = 0; n <= 30; n++) {
        (void)snprintf(text, sizeof text, "RTMIN+%d", n);
        assert_int_equal(signals_number(text), 34 + n);
        (void)snprintf(text, sizeof text, "SIGRTMAX-%d", n);
        assert_int_equal(signals_number(text), 64 - n);
    }
}

static void what_is_no_signal_is_minus_one(void **state)
{
    static const char *const WRONG[] = {
        "",         "SIG",      "SIGSIGTERM", "term",      "sigterm",  "Term",     "TERM ",     " TERM",    "TERMX",
        "TER",      "0",        "00",         "65",        "-1",       "+1",       "1 ",        "0x1",      "1x",
        "15.0",     "4294967297", "18446744073709551617",  "RTMIN+31", "RTMAX-31", "RTMIN-1",   "RTMAX+1",  "RTMIN+",
        "RTMIN+-1", "RTMIN+ 1", "RTMIN+1x",   "RTMIN3",    "RTMI",     "RT",       "RTMIN+99999999999999999999",
        "CLDX",     "EXIT",     "DEBUG",      "SIGRTMINX",
    };

    (void)state;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++)
        if (signals_number(WRONG[i]) != -1)
            fail_msg("\"%s\" is signal %d", WRONG[i], signals_number(WRONG[i]));
}

/* --- the rewrite table --- */

static void a_table_names_any_signal_in_any_way(void **state)
{
    (void)state;
    assert_int_equal(parse("--rewrite", "TERM:SIGQUIT,1:10,SIGRTMIN+3:RTMAX-1,SIGVTALRM:SIGSTKFLT,64:0", NULL), 0);
    assert_int_equal(options_rewritten(&o, SIGTERM), SIGQUIT);
    assert_int_equal(options_rewritten(&o, SIGHUP), SIGUSR1);
    assert_int_equal(options_rewritten(&o, 37), 63);
    assert_int_equal(options_rewritten(&o, SIGVTALRM), SIGSTKFLT);
    assert_int_equal(options_rewritten(&o, 64), 0);
    assert_int_equal(rewritten(), 5);
}

static void each_signal_becomes_each_other(void **state)
{
    char text[24];

    (void)state;
    for (int from = 1; from <= SIGNAL_MAX; from++)
        for (int to = 0; to <= SIGNAL_MAX; to++) {
            (void)snprintf(text, sizeof text, "%d:%d", from, to);
            assert_int_equal(parse("--rewrite", text, NULL), 0);
            assert_int_equal(options_rewritten(&o, from), to);
            assert_int_equal(rewritten(), from != to);
        }
}

static void of_two_for_one_signal_the_last_counts_and_all_others_hold(void **state)
{
    (void)state;
    assert_int_equal(parse("--rewrite=TERM:INT,TERM:HUP", "--rewrite=INT:0", "--rewrite=USR1:0,USR1:USR1", NULL), 0);
    assert_int_equal(options_rewritten(&o, SIGTERM), SIGHUP);
    assert_int_equal(options_rewritten(&o, SIGINT), 0);
    assert_int_equal(options_rewritten(&o, SIGUSR1), SIGUSR1);
    assert_int_equal(rewritten(), 2);
}

static void what_is_no_table_is_refused(void **state)
{
    static const char *const WRONG[] = {
        "TERM",      "TERM:",         ":TERM",      ":",          ",",           "TERM:INT,", ",TERM:INT",
        "TERM:INT,,HUP:INT",          "0:TERM",     "65:1",       "1:65",        "TERM:00",   "TERM:-1",
        "TERM:INT:HUP",  "TERM=INT",  "TERM:INT HUP:INT",         "TERM : INT",  "TERM,INT",  "TERM,HUP:INT",
        "SIGRTMIN+000003:1",          "1:SIGRTMIN+000003",        "TERM:INT;HUP:INT",
    };

    (void)state;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        if (parse("--rewrite", WRONG[i], "cmd", NULL) != -1)
            fail_msg("\"%s\" was taken", WRONG[i]);
        assert_string_equal(bad, "--rewrite");
    }
}

/* --- exit statuses --- */

static void each_status_can_become_0_and_no_other_does(void **state)
{
    char text[12];

    (void)state;
    for (int n = 0; n <= 255; n++) {
        (void)snprintf(text, sizeof text, "%d", n);
        assert_int_equal(parse("-e", text, NULL), 0);
        assert_true(options_remapped(&o, n));
        assert_int_equal(remapped(), 1);
    }
    assert_false(options_remapped(&o, -1));
    assert_false(options_remapped(&o, 256));
}

static void statuses_add_up(void **state)
{
    (void)state;
    assert_int_equal(parse("--remap-exit", "0,7,8", "-e", "255", "-e143", "--remap-exit=7", NULL), 0);
    assert_true(options_remapped(&o, 0) && options_remapped(&o, 7) && options_remapped(&o, 8));
    assert_true(options_remapped(&o, 143) && options_remapped(&o, 255));
    assert_int_equal(remapped(), 5);
}

static void what_is_no_status_is_refused(void **state)
{
    static const char *const WRONG[] = {"",    "256", "-1",  "+1",  "1,", ",1",   "1,,2", "1 2", "1;2", " 1",
                                        "1 ", "0x1", "1-3", "TERM", "=1", "99999999999999999999", "1,256"};

    (void)state;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        if (parse("--remap-exit", WRONG[i], "cmd", NULL) != -1 || parse("-e", WRONG[i], "cmd", NULL) != -1)
            fail_msg("\"%s\" was taken", WRONG[i]);
        assert_string_equal(bad, "-e");
    }
    refused("-e", parse("-e", NULL));
    refused("-e1x", parse("-e1x", "cmd", NULL));
}

/* --- tini's letters --- */

static void each_letter_is_its_long_option(void **state)
{
    (void)state;
    assert_int_equal(parse("-g", NULL), 0);
    assert_true(o.group && !o.warn);
    assert_int_equal(parse("-w", NULL), 0);
    assert_true(o.warn && !o.group);
    assert_int_equal(parse("-s", NULL), 0);
    assert_false(o.group || o.warn || o.verbose || o.license || o.help);
    assert_int_equal(parse("-v", "-v", NULL), 0);
    assert_int_equal(o.verbose, 2);
    assert_int_equal(parse("-p", "SIGHUP", "cmd", NULL), 0);
    assert_int_equal(o.parent_death, SIGHUP);
    assert_string_equal(o.command[0], "cmd");
    assert_int_equal(parse("-l", NULL), 0);
    assert_true(o.license && !o.help && !o.version);
}

static void letters_stand_together_and_a_value_follows_the_last(void **state)
{
    (void)state;
    assert_int_equal(parse("-gvv", "cmd", NULL), 0);
    assert_true(o.group);
    assert_int_equal(o.verbose, 2);
    assert_string_equal(o.command[0], "cmd");
    assert_int_equal(parse("-swgve143", "cmd", NULL), 0);
    assert_true(o.group && o.warn && options_remapped(&o, 143));
    assert_int_equal(o.verbose, 1);
    assert_string_equal(o.command[0], "cmd");
    assert_int_equal(parse("-gpSIGTERM", "-ve", "5", "--", "-g", NULL), 0);
    assert_int_equal(o.parent_death, SIGTERM);
    assert_true(o.group && options_remapped(&o, 5));
    assert_string_equal(o.command[0], "-g");
}

static void letters_and_words_mix_up_to_the_command(void **state)
{
    (void)state;
    assert_int_equal(parse("-g", "--vault", "none", "-v", "cmd", "-w", NULL), 0);
    assert_true(o.group && !o.warn);
    assert_int_equal(o.verbose, 1);
    assert_string_equal(o.vault, "none");
    assert_string_equal(o.command[0], "cmd");
    assert_string_equal(o.command[1], "-w");
}

static void a_letter_that_is_none_is_refused_with_its_word(void **state)
{
    (void)state;
    refused("-gx", parse("-gx", "cmd", NULL));
    refused("-G", parse("-G", "cmd", NULL));
    refused("-v2", parse("-v2", "cmd", NULL));
    refused("-g=yes", parse("-g=yes", "cmd", NULL));
    refused("-p", parse("-p", NULL));
    refused("-gp", parse("-gp", "NOSIGNAL", NULL));
    refused("-p0", parse("-p0", "cmd", NULL));
    refused("-e256", parse("-e256", "cmd", NULL));
}

static void long_options_take_yes_and_no_and_nothing_else(void **state)
{
    static const char *const NAMES[] = {"--group", "--warn", "--subreaper"};
    static const char *const WRONG[] = {"", "y", "YES", "Yes", "true", "1", "on", "yes ", "nope"};

    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        assert_int_equal(parse(NAMES[i], "yes", NULL), 0);
        assert_int_equal(o.group, i == 0);
        assert_int_equal(o.warn, i == 1);
        assert_int_equal(parse(NAMES[i], "no", NULL), 0);
        assert_false(o.group || o.warn);
        for (size_t k = 0; k < sizeof WRONG / sizeof *WRONG; k++)
            refused(NAMES[i], parse(NAMES[i], WRONG[k], NULL));
        refused(NAMES[i], parse(NAMES[i], NULL));
    }
}

static void how_much_is_logged_is_one_digit(void **state)
{
    static const char *const WRONG[] = {"", "10", "-1", "a", "2x", " 1", "1 "};

    (void)state;
    for (int n = 0; n <= 9; n++) {
        char text[] = {(char)('0' + n), '\0'};

        assert_int_equal(parse("--verbose", text, NULL), 0);
        assert_int_equal(o.verbose, n);
    }
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++)
        refused("--verbose", parse("--verbose", WRONG[i], NULL));
}

static void a_parents_death_has_a_signal(void **state)
{
    (void)state;
    assert_int_equal(parse("--parent-death=RTMIN+3", NULL), 0);
    assert_int_equal(o.parent_death, 37);
    assert_int_equal(parse("--parent-death", "9", NULL), 0);
    assert_int_equal(o.parent_death, SIGKILL);
    refused("--parent-death", parse("--parent-death", "0", NULL));
    refused("--parent-death", parse("--parent-death", "65", NULL));
    refused("--parent-death=", parse("--parent-death=", NULL));
}

/* --- tini's variables --- */

static void tinis_variables_mean_what_they_mean_there(void **state)
{
    static const struct {
        const char *text;
        int verbose;
    } LEVELS[] = {{"0", 0}, {"1", 0}, {"2", 1}, {"3", 2}, {"4", 3}, {"", 0}, {"many", 0}};

    (void)state;
    setenv("TINI_KILL_PROCESS_GROUP", "", 1); /* set at all */
    assert_int_equal(parse("cmd", NULL), 0);
    assert_true(o.group);
    setenv("TINI_KILL_PROCESS_GROUP", "0", 1);
    assert_int_equal(parse("cmd", NULL), 0);
    assert_true(o.group);
    unsetenv("TINI_KILL_PROCESS_GROUP");
    setenv("TINI_SUBREAPER", "1", 1);
    assert_int_equal(parse("cmd", NULL), 0);
    assert_false(o.group);
    for (size_t i = 0; i < sizeof LEVELS / sizeof *LEVELS; i++) {
        setenv("TINI_VERBOSITY", LEVELS[i].text, 1);
        assert_int_equal(parse("cmd", NULL), 0);
        assert_int_equal(o.verbose, LEVELS[i].verbose);
    }
}

static void our_own_variables_count_more_than_tinis(void **state)
{
    (void)state;
    setenv("TINI_KILL_PROCESS_GROUP", "1", 1);
    setenv("TINI_VERBOSITY", "3", 1);
    setenv("TAZPOD_GROUP", "no", 1);
    setenv("TAZPOD_VERBOSE", "1", 1);
    assert_int_equal(parse("cmd", NULL), 0);
    assert_false(o.group);
    assert_int_equal(o.verbose, 1);
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
        cmocka_unit_test_setup(each_variable_that_is_not_understood_is_named, clean_environment),
        cmocka_unit_test_setup(every_signal_has_its_names_and_its_number, clean_environment),
        cmocka_unit_test_setup(real_time_signals_count_from_34_up_and_from_64_down, clean_environment),
        cmocka_unit_test_setup(what_is_no_signal_is_minus_one, clean_environment),
        cmocka_unit_test_setup(a_table_names_any_signal_in_any_way, clean_environment),
        cmocka_unit_test_setup(each_signal_becomes_each_other, clean_environment),
        cmocka_unit_test_setup(of_two_for_one_signal_the_last_counts_and_all_others_hold, clean_environment),
        cmocka_unit_test_setup(what_is_no_table_is_refused, clean_environment),
        cmocka_unit_test_setup(each_status_can_become_0_and_no_other_does, clean_environment),
        cmocka_unit_test_setup(statuses_add_up, clean_environment),
        cmocka_unit_test_setup(what_is_no_status_is_refused, clean_environment),
        cmocka_unit_test_setup(each_letter_is_its_long_option, clean_environment),
        cmocka_unit_test_setup(letters_stand_together_and_a_value_follows_the_last, clean_environment),
        cmocka_unit_test_setup(letters_and_words_mix_up_to_the_command, clean_environment),
        cmocka_unit_test_setup(a_letter_that_is_none_is_refused_with_its_word, clean_environment),
        cmocka_unit_test_setup(long_options_take_yes_and_no_and_nothing_else, clean_environment),
        cmocka_unit_test_setup(how_much_is_logged_is_one_digit, clean_environment),
        cmocka_unit_test_setup(a_parents_death_has_a_signal, clean_environment),
        cmocka_unit_test_setup(tinis_variables_mean_what_they_mean_there, clean_environment),
        cmocka_unit_test_setup(our_own_variables_count_more_than_tinis, clean_environment),
    };

    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
