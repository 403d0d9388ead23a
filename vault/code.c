#include "code.h"

#include <sodium.h>
#include <string.h>

static const char DIGITS[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

enum { BITS = 5, CHECK_DIGITS = 4, GROUP = 4 };

/* So many digits from the front of the bytes; bits behind the end are 0. */
static void to_digits(const uint8_t *bytes, size_t len, uint8_t *digits, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned v = 0;

        for (size_t bit = i * BITS; bit < (i + 1) * BITS; bit++)
            v = v << 1 | (bit < len * 8 ? bytes[bit / 8] >> (7 - bit % 8) & 1 : 0);
        digits[i] = (uint8_t)v;
    }
}

static void checksum(const char *context, const uint8_t *bytes, size_t len, uint8_t digits[CHECK_DIGITS])
{
    crypto_generichash_state st;
    uint8_t sum[crypto_generichash_BYTES_MIN];

    crypto_generichash_init(&st, NULL, 0, sizeof sum);
    crypto_generichash_update(&st, (const uint8_t *)context, strlen(context));
    crypto_generichash_update(&st, bytes, len);
    crypto_generichash_final(&st, sum, sizeof sum);
    to_digits(sum, sizeof sum, digits, CHECK_DIGITS);
    sodium_memzero(&st, sizeof st);
}

static size_t digits_of(size_t len)
{
    return (len * 8 + BITS - 1) / BITS;
}

void code_write(const char *context, const uint8_t *bytes, size_t len, char text[CODE_TEXT_MAX])
{
    uint8_t digits[CODE_TEXT_MAX];
    size_t n = digits_of(len), at = 0;

    to_digits(bytes, len, digits, n);
    checksum(context, bytes, len, digits + n);
    for (size_t i = 0; i < n + CHECK_DIGITS; i++) {
        if (i == n || (i && i < n && i % GROUP == 0))
            text[at++] = '-';
        text[at++] = DIGITS[digits[i]];
    }
    text[at] = '\0';
    sodium_memzero(digits, sizeof digits);
}

/* The digit's value, -1 if it is none. */
static int value_of(char c)
{
    const char *at;

    if (c >= 'a' && c <= 'z')
        c = (char)(c - 'a' + 'A');
    c = c == 'O' ? '0' : c == 'I' || c == 'L' ? '1' : c;
    at = c ? strchr(DIGITS, c) : NULL;
    return at ? (int)(at - DIGITS) : -1;
}

int code_read(const char *context, const char *text, size_t n, uint8_t *bytes, size_t len)
{
    uint8_t digits[CODE_TEXT_MAX], again[CODE_TEXT_MAX], check[CHECK_DIGITS];
    size_t have = 0, want = digits_of(len);
    int rc = -1;

    for (size_t i = 0; i < n; i++) {
        int v = value_of(text[i]);

        if (text[i] == '-' || text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n')
            continue;
        if (v < 0 || have == want + CHECK_DIGITS)
            goto out;
        digits[have++] = (uint8_t)v;
    }
    if (have != want + CHECK_DIGITS)
        goto out;
    memset(bytes, 0, len);
    for (size_t bit = 0; bit < len * 8; bit++)
        bytes[bit / 8] |= (uint8_t)((digits[bit / BITS] >> (BITS - 1 - bit % BITS) & 1) << (7 - bit % 8));
    to_digits(bytes, len, again, want); /* bits behind the end are 0 */
    checksum(context, bytes, len, check);
    if (sodium_memcmp(again, digits, want) == 0 && sodium_memcmp(check, digits + want, CHECK_DIGITS) == 0)
        rc = 0;
out:
    sodium_memzero(digits, sizeof digits);
    sodium_memzero(again, sizeof again);
    return rc;
}
