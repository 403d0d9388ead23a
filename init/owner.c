#include "owner.h"

#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caps.h"

enum {
    OWNER_DEFAULT = 1000,
    FIRST_USER_NAMESPACE = 0xEFFFFFFD, /* inode of the one the machine booted with */
};

/* The file system uid is the one identity that can be tried on and put back without leaving any
 * trace; -1 is no uid and only asks. */
static bool can_become(uid_t uid)
{
    bool can;

    (void)setfsuid(uid);
    can = (uid_t)setfsuid((uid_t)-1) == uid;
    (void)setfsuid(geteuid());
    return can;
}

struct owner owner_find(int64_t named)
{
    struct owner o = {.uid = geteuid(), .gid = getegid(), .possible = true};
    struct stat sb;

    if (o.uid != 0)
        return o;
    if (named > 0) {
        o.uid = (uid_t)named;
        o.gid = (gid_t)named;
    } else if (stat("/workspace", &sb) == 0 && sb.st_uid != 0) {
        o.uid = sb.st_uid;
        o.gid = sb.st_gid ? sb.st_gid : (gid_t)sb.st_uid;
    } else {
        o.uid = OWNER_DEFAULT;
        o.gid = OWNER_DEFAULT;
    }
    o.become = can_become(o.uid);
    o.lacks = caps_root_lacks();
    if (o.become && !o.lacks)
        return o;
    if (!o.become && named < 0 && stat("/proc/self/ns/user", &sb) == 0 && sb.st_ino != FIRST_USER_NAMESPACE) {
        o.uid = 0;
        o.gid = 0;
        return o;
    }
    o.possible = false;
    return o;
}
