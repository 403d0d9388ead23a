/* entry - which names and links a vault may hold.
 *
 * docs/vault-format.md, section 6. The packer asks before it writes and the unpacker before it
 * creates, so that a saved file always opens. Pure: no I/O, no allocation, any process. */
#ifndef VAULT_ENTRY_H
#define VAULT_ENTRY_H

#include <stddef.h>

enum {
    ENTRY_PATH_MAX = 1024,     /* bytes without the zero */
    ENTRY_NAME_MAX = 255,      /* one component */
    ENTRY_DEPTH_MAX = 32,      /* components */
    ENTRY_COUNT_MAX = 65536,
};

/* NULL if the path may be an entry, else a few words saying why not. */
const char *entry_path_refused(const char *path);

/* The same for the target of a symlink that stands at path: relative, with ".." only in front, and
 * no more of them than the link stands deep. So even a chain of links stays inside: each starts in
 * its own true directory, goes up inside the tree, and from there only down. */
const char *entry_link_refused(const char *path, const char *target);

/* Well-formed UTF-8 (shortest form, no surrogates, up to U+10FFFF). */
int entry_is_utf8(const char *text);

#endif
