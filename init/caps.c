#include "caps.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From linux/capability.h, which musl does not bring. */
enum { SYS_CHROOT = 18, SYS_ADMIN = 21 };

struct cap_header {
    uint32_t version;
    int pid;
};

struct cap_sets {
    uint32_t effective, permitted, inheritable;
};

static const struct cap_header VERSION_3 = {0x20080522, 0};

static int get(struct cap_sets sets[2])
{
    struct cap_header h = VERSION_3;

    return (int)syscall(SYS_capget, &h, sets);
}

static void set(const struct cap_sets sets[2])
{
    struct cap_header h = VERSION_3;
    int saved = errno;

    (void)syscall(SYS_capset, &h, sets); /* only ever a subset of what is permitted */
    errno = saved;
}

bool caps_may_mount(void)
{
    struct cap_sets sets[2];

    return get(sets) == 0 && (sets[0].permitted >> SYS_ADMIN & 1);
}

const char *caps_missing(void)
{
    if (prctl(PR_CAPBSET_READ, SYS_ADMIN, 0, 0, 0) != 1)
        return "it takes --cap-add SYS_ADMIN to mount a tmpfs of its own";
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
        return "no-new-privileges keeps SYS_ADMIN from process 1, and this engine does not grant it beside that";
    return "SYS_ADMIN does not reach process 1: setcap cap_sys_admin,cap_sys_chroot=p on its file is missing";
}

uint32_t caps_root_lacks(void)
{
    const uint32_t needs = 1u << CAP_IS_CHOWN | 1u << CAP_IS_DAC_OVERRIDE | 1u << CAP_IS_FOWNER |
                           1u << CAP_IS_KILL | 1u << CAP_IS_SETGID | 1u << CAP_IS_SETUID;
    struct cap_sets sets[2];

    return get(sets) < 0 ? 0 : needs & ~sets[0].effective;
}

static void effective(bool on)
{
    struct cap_sets sets[2];

    if (get(sets) < 0)
        return;
    sets[0].effective &= ~(1u << SYS_ADMIN);
    if (on)
        sets[0].effective |= sets[0].permitted & 1u << SYS_ADMIN;
    set(sets);
}

void caps_raise(void)
{
    effective(true);
}

void caps_lower(void)
{
    effective(false);
}

void caps_drop(void)
{
    struct cap_sets sets[2];
    const uint32_t both = 1u << SYS_ADMIN | 1u << SYS_CHROOT;

    if (get(sets) < 0 || geteuid() == 0)
        return; /* root's own capabilities are the engine's affair */
    sets[0].effective &= ~both;
    sets[0].permitted &= ~both;
    sets[0].inheritable &= ~both;
    set(sets);
}

void caps_bar_child(void)
{
    (void)prctl(PR_CAPBSET_DROP, SYS_ADMIN, 0, 0, 0); /* refused without SETPCAP: then it is not root's exec */
}
