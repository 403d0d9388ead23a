#include "entry.h"

#include <string.h>

int entry_is_utf8(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    while (*p) {
        unsigned c = *p++, least, more;

        if (c < 0x80)
            continue;
        if (c >= 0xc2 && c <= 0xdf)
            least = 0x80, more = 1, c &= 0x1f;
        else if (c >= 0xe0 && c <= 0xef)
            least = 0x800, more = 2, c &= 0x0f;
        else if (c >= 0xf0 && c <= 0xf4)
            least = 0x10000, more = 3, c &= 0x07;
        else
            return 0;
        for (; more; more--, p++) {
            if ((*p & 0xc0) != 0x80)
                return 0;
            c = c << 6 | (*p & 0x3f);
        }
        if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return 0;
    }
    return 1;
}

static int has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 32 || *text == 127)
            return 1;
    return 0;
}

/* Length of the component at p, which ends at a slash or the end. */
static size_t component(const char *p)
{
    return strcspn(p, "/");
}

static int is_dot(const char *p, size_t n)
{
    return n == 1 && p[0] == '.';
}

static int is_dotdot(const char *p, size_t n)
{
    return n == 2 && p[0] == '.' && p[1] == '.';
}

const char *entry_path_refused(const char *path)
{
    unsigned depth = 0;

    if (path[0] == '\0')
        return "an empty name";
    if (path[0] == '/')
        return "an absolute name";
    if (strlen(path) > ENTRY_PATH_MAX)
        return "a path over 1024 bytes";
    if (has_control(path))
        return "a control character in a name";
    if (!entry_is_utf8(path))
        return "a name that is not UTF-8";
    for (const char *p = path;;) {
        size_t n = component(p);

        if (n == 0 || is_dot(p, n) || is_dotdot(p, n))
            return "a name with an empty, . or .. part";
        if (n > ENTRY_NAME_MAX)
            return "a name over 255 bytes";
        if (++depth > ENTRY_DEPTH_MAX)
            return "a tree deeper than 32";
        if (p[n] == '\0')
            return NULL;
        p += n + 1;
    }
}

const char *entry_link_refused(const char *path, const char *target)
{
    int depth = 0;  /* of the directory that the link stands in */
    int leading = 1; /* only ".." so far */

    if (target[0] == '\0')
        return "a link to nothing";
    if (target[0] == '/')
        return "an absolute link";
    if (strlen(target) > ENTRY_PATH_MAX)
        return "a link target over 1024 bytes";
    if (has_control(target) || !entry_is_utf8(target))
        return "a link target that is not plain UTF-8";
    for (const char *p = path; *p; p++)
        depth += *p == '/';
    for (const char *p = target;;) {
        size_t n = component(p);

        /* Behind a name ".." is a step up from wherever another link may have led. */
        if (is_dotdot(p, n) && !leading)
            return "a link that goes up after going down";
        if (is_dotdot(p, n) && --depth < 0)
            return "a link that leaves the tree";
        if (n > 0 && !is_dot(p, n) && !is_dotdot(p, n))
            leading = 0;
        if (p[n] == '\0')
            return NULL;
        p += n + 1;
    }
}
