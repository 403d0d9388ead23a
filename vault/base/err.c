#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void put_word(struct err *e, int code, const char *word)
{
    e->code = code;
    memset(e->word, 0, sizeof e->word);
    (void)snprintf(e->word, sizeof e->word, "%s", word);
}

int err_set(struct err *e, int code, const char *word, const char *fmt, ...)
{
    va_list ap;

    put_word(e, code, word);
    va_start(ap, fmt);
    (void)vsnprintf(e->text, sizeof e->text, fmt, ap); /* a cut text is still a text */
    va_end(ap);
    return -1;
}

int err_sys(struct err *e, const char *fmt, ...)
{
    int saved = errno;
    va_list ap;
    size_t n;

    put_word(e, ERR_IO, saved == ENOSPC || saved == EDQUOT ? "disk-full" : "io");
    va_start(ap, fmt);
    (void)vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    n = strlen(e->text);
    (void)snprintf(e->text + n, sizeof e->text - n, ": %s", strerror(saved));
    errno = saved;
    return -1;
}

int err_add(struct err *e, const char *context)
{
    char text[sizeof e->text];

    memcpy(text, e->text, sizeof text);
    text[sizeof text - 1] = '\0';
    (void)snprintf(e->text, sizeof e->text, "%s: %.*s", context, (int)sizeof text - 64, text);
    return -1;
}
