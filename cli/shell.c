/* shell - unlock if need be, then become the shell.
 *
 * By exec, so there is no parent that a signal could make into something else: whoever interrupts
 * the prompt ends the process, and the docker exec with it. */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "command.h"
#include "open.h"

struct account {
    char name[64];
    char home[256];
    char shell[256];
};

/* Copies field n of a line of /etc/passwd. */
static void field(const char *line, int n, char *out, size_t size)
{
    size_t len;

    for (; n > 0 && line; n--) {
        line = strchr(line, ':');
        line = line ? line + 1 : NULL;
    }
    len = line ? strcspn(line, ":\n") : 0;
    if (len >= size)
        len = 0;
    memcpy(out, line ? line : "", len);
    out[len] = '\0';
}

/* By hand: a static program has no name service, and the container's file is what counts. */
static int find_account(uid_t uid, struct account *a)
{
    char line[1024], id[32];
    FILE *f = fopen("/etc/passwd", "re");
    int found = 0;

    memset(a, 0, sizeof *a);
    while (f && !found && fgets(line, sizeof line, f)) {
        field(line, 2, id, sizeof id);
        found = *id && strtoull(id, NULL, 10) == uid;
    }
    if (found) {
        field(line, 0, a->name, sizeof a->name);
        field(line, 5, a->home, sizeof a->home);
        field(line, 6, a->shell, sizeof a->shell);
    }
    if (f)
        (void)fclose(f);
    return found;
}

/* A shell of root's, by docker exec -u 0, still ends as the owner. */
static int become_owner(const struct wire_status *s)
{
    if (geteuid() != 0 || s->owner_uid == 0)
        return 0;
    if (setgroups(0, NULL) < 0 || setresgid(s->owner_gid, s->owner_gid, s->owner_gid) < 0 ||
        setresuid(s->owner_uid, s->owner_uid, s->owner_uid) < 0) {
        say("can't become the vault's owner, uid %u: %s", s->owner_uid, strerror(errno));
        return -1;
    }
    return 1;
}

/* An account that nobody logs in to names a program that says so and ends. */
static int is_shell(const char *path)
{
    const char *base = strrchr(path, '/');

    return path[0] == '/' && strcmp(base, "/nologin") != 0 && strcmp(base, "/false") != 0;
}

static int become_shell(const char *shell)
{
    const char *base = strrchr(shell, '/');
    char *argv[] = {(char *)(base ? base + 1 : shell), NULL};

    (void)execv(shell, argv);
    return errno == ENOENT || errno == ENOTDIR ? EX_TP_NOT_FOUND : EX_TP_NOT_EXECUTABLE;
}

int cli_shell(int argc, char **argv)
{
    const char *wanted = getenv("SHELL");
    struct account account;
    struct wire_status s;
    struct flags f;
    int changed, rc = flags_parse(argc, argv, FLAGS_PASSPHRASE | FLAGS_CREATE | FLAGS_CREDENTIAL, &f);

    if (rc == EX_TP_OK)
        rc = open_vault(&f, "open a shell", &s);
    if (rc != EX_TP_OK)
        return rc;
    changed = become_owner(&s);
    if (changed < 0)
        return EX_TP_FAILURE;
    if (find_account(geteuid(), &account) && changed && account.home[0]) {
        (void)setenv("HOME", account.home, 1);
        (void)setenv("USER", account.name, 1);
    }
    open_say(&s);
    if (client_is_parent())
        say("this shell is the pod's main command: its end saves and locks the vault, and stops the pod");
    else
        say("the vault stays open when this shell ends: tazpod lock saves and closes it");

    if (wanted && *wanted == '/' && !changed)
        (void)become_shell(wanted);
    if (is_shell(account.shell))
        (void)become_shell(account.shell);
    (void)become_shell("/bin/bash");
    rc = become_shell("/bin/sh");
    say("no shell can be executed: %s", strerror(errno));
    return rc;
}
