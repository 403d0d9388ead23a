#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"

static int read_file(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -1;
    n = io_read(fd, buf, size - 1);
    close(fd);
    if (n < 0)
        return -1;
    buf[n] = '\0';
    return 0;
}

/* A number, or "max". 1<<60 and above is version 1's way to say none. */
static uint64_t number(const char *path)
{
    char buf[64];
    uint64_t v;

    if (read_file(path, buf, sizeof buf) < 0 || buf[0] < '0' || buf[0] > '9')
        return MEMORY_NO_LIMIT;
    v = strtoull(buf, NULL, 10);
    return v >= (uint64_t)1 << 60 ? MEMORY_NO_LIMIT : v;
}

static uint64_t stat_field(const char *path, const char *field)
{
    char buf[8192];
    size_t n = strlen(field);

    if (read_file(path, buf, sizeof buf) < 0)
        return 0;
    for (char *p = buf; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, field, n) == 0 && p[n] == ' ')
            return strtoull(p + n + 1, NULL, 10);
    }
    return 0;
}

struct place {
    const char *limit, *usage, *stat, *cache;
};

/* Inside a container its own group is the root of what it sees. */
static const struct place PLACES[] = {
    {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat",
     "inactive_file"},
    {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
     "/sys/fs/cgroup/memory/memory.stat", "total_inactive_file"},
};

static uint64_t look(uint64_t *left)
{
    for (size_t i = 0; i < sizeof PLACES / sizeof PLACES[0]; i++) {
        uint64_t limit = number(PLACES[i].limit), used, cache;

        if (limit == MEMORY_NO_LIMIT)
            continue;
        used = number(PLACES[i].usage);
        if (used == MEMORY_NO_LIMIT)
            used = 0;
        cache = stat_field(PLACES[i].stat, PLACES[i].cache);
        used = used > cache ? used - cache : 0;
        *left = limit > used ? limit - used : 0;
        return limit;
    }
    *left = MEMORY_NO_LIMIT;
    return MEMORY_NO_LIMIT;
}

uint64_t memory_limit(void)
{
    uint64_t left;

    return look(&left);
}

uint64_t memory_left(void)
{
    uint64_t left;

    (void)look(&left);
    return left;
}

int memory_swap_denied(void)
{
    uint64_t both;

    if (number("/sys/fs/cgroup/memory.swap.max") == 0)
        return 1;
    both = number("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes");
    return both != MEMORY_NO_LIMIT && both <= number("/sys/fs/cgroup/memory/memory.limit_in_bytes");
}

static int take(int fd, uint64_t bytes)
{
    if (fd >= 0 && fallocate(fd, 0, 0, (off_t)bytes) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

int memory_reserve(uint64_t bytes)
{
    return take(memfd_create("tazpod-reserve", MFD_CLOEXEC), bytes);
}

int memory_reserve_in(int dir, uint64_t bytes)
{
    return take(openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), bytes);
}
