#include "record.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct label {
    char magic[8];
    uint64_t size; /* of struct pod, which changes with nearly every change of the program */
    int64_t pid;
    uint64_t sum;
};

static const char MAGIC[8] = "tazpod1";

/* Tells a record that was overwritten by accident; nobody else can write it. */
static uint64_t sum(const struct pod *p)
{
    uint64_t s = 14695981039346656037u, word;

    for (size_t at = 0; at + sizeof word <= sizeof *p; at += sizeof word) {
        memcpy(&word, (const char *)p + at, sizeof word);
        s = (s ^ word) * 1099511628211u;
        s ^= s >> 29;
    }
    return s;
}

int record_open(void)
{
    return (int)syscall(SYS_memfd_create, "tazpod-state", MFD_CLOEXEC);
}

void record_keep(int fd, const struct pod *p)
{
    struct label label = {.size = sizeof *p, .pid = getpid()};
    const struct iovec parts[] = {{&label, sizeof label}, {(void *)(uintptr_t)p, sizeof *p}};

    if (fd < 0)
        return;
    label.sum = sum(p);
    memcpy(label.magic, MAGIC, sizeof MAGIC);
    (void)syscall(SYS_pwritev, fd, parts, 2, 0, 0); /* a C library's may do more than a handler may */
}

bool record_take(int fd, struct pod *p)
{
    struct label label;
    const struct iovec parts[] = {{&label, sizeof label}, {p, sizeof *p}};

    return preadv(fd, parts, 2, 0) == (ssize_t)(sizeof label + sizeof *p) &&
           memcmp(label.magic, MAGIC, sizeof MAGIC) == 0 && label.size == sizeof *p &&
           label.pid == getpid() && label.sum == sum(p);
}
