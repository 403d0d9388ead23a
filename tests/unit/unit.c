#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAGIC_TMPFS = 0x01021994 };

void unit_drop_root(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];

    memset(none, 0, sizeof none);
    if (syscall(SYS_capset, &head, none) < 0) {
        perror("capset");
        exit(1);
    }
}

static const char *place(bool in_ram)
{
    const char *places[] = {"/dev/shm", getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};
    struct statfs fs;

    if (!in_ram)
        return places[2] ? places[2] : places[3];
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (places[i] && statfs(places[i], &fs) == 0 && fs.f_type == MAGIC_TMPFS &&
            access(places[i], W_OK | X_OK) == 0)
            return places[i];
    fail_msg("no tmpfs to work in: neither /dev/shm nor XDG_RUNTIME_DIR is one");
    return NULL;
}

char *unit_dir(bool in_ram)
{
    char *path = NULL;

    if (asprintf(&path, "%s/tazpod-unit-XXXXXX", place(in_ram)) < 0 || !mkdtemp(path))
        fail_msg("no directory to work in: %s", strerror(errno));
    return path;
}

static void empty(int at, const char *name)
{
    struct dirent *d;
    DIR *dir;
    int fd;

    if (unlinkat(at, name, 0) == 0)
        return;
    (void)fchmodat(at, name, 0700, 0); /* it is a directory, then; what fails shows below */
    fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return;
    while ((d = readdir(dir)))
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            empty(fd, d->d_name);
    closedir(dir);
    (void)unlinkat(at, name, AT_REMOVEDIR);
}

void unit_remove(char *dir)
{
    struct stat sb;

    if (!dir)
        return;
    empty(AT_FDCWD, dir);
    assert_int_equal(lstat(dir, &sb), -1);
    free(dir);
}

const char *unit_path(const char *dir, const char *name)
{
    static char paths[8][4096];
    static unsigned turn;
    char *out = paths[turn++ % 8];

    if ((size_t)snprintf(out, sizeof paths[0], "%s/%s", dir, name) >= sizeof paths[0])
        fail_msg("a path too long: %s", name);
    return out;
}

void unit_write(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        fail_msg("open %s: %s", path, strerror(errno));
    assert_int_equal(write(fd, bytes, len), len);
    assert_int_equal(close(fd), 0);
}

size_t unit_read(const char *path, void *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        fail_msg("open %s: %s", path, strerror(errno));
    n = read(fd, buf, size - 1);
    assert_true(n >= 0);
    ((char *)buf)[n] = '\0';
    close(fd);
    return (size_t)n;
}

int unit_open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = -3; /* ".", ".." and the directory's own */

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

uint64_t unit_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void unit_fill(void *bytes, size_t len, uint64_t seed)
{
    uint8_t *p = bytes;

    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)unit_random(&seed);
}
