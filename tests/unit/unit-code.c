/* unit-code - recovery codes and identities as text. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "../../vault/code.h"
#include "unit.h"

static const char CONTEXT[] = "test";

static void bytes_come_back_whatever_they_are(void **state)
{
    uint64_t seed = 1;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        uint8_t in[CODE_BYTES_MAX], out[CODE_BYTES_MAX];
        size_t len = 1 + (size_t)(unit_random(&seed) % CODE_BYTES_MAX);
        char text[CODE_TEXT_MAX];

        for (size_t i = 0; i < len; i++)
            in[i] = (uint8_t)unit_random(&seed);
        code_write(CONTEXT, in, len, text);
        assert_true(strlen(text) < CODE_TEXT_MAX);
        assert_int_equal(code_read(CONTEXT, text, strlen(text), out, len), 0);
        assert_memory_equal(in, out, len);
    }
}

/* From an implementation in another language, made for this. */
static void the_text_is_the_same_in_every_version(void **state)
{
    uint8_t bytes[20], back[20];
    char text[CODE_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 11 + 3);
    code_write("tazpod recovery code", bytes, sizeof bytes, text);
    assert_string_equal(text, "0C71-J91F-792N-0PV6-E5Y8-F4MX-N2SV-XJEM-2EKX");
    assert_int_equal(code_read("tazpod recovery code", text, strlen(text), back, sizeof back), 0);
}

static void it_is_read_as_people_type_it(void **state)
{
    uint8_t in[20], out[20];
    char text[CODE_TEXT_MAX], typed[CODE_TEXT_MAX + 8], plain[CODE_TEXT_MAX];
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)(i * 7);
    code_write(CONTEXT, in, sizeof in, text);
    for (int way = 0; way < 2; way++) {
        (void)snprintf(typed, sizeof typed, "%s%s%s", way ? " " : "", text, way ? "\n" : "");
        assert_int_equal(code_read(CONTEXT, typed, strlen(typed), out, sizeof out), 0);
        assert_memory_equal(in, out, sizeof in);
    }
    for (const char *c = text; *c; c++) /* lower case, no groups, the letters that look like digits */
        if (*c != '-')
            plain[n++] = *c == '0' ? 'o' : *c == '1' ? 'l' : (char)tolower(*c);
    assert_int_equal(code_read(CONTEXT, plain, n, out, sizeof out), 0);
    assert_memory_equal(in, out, sizeof in);
}

static void a_slip_is_noticed(void **state)
{
    uint8_t in[20] = {1, 2, 3}, out[20];
    char text[CODE_TEXT_MAX], other[CODE_TEXT_MAX];
    unsigned passed = 0, tried = 0;

    (void)state;
    code_write(CONTEXT, in, sizeof in, text);
    for (size_t i = 0; text[i]; i++)
        for (char c = '0'; c <= 'Z'; c++) {
            if (text[i] == '-' || c == text[i] || !isalnum(c) || strchr("ILOU", c))
                continue;
            memcpy(other, text, sizeof text);
            other[i] = c;
            tried++;
            passed += code_read(CONTEXT, other, strlen(other), out, sizeof out) == 0;
        }
    assert_true(tried > 1000 && passed == 0);
    assert_int_equal(code_read(CONTEXT, text, strlen(text) - 1, out, sizeof out), -1);
    assert_int_equal(code_read("another", text, strlen(text), out, sizeof out), -1);
    assert_int_equal(code_read(CONTEXT, "", 0, out, sizeof out), -1);
    (void)snprintf(other, sizeof other, "%s0", text);
    assert_int_equal(code_read(CONTEXT, other, strlen(other), out, sizeof out), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_back_whatever_they_are),
        cmocka_unit_test(the_text_is_the_same_in_every_version),
        cmocka_unit_test(it_is_read_as_people_type_it),
        cmocka_unit_test(a_slip_is_noticed),
    };

    return cmocka_run_group_tests_name("code", tests, NULL, NULL);
}
