#include "log.h"

#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Kept free: the end of a value's quotes, of the object, and of the line. */
enum { ENDING = 3, NUMBER = 24 };

static void add(struct line *l, const char *p, size_t n)
{
    size_t used = l->len + ENDING, room = used < sizeof l->text ? sizeof l->text - used : 0;

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

/* One fact of one process, said once at start and once when the files are read. */
static bool json;

void log_as_json(bool on)
{
    if (json != on) /* what is not written costs no page */
        json = on;
}

/* False if there is no room for it and a number: a pair is left out whole, only a text is cut. */
static bool add_key(struct line *l, const char *key)
{
    if (l->len + strlen(key) + sizeof ",\"\":\"" + NUMBER + ENDING > sizeof l->text)
        return false;
    add_string(l, json ? ",\"" : " ");
    add_string(l, key);
    add_string(l, json ? "\":" : "=");
    return true;
}

void line_start(struct line *l, const char *word)
{
    l->len = 0;
    if (json) {
        struct timespec now;

        (void)syscall(SYS_clock_gettime, CLOCK_REALTIME, &now); /* as in pod.c */
        add_string(l, "{\"time\":");
        add_number(l, now.tv_sec, 1);
        add_string(l, ".");
        add_number(l, now.tv_nsec / 1000000, 3);
        add_string(l, ",\"program\":\"tazpod-init\",\"event\":\"");
        add_string(l, word);
        add_string(l, "\"");
        return;
    }
    add_string(l, "tazpod-init: ");
    add_string(l, word);
}

/* Control characters and quotes become ?: a value can't forge a second line or a second key. */
void line_text(struct line *l, const char *key, const char *value)
{
    bool quoted = json || value[0] == '\0' || strchr(value, ' ') != NULL;
    bool ascii = true;

    for (const char *p = value; *p; p++)
        ascii = ascii && (unsigned char)*p < 128;
    if (!add_key(l, key))
        return;
    if (quoted)
        add(l, "\"", 1);
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        bool odd = c < 32 || c == 127 || c == '"' || (json && (c == '\\' || (!ascii && c >= 128)));

        add(l, odd ? "?" : value, 1);
    }
    if (quoted)
        l->text[l->len++] = '"';
}

void line_number(struct line *l, const char *key, int64_t value)
{
    if (add_key(l, key))
        add_number(l, value, 1);
}

void line_millis(struct line *l, const char *key, int64_t us)
{
    if (!add_key(l, key))
        return;
    add_number(l, us / 1000, 1);
    add(l, ".", 1);
    add_number(l, us % 1000, 3);
}

void line_end(struct line *l)
{
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};

    if (json)
        l->text[l->len++] = '}';
    l->text[l->len++] = '\n';
    /* A log that nobody reads, or a terminal that was stopped, must not stop process 1: a line that
     * finds no room is dropped. A pipe that has room has it for a whole line. */
    if (poll(&room, 1, 0) == 1)
        (void)!write(STDERR_FILENO, l->text, l->len);
}

void log_say(const char *word, const char *sentence)
{
    struct line l;

    line_start(&l, word);
    if (json) {
        line_text(&l, "text", sentence);
    } else {
        add(&l, ": ", 2);
        add_string(&l, sentence);
    }
    line_end(&l);
}
