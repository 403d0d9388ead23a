/* config - every setting and where it came from, or a file to start with.
 *
 * Reads the files itself, with its own environment: it works with no pod around, and where
 * tazpod-init refuses a file this says the same. Flags of tazpod-init it can't see. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../vault/config.h"
#include "command.h"

static int show(bool json)
{
    const char *vault = getenv("TAZPOD_VAULT");
    struct config_source source = {.system = CONFIG_SYSTEM, .environment = (const char *const *)environ};
    struct config_record record;
    char project[WIRE_PATH_MAX + sizeof CONFIG_PROJECT];
    struct err e;

    if (!vault || !*vault)
        vault = DEFAULT_VAULT;
    if (strcmp(vault, "none") != 0) {
        if (config_beside(vault, project, sizeof project) < 0) {
            say("can't read the configuration: TAZPOD_VAULT is too long [config]");
            return EX_TP_CONFIG;
        }
        source.project = project;
    }
    if (config_read(&source, &record, &e) < 0) {
        say("can't read the configuration: %s [%s]", e.text, e.word);
        return e.code;
    }
    config_print(stdout, &source, &record, json);
    return EX_TP_OK;
}

int cli_config(int argc, char **argv)
{
    bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    bool sample = argc == 2 && strcmp(argv[1], "--sample") == 0;
    int rc = EX_TP_OK;

    if (argc > 1 && !json && !sample) {
        say("config: don't know what to make of %s: see tazpod help", argv[argc > 2 ? 2 : 1]);
        return EX_TP_USAGE;
    }
    if (sample)
        config_sample(stdout);
    else
        rc = show(json);
    /* A sample that was cut by a full disk would be a valid file. */
    if (rc == EX_TP_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        say("can't write the configuration: %s [io]", strerror(errno));
        rc = EX_TP_IO;
    }
    return rc;
}
