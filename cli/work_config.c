/* work_config - the configuration files in, one checked record out. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "../vault/config.h"
#include "../vault/memory.h"
#include "work.h"

#define SAME(field) (offsetof(struct wire_config, field) == offsetof(struct config_record, field))
_Static_assert(sizeof(struct wire_config) == sizeof(struct config_record) && SAME(kdf_time) &&
                   SAME(kdf_memory_bytes) && SAME(ram_size_bytes) && SAME(stop_timeout_ms) &&
                   SAME(worker_timeout_ms) && SAME(ram_backend) && SAME(ram_require_noswap) &&
                   SAME(log_format) && SAME(log_names) && SAME(origin) &&
                   SAME(history_interval_ms) && SAME(history_generations),
               "the record of the files is what the protocol carries");

static struct config_files files;
static struct config_source source = {.system = CONFIG_SYSTEM};
static char project[4096];

/* Before the filter. A file that can't be read is an error of the parsing, so it is kept for then. */
int work_config_load(const char *vault, struct err *e)
{
    if (config_beside(vault, project, sizeof project) == 0)
        source.project = project;
    return config_load(&source, &files, e);
}

int work_config(struct work *w, struct err *e)
{
    struct config_record record;

    if (config_parse(&source, &files, &record, e) < 0)
        return -1;
    memcpy(w->result->header, &record, sizeof record);
    w->result->header_len = sizeof record;
    w->result->bytes = w->memory_limit;
    return 0;
}
