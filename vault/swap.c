#include "swap.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "memory.h"

#define RAMFS 0x858458f6u

enum { LINE = 8192 };

/* The word in a comma-separated list. */
static int has_option(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; *p; p += *p == ',') {
        size_t len = strcspn(p, ",\n");

        if (len == n && strncmp(p, word, n) == 0)
            return 1;
        p += len;
        if (*p == '\n')
            break;
    }
    return 0;
}

/* By mount id, which is exact; a path may be covered, or be a prefix of another. The options of the
 * file system are the last field: ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER */
static int mount_has_noswap(int fd)
{
    char line[LINE], *super;
    struct statx sx;
    int found = 0;
    FILE *f;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0 || !(sx.stx_mask & STATX_MNT_ID))
        return 0;
    f = fopen("/proc/self/mountinfo", "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        if (strtoull(line, NULL, 10) != sx.stx_mnt_id)
            continue;
        super = strstr(line, " - ");
        super = super ? strrchr(super, ' ') : NULL;
        found = super && has_option(super + 1, "noswap");
        break;
    }
    if (f)
        (void)fclose(f);
    return found;
}

/* /proc/swaps is a heading and a line for each device. */
static int machine_has_swap(void)
{
    char line[LINE];
    int lines = 0;
    FILE *f = fopen("/proc/swaps", "re");

    if (!f)
        return 1; /* can't be told */
    while (fgets(line, sizeof line, f))
        lines++;
    (void)fclose(f);
    return lines > 1;
}

enum swap swap_look(int fd)
{
    struct statfs fs;

    if ((fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == RAMFS) || mount_has_noswap(fd))
        return SWAP_IS_NOSWAP;
    if (!machine_has_swap())
        return SWAP_IS_NONE;
    return memory_swap_denied() ? SWAP_IS_DENIED : SWAP_IS_POSSIBLE;
}
