/* tazpod - the command line of a pod, and the workers of its PID 1. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "../vault/base/secret.h"
#include "command.h"

#ifndef TAZPOD_VERSION
#define TAZPOD_VERSION "0"
#endif

static int cli_help(int argc, char **argv);
static int cli_version(int argc, char **argv);

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *flags;
    const char *what;
} COMMANDS[] = {
    {"shell", cli_shell, "[UNLOCK FLAGS]", "unlock if need be, then become a shell"},
    {"unlock", cli_unlock, "[--create [--kdf-memory SIZE] [--kdf-time N]] [--accept-older]\n"
                           "              [--passphrase-file FILE | --passphrase-fd N] [--no-input]\n"
                           "              [--recovery | --identity-file FILE] [--json]",
     "open the vault, or make a new one"},
    {"save", cli_save, "[--json]", "write what is in RAM to the vault file now"},
    {"lock", cli_lock, "[--force] [--json]", "save, then empty the RAM; --force: end who holds it open"},
    {"status", cli_status, "[--json] [--check]", "what state the vault is in; --check: as exit status"},
    {"history", cli_history, "[--json]", "the generations that are kept beside the vault"},
    {"key", cli_key, "list [--json] | add [--label TEXT] [--recipient TEXT] | passwd [--slot N]\n"
                     "              | remove N [--force] | rekey [--drop-history] [--force] | recovery\n"
                     "              | new-identity FILE   [credential as for unlock] [--kdf-memory SIZE]\n"
                     "              [--kdf-time N] [--weaker] [--new-passphrase-file FILE | --new-passphrase-fd N]",
     "who can open the vault: its key slots"},
    {"verify", cli_verify, "FILE|GENERATION [credential as for unlock]",
     "is a vault file whole? Nothing is unpacked"},
    {"restore", cli_restore, "GENERATION [--force] [--to DIR [--force-disk]]\n"
                             "              [credential as for unlock]",
     "an earlier generation becomes the newest, or is unpacked into DIR"},
    {"config", cli_config, "[--json | --sample]", "every setting and where it came from"},
    {"health", cli_health, "[--timeout T]", "does process 1 answer? Locked is healthy"},
    {"version", cli_version, "", "the version of this program"},
    {"help", cli_help, "", "this text"},
};
enum { N_COMMANDS = sizeof COMMANDS / sizeof *COMMANDS };

static void usage(FILE *to)
{
    (void)fputs("usage: tazpod COMMAND [FLAGS]\n\n", to);
    for (int i = 0; i < N_COMMANDS; i++)
        (void)fprintf(to, "  %-8s  %s\n%s%s%s", COMMANDS[i].name, COMMANDS[i].what,
                      *COMMANDS[i].flags ? "            " : "", COMMANDS[i].flags,
                      *COMMANDS[i].flags ? "\n" : "");
    (void)fputs("\nThe open vault is ~/secrets. See tazpod(1).\n", to);
}

static int cli_help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    usage(stdout);
    return EX_TP_OK;
}

static int cli_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    (void)puts("tazpod " TAZPOD_VERSION);
    return EX_TP_OK;
}

static const struct command *find(const char *name)
{
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, COMMANDS[i].name) == 0)
            return &COMMANDS[i];
    return NULL;
}

int main(int argc, char **argv)
{
    const struct command *c;
    int rc;

    if (argc > 0 && strcmp(argv[0], "tazpod-worker") == 0)
        return worker_main(argc, argv);
    for (int fd = 0; fd <= 2; fd++) /* so that nothing else lands there */
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY);
    (void)signal(SIGCHLD, SIG_DFL); /* ignored, children would end without a status */
    /* A passphrase passes through here: no core, no tracer. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    if (secret_init() < 0) {
        say("libsodium can't start");
        return EX_TP_FAULT;
    }
    if (argc < 2) {
        usage(stderr);
        return EX_TP_USAGE;
    }
    c = find(argv[1]);
    if (!c) {
        say("there is no command %s: see tazpod help", argv[1]);
        return EX_TP_USAGE;
    }
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            c = find("help");
    rc = c->run(argc - 1, argv + 1);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        say("can't write the output: %s", strerror(errno));
        return rc == EX_TP_OK ? EX_TP_IO : rc;
    }
    return rc;
}
