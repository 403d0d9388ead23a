/* owner - whose the vault is.
 *
 * PID 1's own uid where PID 1 is not root; else the one named by option or variable, else the
 * owner of /workspace unless that is root, else 1000. Inside a user namespace that maps no other
 * uid it is 0, and becoming the owner then means giving up capabilities. PID 1 only. */
#ifndef TAZPOD_OWNER_H
#define TAZPOD_OWNER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct owner {
    uid_t uid;
    gid_t gid;
    bool become; /* workers must change to it */
    bool possible; /* false: PID 1 is root but lacks what serving another user takes */
    uint32_t lacks; /* then: capabilities, bits by number */
};

/* named: -1 if none was. */
struct owner owner_find(int64_t named);

#endif
