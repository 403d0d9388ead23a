#include "json.h"

#include <inttypes.h>
#include <string.h>

#include "../vault/entry.h"

static void put_key(struct json *j, const char *key)
{
    if (j->more)
        (void)fputc(',', j->to);
    if (key)
        (void)fprintf(j->to, "\"%s\":", key);
    j->more = true;
}

/* Bytes of the well-formed UTF-8 character at p, 0 if there is none. */
static size_t character(const char *p)
{
    char one[5] = {0};

    for (size_t n = 1; n <= 4 && p[n - 1]; n++) {
        one[n - 1] = p[n - 1];
        if (entry_is_utf8(one))
            return n;
    }
    return 0;
}

static void put_string(struct json *j, const char *text)
{
    (void)fputc('"', j->to);
    while (*text) {
        unsigned char c = (unsigned char)*text;
        size_t n = character(text);

        if (c == '"' || c == '\\')
            (void)fprintf(j->to, "\\%c", c);
        else if (c < 32 || c == 127)
            (void)fprintf(j->to, "\\u%04x", c);
        else if (n == 0)
            (void)fputs("\\ufffd", j->to);
        else
            (void)fwrite(text, 1, n, j->to);
        text += n ? n : 1;
    }
    (void)fputc('"', j->to);
}

void json_open(struct json *j, const char *key)
{
    put_key(j, key);
    (void)fputc('{', j->to);
    j->more = false;
}

void json_close(struct json *j)
{
    (void)fputc('}', j->to);
    j->more = true;
}

void json_list(struct json *j, const char *key)
{
    put_key(j, key);
    (void)fputc('[', j->to);
    j->more = false;
}

void json_list_end(struct json *j)
{
    (void)fputc(']', j->to);
    j->more = true;
}

void json_text(struct json *j, const char *key, const char *value)
{
    put_key(j, key);
    if (value)
        put_string(j, value);
    else
        (void)fputs("null", j->to);
}

void json_number(struct json *j, const char *key, int64_t value)
{
    put_key(j, key);
    (void)fprintf(j->to, "%" PRId64, value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    put_key(j, key);
    (void)fputs(value ? "true" : "false", j->to);
}
