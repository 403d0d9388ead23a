/* unit-log - one line to stderr, written once. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../init/log.h"
#include "unit.h"

enum { LONGEST = 512 };

static char got[4096];
static int own = -1, theirs = -1, ends[2] = {-1, -1};

/* Stderr becomes one end of a packet socket: what was written at once is read at once. */
static int set_up(void **state)
{
    (void)state;
    theirs = dup(STDERR_FILENO);
    if (theirs < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0 ||
        dup2(ends[1], STDERR_FILENO) < 0)
        return -1;
    own = ends[0];
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dup2(theirs, STDERR_FILENO);
    close(theirs);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

/* The one packet that was written, zero-terminated. */
static const char *written(void)
{
    char more[16];
    ssize_t n = recv(own, got, sizeof got - 1, 0);

    assert_true(n > 0);
    got[n] = '\0';
    assert_int_equal(recv(own, more, sizeof more, 0), -1); /* nothing beside it */
    return got;
}

/* One line: a line end, and only as the last byte; no byte that a terminal would obey. */
static void check_line(const char *text)
{
    size_t n = strlen(text);

    assert_true(n > 0 && text[n - 1] == '\n');
    assert_true(n <= LONGEST);
    for (size_t i = 0; i + 1 < n; i++)
        if ((unsigned char)text[i] < 32 || text[i] == 127)
            fail_msg("byte %d at %zu", text[i], i);
    assert_int_equal(strncmp(text, "tazpod-init: ", 13), 0);
}

static const char *text_of(const char *value)
{
    struct line l;

    line_start(&l, "word");
    line_text(&l, "key", value);
    line_end(&l);
    return written();
}

static void a_line_is_its_word_and_pairs_in_order(void **state)
{
    struct line l;

    (void)state;
    line_start(&l, "start");
    line_number(&l, "pid", 1);
    line_text(&l, "vault", "/workspace/v");
    line_text(&l, "state", "locked");
    line_millis(&l, "ms", 12345);
    line_end(&l);
    assert_string_equal(written(), "tazpod-init: start pid=1 vault=/workspace/v state=locked ms=12.345\n");
}

static void a_sentence_stands_behind_its_word(void **state)
{
    (void)state;
    log_say("error", "no process to be had");
    assert_string_equal(written(), "tazpod-init: error: no process to be had\n");
}

static void a_value_with_blanks_or_without_bytes_is_quoted(void **state)
{
    (void)state;
    assert_string_equal(text_of("a b"), "tazpod-init: word key=\"a b\"\n");
    assert_string_equal(text_of(""), "tazpod-init: word key=\"\"\n");
    assert_string_equal(text_of("a=b"), "tazpod-init: word key=a=b\n");
    assert_string_equal(text_of("caf\xc3\xa9"), "tazpod-init: word key=caf\xc3\xa9\n");
}

static void no_value_forges_a_second_line(void **state)
{
    (void)state;
    assert_string_equal(text_of("x\ntazpod-init: save generation=9"),
                        "tazpod-init: word key=\"x?tazpod-init: save generation=9\"\n");
    assert_string_equal(text_of("\r\n\x1b[2J\x7f\t"), "tazpod-init: word key=???[2J??\n");
    for (int c = 1; c < 256; c++) {
        const char value[] = {'a', (char)c, 'b', '\0'};

        check_line(text_of(value));
    }
}

static void no_value_ends_its_own_quotes(void **state)
{
    (void)state;
    assert_string_equal(text_of("a\" forged=\"b"), "tazpod-init: word key=\"a? forged=?b\"\n");
    assert_string_equal(text_of("\""), "tazpod-init: word key=?\n");
}

static void a_long_line_is_cut_and_still_ends(void **state)
{
    char value[2000];

    (void)state;
    for (size_t n = 400; n < sizeof value; n += n < 600 ? 1 : 197) {
        struct line l;

        memset(value, 'x', n);
        value[n] = '\0';
        line_start(&l, "word");
        line_text(&l, "key", value);
        line_text(&l, "other", "a b");
        line_number(&l, "number", 123456789);
        line_millis(&l, "ms", 987654321);
        line_end(&l);
        check_line(written());
        assert_true(n < 600 || strlen(got) > LONGEST - 40); /* cut, and not much more than needed */
    }
    memset(value, '\n', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    check_line(text_of(value));
    memset(value, 'y', sizeof value - 1);
    log_say("error", value);
    check_line(written());
}

/* Enough of a parser to know a flat object when it is whole. */
static void check_flat_object(const char *p)
{
    assert_int_equal(*p, '{');
    do {
        p++;
        assert_int_equal(*p++, '"');
        p += strcspn(p, "\"\n");
        assert_int_equal(*p++, '"');
        assert_int_equal(*p++, ':');
        if (*p == '"') {
            p++;
            p += strcspn(p, "\"\n");
            assert_int_equal(*p++, '"');
        } else {
            size_t digits = strspn(p, "-.0123456789");

            assert_true(digits > 0);
            p += digits;
        }
    } while (*p == ',');
    assert_string_equal(p, "}\n");
}

static void a_long_line_of_json_is_still_json(void **state)
{
    char value[700];

    (void)state;
    log_as_json(true);
    for (size_t n = 0; n < sizeof value; n++) {
        struct line l;

        memset(value, 'x', n);
        value[n] = '\0';
        line_start(&l, "word");
        line_text(&l, "key", value);
        line_text(&l, "other", "a b");
        line_number(&l, "number", INT64_MIN);
        line_millis(&l, "ms", INT64_MAX);
        line_text(&l, "last", "one more");
        line_end(&l);
        check_flat_object(written());
        assert_true(strlen(got) <= LONGEST);
        if (n < 100)
            assert_non_null(strstr(got, "\"last\":\"one more\""));
    }
    log_as_json(false);
}

static void numbers_of_every_size_are_written_out(void **state)
{
    static const struct {
        int64_t value;
        const char *line;
    } NUMBERS[] = {{0, "tazpod-init: w n=0\n"},
                   {-1, "tazpod-init: w n=-1\n"},
                   {10, "tazpod-init: w n=10\n"},
                   {INT64_MAX, "tazpod-init: w n=9223372036854775807\n"},
                   {INT64_MIN, "tazpod-init: w n=-9223372036854775808\n"}};
    struct line l;

    (void)state;
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        line_start(&l, "w");
        line_number(&l, "n", NUMBERS[i].value);
        line_end(&l);
        assert_string_equal(written(), NUMBERS[i].line);
    }
}

static void microseconds_are_shown_as_milliseconds_with_three_places(void **state)
{
    static const struct {
        int64_t us;
        const char *line;
    } TIMES[] = {{0, "tazpod-init: w ms=0.000\n"},       {7, "tazpod-init: w ms=0.007\n"},
                 {999, "tazpod-init: w ms=0.999\n"},     {1000, "tazpod-init: w ms=1.000\n"},
                 {1050, "tazpod-init: w ms=1.050\n"},    {8000001, "tazpod-init: w ms=8000.001\n"}};
    struct line l;

    (void)state;
    for (size_t i = 0; i < sizeof TIMES / sizeof *TIMES; i++) {
        line_start(&l, "w");
        line_millis(&l, "ms", TIMES[i].us);
        line_end(&l);
        assert_string_equal(written(), TIMES[i].line);
    }
}

static void a_stderr_that_can_not_be_written_is_ignored(void **state)
{
    (void)state;
    close(STDERR_FILENO);
    log_say("error", "nobody reads this");
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    log_say("error", "but this");
    assert_string_equal(written(), "tazpod-init: error: but this\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_is_its_word_and_pairs_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sentence_stands_behind_its_word, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_value_with_blanks_or_without_bytes_is_quoted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_value_forges_a_second_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_value_ends_its_own_quotes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_line_is_cut_and_still_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_line_of_json_is_still_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers_of_every_size_are_written_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(microseconds_are_shown_as_milliseconds_with_three_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stderr_that_can_not_be_written_is_ignored, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
