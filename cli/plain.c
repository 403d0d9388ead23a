#include "plain.h"

#include <stdint.h>
#include <string.h>

/* The next character, and how many bytes it has; 0 bytes where it is none. */
static uint32_t next(const uint8_t *p, size_t n, size_t *len)
{
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c = p[0];
    size_t more = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : 4;

    *len = 0;
    if (more == 4 || more >= n)
        return 0;
    c &= more ? 0x3fu >> more : 0x7fu;
    for (size_t i = 1; i <= more; i++) {
        if (p[i] >> 6 != 2)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c >= LEAST[more + 1] && c < 0x110000 && (c < 0xd800 || c > 0xdfff))
        *len = more + 1;
    return c;
}

static int is_plain(uint32_t c)
{
    return c >= 0x20 && !(c >= 0x7f && c < 0xa0) && c != 0x061c && !(c >= 0x200e && c <= 0x200f) &&
           !(c >= 0x2028 && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069);
}

const char *plain(const void *text, size_t n, char *out)
{
    const uint8_t *p = text;
    size_t at = 0, to = 0, len;

    while (at < n && p[at]) {
        uint32_t c = next(p + at, n - at, &len);

        if (len > 0 && is_plain(c)) {
            memcpy(out + to, p + at, len);
            to += len;
        } else {
            out[to++] = '?';
        }
        at += len ? len : 1;
    }
    out[to] = '\0';
    return out;
}
