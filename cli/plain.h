/* plain - text that somebody else chose, for a terminal.
 *
 * No allocation; not for signal context. */
#ifndef CLI_PLAIN_H
#define CLI_PLAIN_H

#include <stddef.h>

/* Copies UTF-8 text of at most n bytes, up to its zero. What could steer a terminal or turn the order of what
 * it shows (control characters, those of C1 too, direction marks), and bytes that are no UTF-8, become '?'.
 * out: n + 1 bytes, zero-terminated. Returns out. */
const char *plain(const void *text, size_t n, char *out);

#endif
