#include "log.h"

#include <string.h>
#include <unistd.h>

static void add(struct line *l, const char *p, size_t n)
{
    size_t room = sizeof l->text - 1 - l->len; /* one byte is kept for the line end */

    if (n > room)
        n = room;
    memcpy(l->text + l->len, p, n);
    l->len += n;
}

static void add_string(struct line *l, const char *s)
{
    add(l, s, strlen(s));
}

static void add_number(struct line *l, int64_t value, int digits)
{
    char buf[24], *p = buf + sizeof buf;
    uint64_t v = value < 0 ? (uint64_t)0 - (uint64_t)value : (uint64_t)value;

    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
        digits--;
    } while (v || digits > 0);
    if (value < 0)
        *--p = '-';
    add(l, p, (size_t)(buf + sizeof buf - p));
}

static void add_key(struct line *l, const char *key)
{
    add(l, " ", 1);
    add_string(l, key);
    add(l, "=", 1);
}

void line_start(struct line *l, const char *word)
{
    l->len = 0;
    add_string(l, "tazpod-init: ");
    add_string(l, word);
}

/* Control characters and quotes become ?: a value can't forge a second line. */
void line_text(struct line *l, const char *key, const char *value)
{
    int quoted = value[0] == '\0' || strchr(value, ' ') != NULL;

    add_key(l, key);
    if (quoted)
        add(l, "\"", 1);
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        add(l, c < 32 || c == 127 || c == '"' ? "?" : value, 1);
    }
    if (quoted)
        add(l, "\"", 1);
}

void line_number(struct line *l, const char *key, int64_t value)
{
    add_key(l, key);
    add_number(l, value, 1);
}

void line_millis(struct line *l, const char *key, int64_t us)
{
    add_key(l, key);
    add_number(l, us / 1000, 1);
    add(l, ".", 1);
    add_number(l, us % 1000, 3);
}

void line_end(struct line *l)
{
    l->text[l->len++] = '\n';
    (void)!write(STDERR_FILENO, l->text, l->len);
}

void log_say(const char *word, const char *sentence)
{
    struct line l;

    line_start(&l, word);
    add(&l, ": ", 2);
    add_string(&l, sentence);
    line_end(&l);
}
