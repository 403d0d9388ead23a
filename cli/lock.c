#include <fcntl.h>
#include <inttypes.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client.h"
#include "command.h"
#include "lock.h"
#include "save.h"

void lock_let_go(bool output)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)!chdir("/");
    if (null >= 0) {
        (void)dup2(null, STDIN_FILENO);
        if (!output)
            (void)dup2(null, STDOUT_FILENO);
    }
    (void)syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0); /* before Linux 5.9 they stay */
}

int cli_lock(int argc, char **argv)
{
    struct reply r;
    struct flags f;
    int rc = flags_parse(argc, argv, FLAGS_LOCK | FLAGS_OUTCOME, &f);

    if (rc != EX_TP_OK)
        return rc;
    lock_let_go(f.json);
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* there is no secret here, and it is looked at like all others */
    client_request(REQ_LOCK, f.force ? REQUEST_FORCE : 0, &r);
    if (r.error.word[0])
        return say_error(r.status.state == VAULT_LOCKED      ? "empty the RAM"
                         : r.error.code == EX_TP_UNAVAILABLE ? "lock"
                                                             : "lock (the vault stays open)",
                         &r.error);
    if (r.status.flags & STATUS_ALREADY) {
        say("the vault was locked already");
        say_done(r.status.generation);
        return EX_TP_OK;
    }
    save_say_notes(&r.status);
    if (r.status.flags & STATUS_UNSEEN)
        say("some processes could not be looked at, being other users' or protected: what they still write into "
            "files of the vault is lost");
    say("the vault is locked, generation %" PRIu64 " is on disk", r.status.generation);
    say_done(r.status.generation);
    return EX_TP_OK;
}
