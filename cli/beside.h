/* beside - the vault files that stand beside each other: the vault, its earlier generations, and copies of
 * a pod that could not write the vault.
 *
 * From names and headers alone (docs/files.md): no key is needed, and nothing is proven by it.
 * Allocates; command line only. */
#ifndef CLI_BESIDE_H
#define CLI_BESIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum beside_kind {
    BESIDE_VAULT = 0,
    BESIDE_EARLIER,
    BESIDE_CONFLICT,
    BESIDE_EMERGENCY,
};

struct beside {
    enum beside_kind kind;
    unsigned number; /* of an earlier one: 1 is the newest; else 0 */
    char name[256];
    uint64_t size; /* bytes */
    char damaged[24]; /* why the header can't be read, an error word; "": it can, and what follows holds */
    uint64_t gen;
    uint64_t saved_at; /* unix seconds */
    unsigned slots;    /* in use */
};

/* All of them, the vault first, then the earlier ones from the newest on, then the copies by name; the
 * caller frees *list. How many, 0 also where there is no such directory; -1 with errno. */
int beside_list(const char *vault, struct beside **list);

/* The first of that generation, NULL if there is none. */
const struct beside *beside_find(const struct beside *list, int n, uint64_t gen);

/* "DIR/NAME" of an entry; false if it does not fit. */
bool beside_path(const char *vault, const struct beside *b, char *out, size_t size);

/* "2026-11-24T10:00:00Z", or "unknown" of a time that is none. */
const char *beside_date(uint64_t at, char out[40]);

/* The path of the pod's vault; where no pod answers that of TAZPOD_VAULT, or the default one. False after a
 * message, *rc the exit status: this pod has no vault. */
bool beside_vault(const char *what, char *out, size_t size, int *rc);

#endif
