#include "beside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../vault/base/io.h"
#include "../vault/header.h"
#include "../vault/seal.h"
#include "../vault/store.h"
#include "client.h"
#include "command.h"

/* Digits alone, without zeros in front: the place of an earlier generation, 0 if it is none. */
static unsigned place(const char *ending)
{
    size_t n = strspn(ending, "0123456789");
    unsigned v = (unsigned)strtoul(ending, NULL, 10);

    return n > 0 && n <= 2 && ending[n] == '\0' && ending[0] != '0' && v <= STORE_PLACES ? v : 0;
}

/* What a name in the directory is; false: nothing of the vault called base. */
static bool classify(const char *base, const char *name, struct beside *b)
{
    size_t n = strlen(base);

    if (strncmp(name, base, n) != 0 || strlen(name) >= sizeof b->name)
        return false;
    (void)strcpy(b->name, name);
    name += n;
    b->kind = BESIDE_VAULT;
    if (!*name)
        return true;
    if (*name++ != '.')
        return false;
    b->kind = BESIDE_CONFLICT;
    if (strncmp(name, "conflict-", 9) == 0)
        return true;
    b->kind = BESIDE_EMERGENCY;
    if (strncmp(name, "emergency-", 10) == 0)
        return true;
    b->kind = BESIDE_EARLIER;
    b->number = place(name);
    return b->number > 0;
}

static void read_header(int dir, struct beside *b)
{
    int fd = openat(dir, b->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    uint8_t bytes[HEADER_MAX];
    struct header h;
    struct stat sb;
    struct err e = {0};
    ssize_t have;
    size_t n;

    (void)strcpy(b->damaged, "not-a-vault");
    if (fd < 0) {
        if (errno != ELOOP)
            (void)strcpy(b->damaged, "io");
        return;
    }
    if (fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode))
        goto out;
    b->size = (uint64_t)sb.st_size;
    have = io_read_at(fd, bytes, sizeof bytes, 0);
    n = have < 0 ? 0 : header_length(bytes, (size_t)have, &e);
    if (have < 0)
        (void)strcpy(b->damaged, "io");
    else if (n > 0 && (size_t)have < n)
        (void)strcpy(b->damaged, "truncated");
    else if (n > 0 && !seal_sum_valid(bytes, n))
        (void)strcpy(b->damaged, "damaged-header");
    else if (n == 0 || header_parse(bytes, n, &h, &e) < 0)
        (void)strcpy(b->damaged, e.word);
    else
        b->damaged[0] = '\0';
    if (b->damaged[0])
        goto out;
    b->gen = h.gen;
    b->saved_at = h.saved_at;
    for (unsigned i = 0; i < h.nslots; i++)
        b->slots += h.slots[i].type != SLOT_EMPTY;
out:
    close(fd);
}

static int compare(const void *x, const void *y)
{
    const struct beside *a = x, *b = y;

    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return strcmp(a->name, b->name);
}

static const char *base_of(const char *vault)
{
    const char *slash = strrchr(vault, '/');

    return slash ? slash + 1 : vault;
}

int beside_list(const char *vault, struct beside **list)
{
    char path[4096];
    const char *base = base_of(vault);
    struct dirent *d;
    DIR *dir;
    int n = 0, room = 0;

    *list = NULL;
    if ((size_t)snprintf(path, sizeof path, "%.*s.", (int)(base - vault), vault) >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    dir = opendir(path);
    if (!dir)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    while ((d = readdir(dir))) {
        struct beside b = {0};

        if (!classify(base, d->d_name, &b))
            continue;
        if (n == room) {
            struct beside *more = realloc(*list, (size_t)(room + 64) * sizeof b);

            if (!more)
                break; /* what there is is better than nothing */
            *list = more;
            room += 64;
        }
        read_header(dirfd(dir), &b);
        (*list)[n++] = b;
    }
    closedir(dir);
    if (n > 0)
        qsort(*list, (size_t)n, sizeof **list, compare);
    return n;
}

const struct beside *beside_find(const struct beside *list, int n, uint64_t gen)
{
    for (int i = 0; i < n; i++)
        if (!list[i].damaged[0] && list[i].gen == gen)
            return &list[i];
    return NULL;
}

bool beside_path(const char *vault, const struct beside *b, char *out, size_t size)
{
    return (size_t)snprintf(out, size, "%.*s%s", (int)(base_of(vault) - vault), vault, b->name) < size;
}

const char *beside_date(uint64_t at, char out[40])
{
    time_t t = (time_t)at;
    struct tm tm;

    if (at == 0 || !gmtime_r(&t, &tm) || tm.tm_year > 9999 - 1900 || strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        return "unknown";
    return out;
}

bool beside_vault(const char *what, char *out, size_t size, int *rc)
{
    const char *path = getenv("TAZPOD_VAULT");
    struct reply r;

    client_request(REQ_STATUS, 0, &r);
    if (!r.error.word[0])
        path = r.status.vault;
    else if (!path || !*path)
        path = DEFAULT_VAULT;
    if (!*path || strcmp(path, "none") == 0) {
        say("can't %s: no vault is configured [no-vault]", what);
        *rc = EX_TP_NO_VAULT;
        return false;
    }
    if ((size_t)snprintf(out, size, "%s", path) >= size) {
        say("can't %s: TAZPOD_VAULT is too long [no-vault]", what);
        *rc = EX_TP_NO_VAULT;
        return false;
    }
    return true;
}
