#include "key.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol.h"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447 /* the same number on every architecture; musl has no name for it */
#endif

enum { PAGE = 4096 };

extern char _end[]; /* the program's own end, from the linker */

/* Just behind the program, if that is free: a page far from all others has page tables of its own, and
 * they count when the OOM killer looks for the largest (8 kB, before Linux 6 a third of what we have). */
static uint8_t *map(int fd)
{
    char *behind = _end + 2 * PAGE - (uintptr_t)_end % PAGE;
    void *p;

    if (fd < 0)
        return NULL;
    p = mmap(behind, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

static uint8_t *size_and_map(int fd)
{
    return fd >= 0 && ftruncate(fd, PAGE) == 0 ? map(fd) : NULL;
}

static void keep_close(uint8_t *page)
{
    (void)mlock(page, PAGE); /* a memfd_secret page is locked already; a refusal is no reason to fail */
    (void)madvise(page, PAGE, MADV_DONTFORK);
    (void)madvise(page, PAGE, MADV_DONTDUMP);
}

bool key_take(struct key *k)
{
    uint8_t any = 0;

    k->bytes = map(k->fd);
    for (int i = 0; k->bytes && i < WIRE_KEY_SIZE; i++)
        any |= k->bytes[i];
    if (any) {
        keep_close(k->bytes);
        return true;
    }
    if (!k->bytes && k->fd >= 0)
        close(k->fd);
    if (!k->bytes)
        k->fd = -1;
    key_forget(k);
    return false;
}

int key_make(struct key *k)
{
    key_forget(k);
    k->fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
    k->bytes = size_and_map(k->fd);
    k->secret = k->bytes != NULL;
    if (!k->bytes) {
        if (k->fd >= 0)
            close(k->fd);
        k->fd = memfd_create("key", MFD_CLOEXEC);
        k->bytes = size_and_map(k->fd);
    }
    if (!k->bytes) {
        if (k->fd >= 0)
            close(k->fd);
        k->fd = -1;
        return -1;
    }
    keep_close(k->bytes);
    return 0;
}

void key_forget(struct key *k)
{
    volatile uint8_t *p = k->bytes;

    if (!p)
        return;
    for (int i = 0; i < PAGE; i++)
        p[i] = 0;
    (void)munmap(k->bytes, PAGE);
    close(k->fd);
    k->bytes = NULL;
    k->fd = -1;
}
