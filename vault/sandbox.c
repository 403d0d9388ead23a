#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILES_MAX = 256 }; /* the packer holds two descriptors for each directory on its way down */

/* A process that starts non-dumpable and is not root can't write its own score, so it is dumpable
 * for that moment. It has no key and no passphrase yet. Without /proc the score stays as it is. */
static void first_for_oom_killer(void)
{
    int fd;

    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1000", 4);
        close(fd);
    }
}

static int limit(int what, rlim_t to)
{
    struct rlimit r = {to, to}, now;

    /* Never above what is inherited: that would need a capability. */
    if (getrlimit((__rlimit_resource_t)what, &now) == 0 && now.rlim_max < to)
        r.rlim_cur = r.rlim_max = now.rlim_max;
    return setrlimit((__rlimit_resource_t)what, &r);
}

/* All sets empty. A process of uid 0 (in a namespace) would get them back at an exec: it executes
 * nothing, and the filter sees to that. */
static int drop_capabilities(void)
{
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};

    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return (int)syscall(SYS_capset, &h, none);
}

int sandbox_begin(struct err *e)
{
    first_for_oom_killer();
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        limit(RLIMIT_CORE, 0) < 0 || limit(RLIMIT_NOFILE, FILES_MAX) < 0 || drop_capabilities() < 0)
        return err_sys(e, "give up privileges");
    return 0;
}

/* What every role needs: memory, time, random bytes, its descriptors, its end. */
static const int COMMON[] = {
    SCMP_SYS(read),       SCMP_SYS(write),        SCMP_SYS(close),    SCMP_SYS(brk),
    SCMP_SYS(mmap),       SCMP_SYS(munmap),       SCMP_SYS(mremap),   SCMP_SYS(mprotect),
    SCMP_SYS(madvise),    SCMP_SYS(mlock),        SCMP_SYS(munlock),  SCMP_SYS(fstat),
    SCMP_SYS(newfstatat), SCMP_SYS(statx),        SCMP_SYS(recvmsg),  SCMP_SYS(sendmsg),
    SCMP_SYS(getrandom),  SCMP_SYS(exit_group),   SCMP_SYS(exit),     SCMP_SYS(rt_sigreturn),
    SCMP_SYS(futex),      SCMP_SYS(clock_gettime), SCMP_SYS(lseek),   SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(getpid),     SCMP_SYS(gettid),       SCMP_SYS(tgkill),   SCMP_SYS(restart_syscall),
};
static const int OPENER[] = {SCMP_SYS(pread64), SCMP_SYS(openat), SCMP_SYS(memfd_create),
                             SCMP_SYS(fallocate)};
static const int UNPACKER[] = {SCMP_SYS(openat),   SCMP_SYS(openat2),   SCMP_SYS(mkdirat),
                               SCMP_SYS(symlinkat), SCMP_SYS(fchmod),   SCMP_SYS(utimensat),
                               SCMP_SYS(fcntl),    SCMP_SYS(readlink),  SCMP_SYS(memfd_create),
                               SCMP_SYS(fallocate), SCMP_SYS(getdents64)};
static const int PACKER[] = {SCMP_SYS(openat),     SCMP_SYS(pread64), SCMP_SYS(readlinkat),
                             SCMP_SYS(getdents64), SCMP_SYS(fcntl),   SCMP_SYS(readlink),
                             SCMP_SYS(fchmod),     SCMP_SYS(fchmodat), SCMP_SYS(geteuid),
                             SCMP_SYS(sysinfo)}; /* qsort looks at the memory there is */
static const int SEALER[] = {SCMP_SYS(openat),  SCMP_SYS(pread64),   SCMP_SYS(fcntl),
                             SCMP_SYS(fsync),   SCMP_SYS(flock),     SCMP_SYS(getdents64),
                             SCMP_SYS(unlink),  SCMP_SYS(unlinkat),  SCMP_SYS(link),
                             SCMP_SYS(linkat),  SCMP_SYS(rename),    SCMP_SYS(renameat),
                             SCMP_SYS(renameat2), SCMP_SYS(sync_file_range)};

static const int LOOKER[] = {SCMP_SYS(openat), SCMP_SYS(readlinkat), SCMP_SYS(readlink), SCMP_SYS(getdents64),
                             SCMP_SYS(fcntl),  SCMP_SYS(socket),     SCMP_SYS(sendto),   SCMP_SYS(recvfrom),
                             SCMP_SYS(getppid)};

static const struct {
    const int *calls;
    size_t n;
} ROLES[] = {
    [SANDBOX_OPENER] = {OPENER, sizeof OPENER / sizeof *OPENER},
    [SANDBOX_UNPACKER] = {UNPACKER, sizeof UNPACKER / sizeof *UNPACKER},
    [SANDBOX_PACKER] = {PACKER, sizeof PACKER / sizeof *PACKER},
    [SANDBOX_SEALER] = {SEALER, sizeof SEALER / sizeof *SEALER},
    [SANDBOX_LOOKER] = {LOOKER, sizeof LOOKER / sizeof *LOOKER},
};

static int allow(scmp_filter_ctx ctx, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);

        /* A call that this architecture does not have (rename on arm64) is answered so. */
        if (rc < 0 && rc != -EDOM)
            return rc;
    }
    return 0;
}

int sandbox_filter(enum sandbox_role role, struct err *e)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int rc;

    if (!ctx)
        return err_set(e, ERR_INTERNAL, "failed", "make the system call filter");
    rc = allow(ctx, COMMON, sizeof COMMON / sizeof *COMMON);
    if (rc == 0)
        rc = allow(ctx, ROLES[role].calls, ROLES[role].n);
    if (rc == 0)
        rc = seccomp_load(ctx);
    seccomp_release(ctx);
    if (rc < 0) {
        errno = -rc;
        return err_sys(e, "load the system call filter");
    }
    return 0;
}
