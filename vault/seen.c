#include "seen.h"

#include <stdio.h>
#include <string.h>

enum {
    SEEN_MAX = 8192, /* a hundred acceptances */
    HEX_ID = 2 * VAULT_ID,
    HEX_HMAC = 2 * HEADER_HMAC,
    LINE_MAX_BYTES = 160,
};

static const char ENDING[] = "seen", TITLE[] = "tazpod-seen 1\n", ACCEPTED[] = "accepted ";

struct seen {
    char id[HEX_ID + 1];
    char hmac[HEX_HMAC + 1];
    unsigned long long gen, saved_at;
    const char *rest; /* the lines behind */
};

static void hex(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static void describe(const uint8_t *bytes, size_t len, const struct header *h, struct seen *s)
{
    hex(h->vault_id, VAULT_ID, s->id);
    hex(bytes + len - HEADER_HMAC, HEADER_HMAC, s->hmac);
    s->gen = h->gen;
    s->saved_at = h->saved_at;
}

static size_t format(const struct seen *s, char out[LINE_MAX_BYTES + sizeof TITLE])
{
    return (size_t)snprintf(out, LINE_MAX_BYTES + sizeof TITLE, "%s%s %20llu %20llu %s\n", TITLE, s->id, s->gen,
                            s->saved_at, s->hmac);
}

/* text, zero-terminated, as format wrote it, byte for byte; 0 or -1. */
static int parse(const char *text, struct seen *s)
{
    char again[LINE_MAX_BYTES + sizeof TITLE];
    size_t n;

    if (strncmp(text, TITLE, sizeof TITLE - 1) != 0 ||
        sscanf(text + sizeof TITLE - 1, "%32[0-9a-f]%21llu%21llu %64[0-9a-f]", s->id, &s->gen, &s->saved_at,
               s->hmac) != 4 ||
        strlen(s->id) != HEX_ID || strlen(s->hmac) != HEX_HMAC)
        return -1;
    n = format(s, again);
    s->rest = text + n;
    return strncmp(text, again, n) == 0 ? 0 : -1;
}

/* Is there a line "accepted HMAC"? */
static int is_accepted(const char *lines, const char *hmac)
{
    for (; *lines; lines = strchr(lines, '\n') + 1) {
        if (strncmp(lines, ACCEPTED, sizeof ACCEPTED - 1) == 0 &&
            strncmp(lines + sizeof ACCEPTED - 1, hmac, HEX_HMAC) == 0)
            return 1;
        if (!strchr(lines, '\n'))
            break;
    }
    return 0;
}

/* Without the C library's, which would look for a time zone behind a filter. */
static const char *date(unsigned long long at, char out[32])
{
    unsigned long long days = at / 86400, of_day = at % 86400;
    unsigned year = 1970, month = 0, length;

    if (at == 0 || at > 253402300799ull) /* the year 9999 */
        return "at an unknown time";
    for (;; year++) {
        length = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 366 : 365;
        if (days < length)
            break;
        days -= length;
    }
    for (;; month++) {
        static const unsigned char LENGTHS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        unsigned here = month == 1 && length == 366 ? 29 : LENGTHS[month];

        if (days < here)
            break;
        days -= here;
    }
    (void)snprintf(out, 32, "%04u-%02u-%02uT%02u:%02u:%02uZ", year, month + 1, (unsigned)days + 1,
                   (unsigned)(of_day / 3600), (unsigned)(of_day / 60 % 60), (unsigned)(of_day % 60));
    return out;
}

static int read_seen(struct store *s, char text[SEEN_MAX + 1], struct seen *seen)
{
    size_t n = store_get(s, ENDING, text, SEEN_MAX);

    text[n] = '\0';
    return parse(text, seen);
}

int seen_check(struct store *s, const uint8_t *bytes, size_t len, const struct header *h, int accept,
               struct err *e)
{
    char text[SEEN_MAX + 1], line[LINE_MAX_BYTES], dates[2][32];
    struct seen seen, now;

    describe(bytes, len, h, &now);
    if (read_seen(s, text, &seen) < 0 || strcmp(now.id, seen.id) != 0 || now.gen >= seen.gen ||
        is_accepted(seen.rest, now.hmac))
        return 0;
    if (accept) {
        (void)snprintf(line, sizeof line, "%s%s\n", ACCEPTED, now.hmac);
        if (strlen(text) + strlen(line) <= SEEN_MAX) /* else without a save for a hundred times: asked again */
            store_append(s, ENDING, line, strlen(line));
        return 0;
    }
    return err_set(e, ERR_BUSY, "older",
                   "this file is older than the last one seen here: it is generation %llu, saved %s, and "
                   "generation %llu, saved %s, was seen; put a newer one in its place, or open it with "
                   "--accept-older",
                   now.gen, date(now.saved_at, dates[0]), seen.gen, date(seen.saved_at, dates[1]));
}

void seen_note(struct store *s, const uint8_t *bytes, size_t len, const struct header *h)
{
    char text[SEEN_MAX + 1], line[LINE_MAX_BYTES + sizeof TITLE];
    struct seen seen, now;

    int there = read_seen(s, text, &seen) == 0;

    describe(bytes, len, h, &now);
    if (there && strcmp(now.hmac, seen.hmac) == 0)
        return;
    /* Always the same length, so that it is overwritten where it stands: a file more by rename would cost as
     * much as the save itself on some file systems. Lines behind it end with this file. */
    if (!(there && *seen.rest == '\0' && store_overwrite(s, ENDING, line, format(&now, line)) == 0))
        store_put(s, ENDING, line, format(&now, line));
}
