#include "dir.h"

#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's struct linux_dirent64. */
struct entry {
    uint64_t ino;
    int64_t off;
    uint16_t len;
    uint8_t type;
    char name[];
};

int dir_each(int fd, int (*each)(void *ctx, const char *name), void *ctx)
{
    _Alignas(struct entry) char buf[4096];
    long n;

    if (lseek(fd, 0, SEEK_SET) < 0)
        return -1;
    while ((n = syscall(SYS_getdents64, fd, buf, sizeof buf)) > 0) {
        for (long at = 0; at < n;) {
            struct entry *d = (struct entry *)(void *)(buf + at);
            int rc;

            at += d->len;
            if (strcmp(d->name, ".") == 0 || strcmp(d->name, "..") == 0)
                continue;
            rc = each(ctx, d->name);
            if (rc)
                return rc;
        }
    }
    return n < 0 ? -1 : 0;
}
